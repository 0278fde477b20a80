"""Lines as the configuration describes them."""

from __future__ import annotations

from gateway.config import LineSection
from protocols.dial_in import DialInLine
from protocols.line import Line
from protocols.lines import SerialLine, TcpLine
from protocols.optical_line import OpticalLine
from protocols.udp_line import UdpLine


def make_line(section: LineSection) -> Line:
    """Make a line; nothing is opened before its first use."""
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
