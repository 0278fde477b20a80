"""Serves an application with uvicorn inside a running event loop; the port may be left to the system."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from gateway.errors import ConfigError

_STOP_SECONDS = 5
_POLL_SECONDS = 0.01


class _SignalFreeServer(uvicorn.Server):
    """A server that leaves signals to the program around it."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    """Bind host and port (0: the system chooses); ConfigError when that fails."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(256)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(f"the pages cannot be served at {host}:{port}: {error}") from error
    bound.setblocking(False)
    return bound


@asynccontextmanager
async def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve while the block runs and yield the bound port. No signal handler is installed.

    ConfigError when the address cannot be bound. Behind a TLS proxy, the proxy's address counts as the
    client: X-Forwarded-For is not believed.
    """
    bound = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=512,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _SignalFreeServer(config)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started and not running.done():
            await asyncio.sleep(_POLL_SECONDS)
        if running.done():
            await running
            raise ConfigError(f"the pages at {host}:{port} did not start")
        yield int(bound.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait({running}, timeout=_STOP_SECONDS + 2)
        running.cancel()
        bound.close()
