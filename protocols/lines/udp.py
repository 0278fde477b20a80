"""A UDP line: a meter that speaks the DLMS wrapper in datagrams."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from protocols.line import LineMemory
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

MAX_DATAGRAMS = 64
"""Datagrams kept for a talker; beyond it the newest are dropped, as a network does."""


class _Datagrams(LineConnection, asyncio.DatagramProtocol):
    """Datagrams of one far end; `take_message` returns one at a time, so that their borders stay."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[bytes] = deque()
        self._datagrams: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._datagrams = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Keep a datagram; the socket is connected, so `addr` is always the far end."""
        del addr
        if data and len(self._waiting) < MAX_DATAGRAMS:
            self._waiting.append(data)
            self.received += len(data)
            self.last_octet = asyncio.get_running_loop().time()
            self.changed()

    def error_received(self, exc: Exception) -> None:
        """End the connection: nothing listens there (ICMP), and the talker learns it at once."""
        self.connection_lost(exc)

    @property
    def has_octets(self) -> bool:
        return bool(self._waiting)

    def take(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def take_message(self) -> bytes:
        return self._waiting.popleft() if self._waiting else b""

    @property
    def usable(self) -> bool:
        return not self.lost and self._datagrams is not None and not self._datagrams.is_closing()

    async def write(self, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.sendto(data)

    async def shut(self) -> None:
        self.lost = True
        self.changed()
        if self._datagrams is not None:
            self._datagrams.abort()


class UdpLine(BaseLine):
    """A far end that is spoken to in datagrams: each `send` is one, each `receive` returns one.

    There is no connection, so a meter that is away is noticed as silence, or as LineClosed where the far
    machine says that nobody listens.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        super().__init__(name)
        self.memory = LineMemory(redials=True, lossy=True)
        self._host = host
        self._port = port

    async def _connect(self) -> LineConnection:
        loop = asyncio.get_running_loop()
        address = (self._host, self._port)
        _, connection = await loop.create_datagram_endpoint(_Datagrams, remote_addr=address)
        return connection
