"""Framing of pushes, sans-IO: the wrapper, HDLC UI frames or a bare APDU, told apart by the first octet."""

from __future__ import annotations

from protocols.dlms.apdu.notification import PUSH_TAGS
from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import BadFrame, FrameDecoder
from protocols.errors import MeterProtocolError
from protocols.unused import Unused, UnusedCounter

MAX_PUSH = 16 * 1024
"""Octets of one push: a day of half-hours in ten columns has 3 kB. Bounds each connection's buffer."""
WRAPPER, HDLC, BARE = "wrapper", "hdlc", "bare"


class PushStream:
    """Octets of one connection to APDUs. After an error the stream cannot be followed: hang up.

    A bare APDU has no frame around it: it is all that comes until the sender ends (`finish`). `unused` counts the
    frames that hold no push, by cause.
    """

    def __init__(self, max_apdu: int = MAX_PUSH, unused: UnusedCounter | None = None) -> None:
        self._max = max_apdu
        self._unused = UnusedCounter() if unused is None else unused
        self._buffer = bytearray()
        self._frames = FrameDecoder()
        self._segments = bytearray()
        self.framing: str | None = None

    @property
    def pending(self) -> int:
        """Octets of a push that is not complete."""
        return len(self._buffer) + len(self._segments) + self._frames.pending

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the APDUs that `data` completed; MeterProtocolError for what can be no push, at once."""
        if self.framing is None and data:
            self.framing = _framing(data[0])
        match self.framing:
            case "wrapper":
                self._buffer += data
                return self._wrapped()
            case "hdlc":
                return self._framed(data)
        self._buffer += data
        self._check(len(self._buffer))
        return []

    def finish(self) -> list[bytes]:
        """Return the bare APDU, if one came: the sender has ended. MeterProtocolError when a frame was cut short."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        if self.framing == BARE and rest:
            return [rest]
        if rest or self._segments or self._frames.pending:
            raise MeterProtocolError(f"the sender ended within a frame ({len(rest)} octets)")
        return []

    def _wrapped(self) -> list[bytes]:
        apdus: list[bytes] = []
        buffer = self._buffer
        while buffer:
            version = wrapper.VERSION.to_bytes(2, "big")
            if buffer[:2] != version[: len(buffer)]:
                raise MeterProtocolError("not a DLMS wrapper header")
            if len(buffer) < wrapper.HEADER_OCTETS:
                break
            length = int.from_bytes(buffer[6:8], "big")
            if not length:
                raise MeterProtocolError("a wrapper header without an APDU")
            self._check(length)
            end = wrapper.HEADER_OCTETS + length
            if len(buffer) < end:
                break
            apdus.append(bytes(buffer[wrapper.HEADER_OCTETS : end]))
            del buffer[:end]
        return apdus

    def _framed(self, data: bytes) -> list[bytes]:
        apdus: list[bytes] = []
        for frame in self._frames.receive_data(data):
            if isinstance(frame, BadFrame):
                self._unused[frame.cause] += 1
                raise MeterProtocolError(frame.reason)
            if frame.kind != hdlc.UI:  # the rest of an exchange that was cut short, or a push in an I frame
                self._unused[Unused.OUT_OF_SEQUENCE if frame.kind == 0 else Unused.UNEXPECTED_CONTROL] += 1
                continue
            self._segments += frame.info
            self._check(len(self._segments))
            if not frame.segmented:
                apdu = hdlc.without_llc(bytes(self._segments))
                self._segments.clear()
                if apdu:
                    apdus.append(apdu)
                else:
                    self._unused[Unused.EMPTY] += 1
        return apdus

    def _check(self, length: int) -> None:
        if length > self._max:
            raise MeterProtocolError(f"a push of {length} octets; {self._max} are allowed")


def datagram(data: bytes, max_apdu: int = MAX_PUSH, unused: UnusedCounter | None = None) -> list[bytes]:
    """Return the APDUs of one UDP datagram, which holds them whole; MeterProtocolError otherwise."""
    stream = PushStream(max_apdu, unused)
    apdus = stream.receive_data(data)
    return apdus + stream.finish()


def _framing(first: int) -> str:
    if first == 0:
        return WRAPPER
    if first == hdlc.FLAG:
        return HDLC
    if first in PUSH_TAGS:
        return BARE
    raise MeterProtocolError(f"{first:#04x} begins neither a frame nor a push")
