"""Commands of the field engineer: read, scan, commission, replace."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.app import clock_of
from gateway.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    console,
    load_config,
    nearest,
    parse_time,
    print_json,
    show,
    show_one,
)
from gateway.cli.printed import as_document, print_rows
from gateway.cli.target import (
    AddressOptions,
    Target,
    by_address,
    by_name,
    is_address,
    line_at,
    opened,
)
from gateway.config import Config, LineSection
from gateway.errors import UsageError
from gateway.fieldwork import commission as commission_meter
from gateway.fieldwork import field_work
from gateway.fieldwork import replace as replace_meter
from gateway.lines import make_line
from gateway.role_central import central_files
from mapping.directory import Role
from protocols.errors import LineError, ProtocolError
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


def read(
    meter: Annotated[str, typer.Argument(help="A meter of the configuration, or an address.")],
    profile: Annotated[str, typer.Argument(help="instantaneous, block_load, daily, billing, …")],
    config: OptionalConfig = None,
    since: Annotated[str | None, typer.Option(help="Stored rows later than this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Stored rows up to this time.")] = None,
    client: Annotated[int, typer.Option(help="DLMS client address.")] = 16,
    auth: Annotated[str, typer.Option(help="none, lls, hls2 or hls-gmac.")] = "none",
    ciphered: Annotated[bool, typer.Option("--ciphered", help="Authenticated encryption (suite 0).")] = False,
    password_ref: Annotated[str | None, typer.Option(help="Name of the secret for LLS or HLS.")] = None,
    encryption_key_ref: Annotated[str | None, typer.Option(help="Name of the encryption key.")] = None,
    authentication_key_ref: Annotated[
        str | None, typer.Option(help="Name of the authentication key.")
    ] = None,
    physical: Annotated[int | None, typer.Option(help="HDLC address on a bus.")] = None,
    unit: Annotated[int | None, typer.Option(min=1, max=247, help="Modbus unit id.")] = None,
    model: Annotated[str | None, typer.Option(help="Modbus meter model.")] = None,
    secrets: Annotated[Path, typer.Option(help="Folder of secrets for an address.")] = Path("keys"),
    as_json: JsonOption = False,
) -> None:
    """Read one profile of one meter and print it; nothing is stored or delivered.

    ADDRESS is tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0, or
    optical:///dev/ttyUSB0 for a probe on a meter that wants the mode E opening.

    Example: meter-gateway read tcp://127.0.0.1:502 instantaneous --unit 1 --model abb-b23
    """
    if profile not in list(ProfileName):
        raise UsageError(
            f"there is no profile `{profile}`; profiles: {', '.join(ProfileName)}.{nearest(profile, ProfileName)}"
        )
    clock = None
    if is_address(meter):
        options = AddressOptions(
            client=client,
            auth=auth,
            ciphered=ciphered,
            password_ref=password_ref,
            encryption_key_ref=encryption_key_ref,
            authentication_key_ref=authentication_key_ref,
            unit=unit,
            model=model,
            physical=physical,
            secrets=secrets,
        )
        target = by_address(meter, options)
    else:
        if config is None:
            raise UsageError(f"`{meter}` is a meter's name: give the configuration with --config")
        loaded = load_config(config)
        target, clock = by_name(loaded, meter), clock_of(loaded)
    rows = asyncio.run(
        _read(
            target,
            ProfileName(profile),
            parse_time(since, option="--since"),
            parse_time(until, option="--until"),
            clock,
        )
    )
    if as_json:
        print_json([as_document(row) for row in rows])
    else:
        print_rows(rows)


async def _read(
    target: Target, profile: ProfileName, since: Any, until: Any, clock: Clock | None
) -> list[ReadingSet]:
    async with opened(target, clock) as (session, _):
        rows: AsyncIterator[ReadingSet] = session.read(profile, since, until)
        return [row async for row in rows]


def scan(
    line: Annotated[str, typer.Argument(help="A line of the configuration, or an address.")],
    config: OptionalConfig = None,
    first: Annotated[int, typer.Option(min=1, max=247, help="First Modbus unit to ask.")] = 1,
    last: Annotated[int, typer.Option(min=1, max=247, help="Last Modbus unit to ask.")] = 247,
    timeout: Annotated[float, typer.Option(min=0.02, max=10, help="Wait for each unit, in seconds.")] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Find who answers on a line: Modbus units with model and serial, or a DLMS meter's nameplate.

    Example: meter-gateway scan serial:///dev/ttyUSB0
    """
    loaded = load_config(config) if config else None
    section = line_at(line) if is_address(line) else _line(loaded, line)
    if last < first:
        raise UsageError(f"units {first}..{last} are none")
    found = asyncio.run(_scan(section, range(first, last + 1), timeout, clock_of(loaded) if loaded else None))
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


async def _scan(
    section: LineSection, units: range, timeout: float, clock: Clock | None
) -> list[dict[str, Any]]:
    if (dlms := await _dlms(section, clock)) is not None:
        return dlms
    line = make_line(section)
    try:
        return [{"protocol": "modbus", **asdict(u)} async for u in scan_modbus(line, units, timeout)]
    finally:
        await line.close()


HDLC_PHYSICAL = range(17, 33)
"""HDLC addresses asked on a bus: those that meters ship with (16 + number)."""


async def _dlms(section: LineSection, clock: Clock | None) -> list[dict[str, Any]] | None:
    """Ask for nameplates with the public client; None when nobody speaks DLMS here."""
    hdlc = section.kind == "serial"
    found: list[dict[str, Any]] = []
    for physical in HDLC_PHYSICAL if hdlc else (None,):
        framing = "hdlc" if hdlc else "wrapper"
        settings = DlmsSettings(client=16, physical=physical, framing=framing, timeout=0.6 if hdlc else 2.0)
        spec = MeterSpec(meter=None, dlms=settings)
        target = Target(line=section, spec=spec, secrets=Path("keys"), counters=Path("keys/none"))
        try:
            async with opened(target, clock) as (session, _):
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
    as_json: JsonOption = False,
) -> None:
    """Bind a meter to a usage point, with proof: serial read over the line, opening reading seen at central.

    Example: meter-gateway commission GEN:10000101 --usage-point UP-0101 --config edge.toml
    """
    if role not in list(Role):
        raise UsageError(f"there is no role `{role}`; roles: {', '.join(Role)}.{nearest(role, Role)}")
    loaded = load_config(config)

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
    as_json: JsonOption = False,
) -> None:
    """Replace a meter: final reading of the old, opening reading of the new, both seen at central.

    Example: meter-gateway replace GEN:10000101 SEC:20000007 --usage-point UP-0101 --config edge.toml
    """
    loaded = load_config(config)

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
