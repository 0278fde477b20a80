"""Sessions wait here until admission control lets them begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.edge.polling.admission import Admission, AdmissionLimits, Route, Urgency


class Knock:
    """One session at the doors: waits, is admitted, leaves. Made by `Doors.knock`."""

    def __init__(self, doors: Doors, number: int | None) -> None:
        self._doors = doors
        self._number = number
        self.admitted = number is None

    def change(self, urgency: Urgency) -> None:
        """Be more or less urgent while waiting."""
        if self._number is not None and not self.admitted:
            self._doors.change(self._number, urgency)

    def leave(self) -> None:
        """End the session, or wait no longer; idempotent."""
        number, self._number = self._number, None
        if number is not None:
            self._doors.leave(number)


class Doors:
    """`doors.knock(route, urgency, wake)` asks for a session; it is counted until `leave`.

    A route of None (a serial bus) passes at once: the bus itself carries one conversation at a time.
    """

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self._limits = limits or AdmissionLimits()
        self._admission: Admission | None = None
        self._knocks: dict[int, tuple[Knock, Callable[[], None]]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Sessions that go on now."""
        return 0 if self._admission is None else self._admission.running

    @property
    def waiting(self) -> int:
        """Sessions that wait for their turn."""
        return 0 if self._admission is None else self._admission.waiting

    def knock(self, route: Route | None, urgency: Urgency, wake: Callable[[], None]) -> Knock:
        """Ask for a session; `wake` is called when it is admitted, should that not be at once."""
        if route is None:
            return Knock(self, None)
        if self._admission is None:
            self._admission = Admission(self._limits, asyncio.get_running_loop().time())
        number = self._admission.request(route, urgency)
        knock = Knock(self, number)
        self._knocks[number] = (knock, wake)
        self._admit()
        return knock

    def change(self, number: int, urgency: Urgency) -> None:
        """Let a waiting session be more or less urgent."""
        if self._admission is not None:
            self._admission.change(number, urgency)
            self._admit()

    def leave(self, number: int) -> None:
        """Count a session no longer."""
        self._knocks.pop(number, None)
        if self._admission is not None:
            self._admission.leave(number)
            self._admit()

    def _admit(self) -> None:
        admission = self._admission
        if admission is None:
            return
        loop = asyncio.get_running_loop()
        for number in admission.admit(loop.time()):
            knock, wake = self._knocks.pop(number)
            knock.admitted = True
            wake()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wait = admission.due_in()
        if wait is not None:
            self._alarm = loop.call_later(wait, self._admit)
