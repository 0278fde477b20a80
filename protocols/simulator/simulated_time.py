"""Simulated time: it begins in the past, runs fast, and ends at now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTime:
    """It showed `start` when the machine's clock showed `anchor`, and runs `speed` times as fast until now.

    Processes that share the three values share the time.
    """

    start: datetime
    anchor: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        """Return the simulated instant in UTC; never later than the machine's."""
        real = datetime.now(UTC)
        return min(real, self.start + (real - self.anchor) * self.speed)

    @classmethod
    def ending_now(cls, *, behind: timedelta, speed: float) -> SimulatedTime:
        """Start `behind` ago."""
        real = datetime.now(UTC)
        return cls(start=real - behind, anchor=real, speed=speed)
