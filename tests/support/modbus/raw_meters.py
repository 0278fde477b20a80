"""Meters in raw octets: registers in, answers out, framed for RTU, TCP or ASCII, with no server's help."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocols.simulator.modbus.frames import crc16
from tests.support.modbus.far_side import Act, Heard

Cells = dict[tuple[int, int], int]
"""Words by function and address."""

SDM120_FLOATS = {
    0x0000: 231.4,
    0x0006: 4.32,
    0x000C: 980.0,
    0x0012: 1000.0,
    0x001E: 0.98,
    0x0046: 49.97,
    0x0048: 1234.5,
    0x004A: 1.25,
    0x0054: 910.0,
    0x0056: 3200.0,
}
"""What an SDM120 shows on function 4, in its own units (kWh for energies)."""


def floats(values: Mapping[int, float], function: int = 4) -> Cells:
    """Words of 32-bit floats, high word first."""
    words = {a: struct.unpack(">HH", struct.pack(">f", v)) for a, v in values.items()}
    return {(function, a + i): w for a, pair in words.items() for i, w in enumerate(pair)}


def sdm120(serial: int, values: Mapping[int, float] | None = None) -> Cells:
    """An SDM120: all input registers up to 0x15B answer, its serial is at 0xFC00 of function 3."""
    own: Cells = {(4, a): 0 for a in range(0x15C)}
    own |= floats(SDM120_FLOATS) | floats(values or {})
    own |= {(3, 0xFC00): serial >> 16, (3, 0xFC01): serial & 0xFFFF}
    return own


@dataclass
class RawMeter:
    """One meter: what it holds, and the answer to a request's PDU."""

    unit: int
    cells: Cells = field(default_factory=dict)

    def pdu(self, request: bytes) -> bytes:
        """Return the PDU of the answer; exception 1 or 2 for what the meter has not."""
        function, address, count = request[0], *struct.unpack(">HH", request[1:5])
        if function not in (3, 4):
            return bytes((function | 0x80, 1))
        words = [self.cells.get((function, a)) for a in range(address, address + count)]
        if None in words:
            return bytes((function | 0x80, 2))
        return bytes((function, 2 * count)) + b"".join(w.to_bytes(2, "big") for w in words if w is not None)


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc16(frame).to_bytes(2, "little")


def tcp_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction, 0, 1 + len(pdu), unit) + pdu


def ascii_frame(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return b":" + (body + bytes((-sum(body) & 0xFF,))).hex().upper().encode() + b"\r\n"


class RawMeters:
    """Several meters on one line: a `Far` that answers at once; wrap it to spoil that.

    `answer` gives the framed answer to what was heard, None where no meter of that unit is there; `unit_of`,
    `pdu_of` and `transaction_of` take a request apart.
    """

    def __init__(self, meters: Iterable[RawMeter], framing: str = "rtu") -> None:
        self.meters = {meter.unit: meter for meter in meters}
        self.framing = framing

    def __call__(self, heard: Heard) -> list[Act]:
        answer = self.answer(heard.octets)
        return [] if answer is None else [(0.0, answer)]

    def unit_of(self, request: bytes) -> int:
        return self._body(request)[0]

    def pdu_of(self, request: bytes) -> bytes:
        return self._body(request)[1:]

    def transaction_of(self, request: bytes) -> int:
        return int.from_bytes(request[:2], "big")

    def frame(self, request: bytes, unit: int, pdu: bytes) -> bytes:
        """Frame a PDU as the answer to a request."""
        if self.framing == "tcp":
            return tcp_frame(self.transaction_of(request), unit, pdu)
        return (ascii_frame if self.framing == "ascii" else rtu_frame)(unit, pdu)

    def answer(self, request: bytes) -> bytes | None:
        unit = self.unit_of(request)
        meter = self.meters.get(unit)
        return None if meter is None else self.frame(request, unit, meter.pdu(self.pdu_of(request)))

    def _body(self, request: bytes) -> bytes:
        """Unit and PDU of a request."""
        if self.framing == "tcp":
            return request[6:]
        return bytes.fromhex(request[1:-4].decode()) if self.framing == "ascii" else request[:-2]


def two_sdm120(framing: str = "rtu") -> RawMeters:
    """The pair of the cases: SDM120 shapes at units 5 and 6, with different values."""
    second = {a: v + 1 for a, v in SDM120_FLOATS.items()}
    return RawMeters([RawMeter(5, sdm120(10_000_005)), RawMeter(6, sdm120(10_000_006, second))], framing)
