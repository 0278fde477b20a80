"""Framing of pushes, sans-IO: the wrapper, HDLC, M-Bus or a bare APDU, told apart by the first octet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from protocols.dlms.apdu import gbt, notification
from protocols.dlms.apdu.notification import PUSH_TAGS
from protocols.dlms.framing import hdlc, mbus, wrapper
from protocols.dlms.framing.hdlc import BadFrame, Frame, FrameDecoder
from protocols.dlms.push.blocks import PushBlocks
from protocols.errors import MeterProtocolError
from protocols.unused import Unused, UnusedCounter

MAX_PUSH = 16 * 1024
"""Octets of one push: a day of half-hours in ten columns has 3 kB. Bounds each connection's buffer."""
WRAPPER, HDLC, MBUS, BARE = "wrapper", "hdlc", "mbus", "bare"
MAX_LOOKS = 64
"""Pieces of a bare APDU after each of which it is looked whether it is whole."""
_I_FRAME = 0
_PUSHES = frozenset(bytes((tag,)) for tag in (*PUSH_TAGS, gbt.TAG))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How an answer gets back to where an APDU came from: `back` frames it, None where nothing goes back."""

    framing: str
    back: Callable[[bytes], bytes] | None = field(default=None, repr=False, compare=False)

    def framed(self, apdu: bytes) -> bytes | None:
        """Frame an answer; None where nothing can be sent back: M-Bus here goes one way."""
        return None if self.back is None else self.back(apdu)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedApdu:
    """An APDU, and how it came."""

    octets: bytes = field(repr=False)
    way: Way


_BARE = Way(framing=BARE, back=bytes)


class PushStream:
    """Octets of one connection to APDUs. After an error the stream cannot be followed: hang up.

    A bare APDU has no frame around it: it ends where its own lengths say, or with the sender (`finish`) where it
    came in so many pieces that looking for that end would be work for nothing. Segments and blocks
    are put together; `take_answers` gives the acknowledgements that blocks ask for, framed. `unused` counts what
    leads to no APDU, by cause.
    """

    def __init__(self, max_apdu: int = MAX_PUSH, unused: UnusedCounter | None = None) -> None:
        self._max = max_apdu
        self._unused = UnusedCounter() if unused is None else unused
        self._buffer = bytearray()
        self._frames = FrameDecoder()
        self._segments = bytearray()
        self._segmented: tuple[object, ...] | None = None
        self._mbus = mbus.MBusDecoder()
        self._mbus_segments = mbus.Segments(max_apdu)
        self._blocks = PushBlocks(max_apdu)
        self._answers: list[bytes] = []
        self._looks = 0
        self.framing: str | None = None

    @property
    def partial(self) -> int:
        """Octets of a frame that is not complete."""
        return len(self._buffer) + self._frames.pending + self._mbus.pending

    @property
    def pending(self) -> int:
        """Octets of a push that is not complete."""
        joined = len(self._segments) + self._mbus_segments.pending + self._blocks.pending
        return self.partial + joined

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the octets of the APDUs that `data` completed; errors as `receive`."""
        return [apdu.octets for apdu in self.receive(data)]

    def receive(self, data: bytes) -> list[ReceivedApdu]:
        """Return the APDUs that `data` completed; MeterProtocolError for what can be no push, at once."""
        if self.framing is None and data:
            self.framing = _framing(data[0])
        match self.framing:
            case "wrapper":
                found = list(self._wrapped(data))
            case "hdlc":
                found = list(self._framed(data))
            case "mbus":
                found = list(self._in_mbus(data))
            case _:
                found = list(self._unframed(data))
        return [whole for apdu in found if (whole := self._joined(apdu)) is not None]

    def datagram(self, data: bytes) -> list[ReceivedApdu]:
        """Return the APDUs of a datagram, which holds its frames whole; MeterProtocolError otherwise."""
        self.framing = None
        found = self.receive(data)
        if self.framing == BARE:
            return found + self._bare()
        if partial := self.partial:
            self.finish()
            raise MeterProtocolError(f"a datagram ends within a frame ({partial} octets)")
        return found

    def take_answers(self) -> bytes:
        """Return what is to be sent back now, and forget it."""
        answers = b"".join(self._answers)
        self._answers.clear()
        return answers

    def finish(self) -> list[bytes]:
        """Return the bare APDU, if one came: the sender has ended. MeterProtocolError when a frame was cut short."""
        if self.framing == BARE:
            return [apdu.octets for apdu in self._bare()]
        partial, pending = self.partial, self.pending
        self._buffer.clear()
        self._unused[Unused.CUT_SHORT] += pending > partial
        if pending:
            raise MeterProtocolError(f"the sender ended within a push ({pending} octets)")
        return []

    def _bare(self) -> list[ReceivedApdu]:
        rest = hdlc.without_llc(bytes(self._buffer))
        self._buffer.clear()
        whole = self._joined(ReceivedApdu(octets=rest, way=_BARE)) if rest else None
        return [] if whole is None else [whole]

    def _unframed(self, data: bytes) -> Iterator[ReceivedApdu]:
        self._buffer += data
        while self._buffer and self._looks < MAX_LOOKS:
            self._looks += 1
            if self._buffer[0] != hdlc.LLC_RESPONSE[0]:
                _framing(self._buffer[0])
            prefix = len(self._buffer) - len(hdlc.without_llc(bytes(self._buffer)))
            end = notification.measured(bytes(self._buffer[prefix:]))
            if end is None:
                break
            apdu = bytes(self._buffer[prefix : prefix + end])
            del self._buffer[: prefix + end]
            self._looks = 0
            yield ReceivedApdu(octets=apdu, way=_BARE)
        self._check(len(self._buffer))

    def _joined(self, apdu: ReceivedApdu) -> ReceivedApdu | None:
        """Return an APDU, or what a block of general block transfer completes."""
        if apdu.octets[:1] != bytes((gbt.TAG,)):
            return apdu
        lost, repeated = self._blocks.lost, self._blocks.repeated
        whole, answer = self._blocks.take(apdu.octets)
        self._unused[Unused.CUT_SHORT] += self._blocks.lost - lost
        self._unused[Unused.REPEATED_BLOCK] += self._blocks.repeated - repeated
        framed = None if answer is None else apdu.way.framed(answer)
        if framed is not None:
            self._answers.append(framed)
        return None if whole is None else ReceivedApdu(octets=whole, way=apdu.way)

    def _wrapped(self, data: bytes) -> Iterator[ReceivedApdu]:
        buffer = self._buffer
        buffer += data
        version = wrapper.VERSION.to_bytes(2, "big")
        while buffer:
            if buffer[:2] != version[: len(buffer)]:
                raise MeterProtocolError("not a DLMS wrapper header")
            if len(buffer) < wrapper.HEADER_OCTETS:
                return
            source, destination, length = (int.from_bytes(buffer[i : i + 2], "big") for i in (2, 4, 6))
            if not length:
                raise MeterProtocolError("a wrapper header without an APDU")
            self._check(length)
            end = wrapper.HEADER_OCTETS + length
            if len(buffer) < end:
                return
            apdu = bytes(buffer[wrapper.HEADER_OCTETS : end])
            del buffer[:end]
            way = Way(framing=WRAPPER, back=partial(wrapper.encode, destination, source))
            yield ReceivedApdu(octets=apdu, way=way)

    def _framed(self, data: bytes) -> Iterator[ReceivedApdu]:
        for frame in self._frames.receive_data(data):
            if isinstance(frame, BadFrame):
                self._unused[frame.cause] += 1
                raise MeterProtocolError(frame.reason)
            if not self._segments and not _begins(frame):
                self._unused[_cause(frame)] += 1
                continue
            talk = (frame.kind, frame.source, frame.destination)
            if self._segments and (talk != self._segmented or _has_llc(frame)):
                self._unused[Unused.CUT_SHORT] += 1
                self._segments.clear()
                if not _begins(frame):
                    self._unused[_cause(frame)] += 1
                    continue
            self._segmented = talk
            self._segments += frame.info
            self._check(len(self._segments))
            if not frame.segmented:
                apdu = hdlc.without_llc(bytes(self._segments))
                self._segments.clear()
                if not apdu:
                    self._unused[Unused.EMPTY] += 1
                    continue
                way = Way(framing=HDLC, back=frame.answered)
                yield ReceivedApdu(octets=apdu, way=way)

    def _in_mbus(self, data: bytes) -> Iterator[ReceivedApdu]:
        for frame in self._mbus.receive_data(data):
            before = self._mbus_segments.lost
            apdu = self._mbus_segments.take(frame)
            self._unused[Unused.CUT_SHORT] += self._mbus_segments.lost - before
            self._unused[Unused.UNEXPECTED_CONTROL] += frame.segment is None
            if apdu is not None:
                yield ReceivedApdu(octets=hdlc.without_llc(apdu), way=Way(framing=MBUS))

    def _check(self, length: int) -> None:
        if length > self._max:
            raise MeterProtocolError(f"a push of {length} octets; {self._max} are allowed")


def _cause(frame: Frame) -> Unused:
    """Name why a frame begins no push."""
    if frame.kind == hdlc.UI:
        return Unused.EMPTY
    return Unused.OUT_OF_SEQUENCE if frame.kind == _I_FRAME else Unused.UNEXPECTED_CONTROL


def _has_llc(frame: Frame) -> bool:
    return frame.info[:3] in (hdlc.LLC_REQUEST, hdlc.LLC_RESPONSE)


def _begins(frame: Frame) -> bool:
    """Say whether an APDU that may be a push begins in a frame.

    Some push in I frames without a connection; others of those are the rest of an exchange that was cut short.
    """
    if frame.kind == hdlc.UI:
        return bool(frame.info)
    return frame.kind == _I_FRAME and _has_llc(frame) and hdlc.without_llc(frame.info)[:1] in _PUSHES


def datagram(data: bytes, max_apdu: int = MAX_PUSH, unused: UnusedCounter | None = None) -> list[bytes]:
    """Return the APDUs of one UDP datagram, which holds them whole; MeterProtocolError otherwise."""
    stream = PushStream(max_apdu, unused)
    apdus = [apdu.octets for apdu in stream.datagram(data)]
    stream.finish()
    return apdus


def _framing(first: int) -> str:
    if first == 0:
        return WRAPPER
    if first == hdlc.FLAG:
        return HDLC
    if first in (mbus.START, mbus.SHORT, mbus.ACKNOWLEDGED):
        return MBUS
    if first in PUSH_TAGS or first in (gbt.TAG, hdlc.LLC_RESPONSE[0]):
        return BARE
    raise MeterProtocolError(f"{first:#04x} begins neither a frame nor a push")
