"""The journal under SIGKILL and without space: what was acknowledged is there, and it goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.contract.messages import rfc3339
from gateway.edge.journal import writer
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.errors import JournalError
from protocols.clock import SystemClock
from tests.support.edge.journal_process import BEGIN
from tests.support.journal_records import ids, record
from tests.support.paths import ROOT

PROCESS = [sys.executable, "-m", "tests.support.edge.journal_process"]


def killed_writers(path: Path) -> list[tuple[int, int, int]]:
    """Run a writer eight times, kill it each time; gives what its appends had returned: first, last, number."""
    chance = random.Random(7)
    promised: list[tuple[int, int, int]] = []
    for life in range(8):
        child = subprocess.Popen(
            [*PROCESS, "write", path, str(life * 1_000_000)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chance.randrange(1, 60))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().split(b"\n")[:-1]
        child.wait()
        child.stdout.close()
        for line in lines:
            first, last, number = map(int, line.split()[:3])
            promised.append((first, last, number))
    return promised


async def test_what_append_returned_survives_kills(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    promised = await asyncio.to_thread(killed_writers, path)
    assert len(promised) > 50
    journal = await Journal.open(path, clock=SystemClock())
    held: dict[int, str] = {}
    while chunk := await journal.read(len(held) + 1, journal.last_seq):
        held |= {seq: name for e in chunk for seq, name in enumerate(ids(e), e.seq)}
    assert list(held) == list(range(1, journal.last_seq + 1))
    assert len(set(held.values())) == len(held)
    for first, last, number in promised:
        times = [BEGIN + timedelta(seconds=number + 4 * k) for k in range(5)]
        expected = [f"GEN:1/daily/{rfc3339(at)}/0" for at in times]
        assert [held[seq] for seq in range(first, last + 1)] == expected
    assert (await journal.cursors()).get("mqtt", 0) <= journal.last_seq
    assert await journal.watermark("GEN:0", "daily") is not None
    await journal.close()


def test_no_space_is_refused_counted_and_recovered(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROCESS, "fill", tmp_path / "j.db"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept, full, full_after, last_seq, error = json.loads(done.stdout)
    assert kept > 10
    assert (full, full_after, last_seq) == (True, False, kept + 1)
    assert "free some space" in error


async def test_an_entry_whose_commit_was_not_told_is_still_delivered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit stands though the look at the file's size after it failed."""
    await journal.append(JournalBatch(blocks=(record(1),)))
    store = journal._writer.store
    sizes, failed = store.used_bytes, list[int]()

    def once() -> int:
        if not failed:
            failed.append(1)
            raise JournalError("disk I/O error")
        return sizes()

    monkeypatch.setattr(store, "used_bytes", once)
    monkeypatch.setattr(writer, "SEEN_EVERY", 1)
    with contextlib.suppress(JournalError):
        await journal.append(JournalBatch(blocks=(record(2),)))
    await journal.append(JournalBatch(blocks=(record(3),)))
    assert failed
    seen: list[int] = []
    async for chunk in journal.follow("mqtt"):
        seen += [entry.seq for entry in chunk]
        if seen[-1] == 3:
            break
    assert seen == [1, 2, 3]
