"""The opening of an optical port in mode E (IEC 62056-21, annex E): sign on in ASCII, agree a speed, then HDLC.

All of it is at 300 baud, 7E1, in lines that end with CR LF; the shell changes to the agreed speed, 8N1, after
the acknowledgement. Seven bits and an even parity bit look on the wire like eight bits, so the port can stay at
8N1 (not every adapter has 7E1) and the parity is made here (`with_parity`):

    we     / ? <address> !
    meter  / XXX Z BACKSLASH 2 <text>        XXX maker, Z fastest speed, the pair offers HDLC
    we     ACK 2 Z 2                         Z the speed that we choose
    meter  the same again (not all do)
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import MeterConfigError, MeterProtocolError

START_BAUD = 300
SPEEDS = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
"""Speeds by the identification's letter Z (IEC 62056-21 6.3.14, protocol modes C and E)."""
MAX_ADDRESS = 32
MAX_LINE = 64
"""Octets of one line: 3 letters, the speed, two escape pairs and 16 characters make fewer."""
MAX_NOISE = 256
"""Octets that may come before an identification: echoes of the probe and what the light of day makes."""
ACK = 0x06
HDLC_MODE = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What the meter said: three letters of its maker, its fastest speed in baud, its name for itself."""

    maker: str
    baud: int
    text: str

    def choose(self, fastest: int) -> int:
        """Return the fastest speed that the meter has and `fastest` allows."""
        return max(speed for speed in SPEEDS.values() if speed <= max(START_BAUD, min(self.baud, fastest)))


def sign_on(address: str = "") -> bytes:
    """Return the request message; MeterConfigError when the address has other than letters, digits, spaces."""
    if len(address) > MAX_ADDRESS or not (address.replace(" ", "") + "0").isalnum() or not address.isascii():
        raise MeterConfigError(f"mode E address {address!r}: up to {MAX_ADDRESS} letters, digits or spaces")
    return b"/?" + address.encode("ascii") + b"!\r\n"


def acknowledgement(baud: int) -> bytes:
    """Return the option select message for HDLC at this speed."""
    letter = next(z for z, speed in SPEEDS.items() if speed == baud)
    return bytes((ACK,)) + f"{HDLC_MODE}{letter}{HDLC_MODE}\r\n".encode("ascii")


def with_parity(text: bytes) -> bytes:
    """Return 7E1 as an 8N1 port sends it: bit 7 makes the number of ones even."""
    return bytes(octet | (octet.bit_count() & 1) << 7 for octet in text)


def without_parity(data: bytes) -> bytes:
    """Return the seven bits; a wrong parity shows in the text that results."""
    return bytes(octet & 0x7F for octet in data)


class IdentificationReader:
    """Octets to the identification; echoes of our own request and noise before it are passed over."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped = 0

    def receive_data(self, data: bytes) -> Identification | None:
        """Return the identification when its line is complete.

        MeterProtocolError at once for a line that is none or too long, a speed that does not exist, a meter
        that does not offer mode E, or MAX_NOISE octets without an identification.
        """
        self._buffer += without_parity(data)
        while True:
            start = self._buffer.find(b"/")
            self._skip(len(self._buffer) if start < 0 else start)
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > MAX_LINE:
                    raise MeterProtocolError(f"mode E: a line of more than {MAX_LINE} octets")
                return None
            line = bytes(self._buffer[: end + 1])
            if line[1:2] != b"?":
                return _identification(line)
            self._skip(len(line))

    def _skip(self, count: int) -> None:
        self._skipped += count
        del self._buffer[:count]
        if self._skipped > MAX_NOISE:
            raise MeterProtocolError(f"mode E: no identification in {self._skipped} octets")


def _identification(line: bytes) -> Identification:
    text = line.decode("ascii").rstrip("\r\n")
    if (
        len(line) > MAX_LINE
        or not line.endswith(b"\r\n")
        or not text.isprintable()
        or not text[1:4].isalpha()
    ):
        raise MeterProtocolError(f"mode E: {text[:MAX_LINE]!r} is no identification")
    letter, rest = text[4:5], text[5:]
    offers = set()
    while rest.startswith("\\") and len(rest) > 1:
        offers.add(rest[1])
        rest = rest[2:]
    if HDLC_MODE not in offers:
        raise MeterProtocolError(f"mode E: the meter {text[1:]!r} does not offer HDLC on its optical port")
    if letter not in SPEEDS:
        raise MeterProtocolError(f"mode E: the meter offers speed {letter!r}, which does not exist")
    return Identification(maker=text[1:4], baud=SPEEDS[letter], text=rest)
