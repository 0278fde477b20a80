"""Lines by settings: which kind of line it is and where it leads."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.line import Line
from protocols.lines.optical import OpticalLine
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.lines.udp import UdpLine


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """Where a line leads.

    `kind` is `tcp`, `rtu-over-tcp` or `udp`, which need `host` and `port`, or `serial`, which needs `device`.
    `baud`, `parity` (N, E, O), `stop_bits`, `data_bits` (8, or 7 for ASCII) and `rs485` (the UART's own RS-485 mode)
    count for serial lines only. `mode_e` opens an optical probe with the IEC 62056-21 hand-shake, `baud` being the
    fastest speed wanted and `mode_e_address` the meter's address in it ("" = any meter). `host_connections` bounds the
    TCP connections to `host`, over all lines to it (0: unbounded).
    """

    kind: str
    host: str = ""
    port: int = 0
    device: str = ""
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    data_bits: int = 8
    host_connections: int = 0
    rs485: bool = False
    mode_e: bool = False
    mode_e_address: str = ""


def make_line(name: str, settings: LineSettings) -> Line:
    """Return a line with this name; nothing is opened before its first use.

    Raises MeterConfigError for serial settings that no port has.
    """
    if settings.kind == "udp":
        return UdpLine(name, settings.host, settings.port)
    if settings.kind != "serial":
        return TcpLine(name, settings.host, settings.port, host_connections=settings.host_connections)
    if settings.mode_e:
        return OpticalLine(name, settings.device, baud=settings.baud, address=settings.mode_e_address)
    return SerialLine(
        name,
        settings.device,
        baud=settings.baud,
        parity=settings.parity,
        stop_bits=settings.stop_bits,
        data_bits=settings.data_bits,
        rs485=settings.rs485,
    )
