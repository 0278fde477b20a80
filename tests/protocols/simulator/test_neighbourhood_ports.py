"""The neighbourhood answers on real sockets and ptys, to clients that are not ours and to ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import tty
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocols.clock import SimulatedClock
from protocols.dlms.apdu import acse
from protocols.dlms.framing import hdlc
from protocols.simulator.modbus.frames import crc16
from protocols.simulator.neighbourhood.files import read_plan
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood, household_of
from protocols.simulator.neighbourhood.plan import MeterKind, Plan
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator
from tests.support.fakes import HandClock
from tests.support.simulator import AARQ_NONE, ask_tcp
from tests.support.waiting import PATIENCE, until


@pytest.fixture
async def area() -> AsyncIterator[Neighbourhood]:
    clock = HandClock(datetime.now(UTC) - timedelta(minutes=5))
    served = await Neighbourhood.start(seed=1, clock=clock)
    yield served
    await served.stop()


async def ask_pty(device: str, request: bytes, size: int) -> bytes:
    """Talk on a pty in a thread, with a deadline by polling."""
    fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        os.write(fd, request)
        answer = b""

        def whole() -> bool:
            nonlocal answer
            with contextlib.suppress(BlockingIOError):
                answer += os.read(fd, 512)
            return len(answer) >= size

        await until(whole)
        return answer
    finally:
        os.close(fd)


async def test_every_line_has_an_address(area: Neighbourhood) -> None:
    for line in area.plan.lines:
        assert line.device if line.kind == "serial" else line.port
    assert len({line.port for line in area.plan.lines if line.port}) == 17
    await area.stop()
    await area.stop()
    tcp = next(line for line in area.plan.lines if line.port)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", tcp.port or 0), timeout=1).close()


async def test_wrapper_answers_a_public_association(area: Neighbourhood) -> None:
    line = area.plan.lines[0]
    head = struct.pack(">HHHH", 1, 16, 1, len(AARQ_NONE))
    answer = await ask_tcp(line.port or 0, head + AARQ_NONE)
    assert answer[:6] == struct.pack(">HHH", 1, 1, 16)
    assert acse.decode_aare(answer[8:]).result == 0


async def test_hdlc_bus_answers_each_address_only(area: Neighbourhood) -> None:
    line = next(line for line in area.plan.lines if line.serves is MeterKind.DLMS_HDLC)
    snrm = bytes.fromhex("7EA00802232193BD647E")  # client 16 to 1/17
    answer = await ask_pty(line.device or "", snrm, 12)
    (frame,) = hdlc.FrameDecoder().receive_data(answer)
    assert isinstance(frame, hdlc.Frame)
    assert frame.source.lower == 17


async def test_modbus_lines_answer(area: Neighbourhood) -> None:
    tcp = next(line for line in area.plan.lines if line.serves is MeterKind.MODBUS_TCP)
    (feeder,) = area.plan.on_line(tcp.name)
    assert feeder.role == "feeder"
    answer = await ask_tcp(tcp.port or 0, bytes.fromhex("0007 0000 0006 01 03 5000 0004".replace(" ", "")))
    energy = int.from_bytes(answer[9:17], "big")
    assert energy == area.households[feeder.meter].state(area.clock.now()).energy_import_wh // 10
    bus = next(line for line in area.plan.lines if line.serves is MeterKind.MODBUS_RTU)
    over_tcp = next(line for line in area.plan.lines if line.serves is MeterKind.MODBUS_RTU_TCP)
    for unit in (1, 2):
        request = bytes((unit, 4)) + bytes.fromhex("00000002")
        request += crc16(request).to_bytes(2, "little")
        for answer in (
            await ask_pty(bus.device or "", request, 9),
            await ask_tcp(over_tcp.port or 0, request),
        ):
            assert answer[:3] == bytes((unit, 4, 4))
            assert 190 < struct.unpack(">f", answer[3:7])[0] < 290


async def test_a_meter_without_supply_is_silent() -> None:
    clock = HandClock(datetime.now(UTC))
    served = await Neighbourhood.start(seed=1, clock=clock, cuts_until=clock.now())
    try:
        meter = served.plan.meters[0]
        cut = next(
            e.at
            for e in served.recorded(meter.meter, clock.now() - timedelta(days=36), clock.now()).events
            if e.code == 101
        )
        clock.at = cut + timedelta(seconds=30)
        port = next(line.port for line in served.plan.lines if line.name == meter.line)
        request = struct.pack(">HHHH", 1, 16, 1, len(AARQ_NONE)) + AARQ_NONE
        assert await ask_tcp(port or 0, request) == b""
    finally:
        await served.stop()


async def test_simulator_process_serves_until_told_and_can_be_checked(tmp_path: Path) -> None:
    script = (
        "import asyncio,sys;from datetime import timedelta;from pathlib import Path;"
        "from protocols.simulator.neighbourhood.run import *;"
        "asyncio.run(run_simulator(SimulatorSettings(meters=5,seed=9,speed=60,behind=timedelta(hours=2),"
        "folder=Path(sys.argv[1])),ready=lambda p: print('ready', len(p.plan.meters), flush=True)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready 5\n"
    plan = read_plan(tmp_path)
    line = plan.lines[0]
    request = struct.pack(">HHHH", 1, 16, 1, len(AARQ_NONE)) + AARQ_NONE
    assert (await ask_tcp(line.port or 0, request))[:2] == b"\x00\x01"
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    meter = household_of(plan, plan.meters[0])
    assert meter.block_rows(plan.history_from, plan.history_from + timedelta(days=1))


async def test_a_restart_keeps_the_beginning(tmp_path: Path) -> None:
    plans: list[Plan] = []
    for behind in (3, 1, 60):
        stop = asyncio.Event()
        stop.set()
        await run_simulator(
            SimulatorSettings(meters=5, seed=2, behind=timedelta(days=behind), folder=tmp_path),
            stop=stop,
            ready=lambda running: plans.append(running.plan),
        )
    assert plans[0].history_from == plans[1].history_from
    assert plans[0].cuts_until == plans[1].cuts_until
    assert plans[2].history_from < plans[0].history_from - timedelta(days=50)


def test_simulated_time_ends_at_now() -> None:
    begin = datetime.now(UTC)
    slow = SimulatedClock.ending_now(behind=timedelta(hours=1), speed=1)
    fast = SimulatedClock.ending_now(behind=timedelta(hours=1), speed=10**12)
    assert slow.now() < begin
    assert begin <= fast.now() <= datetime.now(UTC)
