"""Which event logs a poll reads: those that may have news, and all of them once a day whatever the meter says; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.event_marks import EventMarks, EventNews

READ_ALL_EVERY = timedelta(hours=23)
"""Every log is read at least once a day: a counter or status word may be wrong."""


@dataclass(frozen=True, slots=True)
class _Taken:
    marks: EventMarks
    read_all: datetime


class EventLogs:
    """How the logs of each meter stood when all that they held was in the journal.

    A meter whose logs held news that its marks had not told is not believed again: all its logs are read at each
    poll from then on. All of it is forgotten with the program, which then reads every log once.
    """

    def __init__(self) -> None:
        self._taken: dict[str, _Taken] = {}
        self._liars: set[str] = set()

    def seen(self, meter: str, now: datetime) -> EventMarks | None:
        """Return the marks from which on only news are read; None where every log is to be read now."""
        taken = self._taken.get(meter)
        if taken is None or meter in self._liars or not timedelta() <= now - taken.read_all < READ_ALL_EVERY:
            return None
        return taken.marks

    def took(self, meter: str, news: EventNews, now: datetime, *, new: int) -> bool:
        """Note that all rows of the logs that were read are in the journal, `new` of them for the first time.

        Returns whether the marks, though none of them had changed, hid news.
        """
        before = self._taken.get(meter)
        if news.quiet:
            if before is not None:
                self._taken[meter] = _Taken(news.marks, before.read_all)
            return False
        lied = (
            bool(new)
            and before is not None
            and news.marks.quiet_since(before.marks) >= news.marks.logs.keys()
        )
        if lied:
            self._liars.add(meter)
        self._taken[meter] = _Taken(news.marks, now)
        return lied
