"""As whom a program beside a running edge meets a meter: with title and counters of its own, or not at all.

Two programs with one key and one system title would repeat each other's invocation counters, which breaks the
cipher, and each would make the other's next request stale. Two that talk on one bus disturb each other's frames.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.config.dlms import NO_TITLE
from gateway.config.file import Config
from gateway.config.meters import LineSection, MeterSection
from gateway.errors import UsageError
from protocols.meters.counters import in_use
from protocols.session import MeterSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBesideEdge:
    """How one program meets one meter; `counters` is the file of its invocation counters."""

    spec: MeterSpec
    counters: Path


def client_beside_edge(config: Config, meter: MeterSection, program: str) -> ClientBesideEdge:
    """Return as whom `program` (`cli`, `field` …) meets a meter of the configuration.

    It has a client title of its own, `GATEWAY/PROGRAM`, and counters under it. Where the configuration gives the
    meter a title, all programs share that, and so the edge's counters: then one at a time may use it. UsageError
    says why the meter cannot be met while the edge runs.
    """
    refuse_held_bus(config, next(line for line in config.lines if line.name == meter.line))
    counters = counters_of(config, meter, program)
    if counters == edge_counters(config) and in_use(counters):
        raise UsageError(
            f"[meters.dlms] of {meter.meter} gives a `system_title`, so that this command would use up the"
            " invocation counters of the edge, which runs: take it out, and each program has a title of its"
            " own, or stop the edge first"
        )
    return ClientBesideEdge(spec=config.spec(meter, f"{config.gateway.name}/{program}"), counters=counters)


def counters_of(config: Config, meter: MeterSection, program: str) -> Path:
    """Return the file of a program's invocation counters with a meter: the edge's, where both have one title."""
    shared = meter.dlms is not None and meter.dlms.system_title != NO_TITLE
    return edge_counters(config) if shared else config.gateway.data / f"counters-{program}.json"


def refuse_held_bus(config: Config, line: LineSection) -> None:
    """Raise UsageError where the edge runs and talks on the bus that a line leads to."""
    known = next((one for one in config.lines if _same_place(one, line)), None)
    if known is None or not in_use(edge_counters(config)):
        return
    meters = [meter for meter in config.meters if meter.line == known.name]
    if known.kind in ("serial", "rtu-over-tcp") or any(map(_on_a_bus, meters)):
        raise UsageError(
            f"the edge runs and talks on line {known.name}, a bus with one talker at a time: stop the edge first"
        )


def edge_counters(config: Config) -> Path:
    """Return the file of the edge's invocation counters; it is locked while the edge runs."""
    return config.edge_folder / "counters.json"


def _same_place(one: LineSection, other: LineSection) -> bool:
    """Compare where two lines lead; a port may be named by any of the links that the system makes to it."""
    if one.kind == "serial" or other.kind == "serial":
        if one.device is None or other.device is None:
            return False
        return os.path.realpath(one.device) == os.path.realpath(other.device)
    if one.host is None or other.host is None:
        return False
    return (_host(one.host), one.port) == (_host(other.host), other.port)


def _host(name: str) -> str:
    return "127.0.0.1" if name.lower() == "localhost" else name.lower()


def _on_a_bus(meter: MeterSection) -> bool:
    """Say whether frames of others pass on the way to a meter: HDLC or RTU behind a converter."""
    dlms, modbus = meter.dlms, meter.modbus
    return (dlms is not None and dlms.framing == "hdlc") or (modbus is not None and modbus.framing == "rtu")
