"""A journal in memory, without a thread: what the collector needs of one, for polls in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from gateway.edge.journal.entry import GapRecord, GapState, JournalBatch, SeqRange
from protocols.reading import ReadingSet


class MemoryBatch(JournalBatch, frozen=True, kw_only=True):
    """Rows as they are instead of blocks."""

    meter: str
    rows: tuple[ReadingSet, ...]


class MemoryJournal:
    """Stands for `Journal` and `ReadingAppender`: rows by meter, profile, stamp and occurrence, and watermarks."""

    def __init__(self) -> None:
        self.uuid = "memory"
        self.rows: dict[tuple[str, str, datetime, int], ReadingSet] = {}
        self.marks: dict[tuple[str, str], datetime] = {}
        self.refuse: Exception | None = None

    async def watermark(self, meter: str, profile: str) -> datetime | None:
        return self.marks.get((meter, profile))

    async def open_gaps(self, meter: str, profile: str) -> list[GapState]:
        return []

    def batch(
        self,
        meter: str,
        rows: Sequence[ReadingSet],
        *,
        clock: object,
        watermarks: tuple[tuple[str, str, datetime], ...],
        gaps: tuple[GapRecord, ...],
        stored: bool = False,
    ) -> MemoryBatch:
        del stored
        return MemoryBatch(meter=meter, rows=tuple(rows), watermarks=watermarks)

    def submit(self, batches: Sequence[MemoryBatch]) -> asyncio.Future[list[SeqRange]]:
        done: asyncio.Future[list[SeqRange]] = asyncio.get_running_loop().create_future()
        if self.refuse is not None:
            done.set_exception(self.refuse)
        else:
            done.set_result([SeqRange(1, self._store(batch)) for batch in batches])
        return done

    def _store(self, batch: MemoryBatch) -> int:
        new = 0
        for row in batch.rows:
            key = batch.meter, row.profile.value, row.at, row.occurrence
            new += key not in self.rows or self.rows[key].values != row.values
            self.rows[key] = row
        for meter, profile, at in batch.watermarks:
            self.marks[meter, profile] = at
        return new
