"""The edge's own counters and calls over its socket: for root and its own user, and for nobody else."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from gateway.edge.field import server
from gateway.edge.field.client import EdgeCounters, call_edge
from gateway.edge.field.peers import Peer, peer_of
from gateway.edge.field.socket_file import SocketState, connected_socket, listening_socket, socket_state
from gateway.errors import GatewayError, UsageError
from protocols.errors import LocalError
from tests.support.edge.field_site import field_site
from tests.support.modbus.raw_responder import endpoint

GROUP = 4_711
STRANGER = 65_533


async def test_one_store_gives_the_counters_of_a_title(tmp_path: Path) -> None:
    async with endpoint(lambda *_: []) as line, field_site(tmp_path, line) as site:
        site.counters.next("key")
        with closing(EdgeCounters(site.path)) as counters:
            assert await asyncio.to_thread(counters.next, "key") == 2
            assert await asyncio.to_thread(counters.next, "key", 50) == 50
            assert await asyncio.to_thread(counters.believes, "key", 9)
            assert not await asyncio.to_thread(counters.believes, "key", 2**31)
            assert not await asyncio.to_thread(counters.proven, "key")
            await asyncio.to_thread(counters.confirm, "key", 50)
            assert await asyncio.to_thread(counters.proven, "key")
            await asyncio.to_thread(counters.failed, "key")
            assert not await asyncio.to_thread(counters.proven, "key")
        assert site.counters.next("key") == 51
    with closing(EdgeCounters(site.path)) as counters, pytest.raises(LocalError, match="cannot be asked"):
        counters.next("key")


async def test_the_edge_does_what_it_is_called_for(tmp_path: Path) -> None:
    async with endpoint(lambda *_: []) as line, field_site(tmp_path, line) as site:
        found = await asyncio.to_thread(call_edge, site.path, "reload")
        assert found.done
        assert found.lines == ("nothing changed",)
        unknown = await asyncio.to_thread(call_edge, site.path, "dance")
        assert not unknown.done
        assert "knows no `dance`" in unknown.lines[0]
    with pytest.raises(GatewayError, match="does not answer"):
        call_edge(site.path, "reload")


async def test_a_member_of_the_group_takes_turns_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Peer(pid=1, uid=STRANGER, groups=frozenset({1, GROUP}))
    monkeypatch.setattr(server, "peer_of", lambda _: member)
    async with endpoint(lambda number, octets: [(0.0, octets)]) as line, field_site(tmp_path, line) as site:
        site.server._group_id = GROUP
        command = site.command()
        async with command.exclusive() as io:
            await io.send(b"x")
            assert await io.receive(5) == b"x"
        await command.close()
        with (
            closing(EdgeCounters(site.path)) as counters,
            pytest.raises(LocalError, match="own user and root"),
        ):
            await asyncio.to_thread(counters.next, "key")
        refused = await asyncio.to_thread(call_edge, site.path, "reload")
        assert (refused.done, site.reloads) == (False, [])


async def test_a_stranger_is_told_for_whom_the_socket_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's mode keeps him out; should somebody have opened it, the kernel's word on who he is does."""
    monkeypatch.setattr(server, "peer_of", lambda _: Peer(pid=1, uid=STRANGER, groups=frozenset({GROUP})))
    async with endpoint(lambda *_: []) as line, field_site(tmp_path, line) as site:
        with pytest.raises(UsageError, match="for root, the edge's own user and the group"):
            await asyncio.to_thread(call_edge, site.path, "reload")
        assert site.server.statistics().strangers == 1


def test_the_socket_has_the_mode_that_is_promised(tmp_path: Path) -> None:
    own = os.getgid()
    for group, mode in ((None, 0o600), (_name_of(own), 0o660)):
        with listening_socket(tmp_path / "s", group):
            found = (tmp_path / "s").stat()
            assert (found.st_mode & 0o777, found.st_gid) == (mode, own)
            assert socket_state(tmp_path / "s") is SocketState.SERVED
    assert socket_state(tmp_path / "s") is SocketState.NOBODY, "its edge is gone"
    listening_socket(tmp_path / "s", None).close()


def test_a_path_longer_than_a_socket_s_address_is_reached(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 60) / ("b" * 60) / "field.sock"
    with listening_socket(path, None) as listening, connected_socket(path) as connected:
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            connected.sendall(b"x")
            assert accepted.recv(1) == b"x"
            peer = peer_of(accepted)
            assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
            assert os.getgid() in peer.groups
            assert peer.is_ours


@pytest.mark.parametrize("what", ["file", "group", "folder"])
def test_what_keeps_a_socket_from_being_made_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("precious")
    path, group = tmp_path / "s", None
    match what:
        case "file":
            path, words = tmp_path / "file", "is no socket"
        case "group":
            group, words = "no-such-group-here", "there is no group `no-such-group-here`"
        case _:
            path, words = tmp_path / "file" / "s", "exists|Not a directory"
    with pytest.raises(OSError, match=words):
        listening_socket(path, group)
    assert (tmp_path / "file").read_text() == "precious"


def test_who_is_in_more_groups_than_are_told_is_in_his_first_only() -> None:
    class Crowded(socket.socket):
        def getsockopt(self, level: int, option: int, buffer: int = 0) -> bytes:  # type: ignore[override]
            if option != socket.SO_PEERCRED:
                raise OSError(34, "Numerical result out of range")
            return super().getsockopt(level, option, buffer)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        crowded = Crowded(fileno=ours.detach())
        with crowded:
            assert peer_of(crowded).groups == {os.getgid()}


def _name_of(gid: int) -> str:

    return grp.getgrgid(gid).gr_name
