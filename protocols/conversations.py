"""Connections of a server: each is served by a task and ends with it, even with one that never began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Conversations:
    """What `asyncio.start_server` calls for each connection, in place of a coroutine.

    asyncio's own task for a coroutine is not known to anybody before its first step: one that is cancelled before
    it, as at the end of a loop, runs no `finally` and leaves its socket open.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, writer))

    async def close(self) -> None:
        """End all conversations."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self.tasks.discard(task)
        writer.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a conversation failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)
