"""By how much a meter's clock is moved, and when that makes no interval twice or none; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import gcd
from zoneinfo import ZoneInfo

QUARTER = timedelta(minutes=15)
"""What meters capture ends with a quarter of an hour at the latest: intervals, days and months."""
ONCE_IN = timedelta(days=1)
"""A clock is moved by itself once in this time at most."""
AS_TAKEN = 2.0
"""Seconds by which a clock that was moved may stand elsewhere: it shows whole seconds, and the request travels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRule:
    """Limits of corrections, in seconds (see `gateway.config.clocks.ClocksSection`)."""

    least: float
    most: float
    step: float
    margin: float

    def shift(self, drift: float, doubt: float = 0.0) -> timedelta:
        """Return by how much a clock is moved that is `drift` seconds ahead, give or take `doubt`; 0: not by itself.

        It goes towards the true time by `step` at most, in whole seconds, never past it.
        """
        if not self.least <= abs(drift) - doubt or abs(drift) + doubt > self.most:
            return timedelta(0)
        size = int(min(abs(drift), self.step))
        return timedelta(seconds=-size if drift > 0 else size)

    def clear_at(
        self, shown: datetime, by: timedelta, zone: ZoneInfo, period: timedelta | None = None
    ) -> datetime | None:
        """Return when the meter's clock, which shows `shown`, first shows a time from which it may be moved by `by`.

        That is a time by the meter's own clock, `shown` itself or later: both it and where the clock then stands lie in
        one interval of `period`, and `margin` away from its ends. None where intervals are too short for that.
        """
        grid = gcd(int(QUARTER.total_seconds()), int((period or QUARTER).total_seconds()))
        moved = by.total_seconds()
        low, high = self.margin + max(0.0, -moved), grid - self.margin - max(0.0, moved)
        if low >= high:
            return None
        wall = shown.astimezone(zone).replace(tzinfo=None)
        place = (wall - datetime.min).total_seconds() % grid  # noqa: DTZ901 - wall clocks, both of them
        if place < low:
            return shown + timedelta(seconds=low - place)
        return shown if place <= high else shown + timedelta(seconds=grid - place + low)

    def was_taken(self, before: float, by: timedelta, after: float, doubt: float = 0.0) -> bool:
        """Say whether a clock that was `before` seconds ahead and moved by `by` stands where it should, by `after`."""
        return abs(after - before - by.total_seconds()) <= AS_TAKEN + doubt


def may_again(last: datetime | None, now: datetime, wait: timedelta = ONCE_IN) -> bool:
    """Say whether the last correction is long enough ago; one that lies ahead of us was made by a wrong clock."""
    return last is None or not now - wait < last <= now + wait


def is_doubted(status: int | None) -> bool:
    """Say whether a meter calls its own clock invalid or doubtful (clock status bits 0 and 1, Blue Book 4.1.6.1)."""
    return status not in (None, 0xFF) and bool((status or 0) & 0b11)
