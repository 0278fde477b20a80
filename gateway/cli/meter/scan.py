"""The command `scan`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.access import MeterAccess, open_over
from gateway.cli.meter.found import FoundMeter, write_found
from gateway.cli.meter.lines import UNNAMED, chosen_line
from gateway.cli.options import JsonOption, OptionalConfig, TraceOption, nearest, purpose
from gateway.cli.output import print_problem, print_table
from gateway.cli.until_signal import until_signal
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.reach import Way
from protocols.clock import SystemClock
from protocols.dlms.client.association_opener import PUBLIC_CLIENT
from protocols.dlms.client.stations import likely_stations
from protocols.errors import LineError, ProtocolError
from protocols.line import Line
from protocols.meters.scan import (
    SETTINGS,
    Found,
    ScanLimits,
    ScanProgress,
    SerialSetting,
    scan_bus,
    scan_stations,
)
from protocols.meters.secrets import FileSecrets
from protocols.modbus.scan import FoundUnit, Progress, scan_modbus
from protocols.session import Clock, DlmsSettings, MeterSpec

TELL_EVERY = 2.0
"""Seconds between two words on how far the scan is."""
PATIENCE = 2.0
"""Seconds that a station which was found gets for each answer about itself."""


def scan(
    line: Annotated[str, typer.Argument(help="A line of the configuration, or an address.")],
    config: OptionalConfig = None,
    first: Annotated[int, typer.Option(min=1, max=247, help="First Modbus unit to ask.")] = 1,
    last: Annotated[int, typer.Option(min=1, max=247, help="Last Modbus unit to ask.")] = 247,
    timeout: Annotated[
        float, typer.Option(min=0.02, max=10, help="Wait for each address, in seconds.")
    ] = 0.1,
    protocol: Annotated[
        str | None, typer.Option(help="Ask for meters of this protocol only: dlms or modbus.")
    ] = None,
    baud: Annotated[
        str | None, typer.Option(help="Serial: only these speeds, for example 9600,19200.")
    ] = None,
    parity: Annotated[str | None, typer.Option(help="Serial: only these parities, for example N,E.")] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Serial: go on after a setting at which somebody answered.")
    ] = False,
    models: Annotated[
        Path | None, typer.Option(help="A folder of Modbus models beside the shipped ones.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write a configuration with what was found into this new file.")
    ] = None,
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find who answers on a line: meters of DLMS and of Modbus, with serial and model where they tell.

    A serial address without settings is tried with the likely speeds and parities; a line of the configuration,
    and an address with `?baud=…&parity=…`, has its own. Slow meters are found by their late answers, two meters at
    one address are named. Ctrl-C ends it and shows what was found.

    Example: meter-gateway scan serial:///dev/ttyUSB0 --write site.toml
    """
    if last < first:
        raise UsageError(f"units {first}..{last} are none")
    if write is not None and write.exists():
        raise UsageError(f"--write: {write} is there already; give the name of a new file")
    if protocol not in (None, "dlms", "modbus"):
        raise UsageError(
            f"--protocol: `{protocol}` is neither dlms nor modbus." + nearest(protocol, ("dlms", "modbus"))
        )
    loaded = configuration.load(config) if config else None
    way = chosen_line(line, config, trace)
    limits = ScanLimits(
        units=() if protocol == "dlms" else range(first, last + 1),
        stations=() if protocol == "modbus" else tuple(likely_stations()),
        timeout=timeout,
        everywhere=everywhere,
        models=models or (loaded.modbus.models if loaded is not None else None),
    )
    settings = _settings(way, line, baud, parity)
    work = _Scan(way, limits, settings, loaded.clock() if loaded else SystemClock(), quiet=as_json)
    asyncio.run(until_signal(work.run()))
    found = work.found
    rows = [one.document() if as_json else one.row() for one in found]
    print_table(rows, as_json=as_json, empty=f"nobody answers on {way.section.name}")
    if write is not None and found:
        write_found(write, way.section, found)
        print_problem(f"{write} has what was found: look at it, then `meter-gateway check --config {write}`")
    if not found:
        raise typer.Exit(Exit.PEER)


def _settings(way: Way, line: str, baud: str | None, parity: str | None) -> tuple[SerialSetting, ...]:
    """Return the serial settings to try, the likeliest first; none for a line that is not serial."""
    section = way.section
    if section.kind != "serial":
        if baud or parity:
            raise UsageError(f"--baud and --parity are for a serial line; {line} is none")
        return ()
    own = SerialSetting(section.baud, section.parity, section.stop_bits)
    if not (baud or parity):
        given = section.name != UNNAMED or "?" in line or section.mode_e
        return (own,) if given else SETTINGS
    speeds = tuple(_number(text) for text in baud.split(",")) if baud else _distinct(s.baud for s in SETTINGS)
    parities = tuple(parity.upper().split(",")) if parity else ("N", "E")
    if not set(parities) <= {"N", "E", "O"}:
        raise UsageError(f"--parity: `{parity}` is not of N, E, O, with commas between")
    return tuple(SerialSetting(speed, one) for speed in speeds for one in parities)


def _number(text: str) -> int:
    if not text.strip().isdecimal() or not 300 <= int(text) <= 921_600:
        raise UsageError(f"--baud: `{text}` is no speed; write for example 9600,19200")
    return int(text)


def _distinct(speeds: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(speeds))


class _Scan:
    """One scan of one line; `found` grows while it runs."""

    def __init__(
        self, way: Way, limits: ScanLimits, settings: tuple[SerialSetting, ...], clock: Clock, *, quiet: bool
    ) -> None:
        self.found: list[FoundMeter] = []
        self._way = way
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._quiet = quiet
        self._told = 0.0

    async def run(self) -> None:
        """Ask everybody."""
        async for setting, line, found in self._search():
            one = await self._named(line, setting, found)
            self.found.append(one)
            if not self._quiet:
                print_problem(f"found {one.text()}")

    async def _search(self) -> AsyncIterator[tuple[SerialSetting | None, Line, Found]]:
        if self._settings:
            async for setting, line, found in scan_bus(self._open, self._settings, self._limits, self._tell):
                yield setting, line, found
            return
        line = self._way.line(purpose(None), tell=print_problem)
        limits = self._limits
        try:
            wrapper = await self._wrapper(line) if limits.stations else None
            if wrapper is not None:
                self.found.append(wrapper)
                return
            async for unit in scan_modbus(
                line,
                limits.units,
                limits.timeout,
                framing="rtu" if self._way.section.kind == "rtu-over-tcp" else None,
                models=limits.models,
                progress=self._progress("Modbus units"),
            ):
                yield None, line, unit
            if not self.found or self._way.section.kind == "rtu-over-tcp":
                stations = scan_stations(
                    line, limits.stations, limits.timeout, self._progress("DLMS addresses")
                )
                async for station in stations:
                    yield None, line, station
        finally:
            await line.close()

    def _open(self, setting: SerialSetting) -> Line:
        return self._at(setting).line(purpose(None), tell=print_problem)

    def _at(self, setting: SerialSetting) -> Way:
        serial = {"baud": setting.baud, "parity": setting.parity, "stop_bits": setting.stop_bits}
        return replace(self._way, section=self._way.section.model_copy(update=serial))

    async def _wrapper(self, line: Line) -> FoundMeter | None:
        """Return the DLMS meter that answers on the wrapper, None where none does."""
        section = self._way.section
        if section.kind not in ("tcp", "udp", "dial-in"):
            return None
        framing = "wrapper-udp" if section.kind == "udp" else "wrapper"
        return await self._nameplate(line, FoundMeter(protocol="dlms", framing=framing))

    async def _named(self, line: Line, setting: SerialSetting | None, found: Found) -> FoundMeter:
        at = str(setting) if setting is not None else None
        if isinstance(found, FoundUnit):
            return FoundMeter.of_unit(found, at, setting)
        one = FoundMeter.of_station(found, at, setting)
        if found.collision:
            return one
        return await self._nameplate(line, one) or one

    async def _nameplate(self, line: Line, one: FoundMeter) -> FoundMeter | None:
        """Return what was found with the nameplate that the public client reads; None when nothing answers."""
        settings = DlmsSettings(
            client=PUBLIC_CLIENT,
            server=one.server or 1,
            physical=one.physical,
            address_octets=one.address_octets,
            framing=one.framing or "hdlc",
            timeout=PATIENCE,
        )
        access = MeterAccess(
            way=self._way,
            spec=MeterSpec(meter=None, dlms=settings),
            secrets=FileSecrets(Path("keys")),  # the public client asks for none, and counts nothing
            counters=Path("keys/none"),
            clock=self._clock,
        )
        try:
            async with open_over(access, line) as session:
                plate = await session.identify()
        except LineError:
            return None
        except ProtocolError as error:  # something came that is no nameplate: somebody speaks DLMS here
            return replace(one, note=str(error))
        return replace(one, meter=plate.meter_id, model=plate.model or None)

    def _progress(self, what: str) -> Any:
        def tell(at: Progress) -> None:
            left = (at.total - at.done) * self._limits.timeout
            self._tell(ScanProgress(what=f"{what} {at.done} of {at.total}", done=0.0, seconds_left=left))

        return tell

    def _tell(self, progress: ScanProgress) -> None:
        if self._quiet or time.monotonic() - self._told < TELL_EVERY:
            return
        self._told = time.monotonic()
        print_problem(f"{progress.what}; at most {progress.seconds_left:.0f} s left")
