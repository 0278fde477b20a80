"""The mode E opening: the reader on every kind of octets, and the whole hand-shake over a pty."""

from __future__ import annotations

import asyncio
import os
import re
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder
from protocols.dlms.framing.mode_e import (
    MAX_LINE,
    MAX_NOISE,
    Identification,
    IdentificationReader,
    acknowledgement,
    sign_on,
    with_parity,
    without_parity,
)
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import HdlcBus, ServedMeter
from protocols.dlms.session import open_dlms
from protocols.errors import LineUnavailable, MeterConfigError, MeterProtocolError
from protocols.lines import optical as optical_line
from protocols.lines.optical import OpticalLine
from protocols.reading import RelayState
from protocols.session import MeterSpec, SessionContext
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.dlms.site import SECRETS
from tests.support.dlms.site import settings as dlms_settings
from tests.support.fakes import Counters, ManualClock

pytestmark = pytest.mark.virtual_time

GENUS = b"/GEN5\\2GENUS METER\r\n"
FOUND = Identification(maker="GEN", baud=9600, text="GENUS METER")


def test_messages() -> None:
    assert sign_on() == b"/?!\r\n"
    assert sign_on("0012 A") == b"/?0012 A!\r\n"
    assert acknowledgement(9600) == bytes.fromhex("063235320D0A")
    for bad in ("x" * 33, "a!b", "ü"):
        with pytest.raises(MeterConfigError):
            sign_on(bad)


def test_identification_every_way() -> None:
    for noise in (b"", sign_on(), b"\xff\x00", b"\r\n" + sign_on("12")):
        data = noise + GENUS
        assert IdentificationReader().receive_data(data) == FOUND
        reader = IdentificationReader()
        found = [reader.receive_data(bytes((octet,))) for octet in data]
        assert found == [None] * (len(data) - 1) + [FOUND]
        assert IdentificationReader().receive_data(data + b"\x06more") == FOUND
        assert IdentificationReader().receive_data(with_parity(data)) == FOUND


def test_the_fastest_common_speed_is_chosen() -> None:
    assert [FOUND.choose(fastest) for fastest in (19200, 9600, 5000, 300, 100)] == [
        9600,
        9600,
        4800,
        300,
        300,
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"/GEN5GENUS\r\n", "does not offer HDLC"),
        (b"/GEN9\\2GENUS\r\n", "speed '9'"),
        (b"/G1N5\\2GENUS\r\n", "no identification"),
        (b"/GEN5\\2GENUS\n", "no identification"),
        (b"/" + b"A" * MAX_LINE, "more than 64 octets"),
        (b"\x00" * (MAX_NOISE + 1), "no identification in"),
    ],
)
def test_what_is_no_identification_is_an_error_at_once(line: bytes, why: str) -> None:
    with pytest.raises(MeterProtocolError, match=re.escape(why)):
        IdentificationReader().receive_data(line)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_random_octets_are_an_identification_or_a_protocol_error(chunks: list[bytes]) -> None:
    reader = IdentificationReader()
    for chunk in chunks:
        try:
            found = reader.receive_data(chunk)
        except MeterProtocolError:
            break
        assert found is None or isinstance(found, Identification)


class OpticalMeter:
    """A meter at the other end of the probe: ASCII at 300 baud, HDLC after the acknowledgement, 300 after DISC."""

    def __init__(self, link: Path, *, echo: bool = False, confirms: bool = True, silent: int = 0) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        link.symlink_to(os.ttyname(self._slave))
        self._echo, self._confirms, self.silent = echo, confirms, silent
        self._bus = HdlcBus({17: ServedMeter(model=SmallMeter({48: POLICIES["hls2"][0]}))}, ServerSettings())
        self._frames = FrameDecoder()
        self._heard = b""
        self.hdlc = False
        self.openings = 0
        self.speeds: list[int] = []
        asyncio.get_running_loop().add_reader(self.master, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self._slave)

    def _readable(self) -> None:
        try:
            data = os.read(self.master, 4096)
        except (BlockingIOError, OSError):
            return
        if self._echo and not self.hdlc:
            os.write(self.master, data)
        speed = termios.tcgetattr(self.master)[5]
        if self.hdlc:
            assert speed == termios.B4800
            os.write(self.master, self._bus.receive_data(data))
            frames = self._frames.receive_data(data)
            self.hdlc = not any(isinstance(f, Frame) and f.kind == hdlc.DISC for f in frames)
            return
        assert speed == termios.B300
        assert data == with_parity(without_parity(data))
        self._heard += without_parity(data)
        if self._heard.endswith(b"/?!\r\n"):
            self._heard = b""
            self.silent -= 1
            if self.silent < 0:
                os.write(self.master, with_parity(GENUS))
        elif self._heard.endswith(acknowledgement(4800)):
            self._heard = b""
            self.openings += 1
            if self._confirms:
                os.write(self.master, with_parity(acknowledgement(4800)))
            self.hdlc = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optical_line, "REACTION_TIME", 0.05)
    monkeypatch.setattr(optical_line, "CONFIRMATION_TIME", 0.2)
    monkeypatch.setattr(optical_line, "IDENTIFICATION_TIME", 0.2)


@asynccontextmanager
async def probe(tmp_path: Path, **habits: Any) -> AsyncIterator[tuple[OpticalLine, OpticalMeter]]:
    meter = OpticalMeter(tmp_path / "probe", **habits)
    line = OpticalLine("probe", str(tmp_path / "probe"), baud=4800)
    try:
        yield line, meter
    finally:
        await line.close()
        meter.close()


@pytest.mark.parametrize("habits", [{}, {"echo": True}, {"confirms": False}, {"silent": 1}])
async def test_a_meter_is_read_through_an_optical_probe(
    tmp_path: Path, habits: dict[str, bool | int]
) -> None:
    """Two HDLC connections in one turn (public client, then utility): the meter wants an opening for each."""
    async with probe(tmp_path, **habits) as (line, meter):
        spec = MeterSpec(meter="GEN:00000007", dlms=dlms_settings("hls2", framing="hdlc", physical=17))
        clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
        async with open_dlms(
            line, spec, SessionContext(secrets=SECRETS, counters=Counters(), clock=clock)
        ) as session:
            assert await session.relay() is RelayState.CLOSED
        assert meter.openings == 2
        assert not line.statistics().open


async def test_a_meter_that_does_not_sign_on_again_is_unavailable(tmp_path: Path) -> None:
    disc = Frame(destination=Address(1, 17), source=Address(16), control=hdlc.DISC | hdlc.POLL).encode()
    async with probe(tmp_path) as (line, meter), line.exclusive() as io:
        await io.send(disc)
        await io.receive(2)
        meter.silent = 99
        await io.send(disc)  # a repetition is no new connection
        with pytest.raises(LineUnavailable, match="no meter signs on"):
            await io.send(b"anything else")


async def test_a_port_without_a_meter_is_unavailable(tmp_path: Path) -> None:
    async with probe(tmp_path, silent=99) as (line, _):
        with pytest.raises(LineUnavailable, match="no meter signs on"):
            async with line.exclusive():
                pytest.fail("opened")
        assert line.statistics().failures == 1
