"""An MQTT broker of a few lines whose manners a test chooses: slow, forgetful, picky or deaf, as real ones are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.tcp_server import tcp_server

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PING, PONG, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
DENIED, UNSPECIFIED, NO_RETAIN = 135, 128, 154


@dataclass(kw_only=True)
class Manners:
    """What the broker does; every field may be changed while it runs.

    `answer_connect`: awaited before the answer to a CONNECT of that protocol level (5 or 4). `properties`: of a
    CONNACK of MQTT 5. `granted`: the code for a filter. `receipt`: awaited before each PUBACK; octets that it returns
    follow the message's number. `hang_up`: whether to
    end the connection at a topic. `retains`: False refuses retained wills and messages, as MQTT 5 wants it.
    """

    answer_connect: Callable[[int], object] = lambda level: None
    properties: bytes = b""
    granted: Callable[[str], int] = lambda wanted: 1
    receipt: Callable[[], object] = lambda: None
    hang_up: Callable[[str], bool] = lambda topic: False
    retains: bool = True


@dataclass
class PickyBroker:
    """Keeps what it was told; delivers nothing to anybody."""

    manners: Manners
    port: int = 0
    levels: list[int] = field(default_factory=list)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one client until either side ends it."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._talk(reader, writer)
        finally:
            self.ended += 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        level = 4
        while True:
            kind, flags, body = await _packet(reader)
            if kind == CONNECT:
                level = body[6]
                self.levels.append(level)
                await _done(self.manners.answer_connect(level))
                code, properties = 0, self.manners.properties
                if level == 5 and not self.manners.retains:
                    properties += b"\x25\x00"
                    code = NO_RETAIN if body[7] & 0x20 else 0
                answer = bytes((0, code)) + (bytes((len(properties),)) + properties if level == 5 else b"")
                _write(writer, CONNACK, answer)
                if code:
                    return
            elif kind == PUBLISH:
                topic, rest = _text(body)
                if self.manners.hang_up(topic) or (flags & 1 and level == 5 and not self.manners.retains):
                    return
                mid, payload = rest[:2], rest[2:]
                self.published.append((topic, payload[payload[0] + 1 :] if level == 5 else payload))
                said = await _done(self.manners.receipt())
                _write(writer, PUBACK, mid + (said if isinstance(said, bytes) else b""))
            elif kind == SUBSCRIBE:
                _write(
                    writer, SUBACK, body[:2] + (b"\x00" if level == 5 else b"") + self._grants(body, level)
                )
            elif kind == PING:
                _write(writer, PONG, b"")
            elif kind == DISCONNECT:
                return

    def _grants(self, body: bytes, level: int) -> bytes:
        rest, codes = body[3 + body[2] :] if level == 5 else body[2:], bytearray()
        while rest:
            wanted, rest = _text(rest)
            rest = rest[1:]
            codes.append(self.manners.granted(wanted))
            self.subscribed.append(wanted)
        return bytes(codes)


async def _done(work: object) -> object:
    return await work if asyncio.iscoroutine(work) else work


async def _packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        octet = (await reader.readexactly(1))[0]
        length |= (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            return first >> 4, first & 15, await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, kind: int, body: bytes) -> None:
    writer.write(bytes((kind << 4, len(body))) + body)


def _text(octets: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(octets[:2], "big")
    return octets[2 : 2 + length].decode(), octets[2 + length :]


@asynccontextmanager
async def picky(manners: Manners | None = None) -> AsyncIterator[PickyBroker]:
    """Serve on a loopback port of the system's choice while the block runs."""
    broker = PickyBroker(manners or Manners())
    async with tcp_server(broker.serve) as broker.port:
        yield broker
