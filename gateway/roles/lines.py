"""Lines as the configuration describes them."""

from __future__ import annotations

from dataclasses import fields

from gateway.config.meters import LineSection
from gateway.roles.trace_log import TraceFile
from protocols.dlms.push.dial_in import DialInLine
from protocols.dlms.trace.mask import ConversationMask
from protocols.line import Line
from protocols.lines.traced import TracedLine
from protocols.meters import lines

_SETTINGS = {field.name for field in fields(lines.LineSettings)}


def make_line(section: LineSection) -> Line:
    """Make a line, traced where the section says so; nothing but the trace is opened before its first use."""
    if section.kind == "dial-in":
        return DialInLine(section.name)
    return traced(lines.make_line(section.name, settings_of(section)), section)


def traced(line: Line, section: LineSection) -> Line:
    """Return the line, traced where the section says so; the trace is opened."""
    if section.trace is None:
        return line
    sink = TraceFile(section.trace)
    return TracedLine(line, sink) if section.trace_plain else TracedLine(line, sink, mask=ConversationMask)


def settings_of(section: LineSection) -> lines.LineSettings:
    """Return where a line leads that we open ourselves."""
    return lines.LineSettings(**section.model_dump(include=_SETTINGS, exclude_none=True))
