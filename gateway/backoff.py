"""Delays between tries that fail: each twice the last, up to a bound, and partly left to chance."""

from __future__ import annotations

import random

MOST_DOUBLINGS = 62
"""Beyond it the delay no longer grows even without a bound: a float must hold it, however often a try fails."""


class Backoff:
    """Delays `first`, `first`×2, `first`×4 … `most`, in seconds, until `reset`.

    `chance` is the part of each delay that is left to chance, so that many that failed together do not come
    back together; 0 where there is nobody to avoid. Does not wait itself and needs no clock.

    >>> backoff = Backoff(1.0, 5.0, chance=0.0)
    >>> [backoff.next() for _ in range(4)], backoff.failures
    ([1.0, 2.0, 4.0, 5.0], 4)
    """

    def __init__(
        self,
        first: float = 0.5,
        most: float = 60.0,
        *,
        chance: float = 0.5,
        rng: random.Random | None = None,
    ) -> None:
        self._first = first
        self.most = most
        self._chance = chance
        self._rng = rng or random.SystemRandom()
        self.failures = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Count a failure and return the seconds to wait; `at_least` lengthens this one delay."""
        step = min(self._first * (1 << min(self.failures, MOST_DOUBLINGS)), self.most)
        self.failures += 1
        return max(step, at_least) * self._rng.uniform(1.0 - self._chance, 1.0)

    def reset(self) -> None:
        """Begin anew after a success."""
        self.failures = 0
