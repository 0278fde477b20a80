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
    """One meter: what it holds, and the answer to a request's PDU.

    `server_id` is what function 17 gives, `objects` those of 43/14, `records` the words of files by file and record;
    of `cells` only those of `writable` addresses are taken by functions 5, 6 and 16, into functions 1 and 3.
    """

    unit: int
    cells: Cells = field(default_factory=dict)
    server_id: bytes = b""
    objects: dict[int, bytes] = field(default_factory=dict)
    records: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    writable: frozenset[int] = frozenset()
    written: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)

    def pdu(self, request: bytes) -> bytes:
        """Return the PDU of the answer; exception 1 or 2 for what the meter has not."""
        match request[0]:
            case 1 | 2:
                return self._bits(request)
            case 5 | 6 | 16:
                return self._write(request)
            case 17 if self.server_id:
                return bytes((17, len(self.server_id))) + self.server_id
            case 20 if self.records:
                return self._record(request)
            case 43 if self.objects:
                return self._object(request)
            case 3 | 4:
                return self._registers(request)
        return bytes((request[0] | 0x80, 1))

    def _bits(self, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request[:5])
        bits = [self.cells.get((function, a)) for a in range(address, address + count)]
        if None in bits:
            return bytes((function | 0x80, 2))
        packed = sum((bit or 0) << i for i, bit in enumerate(bits))
        size = -(-count // 8)
        return bytes((function, size)) + packed.to_bytes(size, "little")

    def _write(self, request: bytes) -> bytes:
        function, address, word = struct.unpack(">BHH", request[:5])
        words: tuple[int, ...] = (word,)
        if function == 16:
            words = struct.unpack(f">{word}H", request[6 : 6 + 2 * word])
        if not set(range(address, address + len(words))) <= self.writable:
            return bytes((function | 0x80, 2))
        self.written.append((function, address, words))
        for i, one in enumerate(words):
            self.cells[1 if function == 5 else 3, address + i] = one == 0xFF00 if function == 5 else one
        return request[:5]

    def _record(self, request: bytes) -> bytes:
        _, _, _, file, record, count = struct.unpack(">BBBHHH", request[:9])
        words = self.records.get((file, record))
        if words is None or len(words) < count:
            return bytes((20 | 0x80, 2))
        data = struct.pack(f">{count}H", *words[:count])
        return bytes((20, 2 + len(data), 1 + len(data), 6)) + data

    def _object(self, request: bytes) -> bytes:
        text = self.objects.get(request[3])
        if text is None:
            return bytes((43 | 0x80, 2))
        return bytes((43, 14, 4, 0x83, 0, 0, 1, request[3], len(text))) + text

    def _registers(self, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request[:5])
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
