"""Which event logs a poll reads: those that may have news, and each once a day whatever the meter says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from protocols.event_marks import EventMarks, EventNews, TakenLog, TakenLogs
from protocols.known import Known
from protocols.reading import Obis

READ_AFTER = timedelta(hours=20)
"""Age from which a log is read whatever its mark says, one at each poll: a counter or status word may be wrong."""
READ_WITHIN = timedelta(hours=23)
"""Age from which it is read at once, with all others of that age."""


class EventLogs:
    """How the logs of each meter stood when all that they held was in `journal`, kept in `store`.

    A meter whose logs held news that its marks had not told is not believed again: all its logs are read at each
    poll from then on. What another journal had taken counts for nothing here.
    """

    def __init__(self, store: Known) -> None:
        self._store = store

    def seen(self, meter: str, journal: str, now: datetime) -> EventMarks | None:
        """Return the marks from which on only news are read, without those of logs that are to be read now."""
        taken = self._taken(meter, journal)
        if taken is None or taken.lied:
            return None
        due = frozenset(_due(taken, now))
        marks = taken.marks
        return EventMarks(
            logs={log: mark for log, mark in marks.logs.items() if log not in due}, words=marks.words
        )

    def complete(self, meter: str, journal: str, news: EventNews, now: datetime) -> datetime | None:
        """Return up to when every log will have been read, once those that `news` lets be read were read at `now`."""
        taken = self._taken(meter, journal)
        read = {} if taken is None else {one.log: one.read_at for one in taken.logs}
        ends = [read.get(log) if log in news.quiet else now for log in news.marks.logs]
        return None if None in ends else min((end for end in ends if end is not None), default=now)

    def took(self, meter: str, journal: str, news: EventNews, now: datetime | None, *, new: int) -> bool:
        """Note that all rows of the logs that are not quiet are in the journal, `new` of them for the first time.

        `now` is when they were read; None where nobody knows the time. Returns whether the marks, though none of
        them had changed, hid news.
        """
        before = self._taken(meter, journal)
        read = {} if before is None else {one.log: one.read_at for one in before.logs}
        unchanged = before is not None and news.marks.quiet_since(before.marks) >= news.marks.logs.keys()
        lied = bool(new) and unchanged
        self._store[_key(meter)] = TakenLogs(
            journal=journal,
            logs=tuple(
                TakenLog(
                    log=log, mark=mark, read_at=read.get(log) if log in news.quiet or now is None else now
                )
                for log, mark in news.marks.logs.items()
            ),
            words=dict(news.marks.words),
            lied=lied or (before is not None and before.lied),
        )
        return lied

    def stood(self, meter: str, journal: str, news: EventNews, now: datetime | None) -> None:
        """Note that no log had news: a bit of a status word that went may come again."""
        before = self._taken(meter, journal)
        if before is not None and before.words != news.marks.words:
            self.took(meter, journal, news, now, new=0)

    def _taken(self, meter: str, journal: str) -> TakenLogs | None:
        found = self._store.get(_key(meter))
        return found if isinstance(found, TakenLogs) and found.journal == journal else None


def _key(meter: str) -> tuple[str, str, str]:
    return meter, "", "events"


def _due(taken: TakenLogs, now: datetime) -> Iterator[Obis]:
    """Yield the logs to be read now: the one that waits longest, and all that waited too long."""
    ages = {one.log: READ_WITHIN if one.read_at is None else now - one.read_at for one in taken.logs}
    # our clock was set back
    ages = {log: READ_WITHIN if age < timedelta() else age for log, age in ages.items()}
    oldest = max(ages.values(), default=timedelta())
    if oldest >= READ_AFTER:
        yield next(log for log, age in ages.items() if age == oldest)
    yield from (log for log, age in ages.items() if age >= READ_WITHIN)
