"""When messages may go: how many a second, not at night in India, and how long until another try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Final

IST: Final = timezone(timedelta(hours=5, minutes=30), "IST")
"""Indian time, which has had no other offset since 1945."""
WINDOW: Final = timedelta(seconds=1)
"""In which `per_second` messages are handed over at most, by all processes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, when and how often. Codes that somebody asked for go at any hour."""

    per_second: int = 10
    quiet_from: time = time(21)
    quiet_until: time = time(9)
    tries: int = 6
    first_delay: timedelta = timedelta(minutes=1)
    most_delay: timedelta = timedelta(hours=2)
    service_lives: timedelta = timedelta(days=3)
    code_lives: timedelta = timedelta(minutes=5)
    repeats_safe: bool = False
    """Whether the provider takes a repeated reference for one message: then a doubtful one is handed over again."""

    def is_quiet(self, now: datetime) -> bool:
        """Say whether people in India must not be disturbed now; equal hours mean never."""
        at = now.astimezone(IST).time()
        if self.quiet_from <= self.quiet_until:
            return self.quiet_from <= at < self.quiet_until
        return at >= self.quiet_from or at < self.quiet_until

    def delay(self, tries: int) -> timedelta:
        """Return the wait after so many tries that failed (from 1): doubled each time, up to a bound.

        >>> [str(Pace().delay(tries)) for tries in (1, 2, 3, 60)]
        ['0:01:00', '0:02:00', '0:04:00', '2:00:00']
        """
        return min(self.first_delay * (1 << min(tries - 1, 30)), self.most_delay)

    def lives(self, *, urgent: bool) -> timedelta:
        """Return how long a message is worth sending."""
        return self.code_lives if urgent else self.service_lives
