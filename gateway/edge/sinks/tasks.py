"""Works that share a connection: they run side by side and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

END_AGAIN = 1.0
"""Seconds after which a task that was cancelled and goes on is cancelled once more."""


async def first_ended(*works: Awaitable[None], wait_all: bool = False) -> None:
    """Run all until the first ends (with `wait_all`: until all end or one fails); cancel the others.

    The first failure is raised as it is, not in a group: callers tell PeerError from JournalError.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    when = asyncio.FIRST_EXCEPTION if wait_all else asyncio.FIRST_COMPLETED
    try:
        done, _ = await asyncio.wait(tasks, return_when=when)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        await _cancel_all(tasks)


async def _cancel_all(tasks: Sequence[asyncio.Future[None]]) -> None:
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        # `asyncio.wait_for` of Python 3.11, inside aiomqtt, may swallow a cancellation: then once more.
        _, left = await asyncio.wait(left, timeout=END_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: the first failure is already on its way
