"""Slow clients and greedy addresses, on raw sockets: deadlines are short here, and waited for, never measured."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.web import security
from gateway.web.connections import ConnectionLimits, GuardedProtocol, Stage
from gateway.web.server import serve
from tests.support.waiting import PATIENCE, until
from tests.support.web.seed import Town

FORM = "POST /me HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
LONG = 600.0
FIRST = 2.0
"""Seconds for headers where a whole request comes first: a loaded machine needs some of them."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def limits(**seconds: float) -> ConnectionLimits:
    """Return limits that no test reaches, but for those named."""
    given: dict[str, float] = {
        "header_seconds": LONG,
        "body_seconds": LONG,
        "answer_seconds": LONG,
        **seconds,
    }
    return ConnectionLimits(
        header_seconds=given["header_seconds"],
        body_seconds=given["body_seconds"],
        answer_seconds=given["answer_seconds"],
    )


@asynccontextmanager
async def connection(
    port: int, address: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        yield reader, writer
    finally:
        writer.close()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes."""
    return await asyncio.wait_for(reader.read(), PATIENCE)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return one answer's status line, after taking the whole answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    await asyncio.wait_for(reader.readexactly(length), PATIENCE)
    return head.split(b"\r\n")[0]


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/healthz") -> bytes:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return await answer(reader)


@pytest.mark.parametrize("begun", ["", "G", "GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
async def test_headers_that_do_not_come_end_the_connection(seeded: Town, begun: str) -> None:
    async with (
        serve(seeded.app, limits=limits(header_seconds=0.2)) as port,
        connection(port) as (reader, writer),
    ):
        writer.write(begun.encode())
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")


async def test_a_drop_of_header_now_and_then_does_not_prolong_the_deadline(seeded: Town) -> None:
    async with (
        serve(seeded.app, limits=limits(header_seconds=0.5)) as port,
        connection(port) as (reader, writer),
    ):
        writer.write(b"GET /me HTTP/1.1\r\nX-Slow: ")
        gone = asyncio.create_task(everything(reader))
        drops = 0
        while not gone.done() and drops < PATIENCE * 100:
            writer.write(b"x")
            drops += 1
            await asyncio.sleep(0.01)
        assert gone.done()
        assert drops < PATIENCE * 100


async def test_the_second_request_of_a_connection_has_the_deadline_too(seeded: Town) -> None:
    async with (
        serve(seeded.app, limits=limits(header_seconds=FIRST)) as port,
        connection(port) as (reader, writer),
    ):
        assert b"200" in await get(reader, writer)
        writer.write(b"GET /me HTT")
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")


async def test_the_beginning_of_a_request_behind_another_has_the_deadline_too(seeded: Town) -> None:
    async with (
        serve(seeded.app, limits=limits(header_seconds=FIRST)) as port,
        connection(port) as (reader, writer),
    ):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /me HTT")
        assert b"200" in await answer(reader)
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head", [FORM + "Content-Length: 400\r\n\r\n", FORM + "Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_body_that_does_not_come_ends_the_connection(seeded: Town, head: str) -> None:
    async with (
        serve(seeded.app, limits=limits(body_seconds=0.2)) as port,
        connection(port) as (reader, writer),
    ):
        writer.write(head.encode() + (b"4\r\nform\r\n" if "chunked" in head else b"form"))
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_not_overdue(seeded: Town) -> None:
    """Only the headers' deadline is short: it does not run between requests."""
    async with serve(seeded.app, limits=limits(header_seconds=FIRST)) as port:
        async with connection(port) as (kept, keeper), connection(port) as (reader, _):
            assert b"200" in await get(kept, keeper)
            assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")  # so the deadline has passed
            assert b"200" in await get(kept, keeper)


async def test_who_does_not_take_the_answer_is_dropped(seeded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[Stage] = []
    drop = GuardedProtocol._expire

    def note(self: GuardedProtocol) -> None:
        dropped.append(self.stage)
        drop(self)

    monkeypatch.setattr(GuardedProtocol, "_expire", note)
    seeded.app.get("/large")(lambda: "x" * 8_000_000)
    impatient = ConnectionLimits(answer_seconds=0.3, idle_seconds=1)
    async with serve(seeded.app, limits=impatient) as port:
        with socket.socket() as small:
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            small.connect(("127.0.0.1", port))
            small.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n\r\n")
            await until(lambda: dropped)
    # On a loaded machine the answer's time is over before all of it is written: that is the same deadline.
    assert dropped in ([Stage.CLOSING], [Stage.ANSWER])


async def test_headers_and_bodies_have_a_bound(seeded: Town) -> None:
    async with serve(seeded.app) as port:
        async with connection(port) as (reader, writer):
            writer.write(b"GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 40_000)
            assert b"HTTP/1.1 400" in await everything(reader)
        async with connection(port) as (reader, writer):
            writer.write((FORM + "Content-Length: 16385\r\n\r\n").encode())
            assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 413 ")
        async with connection(port) as (reader, writer):
            writer.write((FORM + "Transfer-Encoding: chunked\r\n\r\n").encode())
            for _ in range(40):
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            line = await asyncio.wait_for(reader.readline(), PATIENCE)
            assert line == b"" or int(line.split()[1]) >= 400


# --- shares -----------------------------------------------------------------------------------------


async def test_who_holds_connections_open_loses_them_and_others_are_served(seeded: Town) -> None:
    few = ConnectionLimits(header_seconds=LONG, per_address=4)
    async with serve(seeded.app, limits=few) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for _, writer in held:
            writer.write(b"GET /me HTTP/1.1\r\n")
        async with connection(port) as (reader, writer):
            assert b"200" in await get(reader, writer)
            assert await everything(held[0][0]) == b""  # the oldest made room
        async with connection(port, "127.0.0.2") as (reader, writer):
            assert b"200" in await get(reader, writer)
        for _, writer in held:
            writer.close()


async def test_many_addresses_together_have_a_bound_too(seeded: Town) -> None:
    few = ConnectionLimits(header_seconds=LONG, per_address=4, connections=6)
    async with serve(seeded.app, limits=few) as port:
        held = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{i}", 0))
            for i in range(1, 7)
        ]
        async with connection(port) as (reader, writer):
            assert b"200" in await get(reader, writer)
            assert await everything(held[0][0]) == b""
        for _, writer in held:
            writer.close()


async def test_a_trusted_proxy_has_no_share_of_its_own(seeded: Town) -> None:
    few = ConnectionLimits(header_seconds=LONG, per_address=4)
    async with serve(seeded.app, limits=few, trusted_proxies=("127.0.0.0/8",)) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for reader, writer in held:
            assert b"200" in await get(reader, writer)
        for reader, writer in held:
            assert b"200" in await get(reader, writer)
            writer.close()


async def test_a_connection_that_is_reset_is_forgotten(seeded: Town) -> None:
    few = ConnectionLimits(header_seconds=LONG, per_address=4)
    async with serve(seeded.app, limits=few) as port:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with connection(port) as (reader, writer):
            assert b"200" in await get(reader, writer)


async def test_requests_of_one_address_at_once_have_a_bound_behind_a_proxy_too(
    seeded: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "MAX_UNDER_WAY", 2)
    go_on = asyncio.Event()
    under_way = 0

    async def wait() -> str:
        nonlocal under_way
        under_way += 1
        await go_on.wait()
        return "done"

    seeded.app.get("/wait")(wait)

    async def ask(client: str) -> bytes:
        async with connection(port) as (reader, writer):
            writer.write(
                f"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {client}\r\n\r\n".encode()
            )
            return await answer(reader)

    async with serve(seeded.app, trusted_proxies=("127.0.0.1",)) as port:
        held = [asyncio.create_task(ask("203.0.113.5")) for _ in range(2)]
        await until(lambda: under_way == 2)
        assert b"503" in await ask("203.0.113.5")
        other = asyncio.create_task(ask("203.0.113.6"))
        await until(lambda: under_way == 3)
        go_on.set()
        assert all(b"200" in line for line in await asyncio.gather(*held, other))
        assert b"200" in await ask("203.0.113.5")
