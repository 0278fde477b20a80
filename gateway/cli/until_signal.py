"""Work that SIGINT or SIGTERM ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def until_signal(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return what `work` returns, or None when SIGINT or SIGTERM ended it first.

    The work is cancelled and cleans up after itself.
    """
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None
