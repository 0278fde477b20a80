"""The journal under SIGKILL and without space: what was acknowledged is there, and it goes on by itself."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock

COMMON = """
import asyncio, resource, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from protocols.clock import SystemClock
from gateway.edge.entry import CaptureRecord, EntryKind, JournalBatch
from gateway.edge.journal import Journal
from gateway.errors import JournalError, JournalFull

def capture(n, size=300):
    capture_id = f"GEN:1/daily/{n}"
    return CaptureRecord(kind=EntryKind.CAPTURE, meter="GEN:1", profile="daily", capture_id=capture_id,
        at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n), value_hash=bytes(16),
        body=f'{{"capture_id":"{capture_id}","value_rev":1,"pad":"{"x" * size}"}}'.encode())
"""
KILLED = (
    COMMON
    + """
async def main():
    journal = await Journal.open(Path(sys.argv[1]), clock=SystemClock())
    async def writer(lane):
        n = int(sys.argv[2]) + lane
        while True:
            first = n
            group = []
            for _ in range(5):
                group.append(capture(n)); n += 4
            mark = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=first)
            span = await journal.append(
                JournalBatch(captures=tuple(group), watermarks=((f"GEN:{lane}", "daily", mark),)))
            print(span.first, span.last, first, lane, flush=True)
            if lane == 0:
                await journal.ack("mqtt", span.last)
    await asyncio.gather(*(writer(lane) for lane in range(4)))
asyncio.run(main())
"""
)
LIMITED = (
    COMMON
    + """
import json, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    journal = await Journal.open(Path(sys.argv[1]), clock=SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    kept, errors, n = 0, [], 0
    while len(errors) < 5:
        try:
            await journal.append(JournalBatch(captures=(capture(n, 5000),)))
            kept += 1
        except JournalFull as error:
            errors.append(str(error))
        n += 1
    full = journal.statistics().full
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await journal.append(JournalBatch(captures=(capture(n, 5000),)))
    after = journal.statistics()
    await journal.close()
    print(json.dumps([kept, full, after.full, after.last_seq, errors[0]]))
asyncio.run(main())
"""
)


def killed_writers(path: Path) -> list[tuple[int, int, int]]:
    """Run a writer eight times, kill it each time; gives what its appends had returned: first, last, number."""
    chance = random.Random(7)
    promised: list[tuple[int, int, int]] = []
    for life in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, path, str(life * 1_000_000)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chance.randrange(1, 60))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().split(b"\n")[:-1]
        child.wait()
        child.stdout.close()
        promised += [tuple(map(int, line.split()[:3])) for line in lines]
    return promised


async def test_what_append_returned_survives_kills(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    promised = await asyncio.to_thread(killed_writers, path)
    assert len(promised) > 50
    journal = await Journal.open(path, clock=SystemClock())
    held: dict[int, str] = {}
    while chunk := await journal.read(len(held) + 1, journal.last_seq):
        held |= {e.seq: json.loads(e.body)["capture_id"] for e in chunk}
    assert list(held) == list(range(1, journal.last_seq + 1))
    assert len(set(held.values())) == len(held)
    for first, last, number in promised:
        expected = [f"GEN:1/daily/{number + 4 * k}" for k in range(5)]
        assert [held[seq] for seq in range(first, last + 1)] == expected
    assert (await journal.cursors()).get("mqtt", 0) <= journal.last_seq
    assert await journal.watermark("GEN:0", "daily") is not None
    await journal.close()


def test_no_space_is_refused_counted_and_recovered(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "j.db"],
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
