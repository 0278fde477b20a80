"""A connection ends with its task, also with one that is cancelled before its first step."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from protocols.conversations import Conversations
from tests.support.waiting import PATIENCE


async def serve_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_conversation_that_never_began_leaves_no_socket() -> None:
    left, right = socket.socketpair()
    left.settimeout(PATIENCE)
    reader, writer = await asyncio.open_connection(sock=right)
    conversations = Conversations(serve_for_ever)
    conversations(reader, writer)
    [task] = conversations.tasks
    task.cancel()  # as a loop does with all tasks when it ends
    await asyncio.gather(task, return_exceptions=True)
    assert writer.is_closing()
    with left:
        assert await asyncio.to_thread(left.recv, 1) == b""
    assert conversations.tasks == set()


async def test_close_ends_all_of_them() -> None:
    conversations = Conversations(serve_for_ever)
    server = await asyncio.start_server(conversations, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        reader, writer = await asyncio.open_connection(host, port)
        while not conversations.tasks:
            await asyncio.sleep(0)
        await conversations.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_a_program_that_ends_while_it_is_called_leaves_no_socket(caplog: pytest.LogCaptureFixture) -> None:
    peers: list[socket.socket] = []
    called = threading.Event()

    async def program() -> None:
        server = await asyncio.start_server(Conversations(serve_for_ever), "127.0.0.1", 0)
        peers.append(socket.create_connection(server.sockets[0].getsockname()))
        called.set()
        await asyncio.sleep(0)  # accepted, perhaps; the program ends at once
        server.close()

    asyncio.run(program())
    with peers[0] as peer:
        peer.settimeout(PATIENCE)
        try:
            assert peer.recv(1) == b""
        except ConnectionResetError:
            pass
    assert not caplog.records
