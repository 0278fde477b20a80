"""Addresses of lines as people type them, and lines that write a trace."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.errors import UsageError
from gateway.roles.trace_log import new_trace


def is_address(text: str) -> bool:
    """Say whether the text is meant as an address."""
    return "://" in text


def line_at(address: str) -> LineSection:
    """Return the line at an address; UsageError says which addresses there are.

    `tcp://HOST[:4059]`, `udp://HOST[:4059]`, `rtu+tcp://HOST[:502]`, `serial:///DEVICE`, and
    `optical:///DEVICE` for a probe on a meter that wants the mode E opening.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"`{address}`: {error}") from error
    match parts.scheme:
        case "tcp" | "udp" if parts.hostname:
            fields = {"kind": parts.scheme, "host": parts.hostname, "port": port or 4059}
        case "rtu+tcp" if parts.hostname:
            fields = {"kind": "rtu-over-tcp", "host": parts.hostname, "port": port or 502}
        case "serial" | "optical" if parts.path:
            fields = {"kind": "serial", "device": parts.path, "mode_e": parts.scheme == "optical"}
        case _:
            raise UsageError(
                f"`{address}` is neither a meter of the configuration (give --config) nor an address: "
                "write tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0 or "
                "optical:///dev/ttyUSB0 (mode E)"
            )
    return LineSection.model_validate({"name": "address", **fields})


def with_trace(line: LineSection, trace: Path | None, *, plain: bool = False) -> LineSection:
    """Return the line with a trace, which begins anew; without one it stays as the configuration has it.

    `plain` writes passwords into the trace too.
    """
    if trace is None:
        return line
    new_trace(trace)
    return line.model_copy(update={"trace": trace, "trace_plain": plain})


def with_traces(config: Config, trace: Path | None) -> Config:
    """Return the configuration with one trace, which begins anew, on all its lines."""
    if trace is None:
        return config
    new_trace(trace)
    lines = tuple(line.model_copy(update={"trace": trace}) for line in config.lines)
    return config.model_copy(update={"lines": lines})
