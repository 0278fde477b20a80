"""Modbus frames as simulated meters see them: requests taken out of what came, answers put into frames.

Framing is written out here, apart from the driver's, so that a fault of one shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_REQUEST = 8
_MBAP_HEADER = 8
_NOISE = 512
"""Octets of noise after which the older half of them is forgotten."""


class NotModbus(Exception):
    """The stream is not Modbus: hang up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its whole frame, the unit and PDU in it; `transaction` of Modbus TCP, None on a bus."""

    octets: bytes
    unit: int
    pdu: bytes
    transaction: int | None = None

    def frame(self, unit: int, pdu: bytes, transaction: int | None = None) -> bytes:
        """Return the octets of a frame in this request's framing; its transaction where none is given."""
        if self.transaction is None:
            body = bytes((unit,)) + pdu
            return body + crc16(body).to_bytes(2, "little")
        number = self.transaction if transaction is None else transaction
        head = number.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big")
        return head + bytes((unit,)) + pdu


def take_mbap(buffer: bytearray) -> Iterator[Asked]:
    """Take the whole requests of Modbus TCP out of a buffer; NotModbus where it holds something else."""
    while len(buffer) >= _MBAP_HEADER:
        length = int.from_bytes(buffer[4:6], "big")
        if buffer[2:4] != b"\0\0" or not 2 <= length <= 254:
            raise NotModbus
        if len(buffer) < 6 + length:
            return
        frame = bytes(buffer[: 6 + length])
        del buffer[: 6 + length]
        yield Asked(frame, frame[6], frame[7:], int.from_bytes(frame[:2], "big"))


def take_rtu(buffer: bytearray) -> Iterator[Asked]:
    """Take the first sound request out of a buffer; octets before it are noise, so is one with a bad check sum."""
    for start in range(len(buffer)):  # noise before a request has no length: every octet may be its beginning
        size = _rtu_size(buffer[start:])
        frame = bytes(buffer[start : start + size])
        if len(frame) == size and crc16(frame) == 0:
            del buffer[: start + size]
            yield Asked(frame, frame[0], frame[1:-2])
            return
    if len(buffer) > _NOISE:  # noise without end: the last octets may still be the beginning of a request
        del buffer[: -_NOISE // 2]


def _rtu_size(head: bytearray) -> int:
    """Return the length of a request: writes of many say theirs, all others that meters know have 8 octets."""
    if len(head) > 6 and head[1] in (15, 16):
        return 9 + head[6]
    return _REQUEST


def crc16(octets: bytes) -> int:
    """Modbus CRC-16 (low octet first on the wire); over a sound frame with its CRC it is 0."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
