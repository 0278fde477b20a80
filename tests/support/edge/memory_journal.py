"""A journal in memory, without a thread: what the collector needs of one, for polls in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gateway.edge.journal.entry import GapRecord, GapState, JournalBatch
from protocols.reading import ReadingSet


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

    async def append(
        self,
        first: str | JournalBatch,
        rows: Sequence[ReadingSet] = (),
        *,
        clock: object = None,
        watermarks: tuple[tuple[str, str, datetime], ...] = (),
        gaps: tuple[GapRecord, ...] = (),
    ) -> int:
        assert isinstance(first, str)
        if self.refuse is not None:
            raise self.refuse
        new = 0
        for row in rows:
            key = first, row.profile.value, row.at, row.occurrence
            new += key not in self.rows or self.rows[key].values != row.values
            self.rows[key] = row
        for meter, profile, at in watermarks:
            self.marks[meter, profile] = at
        return new
