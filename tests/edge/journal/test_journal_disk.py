"""The journal on a disk that fills up, for real: a small file system of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal import housekeeping
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.errors import JournalFull
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, record
from tests.support.waiting import until

LIMITS = JournalLimits(max_bytes=64 << 20, sinks=("mqtt",), consumers=("central", "billing"), reserve=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.fail(f"this test mounts a tmpfs, which needs root (CI has it): {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


async def fill(journal: Journal, first: int = 0) -> tuple[int, str]:
    for n in range(first, first + 5_000):
        try:
            await journal.append(JournalBatch(blocks=(record(n, pad=8_000),)))
        except JournalFull as error:
            return n, str(error)
    raise AssertionError("the disk never filled")


async def opened(folder: Path) -> Journal:
    return await Journal.open(folder / "j.db", clock=ManualClock(T0 + timedelta(days=99)), limits=LIMITS)


async def test_a_full_disk_heals_by_itself(small_disk: Path) -> None:
    """Nobody frees anything: an acknowledgement is all it takes, again and again."""
    journal = await opened(small_disk)
    number, error = await fill(journal)
    assert number > 300
    assert "billing has not acknowledged anything yet" in error
    assert journal.last_seq == number
    for _ in range(4):
        await journal.ack("mqtt", journal.last_seq)
        await journal.consumer_ack("central", journal.last_seq)
        with pytest.raises(JournalFull):
            await journal.append(JournalBatch(blocks=(record(number, pad=8_000),)))
        before = journal.last_seq
        await journal.consumer_ack("billing", before - 20)

        async def taken() -> bool:
            try:
                await journal.append(JournalBatch(blocks=(record(number, pad=8_000),)))  # noqa: B023
            except JournalFull:
                return False
            return True

        await until(taken)
        assert journal.first_seq > 1
        held = await journal.read(before - 19, before)
        assert [e.seq for e in held] == list(range(before - 19, before + 1))
        assert not journal.statistics().full
        number, _ = await fill(journal, number + 1)
        assert journal.last_seq > before + 50
    assert journal.statistics().dropped > 0
    assert "journal_floor_short" in [a.code for a in journal.statistics().alarms]
    await journal.close()


async def test_another_program_fills_the_disk_and_the_journal_starts_and_goes_on(small_disk: Path) -> None:
    journal = await opened(small_disk)
    for n in range(200):
        await journal.append(JournalBatch(blocks=(record(n, pad=8_000),)))
    await journal.ack("mqtt", 200)
    await journal.consumer_ack("central", 200)
    await journal.consumer_ack("billing", 150)
    await journal.close()
    with (small_disk / "other").open("wb") as other:
        os.posix_fallocate(other.fileno(), 0, free(small_disk))
    assert free(small_disk) == 0
    journal = await opened(small_disk)
    assert journal.last_seq == 200
    for n in range(200, 260):
        await journal.append(JournalBatch(blocks=(record(n, pad=8_000),)))
    assert journal.last_seq == 260
    assert journal.first_seq <= 151
    await journal.close()


async def test_an_alarm_comes_before_the_disk_is_full(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "DISK_LOW", 4 << 20)
    monkeypatch.setattr(housekeeping, "LOOK_EVERY", 0.0)
    journal = await opened(small_disk)
    await asyncio.sleep(0)
    number = 0
    while "disk_low" not in [a.code for a in journal.statistics().alarms]:
        await journal.append(JournalBatch(blocks=(record(number, pad=8_000),)))
        number += 1
        await asyncio.sleep(0.005)
    assert not journal.statistics().full
    assert free(small_disk) > 1 << 20
    await journal.close()
