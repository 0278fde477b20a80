"""Lines as the configuration describes them."""

from __future__ import annotations

from gateway.config.meters import LineSection
from gateway.roles.trace_log import TraceFile
from protocols.dlms.push.dial_in import DialInLine
from protocols.dlms.trace.mask import PasswordMask
from protocols.line import Line
from protocols.lines.optical import OpticalLine
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.lines.traced import TracedLine
from protocols.lines.udp import UdpLine


def make_line(section: LineSection) -> Line:
    """Make a line, traced where the section says so; nothing but the trace is opened before its first use."""
    line = _plain_line(section)
    if section.trace is None:
        return line
    sink = TraceFile(section.trace)
    return TracedLine(line, sink) if section.trace_plain else TracedLine(line, sink, mask=PasswordMask)


def _plain_line(section: LineSection) -> Line:
    if section.kind == "serial":
        assert section.device is not None
        if section.mode_e:
            return OpticalLine(
                section.name, section.device, baud=section.baud, address=section.mode_e_address
            )
        return SerialLine(
            section.name,
            section.device,
            baud=section.baud,
            parity=section.parity,
            stop_bits=section.stop_bits,
        )
    if section.kind == "dial-in":
        return DialInLine(section.name)
    assert section.host is not None
    assert section.port is not None
    if section.kind == "udp":
        return UdpLine(section.name, section.host, section.port)
    return TcpLine(section.name, section.host, section.port)
