"""How much energy was used in a span, from stored intervals or registers; missing stays missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise

REGISTER_REACH = timedelta(minutes=30)
"""How far from a span's ends a register may have been read, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalEnergy:
    """Energy of one stored interval of one meter, exact kWh."""

    meter: str
    start: datetime
    end: datetime
    kwh: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterReading:
    """A meter's energy register at one instant, exact kWh."""

    meter: str
    at: datetime
    kwh: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Energy used in start..end: `kwh` is None when nothing is known, `missing` is time without data."""

    start: datetime
    end: datetime
    kwh: Decimal | None
    missing: timedelta

    @property
    def complete(self) -> bool:
        """Whether the whole span is covered by data."""
        return self.kwh is not None and not self.missing


def interval_use(intervals: Iterable[IntervalEnergy], start: datetime, end: datetime) -> Use:
    """Sum the intervals that lie inside start..end; what they do not cover is missing."""
    inside = [i for i in intervals if start <= i.start and i.end <= end]
    covered = _union((i.start, i.end) for i in inside)
    missing = max(end - start - covered, timedelta(0))
    return Use(
        start=start,
        end=end,
        kwh=sum((i.kwh for i in inside), Decimal(0)) if inside else None,
        missing=missing,
    )


def register_use(
    registers: Sequence[RegisterReading], start: datetime, end: datetime, *, reach: timedelta = REGISTER_REACH
) -> Use:
    """Return the difference of each meter's register over start..end, from readings at most `reach` from each end.

    Where the span's edge has no such reading, the nearest inside it is taken and the rest counts as missing.
    A register that fell (another meter, a rollover) gives nothing for that meter: it is never a negative use.
    """
    total: Decimal | None = None
    spans: list[tuple[datetime, datetime]] = []
    for meter in {r.meter for r in registers}:
        mine = sorted((r for r in registers if r.meter == meter and r.at <= end + reach), key=lambda r: r.at)
        found = register_difference(mine, start, end, reach)
        if found is not None:
            total = (total or Decimal(0)) + found[0]
            spans.append(found[1:])
    return Use(start=start, end=end, kwh=total, missing=max(end - start - _union(spans), timedelta(0)))


def register_difference(
    readings: Iterable[RegisterReading], start: datetime, end: datetime, reach: timedelta
) -> tuple[Decimal, datetime, datetime] | None:
    """Return by how many kWh one meter's register rose in start..end, and the part of it that it covers, or None."""
    mine = sorted(readings, key=lambda r: r.at)
    found = _bounds(mine, start, end, reach)
    if found is None:
        return None
    first, last = found
    between = [r for r in mine if first.at <= r.at <= last.at]
    if any(b.kwh < a.kwh for a, b in pairwise(between)):
        return None
    begun = start if first.at - start <= reach else first.at
    ended = end if end - last.at <= reach else last.at
    return last.kwh - first.kwh, begun, ended


def _bounds(
    mine: list[RegisterReading], start: datetime, end: datetime, reach: timedelta
) -> tuple[RegisterReading, RegisterReading] | None:
    inside = [r for r in mine if start <= r.at <= end]
    first = _nearest(mine, start, reach) or (inside[0] if inside else None)
    last = _nearest(mine, end, reach) or (inside[-1] if inside else None)
    return None if first is None or last is None or first.at >= last.at else (first, last)


def _nearest(mine: list[RegisterReading], edge: datetime, reach: timedelta) -> RegisterReading | None:
    within = [r for r in mine if abs(r.at - edge) <= reach]
    return min(within, key=lambda r: abs(r.at - edge), default=None)


def _union(spans: Iterable[tuple[datetime, datetime]]) -> timedelta:
    covered = timedelta(0)
    reached: datetime | None = None
    for begun, ended in sorted(spans):
        from_here = begun if reached is None or begun > reached else reached
        if ended > from_here:
            covered += ended - from_here
            reached = ended
    return covered


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysLeft:
    """How many days a balance may last, from the costliest and the cheapest day seen."""

    low: int
    about: int
    high: int


MIN_HISTORY_DAYS = 3
"""Days of spending below which nothing is predicted."""


def days_left(balance: Decimal, spent_per_day: Sequence[Decimal]) -> DaysLeft | None:
    """Predict from at least three days of spending in rupees; None with less, or nothing left or spent."""
    if len(spent_per_day) < MIN_HISTORY_DAYS or balance <= 0:
        return None
    low, high = max(spent_per_day), min(spent_per_day)
    if high <= 0:
        return None
    mean = sum(spent_per_day, Decimal(0)) / len(spent_per_day)
    longest = (balance / high).to_integral_value(ROUND_CEILING)
    return DaysLeft(low=int(balance / low), about=round(balance / mean), high=int(longest))


def spending(balances: Sequence[tuple[datetime, Decimal]], midnights: Sequence[datetime]) -> list[Decimal]:
    """Return the rupees spent in each whole day between midnights, from a balance's falls; rises are recharges.

    A day counts only when a balance within an hour before both of its midnights is known.
    """
    ordered = sorted(balances)
    spent = []
    for begun, ended in pairwise(midnights):
        before = [b for b in ordered if begun - timedelta(hours=1) <= b[0] <= begun]
        inside = [b for b in ordered if begun < b[0] <= ended]
        if not before or not inside or ended - inside[-1][0] > timedelta(hours=1):
            continue
        falls = (max(a[1] - b[1], Decimal(0)) for a, b in pairwise([before[-1], *inside]))
        spent.append(sum(falls, Decimal(0)))
    return spent
