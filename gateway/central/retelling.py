"""What was published shortly before a broker fell is told again: it may have reached nobody."""

from __future__ import annotations

from typing import Final

from gateway.central.ledger.cursors import Cursors

SETTLED: Final = 60.0
"""Seconds in which consumers are back after a broker fell, and a broker saves what it has (`autosave_interval` 30)."""


class Retelling:
    """For one connection: moves a cursor of what the broker took back, once, to where it surely arrived.

    A broker that falls forgets what it has not saved: messages that waited for a consumer, and who its consumers
    are, so that what is published before they subscribe again reaches nobody, though the broker took it. Sure is
    what was taken SETTLED before a look at a connection that still stood: the cursor `{name}_settled`.
    """

    def __init__(self, cursors: Cursors, name: str) -> None:
        self._cursors = cursors
        self._name = name
        self._settled = f"{name}_settled"
        self._due: float | None = None
        self._before: int | None = None

    def look(self, now: float) -> None:
        """Move what is to be moved at `now`, seconds of a steady clock; the first look begins the connection."""
        if self._due is not None and now < self._due:
            return
        told = self._cursors.get(self._name)
        if self._due is None:
            # Where none was kept yet, all that stands was told long ago: at an installation's first start, nothing.
            self._cursors.set(self._settled, self._cursors.get(self._settled, told))
        elif self._before is None:
            self._cursors.set(self._name, min(told, self._cursors.get(self._settled)))
            self._before = told
        else:
            self._cursors.set(self._settled, min(told, self._before))
            self._before = told
        self._due = now + SETTLED
