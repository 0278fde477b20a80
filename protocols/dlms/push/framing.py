"""Framing of pushes, sans-IO: the wrapper, HDLC, M-Bus or a bare APDU, told apart by the first octet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from protocols.dlms.apdu import gbt, notification
from protocols.dlms.apdu.notification import PUSH_TAGS
from protocols.dlms.framing import hdlc, mbus, wrapper
from protocols.dlms.framing.hdlc import BadFrame, Frame, FrameDecoder
from protocols.dlms.framing.mbus import LongFrame
from protocols.dlms.framing.wrapper import WrapperApdu
from protocols.dlms.push.blocks import PushBlocks
from protocols.dlms.push.deframing import MAX_NOISE, Damage, MBusFrames, WrapperFrames
from protocols.errors import MeterProtocolError
from protocols.unused import Unused, UnusedCounter

MAX_PUSH = 16 * 1024
"""Octets of one push: a day of half-hours in ten columns has 3 kB. Bounds each connection's buffer."""
WRAPPER, HDLC, MBUS, BARE, NOTHING = "wrapper", "hdlc", "mbus", "bare", "none"
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
    """Octets of one connection to APDUs. What is no frame hides no push that stands before it or behind it.

    It is passed over and counted in `unused`, which counts all that leads to no APDU, by cause. After more than
    MAX_NOISE such octets since the last APDU, and at a first octet that begins nothing, `broken` says why the stream
    is followed no further: hang up.

    A bare APDU has no frame around it: it ends where its own lengths say, or with the sender (`finish`) where it
    came in so many pieces that looking for that end would be work for nothing. Segments and blocks
    are put together; `take_answers` gives the acknowledgements that blocks ask for, framed.
    """

    def __init__(self, max_apdu: int = MAX_PUSH, unused: UnusedCounter | None = None) -> None:
        self._max = max_apdu
        self._unused = UnusedCounter() if unused is None else unused
        self._buffer = bytearray()
        self._frames = FrameDecoder()
        self._segments = bytearray()
        self._segmented: tuple[object, ...] | None = None
        self._damaged = False
        self._wrapper = WrapperFrames(max_apdu)
        self._mbus = MBusFrames()
        self._mbus_segments = mbus.Segments(max_apdu)
        self._blocks = PushBlocks(max_apdu)
        self._answers: list[bytes] = []
        self._looks = 0
        self._wasted = 0
        self._believed = 0
        self._damage = ""
        self.framing: str | None = None
        self.broken = ""

    @property
    def partial(self) -> int:
        """Octets of a frame that is not complete."""
        return len(self._buffer) + self._frames.pending + self._wrapper.pending + self._mbus.pending

    @property
    def pending(self) -> int:
        """Octets of a push that is not complete."""
        joined = len(self._segments) + self._mbus_segments.pending + self._blocks.pending
        return self.partial + joined

    def receive(self, data: bytes) -> list[ReceivedApdu]:
        """Return the APDUs that `data` completed; `broken` then says whether more can be received."""
        if self.broken or not data:
            return []
        self.framing = self.framing or _framing(data[0])
        match self.framing:
            case "wrapper":
                pieces = self._wrapped(self._wrapper.receive_data(data))
            case "hdlc":
                pieces = self._framed(data)
            case "mbus":
                pieces = self._in_mbus(self._mbus.receive_data(data))
            case _:
                pieces = self._unframed(data)
        return self._taken(pieces)

    def datagram(self, data: bytes) -> list[ReceivedApdu]:
        """Return the APDUs of a datagram, which holds its frames whole; `broken` says what is wrong in it, if anything.

        Another datagram of its sender may be received all the same.
        """
        self.framing, self.broken, self._damage = None, "", ""
        found = self.receive(data)
        if self.framing == BARE:
            found += self._bare()
        else:
            partial = self.partial
            found += self._behind_the_end()
            if partial:
                self._damage = self._damage or f"a datagram ends within a frame ({partial} octets)"
        self.broken = self.broken or self._damage
        return found

    def take_answers(self) -> bytes:
        """Return what is to be sent back now, and forget it."""
        answers = b"".join(self._answers)
        self._answers.clear()
        return answers

    def finish(self) -> list[ReceivedApdu]:
        """Return what is whole once the sender has ended, as a bare APDU; `broken` where a push was cut short."""
        if self.framing == BARE:
            return self._bare()
        pending, partial = self.pending, self.partial
        found = self._behind_the_end()
        self._unused[Unused.CUT_SHORT] += pending > partial
        if pending:
            self.broken = self.broken or f"the sender ended within a push ({pending} octets)"
        return found

    def _taken(self, pieces: Iterator[ReceivedApdu | Damage]) -> list[ReceivedApdu]:
        """Return the APDUs among pieces, blocks joined; what is none is counted, and too much of it gives up."""
        found: list[ReceivedApdu] = []
        for piece in pieces:
            joined = piece if isinstance(piece, Damage) else self._joined(piece)
            if isinstance(joined, Damage):
                self._unused[joined.cause] += 1
                if joined.cause is not Unused.EMPTY:
                    self._damage = joined.reason
            elif joined is not None:
                whole, left = notification.parts(joined.octets)
                if left:
                    self._unused[Unused.LEFT_OVER] += 1
                found += [ReceivedApdu(octets=octets, way=joined.way) for octets in whole]
        noise = self._wasted + self._frames.noise + self._wrapper.noise + self._mbus.noise
        if found:
            self._believed = noise
        elif noise - self._believed > MAX_NOISE:
            self.broken = f"{noise - self._believed} octets without a push: {self._damage}"
        return found

    def _bare(self) -> list[ReceivedApdu]:
        rest = hdlc.without_llc(bytes(self._buffer))
        self._buffer.clear()
        return self._taken(iter([ReceivedApdu(octets=rest, way=_BARE)] if rest else []))

    def _behind_the_end(self) -> list[ReceivedApdu]:
        """Return what is whole behind a frame that does not go on any more, and forget the rest."""
        self._frames.reset()
        found = self._taken(self._wrapped(self._wrapper.finish()))
        return found + self._taken(self._in_mbus(self._mbus.finish()))

    def _unframed(self, data: bytes) -> Iterator[ReceivedApdu | Damage]:
        self._buffer += data
        while self._buffer and self._looks < MAX_LOOKS:
            self._looks += 1
            if _framing(self._buffer[0]) == NOTHING:
                self.broken = f"{self._buffer[0]:#04x} begins neither a frame nor a push"
                self._buffer.clear()
                yield Damage(reason=self.broken)
                return
            prefix = len(self._buffer) - len(hdlc.without_llc(bytes(self._buffer)))
            end = notification.measured(bytes(self._buffer[prefix:]))
            if end is None:
                break
            apdu = bytes(self._buffer[prefix : prefix + end])
            del self._buffer[: prefix + end]
            self._looks = 0
            yield ReceivedApdu(octets=apdu, way=_BARE)
        if (length := len(self._buffer)) > self._max:
            self._buffer.clear()
            self.broken = self._too_long(length)
            yield Damage(reason=self.broken)

    def _joined(self, apdu: ReceivedApdu) -> ReceivedApdu | Damage | None:
        """Return an APDU, or what a block of general block transfer completes."""
        if apdu.octets[:1] != bytes((gbt.TAG,)):
            return apdu
        lost, repeated, pending = self._blocks.lost, self._blocks.repeated, self._blocks.pending
        try:
            whole, answer = self._blocks.take(apdu.octets)
        except MeterProtocolError as error:
            self._wasted += pending + len(apdu.octets)
            return Damage(reason=str(error))
        self._unused[Unused.CUT_SHORT] += self._blocks.lost - lost
        if self._blocks.repeated > repeated:
            self._unused[Unused.REPEATED_BLOCK] += 1
            self._wasted += len(apdu.octets)
            self._damage = self._damage or "blocks that bring nothing new"
        framed = None if answer is None else apdu.way.framed(answer)
        if framed is not None:
            self._answers.append(framed)
        return None if whole is None else ReceivedApdu(octets=whole, way=apdu.way)

    @staticmethod
    def _wrapped(frames: list[WrapperApdu | Damage]) -> Iterator[ReceivedApdu | Damage]:
        for frame in frames:
            if isinstance(frame, Damage):
                yield frame
            else:
                back = partial(wrapper.encode, frame.destination, frame.source)
                yield ReceivedApdu(octets=frame.apdu, way=Way(framing=WRAPPER, back=back))

    def _framed(self, data: bytes) -> Iterator[ReceivedApdu | Damage]:
        frames = self._frames.receive_data(data)
        if hdlc.FLAG in data:
            frames += self._frames.cut_short()
        for frame in frames:
            if isinstance(frame, BadFrame):
                self._give_up_segments()
                self._damaged = True
                yield Damage(reason=frame.reason, cause=frame.cause)
                continue
            talk = (frame.kind, frame.source, frame.destination)
            if self._segments and (talk != self._segmented or _has_llc(frame)):
                self._give_up_segments()
            if not self._segments and not _begins(frame, sure=self._damaged):
                self._unused[_cause(frame)] += 1
                continue
            self._segmented = talk
            self._segments += frame.info
            if (length := len(self._segments)) > self._max:
                self._wasted += length
                self._segments.clear()
                self._damaged = True
                yield Damage(reason=self._too_long(length))
            elif not frame.segmented:
                apdu = hdlc.without_llc(bytes(self._segments))
                self._segments.clear()
                self._damaged = False
                if apdu:
                    yield ReceivedApdu(octets=apdu, way=Way(framing=HDLC, back=frame.answered))
                else:
                    self._unused[Unused.EMPTY] += 1

    def _give_up_segments(self) -> None:
        self._unused[Unused.CUT_SHORT] += bool(self._segments)
        self._wasted += len(self._segments)
        self._segments.clear()

    def _in_mbus(self, frames: list[LongFrame | Damage]) -> Iterator[ReceivedApdu | Damage]:
        for frame in frames:
            if isinstance(frame, Damage):
                yield frame
                continue
            before, pending = self._mbus_segments.lost, self._mbus_segments.pending
            try:
                apdu = self._mbus_segments.take(frame)
            except MeterProtocolError as error:
                self._wasted += pending + len(frame.data)
                yield Damage(reason=str(error))
                continue
            self._unused[Unused.CUT_SHORT] += self._mbus_segments.lost - before
            self._unused[Unused.UNEXPECTED_CONTROL] += frame.segment is None
            if apdu is not None:
                yield ReceivedApdu(octets=hdlc.without_llc(apdu), way=Way(framing=MBUS))

    def _too_long(self, length: int) -> str:
        return f"a push of {length} octets; {self._max} are allowed"


def _cause(frame: Frame) -> Unused:
    """Name why a frame begins no push."""
    if frame.kind == hdlc.UI:
        return Unused.CUT_SHORT if frame.info else Unused.EMPTY
    return Unused.OUT_OF_SEQUENCE if frame.kind == _I_FRAME else Unused.UNEXPECTED_CONTROL


def _has_llc(frame: Frame) -> bool:
    return frame.info[:3] in (hdlc.LLC_REQUEST, hdlc.LLC_RESPONSE)


def _begins(frame: Frame, *, sure: bool) -> bool:
    """Say whether an APDU that may be a push begins in a frame.

    Some push in I frames without a connection; others of those are the rest of an exchange that was cut short. Behind a
    damaged frame one without a head may be the rest of what was lost with it: `sure` wants it to begin with a push.
    """
    begins_push = hdlc.without_llc(frame.info)[:1] in _PUSHES
    if frame.kind == hdlc.UI:
        return bool(frame.info) and (begins_push or not sure)
    return frame.kind == _I_FRAME and _has_llc(frame) and begins_push


def _framing(first: int) -> str:
    if first == 0:
        return WRAPPER
    if first == hdlc.FLAG:
        return HDLC
    if first in (mbus.START, mbus.SHORT, mbus.ACKNOWLEDGED):
        return MBUS
    if first in PUSH_TAGS or first in (gbt.TAG, hdlc.LLC_RESPONSE[0]):
        return BARE
    return NOTHING
