"""Journals in a process of their own: `python -m tests.support.edge.journal_process write|fill PATH FIRST`.

`write` appends from four lanes until it is killed and prints what each append returned; `fill` appends until
files may grow no more, then once more with that limit gone, and prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.contract.blocks import EncodedBlock
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.errors import JournalFull
from protocols.clock import SystemClock
from protocols.reading import ProfileName, ReadingSet, Text
from tests.support.journal_records import SERIAL, block

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LANES = 4
LARGEST_FILE = 400_000


def captures(numbers: range, size: int = 300) -> EncodedBlock:
    """A poll's rows, numbered by their seconds."""
    readings = [
        ReadingSet(
            profile=ProfileName.DAILY,
            at=BEGIN + timedelta(seconds=n),
            received_at=BEGIN,
            values=((SERIAL, Text("x" * size)),),
        )
        for n in numbers
    ]
    return block(*readings)


async def write(path: Path, number: int) -> None:
    journal = await Journal.open(path, clock=SystemClock())

    async def append(lane: int) -> None:
        first = number + lane
        while True:
            group = captures(range(first, first + LANES * 5, LANES))
            mark = (f"GEN:{lane}", "daily", BEGIN + timedelta(seconds=first))
            span = await journal.append(JournalBatch(blocks=(group,), watermarks=(mark,)))
            assert span is not None
            print(span.first, span.last, first, lane, flush=True)
            if lane == 0:
                await journal.ack("mqtt", span.last)
            first += LANES * 5

    await asyncio.gather(*map(append, range(LANES)))


async def fill(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = await Journal.open(path, clock=SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
    kept, errors, number = 0, list[str](), 0
    while len(errors) < 5:
        try:
            await journal.append(JournalBatch(blocks=(captures(range(number, number + 1), 5000),)))
            kept += 1
        except JournalFull as error:
            errors.append(str(error))
        number += 1
    full = journal.statistics().full
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await journal.append(JournalBatch(blocks=(captures(range(number, number + 1), 5000),)))
    after = journal.statistics()
    await journal.close()
    print(json.dumps([kept, full, after.full, after.last_seq, errors[0]]))


if __name__ == "__main__":
    target = Path(sys.argv[2])
    asyncio.run(write(target, int(sys.argv[3])) if sys.argv[1] == "write" else fill(target))
