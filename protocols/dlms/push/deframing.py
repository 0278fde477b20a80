"""Octets of wrapper and M-Bus frames to whole frames, sans-IO: what is no frame hides nothing that stands behind it.

HDLC has this in `FrameDecoder`. Here a frame is believed by its header while frames follow one another. Behind octets
that are none, and where another begins within it, a frame is believed only that proves itself: its own lengths
agree, or its checksum is right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from protocols.dlms.apdu import gbt, notification
from protocols.dlms.framing import mbus, wrapper
from protocols.dlms.framing.mbus import LongFrame
from protocols.dlms.framing.wrapper import WrapperApdu
from protocols.errors import MeterProtocolError
from protocols.unused import Unused

MAX_NOISE = 4 * 1024
"""Octets without a push in a row that are passed over before hanging up: two HDLC frames at their longest."""
MAX_CANDIDATES = 64
"""Beginnings within a frame that are tried each time octets come: bounds the work for a flood of them."""
_UNDECIDED = -1
F = TypeVar("F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Octets that are no frame: why the first of them is none, and under which cause they count."""

    reason: str
    cause: Unused = Unused.NOT_A_FRAME


_EMPTY = Damage(reason="a header without an APDU", cause=Unused.EMPTY)
_CUT = Damage(reason="a frame was cut short")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Generic[F]):
    """A frame and how many octets it takes; None for a frame without anything in it."""

    frame: F | None = field(repr=False)
    octets: int


class NoFrame(Exception):
    """Octets that begin no frame, so that where the next one begins is to be found."""

    def __init__(self, reason: str, cause: Unused = Unused.NOT_A_FRAME) -> None:
        super().__init__(reason)
        self._cause = cause

    @property
    def damage(self) -> Damage:
        """What the octets count as."""
        return Damage(reason=self.args[0], cause=self._cause)


class Deframer(ABC, Generic[F]):
    """Frames of one kind out of a stream; `noise` counts the octets that were passed over.

    `START` are the first octets of all frames that prove themselves. The buffer holds at most one frame as its header
    announces it, which `parse` bounds, and what came with its last octets. Behind more than MAX_NOISE octets in a row
    that are no frame nothing is looked for any more.
    """

    START: ClassVar[bytes]

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lost = False
        self._run = 0
        self.noise = 0

    @abstractmethod
    def parse(self, buffer: bytearray, at: int) -> Whole[F] | None:
        """Return the frame at an offset, None while it is not whole; NoFrame where none begins."""

    @abstractmethod
    def proves(self, frame: F) -> bool:
        """Say whether a whole frame proves itself."""

    @abstractmethod
    def may_prove(self, buffer: bytearray, at: int) -> bool:
        """Say whether an incomplete frame may prove itself once it is whole."""

    @property
    def pending(self) -> int:
        """Octets of a frame that is not complete."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[F | Damage]:
        """Return the frames that `data` completed, and one Damage for each run of octets that are none."""
        self._buffer += data
        return self._found(ended=False)

    def finish(self) -> list[F | Damage]:
        """Return what is whole now that no more will come; the rest is dropped."""
        found = self._found(ended=True)
        self._lost, self._run = False, 0
        return found

    def _found(self, *, ended: bool) -> list[F | Damage]:
        found: list[F | Damage] = []
        while self._buffer:
            if self._run > MAX_NOISE:
                self._drop(len(self._buffer), _CUT, found)
                break
            try:
                whole = self.parse(self._buffer, 0)
            except NoFrame as error:
                self._skip(_CUT if self._lost else error.damage, found)  # one is told for each run
                continue
            if whole is None and ended:  # what may stand behind its beginning is come to in turn
                self._skip(_CUT, found)
                continue
            proven = whole is not None and self._proven(whole)
            if self._lost and whole is not None and not proven:
                self._skip(Damage(reason="octets that prove no frame"), found)
                continue
            behind = self._another(len(self._buffer) if whole is None else whole.octets, proven=proven)
            if behind > 0:
                self._drop(behind, _CUT, found)
            elif whole is None or (behind == _UNDECIDED and not ended and not proven):
                break
            else:
                self._lost, self._run = False, 0
                del self._buffer[: whole.octets]
                found.append(_EMPTY if whole.frame is None else whole.frame)
        return found

    def _proven(self, whole: Whole[F]) -> bool:
        return whole.frame is not None and self.proves(whole.frame)

    def _skip(self, damage: Damage, found: list[F | Damage]) -> None:
        """Pass over what may not begin a frame that proves itself, and at least one octet."""
        at = self._buffer.find(self.START, 1)
        if at < 0:  # what begins a frame may be cut itself
            cut = len(self.START) - 1
            split = len(self._buffer) > cut and cut and self._buffer.endswith(self.START[:cut])
            at = len(self._buffer) - (cut if split else 0)
        self._drop(at, damage, found)

    def _drop(self, count: int, damage: Damage, found: list[F | Damage]) -> None:
        if not self._lost:
            found.append(damage)
            self._lost = True
        self._run += count
        self.noise += count
        del self._buffer[:count]

    def _another(self, end: int, *, proven: bool) -> int:
        """Return where, within `end` octets, a frame begins that proves itself; 0 for nowhere, or undecided yet.

        In one that proves itself, too, only one counts that ends behind it: the end of the first was never sent.
        """
        at, undecided = 0, 0
        for _ in range(MAX_CANDIDATES):
            at = self._buffer.find(self.START, at + 1, end + len(self.START) - 1)
            if at < 0:
                break
            try:
                whole = self.parse(self._buffer, at)
            except NoFrame:
                continue
            if whole is None:
                undecided = _UNDECIDED if self.may_prove(self._buffer, at) else undecided
            elif self._proven(whole) and (not proven or at + whole.octets > end):
                return at
        return undecided


class WrapperFrames(Deframer[WrapperApdu]):
    """Wrapper frames with APDUs of at most `limit` octets; a header alone is none, and counted."""

    START = wrapper.VERSION.to_bytes(2, "big")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def parse(self, buffer: bytearray, at: int) -> Whole[WrapperApdu] | None:
        """See `Deframer`."""
        head = bytes(buffer[at : at + wrapper.HEADER_OCTETS])
        if head[:2] != self.START[: len(head)]:
            raise NoFrame("not a DLMS wrapper header")
        if len(head) < wrapper.HEADER_OCTETS:
            return None
        source, destination, length = (int.from_bytes(head[i : i + 2], "big") for i in (2, 4, 6))
        if length > self._limit:
            raise NoFrame(f"a push of {length} octets; {self._limit} are allowed")
        octets = wrapper.HEADER_OCTETS + length
        if len(buffer) < at + octets:
            return None
        apdu = bytes(buffer[at + wrapper.HEADER_OCTETS : at + octets])
        frame = WrapperApdu(source=source, destination=destination, apdu=apdu) if apdu else None
        return Whole(frame=frame, octets=octets)

    def proves(self, frame: WrapperApdu) -> bool:
        """Say whether the APDU's own lengths agree with the header's."""
        return notification.measured(frame.apdu) == len(frame.apdu)

    def may_prove(self, buffer: bytearray, at: int) -> bool:
        """Say whether a push may follow an incomplete frame's header."""
        tag = buffer[at + wrapper.HEADER_OCTETS : at + wrapper.HEADER_OCTETS + 1]
        return not tag or tag[0] in notification.PUSH_TAGS or tag[0] == gbt.TAG


class MBusFrames(Deframer[LongFrame]):
    """M-Bus frames, of which long ones prove themselves by start, lengths, sum and stop."""

    START = bytes((mbus.START,))

    def parse(self, buffer: bytearray, at: int) -> Whole[LongFrame] | None:
        """See `Deframer`."""
        try:
            found = mbus.leading_frame(bytes(buffer[at : at + mbus.MAX_LENGTH + mbus.AROUND]))
        except mbus.WrongChecksum as error:
            raise NoFrame(error.args[0], Unused.BAD_CHECK) from error
        except MeterProtocolError as error:
            raise NoFrame(error.args[0]) from error
        return None if found is None else Whole(frame=found[0], octets=found[1])

    def proves(self, frame: LongFrame) -> bool:
        """Say whether it is a long frame."""
        return frame.ci >= 0

    def may_prove(self, buffer: bytearray, at: int) -> bool:
        """Say whether an incomplete frame is a long one."""
        return buffer[at] == mbus.START
