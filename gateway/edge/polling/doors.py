"""Sessions wait here until admission control lets them begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.edge.polling.admission import Admission, AdmissionLimits, Route, Urgency


class Doors:
    """`async with doors.session(route, urgency)`: inside, a session is counted.

    A route of None (a serial bus) passes at once: the bus itself carries one conversation at a time.
    """

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self._limits = limits or AdmissionLimits()
        self._admission: Admission | None = None
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Sessions that go on now."""
        return 0 if self._admission is None else self._admission.running

    @property
    def waiting(self) -> int:
        """Sessions that wait for their turn."""
        return 0 if self._admission is None else self._admission.waiting

    @asynccontextmanager
    async def session(self, route: Route | None, urgency: Urgency) -> AsyncIterator[None]:
        """Wait for the turn, then count the session until the block ends."""
        if route is None:
            yield
            return
        loop = asyncio.get_running_loop()
        if self._admission is None:
            self._admission = Admission(self._limits, loop.time())
        number = self._admission.request(route, urgency)
        self._turns[number] = turn = loop.create_future()
        try:
            self._admit()
            await turn
            yield
        finally:
            self._turns.pop(number, None)
            self._admission.leave(number)
            self._admit()

    def _admit(self) -> None:
        admission = self._admission
        if admission is None:
            return
        loop = asyncio.get_running_loop()
        for number in admission.admit(loop.time()):
            turn = self._turns.pop(number)
            if not turn.done():  # cancelled meanwhile: it leaves by itself
                turn.set_result(None)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wait = admission.due_in()
        if wait is not None:
            self._alarm = loop.call_later(wait, self._admit)
