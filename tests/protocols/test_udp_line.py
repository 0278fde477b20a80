"""The UDP line keeps the borders of datagrams and the promises of a line, and reads a meter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from protocols.dlms.framing import wrapper
from protocols.dlms.server.ports import MAX_UDP_PEERS, UdpServer, serve_wrapper_udp
from protocols.dlms.session import open_dlms
from protocols.errors import LineClosed, LineTimeout, LineUnavailable, LocalError, MeterSilent
from protocols.lines.udp import MAX_DATAGRAMS, UdpLine
from protocols.reading import ProfileName
from protocols.session import MeterSpec, SessionContext
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.dlms.site import NOW, SECRETS, collect, settings
from tests.support.fakes import Counters, ManualClock

pytestmark = pytest.mark.virtual_time


class Far:
    """The far end: one socket that answers whoever spoke last."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    async def read(self) -> bytes:
        data, self._peer = await asyncio.get_running_loop().sock_recvfrom(self._socket, 65536)
        return data

    def write(self, data: bytes) -> None:
        self._socket.sendto(data, self._peer)

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[UdpLine, Far]]:
    far = Far()
    line = UdpLine("udp", "127.0.0.1", far.port)
    try:
        yield line, far
    finally:
        await line.close()
        far.close()


async def test_datagrams_keep_their_borders() -> None:
    async with pair() as (line, far):
        async with line.exclusive() as io:
            await io.send(b"one")
            assert await far.read() == b"one"
            far.write(b"first")
            far.write(b"second")
            assert [await io.receive(2), await io.receive(2)] == [b"first", b"second"]
            with pytest.raises(LineTimeout):
                await io.receive(0.05)
            far.write(b"late")
            await asyncio.sleep(0.05)
        async with line.exclusive() as io:  # what came between turns is dropped
            with pytest.raises(LineTimeout):
                await io.receive(0.05)
            await io.send(b"two")
            await far.read()
            far.write(bytes(10))
            assert await io.drain(0.05) == 10
            await io.hang_up()
            with pytest.raises(LineClosed):
                await io.send(b"x")
        with pytest.raises(LocalError):
            await io.send(b"x")
        counted = line.statistics()
        assert (counted.sent, counted.received, counted.connects, counted.open) == (6, 25, 1, False)


async def test_a_flood_is_bounded() -> None:
    async with pair() as (line, far), line.exclusive() as io:
        await io.send(b"!")
        await far.read()
        for number in range(3 * MAX_DATAGRAMS):
            far.write(bytes((number,)))
        await asyncio.sleep(0.1)
        got = [await io.receive(1) for _ in range(MAX_DATAGRAMS)]
        assert got == [bytes((number,)) for number in range(MAX_DATAGRAMS)]
        with pytest.raises(LineTimeout):
            await io.receive(0.05)


async def test_a_port_where_nobody_listens_is_closed_and_a_name_that_is_none_is_unavailable() -> None:
    far = Far()
    far.close()
    line = UdpLine("gone", "127.0.0.1", far.port)
    async with line.exclusive() as io:
        await io.send(b"anybody?")
        with pytest.raises(LineClosed):
            await io.receive(2)
    await line.close()
    with pytest.raises(LineUnavailable):
        async with line.exclusive():
            pytest.fail("opened")


@asynccontextmanager
async def served(name: str) -> AsyncIterator[tuple[UdpLine, UdpServer]]:
    server = await serve_wrapper_udp(SmallMeter({48: POLICIES[name][0]}))
    line = UdpLine("meter", "127.0.0.1", server.port)
    try:
        yield line, server
    finally:
        await line.close()
        server.close()


async def test_a_meter_is_read_over_udp() -> None:
    spec = MeterSpec(meter="GEN:00000007", dlms=settings("hls2", framing="wrapper-udp"))
    async with served("hls2") as (line, server):
        async with open_dlms(
            line, spec, SessionContext(secrets=SECRETS, counters=Counters(), clock=ManualClock(NOW))
        ) as session:
            assert len(await collect(session, ProfileName.INSTANTANEOUS)) == 1
        assert server.bad_datagrams == 0


async def test_wrong_datagrams_draw_no_answer_and_are_counted() -> None:
    spec = MeterSpec(meter=None, dlms=settings("none", framing="hdlc", physical=17, timeout=0.1))
    async with served("none") as (line, server):
        with pytest.raises(MeterSilent):
            async with open_dlms(
                line,
                spec,
                SessionContext(
                    secrets=SECRETS, counters=Counters(), clock=ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
                ),
            ):
                pytest.fail("opened")
        assert server.bad_datagrams == 2


async def test_the_peers_of_a_udp_server_are_bounded() -> None:
    async with served("none") as (_, server):
        for number in range(3 * MAX_UDP_PEERS):  # logical device 9 is not there: no answer goes out
            server.datagram_received(wrapper.encode(16, 9, b"\xc0"), ("192.0.2.1", number))
        assert len(server._peers) == MAX_UDP_PEERS
