"""An event loop whose time passes only while nothing can be done, so that a slow machine is as good as a fast one."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

SETTLED = 0.01
"""Seconds of the real clock without an event after which everything that was sent counts as arrived."""
TURN = 20e-6
"""Seconds of the virtual clock for a turn of the loop, so that a task that never waits does not stop the time."""


class _Selector(selectors.PollSelector):
    """Waits for events, but not for time: that is set forward instead.

    Other than epoll, poll looks at each descriptor anew, and so makes the system hand over what was written to
    the other side of a pty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            self.now += TURN
            return super().select(timeout)
        events = super().select(SETTLED)
        self.now += TURN if events else timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For tests marked `virtual_time`: all that they wait for happens in this loop, in sockets and ptys.

    A timer runs out when no event has come for a moment: never before an answer that is on its way, and at once
    when there is none. Not for tests that wait for threads or other processes: these take real time.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now
