"""The far side of a line in raw octets: what a real meter, gateway, adapter or stranger does and no server plays.

`far_bus` (RTU on a pty), `far_endpoint` (TCP) and `far_datagrams` (UDP) yield a line; what answers is a function of
what was heard; it tells times by `tests.support.waiting.passed`. `paper_line` is a bus without descriptors, for
properties that try thousands of courses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from protocols.line import Line, LinePace
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.lines.udp import UdpLine
from tests.support.modbus.simulated import pty
from tests.support.tcp_server import HOST, tcp_server

Act = tuple[float, bytes]
"""After how many seconds which octets are sent; no octets hang up (TCP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message as the far side got it: its number on the line and on its connection, both from 1."""

    octets: bytes
    number: int
    connection: int = 1
    on_connection: int = 1


Far = Callable[[Heard], list[Act]]


class _Ear:
    """Numbers what is heard, lets `far` answer it, and forgets what is still to be sent at the end."""

    def __init__(self, far: Far) -> None:
        self._far = far
        self._loop = asyncio.get_running_loop()
        self._heard = 0
        self._timers: list[asyncio.TimerHandle] = []

    def hear(
        self, octets: bytes, send: Callable[[bytes], object], connection: int = 1, on_connection: int = 0
    ) -> None:
        self._heard += 1
        heard = Heard(
            octets=octets,
            number=self._heard,
            connection=connection,
            on_connection=on_connection or self._heard,
        )
        self._timers += [self._loop.call_later(delay, send, data) for delay, data in self._far(heard)]

    def end(self) -> None:
        for timer in self._timers:
            timer.cancel()


@asynccontextmanager
async def far_device(far: Far) -> AsyncIterator[str]:
    """A pty whose far side is `far`; gives the device that a line opens."""
    loop, ear = asyncio.get_running_loop(), _Ear(far)
    async with pty() as (master, device):
        os.set_blocking(master, False)

        def readable() -> None:
            try:
                octets = os.read(master, 4096)
            except OSError:
                return
            ear.hear(octets, partial(os.write, master))

        loop.add_reader(master, readable)
        try:
            yield device
        finally:
            ear.end()
            loop.remove_reader(master)


@asynccontextmanager
async def far_bus(far: Far, **settings: Any) -> AsyncIterator[SerialLine]:
    """A serial line on a pty whose far side is `far`; `settings` are the line's."""
    async with far_device(far) as device:
        line = SerialLine("bus", device, **{"baud": 115200, **settings})
        try:
            yield line
        finally:
            await line.close()


@asynccontextmanager
async def far_endpoint(far: Far) -> AsyncIterator[TcpLine]:
    """A TCP line whose far side is `far`, on each connection that is made."""
    ear, connections = _Ear(far), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine, heard = connections, 0

        def send(octets: bytes) -> None:
            if writer.is_closing():
                return
            if octets:
                writer.write(octets)
            else:
                writer.close()

        while octets := await reader.read(4096):
            heard += 1
            ear.hear(octets, send, mine, heard)

    async with tcp_server(serve) as port:
        line = TcpLine("tcp", HOST, port)
        try:
            yield line
        finally:
            ear.end()
            await line.close()


class _DatagramEar(asyncio.DatagramProtocol):
    def __init__(self, ear: _Ear) -> None:
        self._ear = ear

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._ear.hear(data, partial(self._transport.sendto, addr=addr))


@asynccontextmanager
async def far_datagrams(far: Far) -> AsyncIterator[UdpLine]:
    """A UDP line whose far side is `far`."""
    loop, ear = asyncio.get_running_loop(), _Ear(far)
    transport, _ = await loop.create_datagram_endpoint(lambda: _DatagramEar(ear), local_addr=(HOST, 0))
    line = UdpLine("udp", HOST, transport.get_extra_info("sockname")[1])
    try:
        yield line
    finally:
        ear.end()
        await line.close()
        transport.close()


class _PaperTransport(asyncio.Transport):
    """Hands what is written to the far side, and its answers to the connection."""

    def __init__(self, ear: _Ear, connection: LineConnection) -> None:
        super().__init__()
        self._ear = ear
        self._connection = connection
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._ear.hear(bytes(data), self._answer)

    def _answer(self, octets: bytes) -> None:
        if not self._closed:
            self._connection.data_received(octets)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.connection_lost(None)

    abort = close


class _PaperLine(BaseLine):
    def __init__(self, ear: _Ear, pace: LinePace | None) -> None:
        super().__init__("paper")
        self._ear = ear
        if pace is not None:
            self._character, self._gap = pace.octet, pace.gap

    async def _connect(self) -> LineConnection:
        connection = LineConnection()
        connection.connection_made(_PaperTransport(self._ear, connection))
        return connection


@asynccontextmanager
async def paper_line(far: Far, pace: LinePace | None = None) -> AsyncIterator[Line]:
    """A bus without descriptors, for `tests.support.virtual_time.run_virtually`: thousands of courses a minute.

    With `pace` it keeps the silence between frames that a wire of this speed needs.
    """
    ear = _Ear(far)
    line = _PaperLine(ear, pace)
    try:
        yield line
    finally:
        ear.end()
        await line.close()
