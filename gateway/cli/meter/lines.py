"""Addresses of lines as people type them, and lines that write a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError

from gateway.cli.options import nearest
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.errors import UsageError
from gateway.roles.reach import Way, as_configured, way_to
from gateway.roles.trace_log import new_trace
from protocols.errors import MeterConfigError
from protocols.meters.address import parse_line

UNNAMED = "address"
"""The name of a line that no configuration names."""
SERIAL_SETTINGS = ("baud", "parity", "stop_bits")
"""Settings of a serial line that an address may have."""


def is_address(text: str) -> bool:
    """Return whether the text is meant as an address."""
    return "://" in text


def chosen_line(line: str, config: Path | None, trace: Path | None) -> Way:
    """Return the way to a line that a command names by an address or by its name in the configuration.

    UsageError for a name without configuration, and for one that is not in it.
    """
    loaded = configuration.load(config) if config else None
    section = line_at(line) if is_address(line) else _named_line(loaded, line)
    if loaded is not None and is_address(line):
        section = as_configured(loaded, section, {name: getattr(section, name) for name in _query(line)})
    way = way_to(loaded, section) if loaded is not None else Way(section=section)
    return with_trace(way, trace)


def _named_line(config: Config | None, name: str) -> LineSection:
    if config is None:
        raise UsageError(f"`{name}` is a line's name: give the configuration with --config")
    found = next((item for item in config.lines if item.name == name), None)
    if found is None:
        raise UsageError(f"there is no line `{name}`." + nearest(name, (item.name for item in config.lines)))
    return found


def line_at(address: str, given: Mapping[str, Any] = MappingProxyType({})) -> LineSection:
    """Return the line at an address; UsageError says which addresses there are.

    `tcp://HOST[:4059]`, `udp://HOST[:4059]`, `rtu+tcp://HOST[:502]`, `serial:///DEVICE`, and
    `optical:///DEVICE` for a probe on a meter that wants the mode E opening. `given` are settings of a serial line,
    which may also stand behind the address (`?baud=9600&parity=E`).
    """
    try:
        line = parse_line(
            address, otherwise="is neither a meter of the configuration (give --config) nor an address"
        )
    except MeterConfigError as error:
        raise UsageError(str(error)) from error
    asked = _query(address)
    if both := sorted(asked.keys() & given.keys()):
        raise UsageError(
            f"{address} and --{both[0].replace('_', '-')} both say the {both[0].replace('_', ' ')}"
        )
    given = {**asked, **given}
    fields = {name: value for name, value in asdict(line).items() if value}
    if given and line.kind != "serial":
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} is for a serial line; {address} is none")
    try:
        return LineSection.model_validate({"name": UNNAMED, **fields, **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "-".join(map(str, first["loc"])).replace("_", "-")
        raise UsageError(f"--{option} = `{first['input']}`: {first['msg']}") from error


def _query(address: str) -> dict[str, str]:
    """Return the settings behind the `?` of an address; UsageError for what is no setting of a line."""
    pairs = parse_qsl(urlsplit(address).query, keep_blank_values=True)
    found = dict(pairs)
    for name in found:
        if name not in SERIAL_SETTINGS:
            hint = (
                nearest(name, SERIAL_SETTINGS)
                or " The settings of a meter are options, for example --client 48."
            )
            raise UsageError(
                f"`?{name}=` is no setting of a line; there are {', '.join(SERIAL_SETTINGS)}.{hint}"
            )
    if len(found) < len(pairs):
        raise UsageError(f"{address} gives a setting twice")
    return found


def with_trace(way: Way, trace: Path | None, *, plain: bool = False) -> Way:
    """Return the way with a trace, which begins anew; without one it stays as the configuration has it.

    `plain` writes passwords into the trace too.
    """
    if trace is None:
        return way
    new_trace(trace)
    section = way.section.model_copy(update={"trace": trace, "trace_plain": plain})
    return replace(way, section=section)


def with_traces(config: Config, trace: Path | None) -> Config:
    """Return the configuration with one trace, which begins anew, on all its lines."""
    if trace is None:
        return config
    new_trace(trace)
    lines = tuple(line.model_copy(update={"trace": trace}) for line in config.lines)
    return config.model_copy(update={"lines": lines})
