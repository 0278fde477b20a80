"""Where lines rest that have nothing to do: one timer wakes them all, so that waiting costs nothing by the line."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count

from protocols.session import Clock

LOOK_UP = timedelta(seconds=60)
"""How often it is looked whether the clock was set: what was due "in ten years" may be due now."""
SPARE = 64
"""Rests that ended early are let go of when they are more than half of all and this many."""


class Rests:
    """`until` gives a future that is done when the time is there: with True where the clock was set back instead.

    Whoever sets the future's result himself wakes its line early. The timer is a task of `group`.
    """

    def __init__(self, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._clock = clock
        self._group = group
        self._resting: list[tuple[datetime, int, asyncio.Future[bool]]] = []
        self._numbers = count()
        self._tidy_at = SPARE
        self._timer: asyncio.Task[None] | None = None
        self._wakes_at = self._seen = clock.now()

    def __len__(self) -> int:
        return len(self._resting)

    def until(self, at: datetime) -> asyncio.Future[bool]:
        """Return a future that is done at `at`."""
        rest: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heappush(self._resting, (at, next(self._numbers), rest))
        if len(self._resting) > self._tidy_at:
            self._resting = [one for one in self._resting if not one[2].done()]
            heapify(self._resting)
            self._tidy_at = 2 * len(self._resting) + SPARE
        if self._timer is None or self._timer.done() or at < self._wakes_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = at
            self._timer = self._group.create_task(self._watch(), name="rests")
        return rest

    async def _watch(self) -> None:
        while self._wake():
            self._wakes_at = min(self._resting[0][0], self._seen + LOOK_UP)
            await self._clock.sleep_until(self._wakes_at)

    def _wake(self) -> bool:
        """Wake whose time is there, or everybody when the clock was set back; return whether anybody rests on."""
        now = self._clock.now()
        back, self._seen = self._seen - now > LOOK_UP, now
        while self._resting and (back or self._resting[0][0] <= now):
            rest = heappop(self._resting)[2]
            if not rest.done():
                rest.set_result(back)
        return bool(self._resting)
