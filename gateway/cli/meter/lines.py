"""Addresses of lines as people type them, and lines that write a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.errors import UsageError
from gateway.roles.reach import Way
from gateway.roles.trace_log import new_trace
from protocols.errors import MeterConfigError
from protocols.meters.address import parse_line


def is_address(text: str) -> bool:
    """Return whether the text is meant as an address."""
    return "://" in text


def line_at(address: str, given: Mapping[str, Any] = MappingProxyType({})) -> LineSection:
    """Return the line at an address; UsageError says which addresses there are.

    `tcp://HOST[:4059]`, `udp://HOST[:4059]`, `rtu+tcp://HOST[:502]`, `serial:///DEVICE`, and
    `optical:///DEVICE` for a probe on a meter that wants the mode E opening. `given` are settings of a serial line.
    """
    try:
        line = parse_line(
            address, otherwise="is neither a meter of the configuration (give --config) nor an address"
        )
    except MeterConfigError as error:
        raise UsageError(str(error)) from error
    fields = {name: value for name, value in asdict(line).items() if value}
    if given and line.kind != "serial":
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} is for a serial line; {address} is none")
    try:
        return LineSection.model_validate({"name": "address", **fields, **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "-".join(map(str, first["loc"])).replace("_", "-")
        raise UsageError(f"--{option} = `{first['input']}`: {first['msg']}") from error


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
