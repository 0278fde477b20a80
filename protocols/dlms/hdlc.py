"""HDLC frames, format type 3 (IEC 62056-46): addresses, control, check sequences; read by length field."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.axdr import Cursor
from protocols.errors import LocalError, MeterProtocolError

FLAG = 0x7E
FORMAT_TYPE = 0xA0
SEGMENTED = 0x08
MAX_FRAME = 0x7FF
"""The length field has 11 bits, which bounds the buffer: one frame and its flags."""
LLC_REQUEST = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"

SNRM, UA, DISC, DM, FRMR = 0x83, 0x63, 0x43, 0x0F, 0x87
UI = 0x03
RR, RNR, REJ = 0x01, 0x05, 0x09
POLL = 0x10

_CRC_TABLE = []
for _octet in range(256):
    _crc = _octet
    for _ in range(8):
        _crc = (_crc >> 1) ^ 0x8408 if _crc & 1 else _crc >> 1
    _CRC_TABLE.append(_crc)


def crc(data: bytes) -> bytes:
    """CRC-16/X.25 in the order in which it is sent."""
    value = 0xFFFF
    for octet in data:
        value = (value >> 8) ^ _CRC_TABLE[(value ^ octet) & 0xFF]
    return (value ^ 0xFFFF).to_bytes(2, "little")


def without_llc(info: bytes) -> bytes:
    """Strip the LLC header; one Indian meter sends it twice."""
    while info[:3] in (LLC_REQUEST, LLC_RESPONSE):
        info = info[3:]
    return info


@dataclass(frozen=True, slots=True)
class Address:
    """A client address (`upper` only) or a server address: logical device and, lower, physical device."""

    upper: int
    lower: int | None = None
    octets: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Address:
        """Read 1, 2 or 4 octets, each with 7 bits of address."""
        bits = [octet >> 1 for octet in octets]
        match bits:
            case [upper]:
                return cls(upper, None, 1)
            case [upper, lower]:
                return cls(upper, lower, 2)
            case [a, b, c, d]:
                return cls(a << 7 | b, c << 7 | d, 4)
        raise MeterProtocolError(f"an HDLC address has 1, 2 or 4 octets, not {len(octets)}")

    def encode(self) -> bytes:
        """Write the shortest form that fits, at least as long as `octets` says."""
        if self.lower is None:
            parts = [self.upper]
        elif max(self.upper, self.lower) < 0x80 and self.octets != 4:
            parts = [self.upper, self.lower]
        else:
            parts = [self.upper >> 7, self.upper & 0x7F, self.lower >> 7, self.lower & 0x7F]
        if max(parts) > 0x7F:
            raise LocalError(f"HDLC address {self.upper}/{self.lower} does not fit")
        return bytes([part << 1 for part in parts[:-1]] + [parts[-1] << 1 | 1])

    def matches(self, other: Address) -> bool:
        """Compare without the way it is written."""
        return (self.upper, self.lower) == (other.upper, other.lower)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame. `control` includes the poll/final bit."""

    destination: Address
    source: Address
    control: int
    info: bytes = b""
    segmented: bool = False

    @property
    def kind(self) -> int:
        """Control without poll/final and sequence numbers: 0 for I, RR/RNR/REJ, or the U name."""
        if not self.control & 1:
            return 0
        return self.control & (0x0F if self.control & 3 == 1 else 0xEF)

    def encode(self) -> bytes:
        """Write the frame with its flags."""
        header = self.destination.encode() + self.source.encode() + bytes((self.control,))
        length = 2 + len(header) + 2 + (len(self.info) + 2 if self.info else 0)
        if length > MAX_FRAME:
            raise LocalError(f"an HDLC frame of {length} octets is too long")
        high = FORMAT_TYPE | (SEGMENTED if self.segmented else 0) | length >> 8
        head = bytes((high, length & 0xFF)) + header
        body = head + crc(head)
        if self.info:
            body += self.info
            body += crc(body)
        return bytes((FLAG,)) + body + bytes((FLAG,))


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Octets between flags that are no frame, and why; reading goes on at the next flag."""

    reason: str


class FrameDecoder:
    """Octets to frames. A frame is read by its length, so a 7E inside needs no stuffing."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = 0
        self.bad_frames = 0

    @property
    def pending(self) -> int:
        """Octets of a frame that is not complete yet."""
        return max(0, len(self._buffer) - 1)

    def receive_data(self, data: bytes) -> list[Frame | BadFrame]:
        """Give what `data` completed: whole frames, and a BadFrame at once for what cannot be one."""
        self._buffer += data
        found: list[Frame | BadFrame] = []
        while self._seek():
            try:
                frame = self._next()
            except MeterProtocolError as error:
                self.bad_frames += 1
                self._drop(1)
                found.append(BadFrame(str(error)))
                continue
            if frame is None:
                break
            found.append(frame)
        return found

    def _drop(self, count: int) -> None:
        self.noise += count
        del self._buffer[:count]

    def _seek(self) -> bool:
        """Put the last of a run of flags at the start; False while there is nothing after one."""
        start = self._buffer.find(FLAG)
        if start < 0:
            self._drop(len(self._buffer))
            return False
        self._drop(start)
        while len(self._buffer) > 1 and self._buffer[1] == FLAG:
            del self._buffer[:1]
        return len(self._buffer) > 1

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if buffer[1] & 0xF0 != FORMAT_TYPE:
            raise MeterProtocolError(f"HDLC format {buffer[1]:#04x} is not type 3")
        if len(buffer) < 3:
            return None
        length = (buffer[1] & 0x07) << 8 | buffer[2]
        header_end = self._header_end()
        if header_end is None or len(buffer) < header_end + 3:
            return None
        body = bytes(buffer[1 : length + 1])
        # These two octets are the HCS, or the FCS of a frame without information: checked before the
        # length is believed, so that a damaged length cannot make us wait.
        if crc(body[:header_end]) != body[header_end : header_end + 2]:
            raise MeterProtocolError("HDLC header check sequence is wrong")
        if len(buffer) < length + 2:
            return None
        if buffer[length + 1] != FLAG:
            raise MeterProtocolError("HDLC frame does not end where its length says")
        frame = _parse(body, header_end)
        del buffer[: length + 1]  # the closing flag may open the next frame
        return frame

    def _header_end(self) -> int | None:
        """Offset after the control octet (without the flag), None while it is not there yet."""
        at = 3
        for _ in range(2):
            start = at
            while True:
                if at >= len(self._buffer):
                    return None
                at += 1
                if self._buffer[at - 1] & 1:
                    break
                if at - start >= 4:
                    raise MeterProtocolError("HDLC address without an end")
        return at if at < len(self._buffer) else None


def _parse(body: bytes, header_end: int) -> Frame:
    addresses = Cursor(body[2 : header_end - 1])
    destination, source = (Address.decode(_address_octets(addresses)) for _ in range(2))
    info = body[header_end + 2 : -2]
    if len(body) > header_end + 2:
        if len(body) < header_end + 5:
            raise MeterProtocolError("HDLC frame too short for its check sequences")
        if crc(body[:-2]) != body[-2:]:
            raise MeterProtocolError("HDLC frame check sequence is wrong")
    return Frame(
        destination=destination,
        source=source,
        control=body[header_end - 1],
        info=info,
        segmented=bool(body[0] & SEGMENTED),
    )


def _address_octets(cursor: Cursor) -> bytes:
    octets = bytearray(cursor.take(1))
    while not octets[-1] & 1:
        octets += cursor.take(1)
    return bytes(octets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Negotiated limits, as their sender states them: information field sizes and windows."""

    transmit: int = 128
    receive: int = 128
    window_transmit: int = 1
    window_receive: int = 1

    def encode(self) -> bytes:
        """Write the information field of SNRM or UA."""
        sizes = b"".join(_parameter(name, v) for name, v in ((5, self.transmit), (6, self.receive)))
        windows = b"".join(
            bytes((name, 4)) + v.to_bytes(4, "big")
            for name, v in ((7, self.window_transmit), (8, self.window_receive))
        )
        body = sizes + windows
        return b"\x81\x80" + bytes((len(body),)) + body

    @classmethod
    def decode(cls, info: bytes) -> Parameters:
        """Read it; an empty field means the defaults (128 octets, window 1)."""
        if not info:
            return cls()
        cursor = Cursor(info)
        if cursor.take(2) != b"\x81\x80":
            raise cursor.error("not HDLC parameters")
        body = Cursor(cursor.take(cursor.u8()))
        values: dict[int, int] = {}
        while body.left:
            name = body.u8()
            values[name] = int.from_bytes(body.take(body.u8()), "big")
        found = cls(
            transmit=values.get(5, 128),
            receive=values.get(6, 128),
            window_transmit=values.get(7, 1),
            window_receive=values.get(8, 1),
        )
        if min(found.transmit, found.receive) < 8:
            raise MeterProtocolError(
                f"HDLC information fields of {min(found.transmit, found.receive)} octets"
            )
        return found


def _parameter(name: int, value: int) -> bytes:
    size = 1 if value < 0x100 else 2
    return bytes((name, size)) + value.to_bytes(size, "big")
