"""The TCP wrapper (IEC 62056-47): version, source, destination, length, APDU."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from protocols.dlms.notification import PUSH_TAGS
from protocols.errors import LocalError, MeterProtocolError

VERSION = 1
HEADER_OCTETS = 8
MAX_APDU = 0xFFFF
"""The header's length field has 16 bits, which also bounds the buffer: one header and one APDU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapperApdu:
    """One APDU with its wPorts."""

    source: int
    destination: int
    apdu: bytes


def encode(source: int, destination: int, apdu: bytes) -> bytes:
    """Frame one APDU; LocalError when it is longer than the header can say."""
    if len(apdu) > MAX_APDU:
        raise LocalError(f"an APDU of {len(apdu)} octets does not fit the wrapper")
    words = (VERSION, source, destination, len(apdu))
    return b"".join(word.to_bytes(2, "big") for word in words) + apdu


class WrapperDecoder:
    """Octets to APDUs. After an error the stream cannot be followed: hang up."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Octets of an APDU that is not complete yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[WrapperApdu]:
        """Give the APDUs completed by `data`; MeterProtocolError at the first wrong header."""
        self._buffer += data
        apdus = []
        while (apdu := self._next()) is not None:
            apdus.append(apdu)
        return apdus

    def _next(self) -> WrapperApdu | None:
        head = bytes(self._buffer[:HEADER_OCTETS])
        if head[:2] != VERSION.to_bytes(2, "big")[: len(head)]:
            self._buffer.clear()
            raise MeterProtocolError(f"not a DLMS wrapper header: {head.hex(' ')}")
        if len(head) < HEADER_OCTETS:
            return None
        end = HEADER_OCTETS + int.from_bytes(head[6:8], "big")
        if end == HEADER_OCTETS:
            raise MeterProtocolError("a wrapper header without an APDU")
        if len(self._buffer) < end:
            return None
        apdu = bytes(self._buffer[HEADER_OCTETS:end])
        del self._buffer[:end]
        source, destination = (int.from_bytes(head[i : i + 2], "big") for i in (2, 4))
        return WrapperApdu(source=source, destination=destination, apdu=apdu)


class WrapperClientLink:
    """The wrapper as one client uses it (see `ClientLink`)."""

    def __init__(self, *, client: int, server: int) -> None:
        self._client = client
        self._server = server
        self._decoder = WrapperDecoder()
        self._out = bytearray()

    @property
    def noise(self) -> int:
        """Octets of an unfinished APDU."""
        return self._decoder.pending

    def open(self) -> list[LinkEvent]:
        """TCP is connected already."""
        return [LinkOpened()]

    def close(self) -> list[LinkEvent]:
        """Nothing is said: TCP ends the connection."""
        return [LinkClosed()]

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""
        self._out += encode(self._client, self._server, apdu)

    def data_to_send(self) -> bytes:
        """Give and forget what must go out now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets; an APDU between other wPorts is an error."""
        events: list[LinkEvent] = []
        for apdu in self._decoder.receive_data(data):
            if (apdu.source, apdu.destination) != (self._server, self._client):
                if apdu.apdu[0] in PUSH_TAGS:  # to the push client, on a connection that the meter opened
                    events.append(ApduReceived(apdu.apdu, unasked=True))
                    continue
                raise MeterProtocolError(
                    f"wrapper addresses {apdu.source}->{apdu.destination}, "
                    f"expected {self._server}->{self._client}"
                )
            events.append(ApduReceived(apdu.apdu))
        return events
