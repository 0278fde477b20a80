"""TCP endpoints: a meter on IP, a Modbus gateway, or a converter with a serial bus behind it."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from protocols.line import LineMemory
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

DEAD_PEER_SECONDS = 20
"""Seconds without acknowledgement after which a TCP peer counts as gone; the system would try for minutes."""


class TcpLine(BaseLine):
    """A TCP endpoint: a meter on IP, a Modbus gateway, or a converter with a serial bus behind it.

    `name` stands in errors and statistics, `connect_timeout` is in seconds. Nothing is opened before the first
    use; a connection that the far end closes is opened anew by the next one. `close` it at the end.
    """

    def __init__(self, name: str, host: str, port: int, *, connect_timeout: float = 5) -> None:
        super().__init__(name)
        self.memory = LineMemory(redials=True)
        self._host = host
        self._port = port
        self._connect_timeout = connect_timeout

    async def _connect(self) -> LineConnection:
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
