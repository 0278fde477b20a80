"""What was published shortly before a broker fell is told again: it may have reached nobody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.central.ledger.cursors import Cursors
from gateway.mqtt.steady import Steady


class Retelling:
    """For one connection: moves what the broker took back, once, to where it surely arrived (`Steady`).

    What was told is counted by a number that rises: `told` returns it, `back` makes all above a lower one untold; where
    neither is given it is the cursor `name`. Sure is what was taken a step before a look at a connection that still
    stood: the cursor `{name}_settled`.
    """

    def __init__(
        self,
        cursors: Cursors,
        name: str,
        *,
        told: Callable[[], int] | None = None,
        back: Callable[[int], None] | None = None,
    ) -> None:
        self._cursors = cursors
        self._told = told or partial(cursors.get, name)
        self._back = back or partial(cursors.set, name)
        self._settled = f"{name}_settled"
        self._steady = Steady()
        self._before = 0

    def look(self, now: float) -> None:
        """Move what is to be moved at `now`, seconds of a steady clock; the first look begins the connection."""
        step = self._steady.step(now)
        if step is None:
            return
        told = self._told()
        if step == 0:
            # Where none was kept yet, all that stands was told long ago: at an installation's first start, nothing.
            self._cursors.set(self._settled, self._cursors.get(self._settled, told))
        elif step == 1:
            if (sure := self._cursors.get(self._settled)) < told:
                self._back(sure)
        else:
            self._cursors.set(self._settled, min(told, self._before))
        self._before = told
