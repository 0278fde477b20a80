"""Waiting in tests. The one place with a clock: its deadlines end tests that hang and measure nothing."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

What = str | Callable[[], str]
"""What is waited for: a text, or a function that says at the deadline how far it came."""
PATIENCE = 60.0
"""Seconds after which something counts as never happening, on any machine."""


async def until(condition: Callable[[], object], what: What = "", seconds: float = PATIENCE) -> None:
    """Poll a condition until it holds; AssertionError after `seconds`.

    The condition may be a coroutine function. It only looks: states that are on their way are false, not errors;
    what must hold in the end is asserted after the wait.
    """
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < end, _in_vain(condition, what, seconds)
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], what: What = "", seconds: float = PATIENCE) -> None:
    """Do the same as `until` in a test that has no event loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, _in_vain(condition, what, seconds)
        time.sleep(0.02)


def _in_vain(condition: Callable[[], object], what: What, seconds: float) -> str:
    named = what() if callable(what) else what or inspect.getsource(condition).strip()
    return f"waited {seconds:g} s in vain: {named}"


def passed(seconds: float) -> Callable[[], bool]:
    """Start a timer of the running loop and return a function that says whether it has run out.

    A wait that began later and takes at least as long never ends before it: so a test asserts that something
    waits long enough, by the order of timers and without a clock.
    """
    done: list[bool] = []
    asyncio.get_running_loop().call_later(seconds, done.append, True)
    return lambda: bool(done)


@contextmanager
def waits_run_out() -> Iterator[list[float]]:
    """Collect the seconds of each timer of the running loop that runs out: what was waited for, not what it took.

    Timers are behind `asyncio.sleep`, `timeout`, `wait_for` and `call_later`; one that is cancelled in time does
    not count.
    """
    loop: Any = asyncio.get_running_loop()
    schedule, waits = loop.call_at, list[float]()

    def call_at(when: float, callback: Callable[..., object], *arguments: Any, **more: Any) -> Any:
        seconds = when - loop.time()

        def run_out() -> None:
            waits.append(seconds)
            callback(*arguments)

        return schedule(when, run_out, **more)

    loop.call_at = call_at
    try:
        yield waits
    finally:
        del loop.call_at
