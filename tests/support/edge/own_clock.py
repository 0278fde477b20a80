"""Meters that live by a clock of their own: it drifts, is set, and closes their intervals; both protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from protocols.clock import NowSource
from protocols.line import Line
from protocols.lines.tcp import TcpLine
from protocols.modbus.format.library import forget_models
from protocols.session import MeterSpec, ModbusSettings
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.dlms.ports import WrapperPort, simulated_meter
from protocols.simulator.household.household import Household
from tests.support.dlms.trap_site import policies, utility
from tests.support.modbus.raw_meters import Cells, RawMeter
from tests.support.modbus.whole_meter import MODEL as WHOLE

INDIA = ZoneInfo("Asia/Kolkata")
PERIOD = timedelta(minutes=30)
RECORDS = 1680
"""Intervals in a meter's memory: 35 days."""
LOG_AT, CLOCK_AT = 2000, 60
MODEL = (
    WHOLE[: WHOLE.index("[log]")].replace('name = "whole"', 'name = "logger"')
    + f"""[log]
function = 3
address = {LOG_AT}
record = 4
records = {RECORDS}
period = 1800
order = "newest_first"
time = {{ offset = 0, type = "time_seconds", count = 2, word_order = "big" }}
values = [{{ quantity = "1-0:1.29.0*255", offset = 2, type = "u32", unit = "Wh" }}]
"""
)


def put_logger(folder: Path) -> Path:
    """Write the model of `LoggingMeter` into a folder of models, and return the folder."""
    (folder / "logger.toml").write_text(MODEL, encoding="utf-8")
    forget_models()
    return folder


@dataclass
class OwnClock:
    """A clock that is `ahead` seconds before the true time at `since`, and gains `ppm` millionths."""

    true: NowSource
    ahead: float = 0.0
    ppm: float = 0.0
    since: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.true.now()

    @property
    def drift(self) -> float:
        return self.ahead + (self.true.now() - self.since).total_seconds() * self.ppm / 1e6

    def shown(self) -> datetime:
        return self.true.now() + timedelta(seconds=self.drift)

    def set_to(self, shown: datetime) -> None:
        self.since = self.true.now()
        self.ahead = (shown - self.since).total_seconds()


class LoggingMeter(RawMeter):
    """A Modbus meter of the model `logger`: it closes an interval whenever its own clock comes to its end.

    `closed` are the ends of all intervals that it ever closed, by its own clock; `memory` those that it still holds.
    Without `powered` it closes none and answers nothing. `sets` are the true times at which its clock was written.
    """

    def __init__(self, unit: int, serial: str, clock: OwnClock, *, takes: bool = True) -> None:
        super().__init__(
            unit,
            server_id=b"\x01\xff" + serial.encode(),
            objects={2: b"V1.07"},
            writable=frozenset((CLOCK_AT, CLOCK_AT + 1, CLOCK_AT + 2, 70)) if takes else frozenset(),
        )
        self.clock = clock
        self.serial = serial
        self.powered = True
        self.closed: list[datetime] = []
        self.memory: list[tuple[datetime, int]] = []
        self.sets: list[datetime] = []
        self.energy = 1_000_000
        self._upto = clock.shown()
        held: Cells = {(3, a): 0 for a in range(10, 110)}
        held |= {(3, 100): 40, (3, 101): 0, (4, 0): 2304, (4, 1): 4998, (1, 16): 1}
        self.cells = held

    def pdu(self, request: bytes) -> bytes:
        self.tick()
        answer = super().pdu(request)
        if request[0] == 16 and answer[0] == 16 and request[1:3] == CLOCK_AT.to_bytes(2, "big"):
            self.set_clock(_wall([self.cells[3, CLOCK_AT + i] for i in range(3)]))
            self.sets.append(self.clock.true.now())
        return answer

    def tick(self) -> None:
        """Live up to now."""
        shown = self.clock.shown()
        fresh = [end for end in _ends(self._upto, shown) if self.powered]
        for end in fresh:
            self.closed.append(end)
            self.energy += 100
            self.memory = [(end, 100 + len(self.closed) % 7), *self.memory][:RECORDS]
        self._upto = shown
        self._show(shown, changed=bool(fresh))

    def set_clock(self, shown: datetime) -> None:
        """Set the clock: of what it passes over no interval is closed, what it passes again is closed again."""
        self.tick()
        self.clock.set_to(shown)
        self._upto = shown

    def forget(self) -> None:
        """Lose the memory, as by a reset."""
        self.tick()
        self.memory = []
        self._show(self.clock.shown(), changed=True)

    def _show(self, shown: datetime, *, changed: bool) -> None:
        wall = shown.astimezone(INDIA).strftime
        words = [int(wall(form), 16) for form in ("%y%m", "%d%H", "%M%S")]
        self.cells |= {(3, CLOCK_AT + i): word for i, word in enumerate(words)}
        low, high = self.energy % 65536, self.energy // 65536
        self.cells |= {(3, 10): low, (3, 11): high}
        if changed or (3, LOG_AT) not in self.cells:
            blank = [(None, 0)] * (RECORDS - len(self.memory))
            self.cells |= dict(_log([*self.memory, *blank]))


def _log(
    records: list[tuple[datetime, int]] | list[tuple[datetime | None, int]],
) -> Iterator[tuple[tuple[int, int], int]]:
    for number, (end, energy) in enumerate(records):
        at = 0 if end is None else int(end.timestamp())
        for place, word in enumerate((*divmod(at, 65536), energy, 0)):
            yield (3, LOG_AT + 4 * number + place), word


def _ends(after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the ends of intervals later than the first, up to the second; both by the meter's clock."""
    end = datetime.fromtimestamp((int(after.timestamp()) // 1800 + 1) * 1800, UTC)
    while end <= until:
        yield end
        end += PERIOD


def _wall(words: list[int]) -> datetime:
    digits = "".join(f"{word:04x}" for word in words)
    return datetime.strptime(digits, "%y%m%d%H%M%S").replace(tzinfo=INDIA).astimezone(UTC)


def modbus_spec(meter: LoggingMeter, models: Path, framing: str = "tcp") -> MeterSpec:
    settings = ModbusSettings(unit=meter.unit, model="logger", models=models, framing=framing, timeout=0.5)
    return MeterSpec(meter=f"WHO:{meter.serial}", modbus=settings)


@dataclass
class DlmsMeter:
    """A simulated DLMS meter on a TCP line of its own; its intervals are those of true time."""

    home: Household
    line: Line
    spec: MeterSpec


@asynccontextmanager
async def dlms_meter(
    serial: str, clock: NowSource, history_from: datetime, *, cuts: bool = False
) -> AsyncIterator[DlmsMeter]:
    """Serve a DLMS meter on loopback; with `cuts` its supply fails now and then."""
    until = None if cuts else history_from + timedelta(hours=1)
    home = Household(4, "GEN", serial, history_from, cuts_until=until)
    port = WrapperPort(simulated_meter(HouseholdModel(home, clock, policies()), counter_start=5))
    line = TcpLine(f"tcp-{serial}", "127.0.0.1", await port.start("127.0.0.1"))
    try:
        yield DlmsMeter(home, line, MeterSpec(meter=f"GEN:{serial}", dlms=utility()))
    finally:
        await line.close()
        await port.close()
