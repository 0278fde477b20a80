"""Lines to a host that takes few connections at once: idle ones make room, and a turn is waited for."""

from __future__ import annotations

import asyncio

import pytest

from protocols.errors import LineUnavailable
from protocols.lines.hosts import connections_to
from protocols.lines.tcp import TcpLine
from tests.support.tcp_server import HOST, tcp_server

pytestmark = pytest.mark.virtual_time


async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def used(line: TcpLine, seconds: float = 0.0) -> None:
    async with line.exclusive():
        await asyncio.sleep(seconds)


async def test_idle_lines_make_room_and_a_turn_is_waited_for() -> None:
    async with tcp_server(stay) as port:
        lines = [TcpLine(f"port-{n}", HOST, port, host_connections=2) for n in range(4)]
        for line in lines:
            await used(line)
            assert sum(one.connected for one in lines) <= 2
        await asyncio.gather(*(used(line, 1.0) for line in lines))
        assert sum(one.connected for one in lines) == 2
        for line in lines:
            await line.close()


async def test_a_host_whose_connections_are_all_in_use_says_so() -> None:
    async with tcp_server(stay) as port:
        first, second = (TcpLine(f"port-{n}", HOST, port, host_connections=1) for n in range(2))
        async with first.exclusive():
            with pytest.raises(LineUnavailable, match="takes 1 connections at once, and all are in use"):
                await used(second)
        await used(second)
        await first.close()
        await second.close()


async def test_lines_without_a_limit_connect_as_they_like() -> None:
    async with tcp_server(stay) as port:
        lines = [TcpLine(f"port-{n}", HOST, port) for n in range(3)]
        for line in lines:
            await used(line)
        assert all(line.connected for line in lines)
        assert connections_to(HOST) is connections_to(HOST)
        for line in lines:
            await line.close()
