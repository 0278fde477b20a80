"""The terms of a lot: how many visits an hour and at once, in which hours, and what stops it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.errors import UsageError

ZONE = "Asia/Kolkata"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_WEEK = range(8)
"""Today and the seven days after it: every window begins in them."""
MAX_WINDOWS = 16
MAX_RATE, MAX_AT_ONCE, MAX_ATTEMPTS = 100_000, 256, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of local time in which visits begin: from `start` to before `end`, the next day where `end` is not later.

    `days` are the weekdays on which it begins, 0 being Monday; `start` equal to `end` is the whole day.
    """

    start: time
    end: time
    days: frozenset[int] = frozenset(range(7))

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read `22:00-05:00`, or with days before it: `mon-fri 22:00-05:00`, `sat,sun 00:00-00:00`.

        UsageError says what is wrong.
        """
        found = re.fullmatch(r"(?:([a-z,-]+) +)?(\d\d:\d\d) ?- ?(\d\d:\d\d)", text.strip().lower())
        if found is None:
            raise UsageError(
                f"`{text}` is no window: write hours of local time as 22:00-05:00, or mon-fri 22:00-05:00"
            )
        try:
            start, end = time.fromisoformat(found[2]), time.fromisoformat(found[3])
        except ValueError as error:
            raise UsageError(f"`{text}` is no window: hours go from 00:00 to 23:59") from error
        return cls(start=start, end=end, days=_days(found[1]) if found[1] else frozenset(range(7)))

    def __str__(self) -> str:
        days = "" if len(self.days) == 7 else ",".join(DAYS[d] for d in sorted(self.days)) + " "
        return f"{days}{self.start:%H:%M}-{self.end:%H:%M}"

    def beginning(self, day: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Return, in UTC, the span of the window that begins on a local day; None where none does."""
        if day.weekday() not in self.days:
            return None
        last = day.date() + (_DAY if self.end <= self.start else timedelta(0))
        return (
            datetime.combine(day.date(), self.start, zone).astimezone(UTC),
            datetime.combine(last, self.end, zone).astimezone(UTC),
        )


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise UsageError(f"`{part}` is no weekday: {', '.join(DAYS)}, or a span of them as mon-fri")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + n) % 7 for n in range(length + 1)}
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a lot is worked through.

    At most `rate_per_hour` visits begin in an hour, evenly spaced (0 = no limit), and `at_once` go on together.
    A meter is visited `attempts` times in a row without progress before it has failed, `pause` seconds apart.

    The lot stops when more than `max_failed` meters have failed, or more than `max_failed_percent` of those that
    have ended, once `share_after` of them have; None is no such bound. It stops at the first failure for one of the
    reasons `stop_on`. Failures for the reasons `not_counted` are none of the work's: they count in no bound. After the
    first `pilot` meters it pauses until somebody has looked (0 = it goes on).
    """

    rate_per_hour: int = 0
    at_once: int = 1
    attempts: int = 3
    pause: int = 900
    windows: tuple[Window, ...] = ()
    zone: str = ZONE
    max_failed: int | None = None
    max_failed_percent: int | None = None
    share_after: int = 10
    stop_on: frozenset[str] = field(default_factory=frozenset)
    not_counted: frozenset[str] = field(default_factory=frozenset)
    pilot: int = 0

    def __post_init__(self) -> None:
        limits = (
            ("rate_per_hour", self.rate_per_hour, 0, MAX_RATE),
            ("at_once", self.at_once, 1, MAX_AT_ONCE),
            ("attempts", self.attempts, 1, MAX_ATTEMPTS),
            ("pause", self.pause, 0, 86_400),
            ("max_failed", self.max_failed, 0, None),
            ("max_failed_percent", self.max_failed_percent, 0, 100),
            ("share_after", self.share_after, 1, None),
            ("pilot", self.pilot, 0, None),
            ("windows", len(self.windows), 0, MAX_WINDOWS),
        )
        for name, value, low, high in limits:
            if value is not None and (value < low or (high is not None and value > high)):
                raise UsageError(f"{name} = {value}: {low} to {'…' if high is None else high} is allowed")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"there is no time zone {self.zone!r}") from error

    @property
    def spacing(self) -> timedelta:
        """Return the time between the beginnings of two visits, rounded up: no hour has one too many."""
        return -(-HOUR // self.rate_per_hour) if self.rate_per_hour else timedelta(0)

    def window_at(self, now: datetime) -> tuple[datetime, datetime | None] | None:
        """Return the window that is open, or the next: when it begins and ends, in UTC; None as end: it never does.

        None where no window ever opens (its days are none).
        """
        if not self.windows:
            return now, None
        zone = ZoneInfo(self.zone)
        local = now.astimezone(zone)
        spans = [
            span
            for window in self.windows
            for n in (-1, *_WEEK)
            if (span := window.beginning(local + n * _DAY, zone)) is not None and span[1] > now
        ]
        return min(spans, default=None)
