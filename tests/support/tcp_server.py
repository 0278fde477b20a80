"""A TCP server for a test that leaves nothing behind: connections and handlers end with the block."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
TURNS = 3
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


@asynccontextmanager
async def tcp_server(handler: Handler) -> AsyncIterator[int]:
    """Serve each connection with `handler` on a free port of `HOST`, which is yielded.

    A handler may return and leave its connection open. What is open at the end of the block is closed, handlers
    that still run are cancelled.
    """
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Future[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: asyncio's own task for one may be cancelled before its first step and leave the socket open.
        writers.append(writer)
        answer = handler(reader, writer)
        if inspect.isawaitable(answer):
            tasks.append(asyncio.ensure_future(answer))

    server = await asyncio.start_server(connected, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(
            TURNS
        ):  # who was accepted a moment ago is told to `connected` in the loop's next turns
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)  # a transport closes its socket in the loop's next turn
