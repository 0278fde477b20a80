"""Rows that come in several answers, which may overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from protocols.reading import ReadingSet


class RowsByStamp:
    """Rows of several answers with low < at <= high.

    Of rows with one stamp the answer with most of them counts: their occurrences are numbered within it.
    """

    def __init__(self, low: datetime, high: datetime) -> None:
        self._low, self._high = low, high
        self._by_stamp: dict[datetime, list[ReadingSet]] = {}
        self._latest: datetime | None = None

    def add(self, found: Iterable[ReadingSet]) -> bool:
        """Take the rows of an answer; say whether there was any that we did not have, or a later one."""
        answer: dict[datetime, list[ReadingSet]] = {}
        before = self._latest
        for row in found:
            self._latest = max(self._latest or row.at, row.at)
            if self._low < row.at <= self._high:
                answer.setdefault(row.at, []).append(row)
        new = self._latest != before
        for at, rows in answer.items():
            if len(rows) > len(self._by_stamp.get(at, ())):
                self._by_stamp[at] = rows
                new = True
        return new

    @property
    def first(self) -> datetime | None:
        """The oldest stamp."""
        return min(self._by_stamp, default=None)

    @property
    def latest(self) -> datetime | None:
        """The latest stamp that came, be it one before `low`: a meter may give one row at a time."""
        return self._latest

    def sets(self) -> list[ReadingSet]:
        """Return all rows, oldest first."""
        return [row for at in sorted(self._by_stamp) for row in self._by_stamp[at]]


def within(rows: Iterable[ReadingSet], low: datetime, high: datetime) -> Iterator[ReadingSet]:
    """Yield the rows with low < at <= high."""
    return (row for row in rows if low < row.at <= high)
