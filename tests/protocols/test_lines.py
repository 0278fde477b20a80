"""TCP and serial lines pass the conformance suite, and fail with the right words."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from protocols.errors import LineClosed, LineError, LineTimeout, LineUnavailable, MeterConfigError
from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from tests.support.conformance import FarEnd, check_line
from tests.support.files import files_open
from tests.support.modbus.simulated import pty
from tests.support.tcp_server import HOST, tcp_server
from tests.support.waiting import passed

pytestmark = pytest.mark.virtual_time


class SocketEnd:
    """The far end of a TCP line: the newest connection counts."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.came = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._writers.append(writer)
        self.came.set()

    async def read(self, count: int) -> bytes:
        await self.came.wait()
        while True:
            try:
                assert self.reader is not None
                return await self.reader.readexactly(count)
            except asyncio.IncompleteReadError:
                await asyncio.sleep(0.01)

    async def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)
        await self.writer.drain()

    async def hang_up(self) -> None:
        self.came.clear()
        assert self.writer is not None
        self.writer.close()

    async def close(self) -> None:
        """Close every connection that came."""
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[Line, FarEnd]]:
    far = SocketEnd()
    async with tcp_server(far.accept) as port:
        line = TcpLine("tcp", HOST, port)
        try:
            yield line, far
        finally:
            await line.close()
            await far.close()


class PtyEnd:
    """The master side of a pty; `link` is the device path that outlives it."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = -1
        self._slave = -1
        self.open()

    def open(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))

    async def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            try:
                got += os.read(self.master, count - len(got))
            except OSError:
                await asyncio.sleep(0.001)
        return got

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self.master, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def hang_up(self) -> None:
        os.close(self.master)
        os.close(self._slave)
        self.open()

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


@pytest.mark.parametrize("kind", ["tcp", "serial"])
async def test_conforms(kind: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def pty_pair() -> AsyncIterator[tuple[Line, FarEnd]]:
        far = PtyEnd(tmp_path / "bus")
        line = SerialLine("bus", str(far.link))
        try:
            yield line, far
        finally:
            await line.close()
            far.close()

    await check_line(tcp_pair if kind == "tcp" else pty_pair)


async def test_a_bus_works_beside_more_files_than_select_can_watch(tmp_path: Path) -> None:
    """`select()` ends at descriptor 1,023: an edge with a thousand sockets read no serial bus any more."""
    with files_open(1_100):
        far = PtyEnd(tmp_path / "bus")
        line = SerialLine("bus", str(far.link))
        try:
            async with line.exclusive() as io:
                await io.send(b"question")
                assert await far.read(8) == b"question"
                await far.write(b"answer")
                assert await io.receive(1.0) == b"answer"
                assert max(int(one.name) for one in Path("/proc/self/fd").iterdir()) > 1_100
        finally:
            await line.close()
            far.close()


async def test_refused_and_missing_lines_say_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        line = TcpLine("gone", "127.0.0.1", port)
        with pytest.raises(LineUnavailable, match=r"(?i)connect.*\(line gone\)"):
            async with line.exclusive():
                pass
    bus = SerialLine("bus", str(tmp_path / "ttyNone"))
    for _ in range(2):
        with pytest.raises(LineUnavailable, match="ttyNone"):
            async with bus.exclusive():
                pass
    assert bus.statistics().failures == 2


async def test_a_bus_belongs_to_one_program(tmp_path: Path) -> None:
    far = PtyEnd(tmp_path / "bus")
    first, second = SerialLine("a", str(far.link)), SerialLine("b", str(far.link))
    async with first.exclusive():
        with pytest.raises(LineUnavailable):
            async with second.exclusive():
                pass
    await first.close()
    async with second.exclusive():
        pass
    await second.close()
    far.close()


@pytest.mark.parametrize("bad", [{"parity": "X"}, {"stop_bits": 3}, {"data_bits": 9}, {"baud": 0}])
def test_wrong_serial_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(MeterConfigError, match="parity is N, E or O"):
        SerialLine("bus", "ttyS0", **bad)


async def test_frames_keep_their_gap_on_a_bus(tmp_path: Path) -> None:
    far = PtyEnd(tmp_path / "bus")
    line = SerialLine("bus", str(far.link), baud=1200)
    async with line.exclusive() as io:
        waited = passed(8 * 10 / 1200 + 3.5 * 10 / 1200)
        await io.send(b"12345678")
        assert not waited()
        await io.send(b"1")
        assert waited()
    await line.close()
    far.close()


async def test_what_comes_while_the_program_is_held_up_at_the_end_of_quiet_is_dropped() -> None:
    """The quiet time ends and a late answer lies in the system, unread: it must not meet the next request."""
    loop = asyncio.get_running_loop()
    async with tcp_pair() as (line, far), line.exclusive() as io:
        await io.send(b"!")
        await far.read(1)
        assert isinstance(far, SocketEnd)
        assert far.writer is not None
        io.hold_quiet(0.05)
        sending = asyncio.create_task(io.send(b"?"))
        await asyncio.sleep(0)
        loop.call_later(0.04, far.writer.write, b"late")
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is held up, as by a busy machine
        await sending
        assert line.statistics().drained == 4
        await far.write(b"answer")
        assert await io.receive(1) == b"answer"


async def test_a_babbling_line_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.lines.base.DRAIN_LIMIT", 0.2)
    async with tcp_pair() as (line, far):
        async with line.exclusive() as io:
            await io.send(b"!")
            await far.read(1)

            async def babble() -> None:
                while True:
                    await far.write(b"\x00" * 100)
                    await asyncio.sleep(0.01)

            noise = asyncio.create_task(babble())
            with pytest.raises(LineClosed, match="did not fall silent"):
                await io.drain(1)
            noise.cancel()
        assert not line.statistics().open


async def test_what_is_no_serial_port_is_unavailable(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"text")
    for device in (plain, tmp_path):
        line = SerialLine("bus", str(device))
        with pytest.raises(LineUnavailable, match=r"\(line bus\)"):
            async with line.exclusive():
                pass


async def test_closing_while_connecting_leaves_nothing_open() -> None:
    async with tcp_pair() as (line, _far):
        entering = asyncio.create_task(line.exclusive().__aenter__())
        await asyncio.sleep(0)
        await line.close()
        with pytest.raises(LineUnavailable, match="closed by this program"):
            await entering
        assert not line.statistics().open


async def test_a_far_end_that_takes_nothing_ends_the_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.lines.connection.SEND_TIMEOUT", 0.1)
    async with tcp_pair() as (line, _far):
        with pytest.raises(LineTimeout, match="took no data"):
            async with line.exclusive() as io:
                await io.send(bytes(50_000_000))
        assert not line.statistics().open


async def test_a_port_that_does_not_take_the_settings_is_unavailable(tmp_path: Path) -> None:
    """A pty has no parity, as some adapters have none."""
    far = PtyEnd(tmp_path / "bus")
    line = SerialLine("bus", str(far.link), parity="E")
    try:
        with pytest.raises(LineUnavailable, match="does not take these settings"):
            async with line.exclusive():
                pytest.fail("opened")
    finally:
        await line.close()
        far.close()


async def test_an_adapter_that_is_unplugged_and_back_is_opened_by_its_name(tmp_path: Path) -> None:
    """Its name in /dev/serial/by-id leads to another device then."""
    name = tmp_path / "usb-FTDI_USB-RS485_A1-if00-port0"
    line = SerialLine("bus", str(name))
    with pytest.raises(LineUnavailable, match=r"there is no .*usb-FTDI"):
        async with line.exclusive():
            pass
    for _ in range(2):
        async with pty() as (master, device):
            name.symlink_to(device)
            async with line.exclusive() as io:
                os.write(master, b"x")
                assert await io.receive(1) == b"x"
            name.unlink()
        with pytest.raises(LineError):
            async with line.exclusive() as io:
                await io.receive(1)
    assert line.statistics().connects == 2
    await line.close()


async def test_a_driver_without_rs485_mode_says_so() -> None:
    async with pty() as (_, device):
        line = SerialLine("bus", device, rs485=True)
        with pytest.raises(LineUnavailable, match="has no RS-485 mode: leave `rs485` out"):
            async with line.exclusive():
                pass
        await line.close()
