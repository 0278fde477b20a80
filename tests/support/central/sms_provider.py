"""A provider of SMS on a real socket, over TLS or not: it answers in octets as each test scripts it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.mosquitto import Certificates

BREAKS = b""
"""The script's word for a connection that is closed without an answer."""


@dataclass
class Request:
    """One request as it came: first line, headers in small letters, body."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpScript:
    """Answers in turn, the last one again and again; and what was asked."""

    answers: list[bytes] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    def _answer(self) -> bytes:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest if one)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(Request(line, headers, body))
            writer.write(self._answer())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answer(status: int, body: str = "", *, claims: int | None = None) -> bytes:
    """Return an HTTP answer; `claims` is a length in its head that differs from the body's."""
    octets = body.encode()
    length = len(octets) if claims is None else claims
    return f"HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n".encode() + octets


@asynccontextmanager
async def provider_server(
    *answers: bytes, certificates: Certificates | None = None
) -> AsyncIterator[HttpScript]:
    """Serve scripted answers on 127.0.0.1 while the block runs."""
    script = HttpScript(list(answers))
    tls = None
    if certificates is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates.server_cert, certificates.server_key)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    async with server:
        yield script
