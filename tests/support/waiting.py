"""Waiting for a condition by polling it: the deadline ends a test that hangs and measures nothing."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

Value = TypeVar("Value")
What = str | Callable[[], str]
"""What is waited for: a text, or a function that says at the deadline how far it came."""
PATIENCE = 60.0
"""Seconds after which a condition counts as never coming true, on any machine."""


async def until(
    condition: Callable[[], Value | Awaitable[Value]], what: What = "", seconds: float = PATIENCE
) -> Value:
    """Poll a condition until it holds and return what it returned; AssertionError after `seconds`.

    The condition may be a coroutine function. It only looks: states that are on their way are false, not errors;
    what must hold in the end is asserted after the wait.
    """
    end = time.monotonic() + seconds
    while True:
        found = condition()
        value = cast("Value", await found if inspect.isawaitable(found) else found)
        if value:
            return value
        assert time.monotonic() < end, _in_vain(condition, what, seconds)
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], Value], what: What = "", seconds: float = PATIENCE) -> Value:
    """Do the same as `until` in a test that has no event loop."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, _in_vain(condition, what, seconds)
        time.sleep(0.02)
    return value


def _in_vain(condition: Callable[[], object], what: What, seconds: float) -> str:
    named = what() if callable(what) else what or inspect.getsource(condition).strip()
    return f"waited {seconds:g} s in vain: {named}"
