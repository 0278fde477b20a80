"""A responder of raw octets, on a pty or a socket: plays what servers cannot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.simulator.modbus.frames import crc16
from tests.support.modbus.simulated import pty
from tests.support.tcp_server import HOST, tcp_server

Play = Callable[[int, bytes], list[tuple[float, bytes]]]
"""Given the number of a request and its octets: what to send after how many seconds."""


def rtu(*octets: int) -> bytes:
    frame = bytes(octets)
    return frame + crc16(frame).to_bytes(2, "little")


def words(unit: int, *values: int, function: int = 3) -> bytes:
    return rtu(unit, function, 2 * len(values), *(o for v in values for o in v.to_bytes(2, "big")))


def mbap(transaction: bytes, *body: int) -> bytes:
    return transaction + b"\0\0" + len(body).to_bytes(2, "big") + bytes(body)


@asynccontextmanager
async def bus(play: Play) -> AsyncIterator[Line]:
    """A serial line on a pty whose far side plays."""
    loop = asyncio.get_running_loop()
    async with pty() as (master, device):
        seen = 0
        os.set_blocking(master, False)

        def readable() -> None:
            nonlocal seen
            try:
                request = os.read(master, 4096)
            except OSError:
                return
            seen += 1
            for delay, octets in play(seen, request):
                loop.call_later(delay, os.write, master, octets)

        line = SerialLine("bus", device, baud=115200)
        loop.add_reader(master, readable)
        try:
            yield line
        finally:
            loop.remove_reader(master)
            await line.close()


@asynccontextmanager
async def endpoint(play: Play) -> AsyncIterator[Line]:
    """A TCP line whose far side plays; b"" hangs up."""
    loop = asyncio.get_running_loop()
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while request := await reader.read(4096):
            seen += 1
            for delay, octets in play(seen, request):
                loop.call_later(delay, *((writer.write, octets) if octets else (writer.close,)))

    async with tcp_server(serve) as port:
        line = TcpLine("tcp", HOST, port)
        try:
            yield line
        finally:
            await line.close()
