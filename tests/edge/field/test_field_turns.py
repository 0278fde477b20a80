"""Turns on a line that a running edge lends: what a command does there, and what is left when it dies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.edge.field.giver import FieldLimits
from gateway.edge.field.messages import Ask, Wire, packed
from gateway.edge.field.socket_file import connected_socket
from gateway.edge.field.statistics import Ending
from gateway.errors import UsageError
from protocols.dlms.framing import hdlc
from protocols.errors import LineClosed, LineTimeout, LineUnavailable
from protocols.line import Line
from protocols.lines.serial import SerialLine
from tests.support.edge.field_site import FieldSite, field_site
from tests.support.modbus.raw_responder import bus, endpoint
from tests.support.waiting import until

LIMITS = FieldLimits(turn=100.0, idle=20.0)


@asynccontextmanager
async def echoing(folder: Path, limits: FieldLimits = LIMITS) -> AsyncIterator[FieldSite]:
    """A site whose far side gives back each message in capitals, but what begins with `-` gets no answer."""

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [] if request.startswith(b"-") else [(0.01, request.upper())]

    async with endpoint(play) as line, field_site(folder, line, limits=limits) as site:
        yield site


@pytest.mark.virtual_time
async def test_a_command_talks_on_the_edge_s_line(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command("read GEN:1")
        for words in (b"one", b"two"):
            async with line.exclusive() as io:
                await io.send(words)
                assert await io.receive(5) == words.upper()
                with pytest.raises(LineTimeout, match="nothing came"):
                    await io.receive(0.1)
        await line.close()
        await until(lambda: not site.lender.polling.locked())
        found = site.server.statistics()
    assert (found.turns, found.released, found.died, found.sent, found.received) == (2, 2, 0, 6, 6)
    assert "read GEN:1, for" in site.lender.reasons[0]
    assert line.statistics().turns == 2
    assert line.statistics().sent == line.statistics().received == 6


@pytest.mark.virtual_time
async def test_the_edge_polls_between_two_turns(tmp_path: Path) -> None:
    """Two commands that want the line all the time, and a poll: who came first goes first."""
    async with echoing(tmp_path) as site:
        order: list[str] = []

        async def work(name: str) -> None:
            line = site.command(name)
            for _ in range(3):
                async with line.exclusive() as io:
                    order.append(name)
                    await io.send(b"x")
                    await io.receive(5)
            await line.close()

        async def poll() -> None:
            for _ in range(3):
                async with site.lender.polling:
                    order.append("poll")
                    await asyncio.sleep(0.05)

        await asyncio.gather(work("a"), work("b"), poll())
    assert sorted(order) == ["a"] * 3 + ["b"] * 3 + ["poll"] * 3
    polls = [n for n, who in enumerate(order) if who == "poll"]
    assert all(after - before <= 3 for before, after in pairwise(polls)), order


@pytest.mark.virtual_time
async def test_fifty_commands_at_once_are_all_served(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:

        async def work(n: int) -> bytes:
            line = site.command(f"read GEN:{n}")
            try:
                async with line.exclusive() as io:
                    await io.send(f"m{n}".encode())
                    return await io.receive(5)
            finally:
                await line.close()

        found = await asyncio.gather(*map(work, range(50)))
        await until(lambda: site.server.statistics().released == 50)
    assert found == [f"M{n}".encode() for n in range(50)]


@pytest.mark.virtual_time
async def test_who_waits_is_told_why_and_how_long(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        async with site.lender.polling:
            line = site.command()
            held = line.exclusive()
            waiting = asyncio.create_task(held.__aenter__())
            await until(lambda: site.waits)
            assert site.server.statistics().waiting == 1
        await waiting
        other = site.command("clock GEN:2", wait=2.0)
        with pytest.raises(LineUnavailable, match="no turn on line bus-1 in 2 s"):
            async with other.exclusive():
                pass
        await held.__aexit__(None, None, None)
        await line.close()
        await other.close()
    assert site.waits[0] == "the edge uses line bus-1 (reading GEN:7); your turn comes next"
    assert len(site.waits) == 2
    assert "is lent to" in site.waits[1]
    assert "for `read GEN:1`" in site.waits[1]


@pytest.mark.virtual_time
async def test_who_waits_long_is_told_now_and_then_with_the_time_that_is_left(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        site.lender.visit = 4.0
        line = site.command()

        async def many_turns() -> None:
            for _ in range(30):
                async with line.exclusive() as io:
                    await io.send(b"x")
                    await io.receive(5)

        working = asyncio.create_task(many_turns())
        while not working.done():
            async with site.lender.polling:
                await asyncio.sleep(4.0)
            await asyncio.sleep(0.001)
        await line.close()
    assert site.waits[0] == "the edge uses line bus-1 (reading GEN:7); your turn comes in about 4 s"
    assert len(site.waits) == 4, "30 turns in two minutes"


@pytest.mark.virtual_time
async def test_a_command_that_dies_in_the_middle_leaves_a_clean_line(tmp_path: Path) -> None:
    """Over TCP the connection goes, and with it the association; the next talker has a new one."""
    async with echoing(tmp_path) as site:
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"-association")
            await line.close()  # as the kernel does for a process that is killed
        await until(lambda: site.server.statistics().died == 1)
        assert not site.lender.line.statistics().open
        assert not site.lender.polling.locked()
        again = site.command()
        async with again.exclusive() as io:
            await io.send(b"next")
            assert await io.receive(5) == b"NEXT"
        await again.close()


@pytest.mark.virtual_time
async def test_an_hdlc_link_that_a_dead_command_opened_is_ended_on_the_bus(tmp_path: Path) -> None:
    """A meter on a bus does not see that a command died: it is told, and what it answers late reaches nobody."""
    server, client = hdlc.Address.server(1, 17), hdlc.Address(16)
    snrm = hdlc.Frame(destination=server, source=client, control=hdlc.SNRM | hdlc.POLL).encode()
    heard: list[hdlc.Frame | hdlc.BadFrame] = []
    ears = hdlc.FrameDecoder()

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        heard.extend(ears.receive_data(request))
        return [(0.05, hdlc.Frame(destination=client, source=server, control=hdlc.UA | hdlc.POLL).encode())]

    async with bus(play) as line, field_site(tmp_path, line, limits=LIMITS, bus=True) as site:
        command = site.command()
        async with command.exclusive() as io:
            await io.send(snrm)
            await io.receive(5)
            await command.close()
        await until(lambda: site.server.statistics().died == 1)
        assert line.statistics().open
    kinds = [frame.kind for frame in heard if isinstance(frame, hdlc.Frame)]
    assert kinds == [hdlc.SNRM, hdlc.DISC]


@pytest.mark.virtual_time
async def test_a_command_that_said_goodbye_leaves_the_line_as_it_is(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"x")
            await io.receive(5)
        await line.close()
        await until(lambda: site.server.statistics().released == 1)
        assert site.lender.line.statistics().open
        assert site.lender.line.statistics().connects == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("pause", "ending", "words"),
    [
        (25.0, "idle", "did nothing on line bus-1 for 20 s"),
        (9.0, "overtime", "turn of 100 s on line bus-1 is over"),
    ],
)
async def test_the_edge_takes_its_line_back(tmp_path: Path, pause: float, ending: str, words: str) -> None:
    async with echoing(tmp_path) as site:
        line = site.command()

        async def work() -> None:
            async with line.exclusive() as io:
                for _ in range(20):
                    await io.send(b"x")
                    await io.receive(5)
                    await asyncio.sleep(pause)

        with pytest.raises(LineClosed, match=words):
            await work()
        await until(lambda: site.server.statistics().revoked == 1)
        async with site.lender.polling:
            pass  # the edge has it
        async with line.exclusive() as io:  # and the command may ask again
            await io.send(b"again")
            assert await io.receive(5) == b"AGAIN"
        await line.close()
        await until(lambda: site.server.statistics().released == 1)


@pytest.mark.virtual_time
async def test_a_wait_for_octets_ends_with_the_turn(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"-")
            with pytest.raises(LineClosed, match="turn of 100 s"):
                await io.receive(3_000)
        await line.close()


@pytest.mark.virtual_time
async def test_what_came_for_a_cancelled_wait_is_received_next(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"x")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.0005):
                    await io.receive(5)
            assert await io.receive(5) == b"X"
            await io.send(b"y")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.0005):
                    await io.receive(5)
            assert await io.drain(0.2) == 1
        await line.close()


@pytest.mark.virtual_time
async def test_an_edge_that_stops_says_so_and_leaves_the_line_in_order(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"-")
            closing = asyncio.create_task(site.server.close())
            with pytest.raises(LineClosed, match="the edge stops: give the command again"):
                await io.receive(60)
        await closing
        assert site.server.statistics().connected == 0
        assert not site.path.exists()
        with pytest.raises(LineUnavailable, match="does not answer"):
            async with site.command().exclusive():
                pass
        await line.close()


@pytest.mark.virtual_time
async def test_quiet_is_kept_and_late_answers_reach_nobody(tmp_path: Path) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(1.0, b"late")] if number == 1 else [(0.01, b"now")]

    async with endpoint(play) as line, field_site(tmp_path, line) as site:
        command = site.command()
        async with command.exclusive() as io:
            await io.send(b"first")
            with pytest.raises(LineTimeout):
                await io.receive(0.1)
            io.hold_quiet(2.0)
        async with command.exclusive() as io:
            await io.send(b"second")
            assert await io.receive(5) == b"now"
        await command.close()


@pytest.mark.virtual_time
async def test_a_far_end_that_hangs_up_is_met_again(tmp_path: Path) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.01, b"")] if number == 1 else [(0.01, b"here")]

    async with endpoint(play) as line, field_site(tmp_path, line) as site:
        command = site.command()
        async with command.exclusive() as io:
            await io.send(b"x")
            with pytest.raises(LineClosed, match="closed"):
                await io.receive(5)
        first = command.statistics().connects
        async with command.exclusive() as io:
            await io.send(b"x")
            assert await io.receive(5) == b"here"
        assert command.statistics().connects == first + 1
        await command.close()


@pytest.mark.virtual_time
async def test_another_speed_is_a_line_of_its_own_for_one_turn(tmp_path: Path) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.01, b"slow")]

    async with endpoint(play) as other, echoing(tmp_path) as site:
        site.lender.other = other
        line = site.command(wire=Wire(baud=1200))
        async with line.exclusive() as io:
            await io.send(b"x")
            assert await io.receive(5) == b"slow"
            assert not site.lender.line.statistics().open
        await line.close()
        assert site.lender.wires == [Wire(baud=1200)]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "bus-9"}, "the running edge has no line bus-9"),
        ({"place": "/dev/ttyS0"}, "leads to here, not to /dev/ttyS0"),
    ],
)
async def test_a_line_that_the_edge_does_not_have_so_is_named(
    tmp_path: Path, more: dict[str, str], words: str
) -> None:
    async with echoing(tmp_path) as site:
        line = site.command(**more)
        with pytest.raises(UsageError, match=words):
            async with line.exclusive():
                pass
        await line.close()
        assert site.server.statistics().refused == 1


@pytest.mark.virtual_time
async def test_a_line_that_cannot_be_opened_is_the_line_s_error(tmp_path: Path) -> None:
    line: Line = SerialLine("bus-1", str(tmp_path / "none"))
    async with field_site(tmp_path, line) as site:
        command = site.command()
        with pytest.raises(LineUnavailable, match="there is no"):
            async with command.exclusive():
                pass
        await command.close()
        assert not site.lender.polling.locked()


async def test_who_changed_something_is_recorded_before_and_after(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command("clock GEN:1", changes=True, meter="GEN:1")
        async with line.exclusive() as io:
            begun = list(site.notes)
            await io.send(b"x")
            await io.receive(5)
        await line.close()
        await until(lambda: len(site.notes) == 2)
    assert [note.ending for note in begun] == [None]
    assert [note.ending for note in site.notes] == [None, Ending.RELEASED]
    assert {(note.purpose, note.meter) for note in site.notes} == {("clock GEN:1", "GEN:1")}
    assert "uid" in site.notes[0].by


async def test_a_modbus_write_is_recorded_whatever_the_command_says_of_itself(tmp_path: Path) -> None:
    async with echoing(tmp_path) as site:
        line = site.command("read EAS:1")
        async with line.exclusive() as io:
            await io.send(bytes.fromhex("000100000006" + "01050000ff00"))
            await io.receive(5)
        await line.close()
        await until(lambda: site.notes)
    (note,) = site.notes
    assert note.wrote
    assert note.ending is Ending.RELEASED


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "octets",
    [
        b"\xff" * 8,
        b"\0\0\0\x04ping",
        packed(Ask(turn=1, line="bus-1", place="here", purpose="x")) * 2,
        b"\0\0\0\x10" + b'{"kind":"ask"',
    ],
)
async def test_a_hostile_command_harms_nobody(tmp_path: Path, octets: bytes) -> None:
    async with echoing(tmp_path) as site:
        reader, writer = await asyncio.open_unix_connection(sock=_connected(site.path))
        writer.write(octets)
        writer.write_eof()
        await reader.read()
        writer.close()
        await until(lambda: site.server.statistics().connected == 0)
        assert site.server.statistics().strangers == 1
        line = site.command()
        async with line.exclusive() as io:
            await io.send(b"x")
            assert await io.receive(5) == b"X"
        await line.close()


@pytest.mark.virtual_time
async def test_more_connections_than_the_edge_takes_are_told_so(tmp_path: Path) -> None:
    async with echoing(tmp_path, FieldLimits(connections=2)) as site:
        held = [site.command() for _ in range(2)]
        async with held[0].exclusive():
            second = held[1].exclusive()
            waiting = asyncio.create_task(second.__aenter__())
            await until(lambda: site.server.statistics().waiting == 1)
            third = site.command()
            with pytest.raises(UsageError, match="2 commands are connected already"):
                async with third.exclusive():
                    pass
            await third.close()
        await waiting
        await second.__aexit__(None, None, None)
        for line in held:
            await line.close()


def _connected(path: Path) -> socket.socket:
    made = connected_socket(path)
    made.setblocking(False)
    return made
