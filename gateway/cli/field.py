"""Commands of the field engineer: read, scan, commission, replace."""

from __future__ import annotations

import asyncio
import getpass
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.address import AddressOptions, MeterArgument, TraceOption, meter_command
from gateway.cli.common import (
    ConfigOption,
    CsvOption,
    Exit,
    JsonOption,
    console,
    load_config,
    nearest,
    only_one_form,
    parse_time,
    print_json,
    show,
    show_one,
)
from gateway.cli.printed import as_document, print_csv, print_rows
from gateway.cli.target import Target, find, is_address, line_at, opened, traced, traced_config
from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.errors import UsageError
from gateway.roles.app import clock_of
from gateway.roles.central import central_files
from gateway.roles.fieldwork import commission as commission_meter
from gateway.roles.fieldwork import field_work
from gateway.roles.fieldwork import replace as replace_meter
from gateway.roles.lines import make_line
from mapping.directory import Role
from protocols.clock import SystemClock
from protocols.dlms.client.association_opener import PUBLIC_CLIENT
from protocols.errors import LineError, MeterRefused, ProtocolError
from protocols.meters.secrets import FileSecrets
from protocols.modbus.scan import scan_modbus
from protocols.reading import MissingReason, ProfileName, ReadingSet
from protocols.session import Clock, DlmsSettings, MeterSpec

OptionalConfig = Annotated[Path | None, typer.Option("--config", "-c", help="The gateway's TOML file.")]
CentralOption = Annotated[
    Path | None, typer.Option("--central", help="Central's data folder; by default the configuration's.")
]
UsagePoint = Annotated[str, typer.Option("--usage-point", help="Where the meter is fitted.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(read)
    app.command()(scan)
    app.command()(commission)
    app.command()(replace)


@meter_command
def read(
    meter: MeterArgument,
    profile: Annotated[str, typer.Argument(help="instantaneous, block_load, daily, billing, …")],
    options: AddressOptions,
    since: Annotated[str | None, typer.Option(help="Stored rows later than this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Stored rows up to this time.")] = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read one profile of one meter and print it; nothing is stored or delivered.

    An address is tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0, or
    optical:///dev/ttyUSB0 for a probe on a meter that wants the mode E opening. Keys and passwords come
    from a file that only you may read (--key-file), never from the command line.

    Example: meter-gateway read tcp://10.0.0.7:4059 block_load --client 48 --key-file keys.toml
    """
    if profile not in list(ProfileName):
        raise UsageError(
            f"there is no profile `{profile}`; profiles: {', '.join(ProfileName)}.{nearest(profile, ProfileName)}"
        )
    low, high = parse_time(since, option="--since"), parse_time(until, option="--until")
    only_one_form(as_json=as_json, as_csv=as_csv)
    target = find(meter, options)
    rows = asyncio.run(read_profile(target, ProfileName(profile), low, high))
    if as_json:
        print_json([as_document(row) for row in rows])
    elif as_csv:
        print_csv(rows)
    else:
        print_rows(rows)


async def read_profile(
    target: Target, profile: ProfileName, since: datetime | None, until: datetime | None
) -> list[ReadingSet]:
    """Read one profile through a session of its own, oldest row first."""
    async with opened(target) as (session, _):
        try:
            return [row async for row in session.read(profile, since, until)]
        except MeterRefused as error:
            if target.spec.dlms is None or target.spec.dlms.client != PUBLIC_CLIENT:
                raise
            hint = f"{error}; the public client ({PUBLIC_CLIENT}) may read little: see --client"
            raise MeterRefused(hint, reason_code=error.reason_code) from error


def scan(
    line: Annotated[str, typer.Argument(help="A line of the configuration, or an address.")],
    config: OptionalConfig = None,
    first: Annotated[int, typer.Option(min=1, max=247, help="First Modbus unit to ask.")] = 1,
    last: Annotated[int, typer.Option(min=1, max=247, help="Last Modbus unit to ask.")] = 247,
    timeout: Annotated[float, typer.Option(min=0.02, max=10, help="Wait for each unit, in seconds.")] = 0.1,
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find who answers on a line: Modbus units with model and serial, or a DLMS meter's nameplate.

    Example: meter-gateway scan serial:///dev/ttyUSB0
    """
    loaded = load_config(config) if config else None
    section = line_at(line) if is_address(line) else _line(loaded, line)
    if last < first:
        raise UsageError(f"units {first}..{last} are none")
    section = traced(section, trace)
    found = asyncio.run(
        _scan(section, range(first, last + 1), timeout, clock_of(loaded) if loaded else SystemClock())
    )
    show(found, as_json=as_json, empty=f"nobody answers on {section.name}")
    if not found:
        raise typer.Exit(Exit.PEER)


def _line(config: Config | None, name: str) -> LineSection:
    if config is None:
        raise UsageError(f"`{name}` is a line's name: give the configuration with --config")
    found = next((item for item in config.lines if item.name == name), None)
    if found is None:
        raise UsageError(f"there is no line `{name}`." + nearest(name, (item.name for item in config.lines)))
    return found


async def _scan(section: LineSection, units: range, timeout: float, clock: Clock) -> list[dict[str, Any]]:
    if (dlms := await _dlms(section, clock)) is not None:
        return dlms
    line = make_line(section)
    try:
        return [{"protocol": "modbus", **asdict(u)} async for u in scan_modbus(line, units, timeout)]
    finally:
        await line.close()


HDLC_PHYSICAL = range(17, 33)
"""HDLC addresses asked on a bus: those that meters ship with (16 + number)."""


async def _dlms(section: LineSection, clock: Clock) -> list[dict[str, Any]] | None:
    """Ask for nameplates with the public client; None when nobody speaks DLMS here."""
    hdlc = section.kind == "serial"
    found: list[dict[str, Any]] = []
    for physical in HDLC_PHYSICAL if hdlc else (None,):
        framing = "hdlc" if hdlc else "wrapper-udp" if section.kind == "udp" else "wrapper"
        settings = DlmsSettings(client=16, physical=physical, framing=framing, timeout=0.3 if hdlc else 2.0)
        spec = MeterSpec(meter=None, dlms=settings)
        target = Target(
            line=section,
            spec=spec,
            secrets=FileSecrets(Path("keys")),
            counters=Path("keys/none"),
            clock=clock,
        )
        try:
            async with opened(target) as (session, _):
                plate = await session.identify()
        except LineError:
            if not hdlc:
                return None
        except ProtocolError:
            continue
        else:
            found.append({"protocol": "dlms", "physical": physical, **asdict(plate)})
        if hdlc and not found and physical == HDLC_PHYSICAL.start + 3:
            return None
    return found or None


def commission(
    meter: Annotated[str, typer.Argument(help="The job's meter, for example GEN:10000101.")],
    usage_point: UsagePoint,
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"),
    central: CentralOption = None,
    role: Annotated[str, typer.Option(help="consumer, check, feeder, transformer or stock.")] = "consumer",
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bind a meter to a usage point, with proof: serial read over the line, opening reading seen at central.

    Example: meter-gateway commission GEN:10000101 --usage-point UP-0101 --config edge.toml
    """
    if role not in list(Role):
        raise UsageError(f"there is no role `{role}`; roles: {', '.join(Role)}.{nearest(role, Role)}")
    loaded = traced_config(load_config(config), trace)

    async def work() -> dict[str, Any]:
        async with field_work(loaded, central_files(central or loaded.gateway.data)) as visit:
            plate, proof = await commission_meter(
                visit, meter=meter, usage_point=usage_point, role=Role(role), by=getpass.getuser()
            )
        return {"usage_point": usage_point, "nameplate": plate.meter_id, **asdict(proof)}

    show_one(asyncio.run(work()), as_json=as_json)
    if not as_json:
        console.print("commissioned: central holds the opening reading")


def replace(
    old: Annotated[str, typer.Argument(help="The meter that is taken away.")],
    new: Annotated[str, typer.Argument(help="The meter that is fitted.")],
    usage_point: UsagePoint,
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"),
    central: CentralOption = None,
    no_final: Annotated[
        MissingReason | None, typer.Option("--no-final", help="The old meter cannot be read, because …")
    ] = None,
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a meter: final reading of the old, opening reading of the new, both seen at central.

    Example: meter-gateway replace GEN:10000101 SEC:20000007 --usage-point UP-0101 --config edge.toml
    """
    loaded = traced_config(load_config(config), trace)

    async def work() -> dict[str, Any]:
        async with field_work(loaded, central_files(central or loaded.gateway.data)) as visit:
            final, plate, opening = await replace_meter(
                visit, old=old, new=new, usage_point=usage_point, by=getpass.getuser(), no_final=no_final
            )
        return {"final": asdict(final), "nameplate": plate.meter_id, "opening": asdict(opening)}

    result = asyncio.run(work())
    if as_json:
        print_json(result)
        return
    show([result["final"], result["opening"]], as_json=False, title=f"replaced at {usage_point}")
