"""HDLC frames, format type 3 (IEC 62056-46): addresses, control, check sequences; read by length field."""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass, field, replace

from protocols.dlms.data.cursor import Cursor
from protocols.errors import LocalError, MeterConfigError, MeterProtocolError
from protocols.unused import Unused

FLAG = 0x7E
FORMAT_TYPE = 0xA0
SEGMENTED = 0x08
MAX_FRAME = 0x7FF
"""The length field has 11 bits, which bounds the buffer: one frame and its flags."""
LLC_REQUEST = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"

SNRM, UA, DISC, DM, FRMR, UI = 0x83, 0x63, 0x43, 0x0F, 0x87, 0x03
RR, RNR, REJ = 0x01, 0x05, 0x09
POLL = 0x10
MODULUS = 8
MAX_WINDOW = MODULUS - 1
"""I frames that may be on their way unacknowledged; one less than there are sequence numbers."""
DEFAULT_INFO = 128
"""Octets of an information field when nothing was negotiated; the window is 1 then."""
MIN_INFO = 8
"""A smaller information field cannot carry the LLC header and an APDU's head."""

_MIRRORED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


def crc(data: bytes) -> bytes:
    """CRC-16/X.25 in the order in which it is sent.

    The standard library computes the same polynomial most significant bit first, so octets are mirrored on
    their way in and out.
    """
    value = crc_hqx(data.translate(_MIRRORED), 0xFFFF) ^ 0xFFFF
    return value.to_bytes(2, "big").translate(_MIRRORED)


def without_llc(info: bytes) -> bytes:
    """Return an information field without its LLC header; one Indian meter sends it twice."""
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
        """Return the address in 1, 2 or 4 octets, each with 7 bits of it; MeterProtocolError otherwise."""
        bits = [octet >> 1 for octet in octets]
        match bits:
            case [upper]:
                return cls(upper, None, 1)
            case [upper, lower]:
                return cls(upper, lower, 2)
            case [a, b, c, d]:
                return cls(a << 7 | b, c << 7 | d, 4)
        raise MeterProtocolError(f"an HDLC address has 1, 2 or 4 octets, not {len(octets)}")

    @classmethod
    def server(cls, upper: int, lower: int | None, octets: int = 0) -> Address:
        """Return a server address that is written in `octets` (0: as short as it fits; 1, 2 or 4).

        One octet has the logical device only, two and four need the physical one (IEC 62056-46 6.4.2.3).
        MeterConfigError when the numbers do not fit that form.
        """
        address = cls(upper, lower, octets)
        try:
            written = len(address.encode())
        except LocalError as error:
            raise MeterConfigError(f"HDLC server address {address}: {error}") from error
        if octets and written != octets:
            needs = "has no physical address" if octets == 1 else "needs a physical address (`physical`)"
            raise MeterConfigError(f"HDLC server address {address}: one of {octets} octets {needs} that fits")
        return address

    def __str__(self) -> str:
        return f"{self.upper}" if self.lower is None else f"{self.upper}/{self.lower}"

    @property
    def is_group(self) -> bool:
        """Whether it names all stations: such a frame draws no answer."""
        everyone = 0x3FFF if self.octets == 4 else 0x7F
        return everyone in (self.upper, self.lower)

    def encode(self) -> bytes:
        """Return the shortest form that fits, at least as long as `octets` says."""
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
        """Return whether both name the same station, however long they are written."""
        return (self.upper, self.lower) == (other.upper, other.lower)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame. `control` includes the poll/final bit."""

    destination: Address
    source: Address
    control: int
    info: bytes = field(default=b"", repr=False)
    segmented: bool = False

    @property
    def kind(self) -> int:
        """Control without poll/final and sequence numbers: 0 for I, RR/RNR/REJ, or the U name."""
        if not self.control & 1:
            return 0
        return self.control & (0x0F if self.control & 3 == 1 else 0xEF)

    @property
    def final(self) -> bool:
        """The poll/final bit: the other side may speak now."""
        return bool(self.control & POLL)

    @property
    def number(self) -> int:
        """N(S) of an I frame."""
        return self.control >> 1 & 7

    @property
    def expects(self) -> int:
        """N(R) of an I, RR, RNR or REJ frame: the number of the next I frame that its sender expects."""
        return self.control >> 5

    def answered(self, apdu: bytes) -> bytes:
        """Return the octets of a UI frame with an APDU back to the sender of this one; LocalError when too long."""
        info = LLC_REQUEST + apdu
        return Frame(destination=self.source, source=self.destination, control=UI, info=info).encode()

    def encode(self) -> bytes:
        """Return the octets of the frame with its flags; LocalError when it is too long."""
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
    """Octets between flags that are no frame, and why; reading goes on at the next flag.

    `head` is what came before the information field, when only that field or the end is damaged.
    """

    reason: str
    head: Frame | None = None
    cause: Unused = Unused.NOT_A_FRAME


class _Damage(Exception):
    """Carries a BadFrame and the octets that it takes out of the buffer."""

    def __init__(
        self,
        reason: str,
        head: Frame | None = None,
        octets: int = 1,
        cause: Unused = Unused.NOT_A_FRAME,
    ) -> None:
        super().__init__(reason)
        self.bad = BadFrame(f"HDLC {reason}", head, cause)
        self.octets = octets


class FrameDecoder:
    """Octets to frames. A frame is read by its length, so a 7E inside needs no stuffing."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = 0
        self.bad_frames = 0

    @property
    def pending(self) -> int:
        """Octets of a frame that is not complete yet, its opening flag apart; at most MAX_FRAME and a flag."""
        return max(0, len(self._buffer) - 1)

    def receive_data(self, data: bytes) -> list[Frame | BadFrame]:
        """Return what `data` completed: whole frames, and a BadFrame at once for what cannot be one."""
        self._buffer += data
        found: list[Frame | BadFrame] = []
        while self._seek():
            try:
                frame = self._next()
            except _Damage as damage:
                self.bad_frames += 1
                self._drop(damage.octets)
                found.append(damage.bad)
                continue
            if frame is None:
                break
            found.append(frame)
        return found

    def cut_short(self) -> list[Frame | BadFrame]:
        """Give up an incomplete frame behind which a whole one stands: return that it was cut short, and what follows.

        Returns nothing where none stands there: the rest of the incomplete one may still come.
        """
        waiting = self._buffer
        while (start := waiting.find(FLAG, 1)) > 0:
            behind = FrameDecoder()
            found = behind.receive_data(bytes(waiting[start:]))
            if any(isinstance(frame, Frame) for frame in found):
                self.bad_frames += 1 + behind.bad_frames
                self.noise += len(self._buffer) - len(waiting) + start + behind.noise
                self._buffer = behind._buffer
                return [BadFrame("HDLC frame was cut short"), *found, *self.cut_short()]
            waiting = behind._buffer  # it stopped at one that is incomplete, too
        return []

    def reset(self) -> None:
        """Drop an incomplete frame: its sender has fallen silent, the rest will not come."""
        self.noise += self.pending  # a closing flag alone is none
        self._buffer.clear()

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
            raise _Damage(f"format {buffer[1]:#04x} is not type 3")
        if len(buffer) < 3:
            return None
        length = (buffer[1] & 0x07) << 8 | buffer[2]
        header_end = self._header_end()
        if header_end is None or len(buffer) < header_end + 3:
            return None
        header = bytes(buffer[1 : header_end + 1])
        # These two octets are the HCS, or the FCS of a frame without information: checked before the
        # length is believed, so that a damaged length cannot make us wait.
        if crc(header) != buffer[header_end + 1 : header_end + 3]:
            raise _Damage("header check sequence is wrong", cause=Unused.BAD_CHECK)
        information = length - header_end - 2
        if information < 0 or 0 < information < 3:
            raise _Damage(f"length {length} leaves no room for the check sequences")
        head = _head(header)
        if len(buffer) < length + 2:
            return None
        if buffer[length + 1] != FLAG:
            raise _Damage("frame does not end where its length says", head)
        body = bytes(buffer[1 : length + 1])
        if information and crc(body[:-2]) != body[-2:]:
            raise _Damage("frame check sequence is wrong", head, length + 1, Unused.BAD_CHECK)
        del buffer[: length + 1]  # the closing flag may open the next frame
        return replace(head, info=body[header_end + 2 : -2]) if information else head

    def _header_end(self) -> int | None:
        """Octets before the HCS (without the flag), None while they are not all there."""
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
                    raise _Damage("address without an end")
            if at - start == 3:
                raise _Damage("address of 3 octets")
        return at if at < len(self._buffer) else None


def told_octets(octets: bytes | bytearray, at: int) -> int | None:
    """Return the octets between the flags of the frame whose format field stands here (IEC 62056-46, 6.4.2.2).

    0 where no frame of type 3 begins, None while its length has not come.
    """
    if len(octets) <= at:
        return None
    if octets[at] & 0xF0 != FORMAT_TYPE:
        return 0
    return (octets[at] & 7) << 8 | octets[at + 1] if len(octets) > at + 1 else None


def leading_frame(octets: bytes) -> Frame | None:
    """Return the right, whole frame that begins with the flag at the first octet; None where none does."""
    decoder = FrameDecoder()
    decoder._buffer += octets  # noqa: SLF001 - it would go on at the next flag by itself
    try:
        return decoder._next() if len(octets) > 1 else None  # noqa: SLF001
    except _Damage:
        return None


def _head(header: bytes) -> Frame:
    addresses = Cursor(header[2:-1])
    destination, source = (Address.decode(_address_octets(addresses)) for _ in range(2))
    segmented = bool(header[0] & SEGMENTED)
    return Frame(destination=destination, source=source, control=header[-1], segmented=segmented)


def _address_octets(cursor: Cursor) -> bytes:
    octets = bytearray(cursor.take(1))
    while not octets[-1] & 1:
        octets += cursor.take(1)
    return bytes(octets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Negotiated limits, as their sender states them: information field sizes and windows."""

    transmit: int = DEFAULT_INFO
    receive: int = DEFAULT_INFO
    window_transmit: int = 1
    window_receive: int = 1

    def encode(self) -> bytes:
        """Return the information field of SNRM or UA."""
        sizes = b"".join(_parameter(name, v) for name, v in ((5, self.transmit), (6, self.receive)))
        windows = b"".join(
            bytes((name, 4)) + v.to_bytes(4, "big")
            for name, v in ((7, self.window_transmit), (8, self.window_receive))
        )
        body = sizes + windows
        return b"\x81\x80" + bytes((len(body),)) + body

    @classmethod
    def decode(cls, info: bytes) -> Parameters:
        """Return the limits in one: empty means the defaults (128 octets, window 1); windows are bounded to 1..7."""
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
            transmit=values.get(5, DEFAULT_INFO),
            receive=values.get(6, DEFAULT_INFO),
            window_transmit=min(max(values.get(7, 1), 1), MAX_WINDOW),
            window_receive=min(max(values.get(8, 1), 1), MAX_WINDOW),
        )
        smallest = min(found.transmit, found.receive)
        if smallest < MIN_INFO:
            raise MeterProtocolError(f"HDLC information fields of {smallest} octets")
        return found


def _parameter(name: int, value: int) -> bytes:
    size = 1 if value < 0x100 else 2
    return bytes((name, size)) + value.to_bytes(size, "big")


FRMR_REASONS = (
    (0x01, "control field not known"),
    (0x02, "information field not allowed"),
    (0x04, "information field too long"),
    (0x08, "N(R) out of range"),
)
CONTROL_UNKNOWN, INFO_NOT_ALLOWED, INFO_TOO_LONG, NUMBER_OUT_OF_RANGE = (bit for bit, _ in FRMR_REASONS)


def encode_rejection(frame: Frame, *, send: int, receive: int, reasons: int) -> bytes:
    """Return the information field of FRMR: the rejected control field, our V(S) and V(R), the reasons."""
    return bytes((frame.control, send << 1 | receive << 5, reasons))


def rejection_text(info: bytes) -> str:
    """Return an FRMR's information field in words (ISO/IEC 13239 5.5.4.2.11); "" when it has none."""
    if len(info) < 3:
        return ""
    reasons = [text for bit, text in FRMR_REASONS if info[2] & bit] or ["no reason given"]
    numbers = f"V(S) {info[1] >> 1 & 7}, V(R) {info[1] >> 5}"
    return f"frame with control {info[0]:#04x} refused: {', '.join(reasons)}; the meter is at {numbers}"
