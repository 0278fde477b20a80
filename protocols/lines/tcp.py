"""TCP endpoints: a meter on IP, a Modbus gateway, or a converter with a serial bus behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from protocols.line import LineIO, LineMemory
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection
from protocols.lines.hosts import connections_to

DEAD_PEER_SECONDS = 20
"""Seconds without acknowledgement after which a TCP peer counts as gone; the system would try for minutes."""


class TcpLine(BaseLine):
    """A TCP endpoint: a meter on IP, a Modbus gateway, or a converter with a serial bus behind it.

    `name` stands in errors and statistics, `connect_timeout` is in seconds. Nothing is opened before the first
    use; a connection that the far end closes is opened anew by the next one. `close` it at the end. Of all lines to
    `host` at most `host_connections` are connected when this one is (0: any number): idle ones are hung up for it.
    """

    def __init__(
        self, name: str, host: str, port: int, *, connect_timeout: float = 5, host_connections: int = 0
    ) -> None:
        super().__init__(name)
        self.memory = LineMemory(redials=True)
        self._host = host
        self._port = port
        self._connect_timeout = connect_timeout
        self._most = host_connections
        self._peers = connections_to(host)
        self._peers.add(self)

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None and self._connection.usable

    @property
    def in_turn(self) -> bool:
        """Whether somebody talks on it."""
        return self._turn.locked()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Hold the line as `protocols.line.Line` says."""
        try:
            async with super().exclusive() as io:
                yield io
        finally:
            self._peers.freed()

    async def _connect(self) -> LineConnection:
        if not self._most:
            return await self._dial()
        async with self._peers.entered(self, self._most):
            return await self._dial()

    async def _dial(self) -> LineConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(LineConnection, self._host, self._port)
        except TimeoutError:
            text = f"{self._host}:{self._port} did not accept in {self._connect_timeout:g} s"
            raise OSError(text) from None
        notice_dead_peer(connection)
        return connection


def notice_dead_peer(connection: LineConnection) -> None:
    """Let the system close a TCP connection whose peer is gone: DEAD_PEER_SECONDS without acknowledgement.

    A meter that loses supply sends no FIN: keep-alive probes find it out where nothing is sent; without them
    its connection would look open for hours.
    """
    raw = cast("asyncio.Transport", connection.transport).get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3 * DEAD_PEER_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * DEAD_PEER_SECONDS)
