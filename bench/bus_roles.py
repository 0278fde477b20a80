"""Processes of the bus bench: a bus with true timing on a pty, Modbus TCP meters, pymodbus as a plain loop, an edge.

Each is run by `bench/bus.py` with a role and its arguments in JSON, and writes JSON lines.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pty
import select
import sys
import tempfile
import time
import tty
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway.edge.journal.journal import Journal
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.known_meters import KnownMeters
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from protocols.clock import SystemClock
from protocols.line import Line, LinePace
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.modbus.decoding.values import spans_of
from protocols.modbus.format.library import load_model
from protocols.reading import ProfileName
from protocols.session import MeterSpec, ModbusSettings, SessionContext
from protocols.simulator.modbus.frames import take_mbap, take_rtu
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.edge.poller_bench import Directory
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.simulated import NOON, StillMeter

BAUD, BITS = 9600, 10
PACE = LinePace(octet=BITS / BAUD, gap=3.5 * BITS / BAUD)
FIFO = 14
"""Octets after which a UART hands over what came."""
LIVE = (ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT)
HOST = "127.0.0.1"
UNITS, PER_CONNECTION = 240, 8
"""Meters behind a TCP port, and of these on a connection."""
PATIENCE = 60.0
"""Seconds after which a round that does not end is given up."""


@dataclass(frozen=True, slots=True)
class BusMeter:
    """One meter of a bench: its model, unit, serial, and the seconds that it takes before it answers."""

    model: str
    unit: int
    serial: str
    latency: float

    @property
    def meter(self) -> str:
        """Its identity."""
        return f"{load_model(self.model).manufacturer}:{self.serial}"

    def spec(self, framing: str) -> MeterSpec:
        """Return how it is reached."""
        return MeterSpec(
            meter=self.meter, modbus=ModbusSettings(unit=self.unit, model=self.model, framing=framing)
        )

    def polled(self, line: str, framing: str) -> PolledMeter:
        """Return it as the poller has it: with the profiles that its model has."""
        profiles = tuple(p for p in LIVE if load_model(self.model).of_profile(p))
        return PolledMeter(meter=self.meter, line=line, spec=self.spec(framing), profiles=profiles)

    def cells(self) -> dict[tuple[int, int], int]:
        """Return its words by function and address; others are zero, as real meters have them."""
        model = load_model(self.model)
        simulated = ModbusMeter(
            StillMeter(model.manufacturer, self.serial), self.model, self.unit, JumpClock(NOON)
        )
        found: dict[tuple[int, int], int] = {}
        for span in spans_of(model, model.registers):
            place = span.address.to_bytes(2, "big") + span.size.to_bytes(2, "big")
            pdu = simulated.answer(bytes((span.function,)) + place)
            for number in range(span.size):
                found[span.function, span.address + number] = int.from_bytes(
                    pdu[2 + 2 * number : 4 + 2 * number], "big"
                )
        return found


def answer(cells: Mapping[tuple[int, int], int], pdu: bytes) -> bytes:
    """Answer a request for registers."""
    function, address, count = pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
    words = (cells.get((function, place), 0) for place in range(address, address + count))
    return bytes((function, 2 * count)) + b"".join(word.to_bytes(2, "big") for word in words)


def say(**values: object) -> None:
    """Return one line to the parent."""
    print(json.dumps(values), flush=True)


def meters_of(text: str) -> list[BusMeter]:
    """Read the meters of a bench from an argument."""
    return [BusMeter(*one) for one in json.loads(text)]


# the bus


@dataclass
class Counted:
    """What went over the wire since it was last told.

    `wire` is seconds in which octets, silences and meters took their time; `begun` and `ended` are the first and the
    last of it. `idle` is for how long beyond t3.5 nothing was asked after an answer, `between` the part of it that lay
    between two meters. `late` is what the bus itself was late by, `early` the requests that came before t3.5 had
    passed by its clock (processors of a virtual machine do not agree to the millisecond).
    """

    requests: int = 0
    registers: int = 0
    wire: float = 0.0
    idle: float = 0.0
    between: float = 0.0
    late: float = 0.0
    early: int = 0
    begun: float | None = None
    ended: float = 0.0


@dataclass
class Bus:
    """A bus in true time behind the master side of a pty."""

    master: int
    meters: dict[int, BusMeter]
    counted: Counted = field(default_factory=Counted)
    _cells: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)
    _free: float = 0.0
    _unit: int = 0

    def __post_init__(self) -> None:
        self._cells = {unit: meter.cells() for unit, meter in self.meters.items()}

    def hear(self, octets: bytearray, came: float) -> None:
        """Answer the request that came, at the time at which a meter would."""
        for asked in take_rtu(octets):
            count = self.counted
            count.requests += 1
            count.registers += int.from_bytes(asked.pdu[3:5], "big")
            count.begun = came if count.begun is None else count.begun
            count.early += came - self._free < 0.98 * PACE.gap
            if self._unit:
                idle = came - self._free - PACE.gap
                count.idle += idle
                count.between += idle * (asked.unit != self._unit)
            self._unit = asked.unit
            heard = came + len(asked.octets) * PACE.octet
            count.wire += heard - came + PACE.gap
            count.ended = self._free = heard
            meter = self.meters.get(asked.unit)
            if meter is None:
                continue
            frame = asked.frame(asked.unit, answer(self._cells[asked.unit], asked.pdu))
            begins = heard + PACE.gap + meter.latency
            for start in range(0, len(frame), FIFO):
                part = frame[start : start + FIFO]
                self._wait(begins + (start + len(part)) * PACE.octet)
                os.write(self.master, part)
            self._free = begins + len(frame) * PACE.octet
            now = time.monotonic()
            count.late += now - self._free
            count.wire += self._free - heard
            count.ended = self._free = now

    @staticmethod
    def _wait(until: float) -> None:
        """Wait to a fraction of an octet: the system wakes up late, so the rest is waited awake."""
        while (left := until - time.monotonic()) > 0:
            if left > 0.0005:
                time.sleep(left - 0.0004)


def bus(meters: str) -> None:
    """Serve a bus until the parent has gone; a line from it is answered by what was counted since the last one."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    served = Bus(master, {meter.unit: meter for meter in meters_of(meters)})
    say(device=os.ttyname(slave))
    buffer = bytearray()
    while True:
        ready, _, _ = select.select([master, sys.stdin], [], [])
        if master in ready:
            came = time.monotonic()
            buffer += os.read(master, 4096)
            served.hear(buffer, came)
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            count, served.counted, served._unit = served.counted, Counted(), 0
            say(**{name: getattr(count, name) for name in count.__dataclass_fields__})


def pymodbus(device: str, rounds: str, requests: str) -> None:
    """Read blocks in a plain loop with pymodbus' own client, as its examples have it."""
    from pymodbus.client import ModbusSerialClient

    client = ModbusSerialClient(device, baudrate=BAUD, bytesize=8, parity="N", stopbits=1, timeout=1)
    client.connect()
    read = {3: client.read_holding_registers, 4: client.read_input_registers}
    failed = 0
    for _ in range(int(rounds)):
        for unit, function, address, count in json.loads(requests):
            failed += read[function](address, count=count, device_id=unit).isError()
    client.close()
    say(failed=failed)


# Modbus TCP


async def gateways(meters: str) -> None:
    """Serve meters at once, UNITS of them behind each TCP port."""
    wanted, ports = meters_of(meters), []
    for start in range(0, len(wanted), UNITS):
        cells = {meter.unit: meter.cells() for meter in wanted[start : start + UNITS]}
        server = await asyncio.start_server(partial(_serve, cells), HOST, 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
    say(ports=ports)
    await asyncio.to_thread(sys.stdin.readline)


async def _serve(
    cells: Mapping[int, Mapping[tuple[int, int], int]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    buffer = bytearray()
    while octets := await reader.read(4096):
        buffer += octets
        for asked in take_mbap(buffer):
            writer.write(asked.frame(asked.unit, answer(cells[asked.unit], asked.pdu)))
    writer.close()


def quiet() -> None:
    """Leave out what the edge logs of dead meters: there are thousands."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def rss() -> int:
    """Resident octets of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Edge:
    """The edge's own poller, collector, journal and what is known of meters, over lines of the bench."""

    def __init__(
        self, folder: Path, journal: Journal, lines: Mapping[str, Line], meters: Sequence[PolledMeter]
    ) -> None:
        clock = SystemClock()
        self._known = KnownMeters(folder / "known.db")
        self._meters = meters
        self._running: asyncio.Task[None] | None = None
        self._poller = Poller(
            lines,
            meters,
            collector=Collector(
                journal, ReadingAppender(journal, Directory, clock), clock=clock, known=self._known
            ),
            open_session=partial(open_session, layouts=self._known, memories=Memories(self._known)),
            context=SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=clock),
            schedule=Schedule(periods=dict.fromkeys(LIVE, timedelta(days=1))),
            pushing=PushLayouts(clock),
        )

    async def round(self) -> float:
        """Let all profiles of all meters be due at once; return the seconds until all were read."""
        begun, since = time.monotonic(), datetime.now(UTC)
        if self._running is None:
            self._running = asyncio.create_task(self._poller.run())
        else:
            for meter in self._meters:
                for profile in meter.profiles:
                    self._poller.read_soon(meter.meter, profile)
        while waiting := self._unread(since):
            if time.monotonic() - begun > PATIENCE:
                one = self._poller.meter(waiting[0])
                raise RuntimeError(f"{len(waiting)} meters were not read, {one.meter}: {one.error}")
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    def _unread(self, since: datetime) -> list[str]:
        """Return the meters that were not read since an instant."""
        reads = ((m.meter, self._poller.meter(m.meter).last_success) for m in self._meters)
        return [name for name, at in reads if at is None or at < since]

    async def end(self) -> None:
        """End the poller."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._known.close()


async def tcp(ports: str, meters: str) -> None:
    """Read meters by Modbus TCP, PER_CONNECTION of them on each connection; tell rate and memory."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        journal = await Journal.open(folder / "journal.db", clock=SystemClock())
        wanted = meters_of(meters)
        # One meter first: modules, models and plans that all of them share are no meter's.
        served: list[int] = json.loads(ports)
        lines: dict[str, Line] = {"first": TcpLine("first", HOST, served[0])}
        alone = Edge(folder, journal, lines, [wanted[0].polled("first", "tcp")])
        await alone.round()
        await alone.end()
        before = rss()
        names = [f"line{number // PER_CONNECTION}" for number in range(len(wanted))]
        lines |= {name: TcpLine(name, HOST, served[n // UNITS]) for n, name in enumerate(names)}
        edge = Edge(folder, journal, lines, [m.polled(n, "tcp") for n, m in zip(names, wanted, strict=True)])
        await edge.round()
        spent = min([await edge.round() for _ in range(2)])
        say(meters_per_s=len(wanted) / spent, rss_per_meter=(rss() - before) / len(wanted))
        await edge.end()
        for line in lines.values():
            await line.close()
        await journal.close()


def main() -> None:
    quiet()
    role, *arguments = sys.argv[1:]
    match role:
        case "bus":
            bus(*arguments)
        case "pymodbus":
            pymodbus(*arguments)
        case "gateways":
            asyncio.run(gateways(*arguments))
        case "tcp":
            asyncio.run(tcp(*arguments))


if __name__ == "__main__":
    main()
