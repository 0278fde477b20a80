"""What a profile's rhythm leaves out: intervals, days, months and snapshots that are due and absent; pure.

Each follows one stream of one meter, oldest first. `upto` is the end of what is there or known to be missing, None
before the first row: what the meter held before its first row is not a gap.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from protocols.reading import ProfileName

Span = tuple[datetime, datetime]
"""Later than the first, up to and with the second."""
DEFAULT_BLOCK = timedelta(minutes=30)
"""IS 15959 block load capture period until a row has shown the meter's own."""
DAY = timedelta(days=1)
EARLY = timedelta(hours=1)
"""How long before its midnight a row may be stamped and stand for all of the day."""
HALF_A_DAY = timedelta(hours=12)
LONGER = timedelta(days=25)
"""By how much a billing period may be longer than a month: its date was moved."""

SETTLED = {
    ProfileName.BLOCK_LOAD: timedelta(hours=2),
    ProfileName.DAILY: timedelta(hours=6),
    ProfileName.BILLING: timedelta(days=7),
}
"""After this long without a row that a meter should have stored, the row is not expected any more."""


class Rhythm(Protocol):
    """Finds what is missing of one stream."""

    upto: datetime | None

    def row(self, start: datetime | None, end: datetime) -> None:
        """Take one row; a repeated or older one changes nothing."""

    def settled(self, until: datetime) -> None:
        """Note that nothing more will come up to `until`."""

    def take(self) -> list[Span]:
        """Return and forget the spans found since the last call."""


class _Stream:
    """What all rhythms share."""

    def __init__(self, upto: datetime | None) -> None:
        self.upto = upto
        self._missing: list[Span] = []

    def take(self) -> list[Span]:
        found, self._missing = self._missing, []
        return found

    def _leave_out(self, until: datetime) -> None:
        if self.upto is not None and until > self.upto:
            self._missing.append((self.upto, until))
            self.upto = until


class Intervals(_Stream):
    """Rows that each stand for a span, as block load: a span between two of them is missing."""

    def __init__(self, upto: datetime | None) -> None:
        super().__init__(upto)
        self.period = DEFAULT_BLOCK

    def row(self, start: datetime | None, end: datetime) -> None:
        if start is None:
            return
        if end - start <= DAY:
            self.period = end - start
        if self.upto is not None:
            self._leave_out(start)
        if self.upto is None or end > self.upto:
            self.upto = end

    def settled(self, until: datetime) -> None:
        if self.upto is not None:
            self._leave_out(self.upto + (until - self.upto) // self.period * self.period)


class Days(_Stream):
    """One row for each local midnight; a row counts for the midnight that is nearest."""

    def __init__(self, upto: datetime | None, zone: ZoneInfo) -> None:
        super().__init__(upto)
        self._zone = zone
        self._day = None if upto is None else upto.astimezone(zone).date()

    def row(self, start: datetime | None, end: datetime) -> None:
        del start
        day = (end.astimezone(self._zone).replace(tzinfo=None) + HALF_A_DAY).date()
        if self._day is not None and day <= self._day:
            return
        if self._day is not None:
            self._without(day - DAY)
        self._day = day
        midnight = self._midnight(day)
        self.upto = max(midnight if midnight - end <= EARLY else end, end, self.upto or end)

    def settled(self, until: datetime) -> None:
        if self._day is not None:
            self._without(until.astimezone(self._zone).date())

    def _without(self, last: date) -> None:
        """Leave out the midnights after the last row, up to that of `last`."""
        if self._day is not None and last > self._day:
            self._leave_out(self._midnight(last))
            self._day = last

    def _midnight(self, day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=self._zone).astimezone(UTC)


class Months(_Stream):
    """One row a month, at the meter's billing date, which may be moved: a period of under two months is one."""

    def __init__(self, upto: datetime | None, zone: ZoneInfo) -> None:
        super().__init__(upto)
        self._zone = zone

    def row(self, start: datetime | None, end: datetime) -> None:
        del start
        while (due := self._due()) is not None and end > due + LONGER:
            self._leave_out(due)
        if self.upto is None or end > self.upto:
            self.upto = end

    def settled(self, until: datetime) -> None:
        while (due := self._due()) is not None and due <= until:
            self._leave_out(due)

    def _due(self) -> datetime | None:
        return None if self.upto is None else month_later(self.upto.astimezone(self._zone)).astimezone(UTC)


class Snapshots(_Stream):
    """What is read as it is now, once in each period: `boundary` returns when the period of an instant began."""

    def __init__(
        self, upto: datetime | None, boundary: Callable[[datetime], datetime], period: timedelta
    ) -> None:
        super().__init__(upto)
        self._boundary = boundary
        self._period = period

    def row(self, start: datetime | None, end: datetime) -> None:
        del start
        self._without(self._boundary(end) - self._period)
        if self.upto is None or end > self.upto:
            self.upto = end

    def settled(self, until: datetime) -> None:
        self._without(self._boundary(until) - self._period)

    def _without(self, last: datetime) -> None:
        """Leave out what was due after the last row, up to `last`."""
        if self.upto is not None and last > self._boundary(self.upto):
            self._leave_out(last)


def stored_rhythm(profile: ProfileName, upto: datetime | None, zone: ZoneInfo) -> Rhythm | None:
    """Return the rhythm of a profile that the meter stores; None for one that has none."""
    if profile is ProfileName.BLOCK_LOAD:
        return Intervals(upto)
    if profile is ProfileName.DAILY:
        return Days(upto, zone)
    return Months(upto, zone) if profile is ProfileName.BILLING else None


def month_later(at: datetime) -> datetime:
    """Return the same day and time of the next month, its last day where it is shorter."""
    year, month = at.year + at.month // 12, at.month % 12 + 1
    return at.replace(year=year, month=month, day=min(at.day, monthrange(year, month)[1]))
