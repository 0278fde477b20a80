"""How long a connection has stood: what a broker took says little until its listeners surely are back."""

from __future__ import annotations

from typing import Final

SETTLED: Final = 60.0
"""Seconds in which consumers are back after a broker fell, and a broker saves what it has (`autosave_interval` 30)."""


class Steady:
    """Counts the steps of SETTLED that one connection has stood.

    A broker that falls forgets what it has not saved: messages that waited for a listener, and who its listeners are,
    so that what is published before they subscribe again reaches nobody, though the broker took it. So whoever tells
    a thing once tells it again at step 1, and what it then told is sure at step 2.
    """

    def __init__(self) -> None:
        self._due: float | None = None
        self._steps = -1

    def step(self, now: float) -> int | None:
        """Return the number of a step that is reached at `now`, seconds of a steady clock; None between two.

        The first call begins the connection: step 0.
        """
        if self._due is not None and now < self._due:
            return None
        self._due = now + SETTLED
        self._steps += 1
        return self._steps
