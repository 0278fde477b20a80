"""The command `scan`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.access import MeterAccess, open_meter
from gateway.cli.meter.lines import is_address, line_at, with_trace
from gateway.cli.options import JsonOption, TraceOption, nearest, purpose
from gateway.cli.output import print_problem, print_table
from gateway.config import file as configuration
from gateway.config.meters import LineSection
from gateway.errors import UsageError
from gateway.roles.reach import Way, as_configured, way_to
from protocols.clock import SystemClock
from protocols.dlms.client.association_opener import PUBLIC_CLIENT
from protocols.errors import LineError, ProtocolError
from protocols.meters.secrets import FileSecrets
from protocols.modbus.scan import scan_modbus
from protocols.session import Clock, DlmsSettings, MeterSpec

HDLC_PHYSICAL = range(17, 33)
"""HDLC addresses asked on a bus: those that meters ship with (16 + number)."""
HDLC_GIVE_UP = 20
"""Where no meter was found up to this address, and nothing comes from it, the bus counts as one without DLMS."""

OptionalConfig = Annotated[Path | None, typer.Option("--config", "-c", help="The gateway's TOML file.")]


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
    loaded = configuration.load(config) if config else None
    section = line_at(line) if is_address(line) else _named_line(loaded, line)
    if loaded is not None:
        section = as_configured(loaded, section, {})
    if last < first:
        raise UsageError(f"units {first}..{last} are none")
    way = with_trace(way_to(loaded, section) if loaded is not None else Way(section=section), trace)
    found = asyncio.run(
        _scan(way, range(first, last + 1), timeout, loaded.clock() if loaded else SystemClock())
    )
    print_table(found, as_json=as_json, empty=f"nobody answers on {section.name}")
    if not found:
        raise typer.Exit(Exit.PEER)


def _named_line(config: configuration.Config | None, name: str) -> LineSection:
    if config is None:
        raise UsageError(f"`{name}` is a line's name: give the configuration with --config")
    found = next((item for item in config.lines if item.name == name), None)
    if found is None:
        raise UsageError(f"there is no line `{name}`." + nearest(name, (item.name for item in config.lines)))
    return found


async def _scan(way: Way, units: range, timeout: float, clock: Clock) -> list[dict[str, Any]]:
    """Return who answers: DLMS meters, which a few questions find, or else Modbus units."""
    if found := await _scan_dlms(way, clock):
        return found
    line = way.line(purpose(None), tell=print_problem)
    framing = "rtu" if way.section.kind == "serial" else None
    try:
        return [
            {"protocol": "modbus", **asdict(u)}
            async for u in scan_modbus(line, units, timeout, framing=framing)
        ]
    finally:
        await line.close()


async def _scan_dlms(way: Way, clock: Clock) -> list[dict[str, Any]]:
    """Return the nameplates that the public client reads: of one meter, or of all on a serial bus."""
    section = way.section
    hdlc = section.kind == "serial"
    framing = "hdlc" if hdlc else "wrapper-udp" if section.kind == "udp" else "wrapper"
    found: list[dict[str, Any]] = []
    for physical in HDLC_PHYSICAL if hdlc else (None,):
        settings = DlmsSettings(
            client=PUBLIC_CLIENT, physical=physical, framing=framing, timeout=0.3 if hdlc else 2.0
        )
        access = MeterAccess(
            way=way,
            spec=MeterSpec(meter=None, dlms=settings),
            secrets=FileSecrets(Path("keys")),  # the public client asks for none, and counts nothing
            counters=Path("keys/none"),
            clock=clock,
        )
        try:
            async with open_meter(access) as session:
                plate = await session.identify()
            found.append({"protocol": "dlms", "physical": physical, **asdict(plate)})
        except LineError:  # nothing came: on a bus there may be a meter at another address
            if not found and physical == HDLC_GIVE_UP:
                break
        except ProtocolError:  # something came that is no nameplate: somebody speaks DLMS here
            continue
    return found
