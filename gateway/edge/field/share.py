"""How much of a line the field may use: a turn's length at once, and half of the time beyond that."""

from __future__ import annotations

SHARE = 0.5
"""Part of a line's time that field work may use when it never ends: the rest is for polling."""


class FieldShare:
    """Seconds that field work has in hand on one line: at most `burst`, filled at SHARE. `now` only rises."""

    def __init__(self, burst: float) -> None:
        self._burst = self._left = burst
        self._at: float | None = None

    def charge(self, seconds: float, now: float) -> None:
        """Take what a turn that just ended used; it may leave less than nothing in hand."""
        self._fill(now)
        self._left -= seconds

    def wait(self, now: float) -> float:
        """Return the seconds until the next turn may begin."""
        self._fill(now)
        return max(0.0, -self._left / SHARE)

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * SHARE)
        self._at = now
