"""Wired M-Bus frames (EN 13757-2) as DLMS meters push in them, sans-IO, with the segments of EN 13757-1.

A long frame is 68 L L 68, then L octets (control, address, CI, …), their sum modulo 256, and 16. With a CI field of
00 to 1F the DLMS transport layer follows: bit 4 says that it is the last segment, bits 0 to 3 count the segments;
then source and destination access point, and the segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.errors import LocalError, MeterProtocolError

START, STOP, SHORT, ACKNOWLEDGED = 0x68, 0x16, 0x10, 0xE5
SHORT_OCTETS = 5
AROUND = 6
"""Octets of a long frame beside those that its length counts."""
HEADER = 3
"""Control, address and CI, which the length counts."""
MAX_LENGTH = 255
DLMS_CI = range(0x20)
FINAL, SEQUENCE = 0x10, 0x0F
PORTS = 2
"""Octets of source and destination access point behind the CI field of the DLMS transport layer."""
MAX_SEGMENT = MAX_LENGTH - HEADER - PORTS - 5
"""Octets of a segment as Austrian meters send them: frames with a length of 250."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongFrame:
    """One frame. A short frame or single octet (a question, an acknowledgement) has no CI field: `ci` is -1."""

    control: int = 0
    address: int = 0
    ci: int = -1
    data: bytes = field(default=b"", repr=False)

    @property
    def segment(self) -> bytes | None:
        """The DLMS segment in it; None when it carries something else."""
        return self.data[PORTS:] if self.ci in DLMS_CI and len(self.data) > PORTS else None


class WrongChecksum(MeterProtocolError):
    """A frame whose sum is not what its octets add up to."""


def leading_frame(octets: bytes) -> tuple[LongFrame, int] | None:
    """Return the frame at the beginning and its octets; None while it is not whole, MeterProtocolError for none."""
    if not octets:
        return None
    if octets[0] == ACKNOWLEDGED:
        return LongFrame(), 1
    if octets[0] == SHORT:
        if len(octets) < SHORT_OCTETS:
            return None
        _check(octets[1:3], octets[3], octets[4])
        return LongFrame(control=octets[1], address=octets[2]), SHORT_OCTETS
    if octets[0] != START:
        raise MeterProtocolError(f"{octets[0]:#04x} begins no M-Bus frame")
    length = octets[1] if len(octets) > 1 else HEADER
    if length < HEADER or octets[:4] != bytes((START, length, length, START))[: len(octets)]:
        raise MeterProtocolError(_header_fault(octets))
    end = length + AROUND
    if len(octets) < end:
        return None
    body = octets[4 : end - 2]
    _check(body, octets[end - 2], octets[end - 1])
    return LongFrame(control=body[0], address=body[1], ci=body[2], data=body[HEADER:]), end


def _header_fault(octets: bytes) -> str:
    """Say what is wrong with the four octets, or fewer, that a long frame begins with."""
    if len(octets) > 2 and octets[1] != octets[2]:
        return f"an M-Bus frame with two lengths, {octets[1]} and {octets[2]}"
    if len(octets) > 3 and octets[3] != START:
        return "an M-Bus frame without its second start"
    return f"an M-Bus frame of {octets[1]} octets has no CI field"


def _check(summed: bytes, checksum: int, stop: int) -> None:
    expected = sum(summed) & 0xFF
    if checksum != expected:
        raise WrongChecksum(f"M-Bus checksum is {checksum:#04x}, {expected:#04x} is expected")
    if stop != STOP:
        raise MeterProtocolError("an M-Bus frame does not end where its length says")


class Segments:
    """Puts an APDU together from segments, at most `limit` octets; `lost` counts APDUs that were cut short."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._octets = bytearray()
        self._expected = 0
        self.lost = 0

    @property
    def pending(self) -> int:
        """Octets of an APDU whose last segment has not come."""
        return len(self._octets)

    def take(self, frame: LongFrame) -> bytes | None:
        """Return the APDU that a frame with a segment completes; MeterProtocolError when it is too long."""
        segment = frame.segment
        if segment is None:
            return None
        number = frame.ci & SEQUENCE
        if number != self._expected or (number == 0 and self._octets):
            self.lost += bool(self._octets) or number != 0
            self._octets.clear()
            self._expected = 0
            if number:
                return None
        if len(self._octets) + len(segment) > self._limit:
            self._octets.clear()
            self._expected = 0
            raise MeterProtocolError(f"an APDU of more than {self._limit} octets in M-Bus segments")
        self._octets += segment
        self._expected = number + 1 & SEQUENCE
        if not frame.ci & FINAL:
            return None
        whole = bytes(self._octets)
        self._octets.clear()
        self._expected = 0
        return whole


def encode(apdu: bytes, *, control: int = 0x53, address: int = 0xFF, ports: bytes = b"\x01\x67") -> bytes:
    """Return an APDU in M-Bus frames, in segments where it is long; LocalError when it needs too many octets."""
    if not apdu or len(ports) != PORTS:
        raise LocalError("an M-Bus frame carries an APDU between two access points")
    pieces = [apdu[i : i + MAX_SEGMENT] for i in range(0, len(apdu), MAX_SEGMENT)]
    frames = []
    for number, piece in enumerate(pieces):
        ci = number & SEQUENCE | (FINAL if number == len(pieces) - 1 else 0)
        body = bytes((control, address, ci)) + ports + piece
        frames.append(bytes((START, len(body), len(body), START)) + body + bytes((sum(body) & 0xFF, STOP)))
    return b"".join(frames)
