"""Time as it is given to every part: the machine's clock, and one that runs fast from the past until now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable


class NowSource(Protocol):
    """Anything that tells the present."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""


@runtime_checkable
class SteadyClock(Protocol):
    """A clock that may be set, beside which the machine's own seconds run, which nobody sets."""

    def steady(self) -> float:
        """Return the seconds that the machine has run."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A look at a clock: what it shows, and where the steady seconds stand (None: it has none)."""

    now: datetime
    steady: float | None

    @classmethod
    def of(cls, clock: NowSource) -> Moment:
        """Look at a clock."""
        return cls(clock.now(), clock.steady() if isinstance(clock, SteadyClock) else None)

    def until(self, later: Moment) -> tuple[Moment, float]:
        """Return the middle between this look and a later one, by the later one's setting, and the seconds between.

        Without steady seconds a clock that was set back in between counts as no time.
        """
        if self.steady is None or later.steady is None:
            takes = max((later.now - self.now).total_seconds(), 0.0)
            return Moment(self.now + timedelta(seconds=takes / 2), None), takes
        takes = later.steady - self.steady
        return Moment(later.now - timedelta(seconds=takes / 2), later.steady - takes / 2), takes


class SystemClock:
    """The machine's clock, taken on the word of whoever chose it (the gateway asks for evidence)."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC)

    def disciplined(self) -> bool:
        """Say yes: whoever gives a session this clock vouches for it."""
        return True

    async def sleep_until(self, at: datetime) -> None:
        """Sleep until `at`, or until the machine's clock is set back: then the caller must look again."""
        left = (at - self.now()).total_seconds()
        while left > 0:
            await asyncio.sleep(min(left, 60.0))
            before, left = left, (at - self.now()).total_seconds()
            if left > before:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedClock:
    """Simulated time: it showed `start` when the machine's clock showed `anchor`, and runs `speed` times as fast.

    It never passes the real present: once there it goes on at normal speed. Processes that share the three
    values share the time.
    """

    start: datetime
    anchor: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        """Return the simulated instant in UTC."""
        real = datetime.now(UTC)
        return min(real, self.start + (real - self.anchor) * self.speed)

    def disciplined(self) -> bool:
        """Simulated time is always trusted."""
        return True

    async def sleep_until(self, at: datetime) -> None:
        """Sleep until the simulated clock reaches `at`."""
        while (left := (at - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(max(left / self.speed, 0.001), 5.0))

    @classmethod
    def ending_now(cls, *, behind: timedelta, speed: float) -> SimulatedClock:
        """Start `behind` ago and run `speed` times as fast."""
        real = datetime.now(UTC)
        return cls(start=real - behind, anchor=real, speed=speed)
