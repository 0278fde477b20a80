"""A long memory that is read newest first: how far it was read, so that nothing is left out; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.edge.polling.gaps import Row

WINDOW = timedelta(days=5)
"""Span asked for at once: what a broken read repeats stays small."""

LEAST_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """All rows of a stream later than `low`, up to `top`, are in the journal of that uuid, whose watermark is `mark`.

    The watermark moves when all below is there, too. `first` and `start` are the end and beginning of the oldest row so
    far, `upto` the end of what is there or known to be missing above it; None before the first row.
    """

    journal: str
    mark: datetime | None
    low: datetime
    top: datetime
    upto: datetime | None = None
    first: datetime | None = None
    start: datetime | None = None
    window: timedelta = WINDOW
    """Span that is asked for next: smaller after a read that broke off in the middle of it."""

    @property
    def oldest(self) -> Row | None:
        """The oldest row so far."""
        return None if self.first is None else (self.start, self.first)

    def fits(self, journal: str, mark: datetime | None, end: datetime) -> bool:
        """Say whether it can be gone on with: the same journal and watermark, and read lately."""
        return (
            (self.journal, self.mark) == (journal, mark)
            and self.low <= self.top <= end
            and end - self.top <= WINDOW
        )

    def risen(self, top: datetime, upto: datetime | None, oldest: Row | None) -> Descent:
        """Return it with all up to a newer `top` read; `oldest` is the oldest row of that part."""
        risen = replace(self, top=top, upto=upto)
        return risen if self.first is not None or oldest is None else risen.with_oldest(oldest)

    def fallen(self, low: datetime, upto: datetime | None, oldest: Row | None) -> Descent:
        """Return it with all down to a lower `low` read; `oldest` is the oldest row of that part."""
        fallen = replace(self, low=low, upto=upto, window=min(2 * self.window, WINDOW))
        return fallen if oldest is None else fallen.with_oldest(oldest)

    def broken(self) -> Descent:
        """Return it where a read broke off: half as much is asked for, so that a bad line gets on."""
        return replace(self, window=max(self.window / 2, LEAST_WINDOW))

    def with_oldest(self, row: Row) -> Descent:
        """Return it with another oldest row."""
        return replace(self, start=row[0], first=row[1])
