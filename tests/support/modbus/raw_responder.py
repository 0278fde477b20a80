"""A responder of raw octets by number of request; `far_side` has more to go by, `raw_meters` has registers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from protocols.line import Line
from protocols.simulator.modbus.frames import crc16
from tests.support.modbus.far_side import far_bus, far_endpoint

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
    async with far_bus(lambda heard: play(heard.number, heard.octets)) as line:
        yield line


@asynccontextmanager
async def endpoint(play: Play) -> AsyncIterator[Line]:
    """A TCP line whose far side plays; b"" hangs up."""
    async with far_endpoint(lambda heard: play(heard.number, heard.octets)) as line:
        yield line
