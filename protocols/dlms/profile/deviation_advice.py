"""Tells from a meter's clock and rows that it writes a constant as deviation and means its wall clock.

Such a meter writes 0, say, in a country at +5:30: by the Blue Book its clock is hours ahead, its newest row lies in
the future, and nothing of it is trusted. Nothing is believed by itself: what is found here is advice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.data.cosem_time import local_deviations

NEAR = timedelta(minutes=14)
"""How far from ours a clock may be that is merely wrong: less than the least difference of two zones."""


@dataclass(frozen=True, slots=True)
class SeenTime:
    """A time of a meter: the instant that the Blue Book makes of it, and the deviation as sent."""

    at: datetime
    deviation: int | None


def proposed_deviation(
    now: datetime, zone: ZoneInfo, *, clock: SeenTime | None = None, rows: Iterable[SeenTime] = ()
) -> int | None:
    """Return the deviation by which a meter seems to mean the wall clock of `zone`; None where nothing says so.

    Its clock is near `now` when it is read so, and is not by the Blue Book; or its newest row lies in the future by
    the Blue Book, and does not when it is read so. Everything that was seen must carry the same deviation, and
    nothing may speak against it.
    """
    times = list(rows)
    seen = {one.deviation for one in ([*times, clock] if clock is not None else times)}
    if len(seen) != 1 or None in seen:
        return None
    (deviation,) = seen
    assert deviation is not None
    offset = (now.astimezone(zone).utcoffset() or timedelta()) // timedelta(minutes=1)
    if abs(deviation) == abs(offset) or deviation in local_deviations(zone):
        return None
    words = [] if clock is None else [_clock_says(clock, now, zone)]
    if times:
        words.append(_rows_say(max(times, key=lambda one: one.at), now, zone))
    return deviation if True in words and False not in words else None


def as_local(seen: SeenTime, zone: ZoneInfo) -> datetime:
    """Return the instant of a time whose wall clock is that of `zone`."""
    wall = seen.at.astimezone(UTC).replace(tzinfo=None) - timedelta(minutes=seen.deviation or 0)
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _clock_says(clock: SeenTime, now: datetime, zone: ZoneInfo) -> bool | None:
    if abs(as_local(clock, zone) - now) > NEAR:
        return False
    return True if abs(clock.at - now) > NEAR else None


def _rows_say(newest: SeenTime, now: datetime, zone: ZoneInfo) -> bool | None:
    """A row of the past says nothing: it may be that none was asked for since, or that the meter was off."""
    if as_local(newest, zone) > now + NEAR:
        return False
    return True if newest.at > now + NEAR else None
