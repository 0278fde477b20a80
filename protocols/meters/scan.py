"""Who is on a line of which nothing is known: protocols, serial settings and addresses, the likeliest first.

A bus has one speed and parity as a rule, and meters of one or several protocols. Each setting is tried with a few
likely addresses first; one at which any octet is heard is then searched through before the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocols.dlms.client.stations import HdlcVoice, likely_stations
from protocols.dlms.framing.hdlc import Address
from protocols.line import Line
from protocols.modbus.client.presence import ModbusVoice
from protocols.modbus.framing.frames import frames_for
from protocols.modbus.scan import FoundUnit, Progress, scan_modbus
from protocols.sweep import LATE, SweepLog, sweep

FIRST_UNITS = range(1, 6)
FIRST_STATIONS = 3
"""Addresses that each setting is tried with before any setting is searched through."""
LONG = 4
"""Octets of an HDLC address in its long form."""
QUESTION_OCTETS = 24
"""Octets of a question and its answer on the wire."""


@dataclass(frozen=True, slots=True)
class SerialSetting:
    """Speed and frame of a serial line."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def __str__(self) -> str:
        return f"{self.baud} 8{self.parity}{self.stop_bits}"

    @property
    def question(self) -> float:
        """Seconds that a question and its answer take on the wire."""
        return QUESTION_OCTETS * (9 + self.stop_bits + (self.parity != "N")) / self.baud


SETTINGS = tuple(
    SerialSetting(baud, parity) for baud in (9600, 19200, 4800, 2400, 38400, 115200, 1200) for parity in "NE"
)
"""What meters ship with, the most frequent first, as public manuals have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStation:
    """An HDLC station that answers: DLMS, as a rule. `latency` in seconds; `collision`: two answer here, or noise."""

    station: Address
    latency: float | None = field(default=None, compare=False)
    collision: bool = False


Found = FoundUnit | FoundStation


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanProgress:
    """How far a scan is: what is being asked, the part done (0 to 1), and about how many seconds are left."""

    what: str
    done: float
    seconds_left: float


Tell = Callable[[ScanProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What is asked: `units` of Modbus, HDLC `stations`; `timeout` is the wait for each, beside the wire's own time.

    With `everywhere` all settings are searched, also after one at which somebody answered.
    """

    units: Sequence[int] = tuple(range(1, 248))
    stations: Sequence[Address] = tuple(likely_stations())
    timeout: float = 0.1
    everywhere: bool = False
    models: Path | None = None


async def scan_bus(
    open_line: Callable[[SerialSetting], Line],
    settings: Iterable[SerialSetting],
    limits: ScanLimits,
    tell: Tell | None = None,
) -> AsyncIterator[tuple[SerialSetting, Line, Found]]:
    """Search a serial line and yield who answers, with setting and line at which he does; raises the errors of lines.

    `open_line` makes the line for a setting; it is closed before the next one is opened. Until the next one is asked
    for, the caller may talk over it.
    """
    plan = _BusPlan(list(settings), limits, tell)
    order = plan.settings
    if len(order) > 1:
        warm = []
        for setting in order:
            line = open_line(setting)
            try:
                if await plan.anything(line, setting):
                    warm.append(setting)
            finally:
                await line.close()
        order = [*warm, *(setting for setting in order if setting not in warm)]
    for setting in order:
        line = open_line(setting)
        sound = False
        try:
            async for found in plan.search(line, setting):
                sound = sound or not found.collision
                yield setting, line, found
        finally:
            await line.close()
        if sound and not limits.everywhere:
            return


async def scan_stations(
    line: Line,
    stations: Iterable[Address],
    wait: float,
    tell: Callable[[Progress], None] | None = None,
) -> AsyncIterator[FoundStation]:
    """Ask HDLC stations on a line, `wait` seconds each, and yield those that answer; raises the errors of the line."""
    log: SweepLog[Address] = SweepLog()
    wanted = list(stations)
    before = 0
    for long in (False, True):
        # Many meters answer to both forms of their address: who was found by the short one is not another meter.
        known = {(one.upper, one.lower) for one in log.found}
        some = [one for one in wanted if (one.octets == LONG) is long and (one.upper, one.lower) not in known]
        async for step in sweep(line, HdlcVoice(), some, log, wait=wait):
            if tell is not None:
                tell(Progress(done=before + step.done, total=len(wanted)))
            for station in step.found:
                yield FoundStation(
                    station=station, latency=log.found[station], collision=station in log.collided
                )
        before += len(some)
    for station in log.collided - log.found.keys():
        yield FoundStation(station=station, collision=True)


class _BusPlan:
    """What is asked at each setting, and how long all of it takes."""

    def __init__(self, settings: list[SerialSetting], limits: ScanLimits, tell: Tell | None) -> None:
        self.settings = settings
        self._limits = limits
        self._tell = tell
        self._first_units = [unit for unit in FIRST_UNITS if unit in limits.units]
        self._first_stations = list(limits.stations)[:FIRST_STATIONS]
        several = len(settings) > 1
        self._total = sum(self._first_cost(one) * several + self._whole_cost(one) for one in settings)
        self._spent = 0.0

    async def anything(self, line: Line, setting: SerialSetting) -> bool:
        """Ask a few likely addresses; say whether any octet came."""
        wait = self._wait(setting)
        units: SweepLog[int] = SweepLog()
        async for _ in sweep(line, ModbusVoice(frames_for("rtu")), self._first_units, units, wait=wait):
            self._say(f"{setting}: likely Modbus units", 0.0)
        stations: SweepLog[Address] = SweepLog()
        async for _ in sweep(line, HdlcVoice(), self._first_stations, stations, wait=wait):
            self._say(f"{setting}: likely DLMS addresses", 0.0)
        self._spent += self._first_cost(setting)
        return bool(units.found or units.unsound or stations.found or stations.unsound)

    async def search(self, line: Line, setting: SerialSetting) -> AsyncIterator[Found]:
        """Ask all addresses of both protocols."""
        wait, limits = self._wait(setting), self._limits

        def step(what: str, before: float) -> Callable[[Progress], None]:
            return lambda at: self._say(f"{setting}: {what} {at.done} of {at.total}", before + at.done * wait)

        stations = len(limits.stations) * wait
        async for station in scan_stations(line, limits.stations, wait, step("DLMS addresses", 0.0)):
            yield station
        async for unit in scan_modbus(
            line,
            limits.units,
            wait,
            framing="rtu",
            models=limits.models,
            progress=step("Modbus units", stations),
        ):
            yield unit
        self._spent += self._whole_cost(setting)

    def _wait(self, setting: SerialSetting) -> float:
        return self._limits.timeout + setting.question

    def _first_cost(self, setting: SerialSetting) -> float:
        return (len(self._first_units) + len(self._first_stations)) * self._wait(setting) + 2 * LATE

    def _whole_cost(self, setting: SerialSetting) -> float:
        return (len(self._limits.units) + len(self._limits.stations)) * self._wait(setting) + 2 * LATE

    def _say(self, what: str, spent: float) -> None:
        spent = min(self._spent + spent, self._total)
        if self._tell is None:
            return
        self._tell(
            ScanProgress(
                what=what, done=spent / self._total if self._total else 1.0, seconds_left=self._total - spent
            )
        )
