"""An event loop whose time passes only while nothing can be done, so that a slow machine is as good as a fast one."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeVar

Result = TypeVar("Result")

SETTLED = 0.01
"""Seconds of the real clock without an event after which everything that was sent counts as arrived."""
STRIDE = 5.0
"""Seconds that pass at once at most while something is under way, where it is told when nothing is."""
TURN = 20e-6
"""Seconds of the virtual clock for a turn of the loop, so that a task that never waits does not stop the time."""


class _Selector(selectors.PollSelector):
    """Waits for events, but not for time: that is set forward instead.

    Other than epoll, poll looks at each descriptor anew, and so makes the system hand over what was written to
    the other side of a pty.
    """

    def __init__(self, settled: float) -> None:
        super().__init__()
        self.now = 0.0
        self.settled = settled
        self.idle: Callable[[], bool] = lambda: False
        self.stride = inf

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            self.now += TURN
            return super().select(timeout)
        idle = self.idle()
        events = super().select(0 if idle else self.settled)
        self.now += TURN if events else timeout if idle else min(timeout, self.stride)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For tests marked `virtual_time`: all that they wait for happens in this loop, in sockets and ptys.

    A timer runs out when no event has come for a moment: never before an answer that is on its way, and at once
    when there is none. Not for tests that wait for threads or other processes: these take real time.
    """

    def __init__(self, settled: float = SETTLED) -> None:
        self._virtual = _Selector(settled)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def settle_in(self, seconds: float, *, idle: Callable[[], bool]) -> None:
        """Take what was sent as arrived after so many real seconds, at once while `idle`: so weeks may pass."""
        self._virtual.settled, self._virtual.idle = seconds, idle
        self._virtual.stride = STRIDE  # a thread that is slow must not let half an hour of a visit pass

    @property
    def passed(self) -> timedelta:
        """The virtual time since the loop was made."""
        return timedelta(seconds=self._virtual.now)


class VirtualClock:
    """A gateway's clock, disciplined, that goes with the virtual time of the running loop; it begins at `begin`.

    Threads may ask it, too, where it was made in the loop, or asked there once.
    """

    def __init__(self, begin: datetime) -> None:
        self._begin = begin
        self._loop: VirtualTimeLoop | None = None
        with suppress(RuntimeError):
            self.now()

    def now(self) -> datetime:
        if self._loop is None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            self._loop = loop
        return self._begin + self._loop.passed

    def disciplined(self) -> bool:
        return True

    async def sleep_until(self, at: datetime) -> None:
        await asyncio.sleep((at - self.now()).total_seconds())


def run_virtually(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end in a loop of its own that waits for no descriptor: for far sides on paper."""
    loop = VirtualTimeLoop(settled=0)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
