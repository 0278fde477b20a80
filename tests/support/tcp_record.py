"""Wire bytes of one TCP conversation: recorded through a proxy, played back by a responder that knows nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.tcp_server import tcp_server

Exchange = list[tuple[str, str]]
"""Turns in order: (">" asked or "<" answered, hex digits)."""


@asynccontextmanager
async def recording(host: str, port: int, into: Exchange) -> AsyncIterator[int]:
    """Forward to `host:port` and write down who said what; gives the port to connect to."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while octets := await reader.read(65536):
            if into and into[-1][0] == way:
                into[-1] = (way, into[-1][1] + octets.hex())
            else:
                into.append((way, octets.hex()))
            writer.write(octets)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(pump(reader, far_writer, ">"), pump(far_reader, writer, "<"))
        finally:
            far_writer.close()
            writer.close()

    async with tcp_server(handle) as local:
        yield local


@asynccontextmanager
async def playing(exchange: Exchange, faults: list[str], numbered: int = 0) -> AsyncIterator[int]:
    """Answer the recorded requests with the recorded answers; another request goes into `faults`.

    The first `numbered` octets of a request are its own number (2 in Modbus TCP: the transaction, which a
    process counts): any will do, and the answer carries it.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = b""
        for way, digits in exchange:
            octets = bytes.fromhex(digits)
            if way == "<":
                writer.write(number + octets[numbered:])
                continue
            with contextlib.suppress(asyncio.IncompleteReadError):
                asked = await reader.readexactly(len(octets))
                number = asked[:numbered]
                if asked[numbered:] != octets[numbered:]:
                    faults.append(f"asked {asked.hex()}, recorded {digits}")
                    break
        await writer.drain()
        writer.close()

    async with tcp_server(handle) as local:
        yield local
