"""How a program on the edge's box comes to a line: by itself, or by turns that the running edge gives it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gateway.config.file import Config
from gateway.config.meters import LineSection, MeterSection
from gateway.edge.field.edge_line import DialInEdgeLine, EdgeLine
from gateway.edge.field.messages import Wire
from gateway.edge.field.socket_file import SocketState, socket_state
from gateway.errors import UsageError
from gateway.roles.lines import make_line, traced
from protocols.line import Line
from protocols.meters.counters import in_use

Tell = Callable[[str], None]
"""Takes the words why a program waits for its turn."""
WIRE = tuple(Wire.model_fields)
"""What a command may set otherwise for its turn on a serial line."""
log = structlog.get_logger("gateway.roles")


def _log_wait(text: str) -> None:
    log.info("waits_for_a_turn", why=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The way to one line: `section` as the program wants it; through `socket`, where an edge has it as `of_edge`."""

    section: LineSection
    socket: Path | None = None
    of_edge: LineSection | None = None

    def line(
        self, purpose: str, *, meter: str | None = None, tell: Tell = _log_wait, changes: bool = False
    ) -> Line:
        """Make the line; nothing is opened before its first use.

        `purpose` is told to who looks at the edge, `meter` is the one that is meant, if one; `changes` says that
        something in a meter is changed, which the edge records.
        """
        if self.socket is None or self.of_edge is None:
            return make_line(self.section)
        kind = DialInEdgeLine if self.of_edge.kind == "dial-in" else EdgeLine
        line = kind(
            self.of_edge.name,
            self.socket,
            place=place_of(self.of_edge),
            purpose=purpose,
            on_wait=tell,
            meter=meter,
            changes=changes,
            wire=self._wire(self.of_edge),
            redials=self.of_edge.kind != "serial",
        )
        # What the configuration says of a trace is the edge's, which writes it: another file is the program's own.
        own = self.section.trace != self.of_edge.trace
        return traced(line, self.section) if own else line

    def _wire(self, of_edge: LineSection) -> Wire | None:
        if self.section.kind != "serial":
            return None
        other = {n: getattr(self.section, n) for n in WIRE if getattr(self.section, n) != getattr(of_edge, n)}
        return Wire.model_validate(other) if other else None


def as_configured(config: Config, line: LineSection, given: Mapping[str, Any]) -> LineSection:
    """Return the configuration's line to where a line leads, but for what was `given`; else the line itself."""
    known = next((one for one in config.lines if place_of(one) == place_of(line)), None)
    if known is None:
        return line
    return known.model_copy(update={**given, "mode_e": line.mode_e or known.mode_e})


def way_to(config: Config, line: LineSection) -> Way:
    """Return the way to where a line leads; UsageError where a running edge has that bus and gives it to nobody.

    A line of the configuration goes through the edge that polls it, which gives turns. Where the edge does not
    run it is opened here. A meter on IP is met here, too, where the edge's socket is not for us.
    """
    known = next((one for one in config.lines if place_of(one) == place_of(line)), None)
    if known is None or (line.kind == "dial-in" and line.name != known.name):
        return Way(section=line)
    state = socket_state(config.field_socket)
    if state is SocketState.SERVED:
        return Way(section=line, socket=config.field_socket, of_edge=known)
    runs = state is SocketState.FORBIDDEN or in_use(edge_counters(config))
    if runs and is_bus(config, known):
        talks = f"the edge runs and talks on line {known.name}, a bus with one talker at a time"
        if state is SocketState.FORBIDDEN:
            raise UsageError(
                f"{talks}, and its socket {config.field_socket} is not for you: be of the group that [field] `group`"
                " names, or root, or stop the edge first"
            )
        raise UsageError(f"{talks}, and serves nobody at {config.field_socket}: stop the edge first")
    return Way(section=line)


def edge_counters(config: Config) -> Path:
    """Return the file of the edge's invocation counters; it is locked while the edge runs."""
    return config.edge_folder / "counters.json"


def place_of(line: LineSection) -> str:
    """Return where a line leads, in words that are the same for each name of the place."""
    if line.kind == "serial":
        # a port may be named by any of the links that the system makes to it
        return os.path.realpath(line.device or "")
    if line.kind == "dial-in":
        return f"whoever dials in as {line.name}"
    host = (line.host or "").lower()
    return f"{'127.0.0.1' if host == 'localhost' else host}:{line.port}"


def is_bus(config: Config, line: LineSection) -> bool:
    """Say whether frames of others pass on a line of the configuration: two talkers would disturb each other."""
    if line.kind in ("serial", "rtu-over-tcp"):
        return True
    return any(_on_a_bus(meter) for meter in config.meters if meter.line == line.name)


def _on_a_bus(meter: MeterSection) -> bool:
    """Say whether frames of others pass on the way to a meter: HDLC or RTU behind a converter."""
    dlms, modbus = meter.dlms, meter.modbus
    return (dlms is not None and dlms.framing == "hdlc") or (modbus is not None and modbus.framing == "rtu")
