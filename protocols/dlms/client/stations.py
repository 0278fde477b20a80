"""Asking which HDLC stations are on a bus: any frame from an address proves one, a refusal too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocols.dlms.client.association_opener import PUBLIC_CLIENT
from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder

MANAGEMENT = 1
FIRST_PHYSICAL = 16
"""Meters ship with 16 and the last two digits of their serial, or with 17 (IS 15959, IEC 62056-46 6.4.2.2)."""


class HdlcVoice:
    """The `protocols.sweep.Voice` of HDLC: SNRM as the public client; UA, DM or any other frame is an answer."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._noise = 0
        self._open: set[Address] = set()

    def question(self, key: Address) -> bytes:
        """Return SNRM to a station."""
        return self._to(key, hdlc.SNRM)

    def hear(self, octets: bytes) -> Sequence[Address | None]:
        """Return the stations whose frames these octets complete."""
        found: list[Address | None] = []
        for frame in self._decoder.receive_data(octets):
            if not isinstance(frame, Frame):
                found.append(None)
            elif (
                frame.source.lower is not None or frame.source.upper != PUBLIC_CLIENT
            ):  # else an echo of ours
                source = station(frame.source.upper, frame.source.lower, frame.source.octets)
                if frame.kind == hdlc.UA:
                    self._open.add(source)
                found.append(source)
        if self._decoder.noise > self._noise:
            self._noise = self._decoder.noise
            found.append(None)
        return found

    def silence(self) -> Sequence[Address | None]:
        """Give a frame up that was begun."""
        begun = self.begun
        self._decoder.reset()
        self._noise = self._decoder.noise
        return (None,) if begun else ()

    @property
    def begun(self) -> bool:
        """Say whether a frame was begun."""
        return self._decoder.pending > 0

    def goodbye(self, key: Address) -> bytes:
        """Return DISC to a station that took the connection."""
        if key not in self._open:
            return b""
        self._open.discard(key)
        return self._to(key, hdlc.DISC)

    def _to(self, key: Address, kind: int) -> bytes:
        return Frame(destination=key, source=Address(PUBLIC_CLIENT), control=kind | hdlc.POLL).encode()


def station(upper: int, lower: int | None, octets: int = 0) -> Address:
    """Return the address of a server as it is written, so that two that are written alike are equal."""
    return Address(upper, lower, octets or len(Address.server(upper, lower).encode()))


def likely_stations() -> Iterator[Address]:
    """Yield the addresses of meters, the most likely first: 17, one octet alone, 16 to 115, and 4 octets of them."""
    yield station(MANAGEMENT, FIRST_PHYSICAL + 1)
    yield station(MANAGEMENT, None)
    yield station(MANAGEMENT, FIRST_PHYSICAL + 1, 4)
    for physical in range(FIRST_PHYSICAL, FIRST_PHYSICAL + 100):
        if physical != FIRST_PHYSICAL + 1:
            yield station(MANAGEMENT, physical)
    for upper in range(
        FIRST_PHYSICAL, FIRST_PHYSICAL + 100
    ):  # one octet: the logical device stands for the meter
        yield station(upper, None)
    for physical in range(FIRST_PHYSICAL, FIRST_PHYSICAL + 100):
        if physical != FIRST_PHYSICAL + 1:
            yield station(MANAGEMENT, physical, 4)
