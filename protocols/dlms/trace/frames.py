"""Reads a trace: HDLC and M-Bus frames, wrapper headers, bare APDUs or values to one tree with byte offsets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.capture.tree import Node, WrongByte
from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import CONFIRM
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import MAX_OCTETS, Cursor
from protocols.dlms.data.syntax import CosemValue, Rest, UnsignedNumber
from protocols.dlms.framing import mbus
from protocols.dlms.framing.hdlc import (
    FLAG,
    FORMAT_TYPE,
    FRMR,
    FRMR_REASONS,
    LLC_REQUEST,
    LLC_RESPONSE,
    MAX_FRAME,
    SEGMENTED,
    UI,
    Address,
    crc,
    leading_frame,
)
from protocols.dlms.trace.apdus import ApduReader, apdu_name
from protocols.dlms.trace.state import TraceState
from protocols.dlms.trace.tree import TraceCursor
from protocols.errors import MeterProtocolError

if TYPE_CHECKING:
    from protocols.dlms.security.suites import Keys
    from protocols.dlms.trace.pairs import TracePairs

MAX_CANDIDATES = 64
"""Places at which reading goes on behind wrong octets, and flags that are tried for each."""
LONG_OCTETS = 3
"""Octets of a bare long with its tag."""
_U_FRAMES = {0x83: "SNRM", 0x63: "UA", 0x43: "DISC", 0x0F: "DM", 0x87: "FRMR", 0x03: "UI"}
_S_FRAMES = {0x01: "RR", 0x05: "RNR", 0x09: "REJ"}
_PARAMETERS = {5: "max transmit", 6: "max receive", 7: "window transmit", 8: "window receive"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a trace holds; `problem` is the first wrong byte, behind which only whole HDLC frames are read."""

    parts: tuple[Node, ...]
    problem: WrongByte | None = None

    def lines(self) -> list[str]:
        """Return the tree as lines for people."""
        return [line for part in self.parts for line in part.lines()]

    def document(self) -> dict[str, object]:
        """Return the tree and the problem for JSON."""
        wrong = self.problem
        found = wrong and {"offset": wrong.offset, "of": wrong.space, "reason": wrong.reason}
        return {"parts": [part.document() for part in self.parts], "problem": found}


def decode_trace(
    data: bytes,
    *,
    keys: Keys | None = None,
    titles: Sequence[bytes] = (),
    secret: bytes | None = None,
    dedicated: bytes = b"",
    pairs: TracePairs | None = None,
) -> Trace:
    """Return the tree of a trace: any number of frames, APDUs or values in a row, segments and blocks joined.

    `data` are its octets: HDLC frames, wrapper headers, bare APDUs or values. `keys` open ciphered APDUs; their
    system titles are taken from the trace's own AARQ and AARE, then from `titles`. `dedicated` opens ded- APDUs
    until an initiate-request brings another; `secret` checks HLS 2; `pairs` open wrapped and agreed keys of
    general-ciphering and check signatures.

    Returns a tree with byte offsets, up to the end or a wrong octet; the first of those is its `problem`. Behind one
    reading goes on where a right HDLC frame begins. Nothing in the octets raises, only a trace above `MAX_OCTETS` does:
    MeterProtocolError.

    >>> print(decode_trace(bytes.fromhex("C001C100080000010000FF0200")).lines()[3].strip())
    0003    attribute: class 8, 0-0:1.0.0*255, attribute 2 (clock: time)
    """
    if len(data) > MAX_OCTETS:
        raise MeterProtocolError(f"a trace of {len(data)} octets; {MAX_OCTETS} are read at once")
    root = Node(0, "trace")
    state = TraceState(keys=keys, titles=tuple(titles), secret=secret, dedicated=dedicated, pairs=pairs)
    problem: WrongByte | None = None
    reader = TraceReader(state)
    at: int | None = 0
    for _ in range(MAX_CANDIDATES):
        if at is None:
            break
        try:
            reader.read(data[at:], range(at, len(data)), root)
            reader.finish(len(data))
        except WrongByte as error:
            problem = problem or error
            at = _next_frame(data, max(at, *(part.offset for part in root.children[-1:])))
        else:
            break
    return Trace(parts=tuple(root.children), problem=problem)


class TraceReader:
    """Reads one conversation; segments wait by the addresses of their frame, blocks by direction."""

    def __init__(self, state: TraceState, parts_left: list[int] | None = None) -> None:
        self._state = state
        self._apdus = ApduReader(state, parts_left)
        self._segments: dict[tuple[int, ...], tuple[bytearray, list[int]]] = {}

    def finish(self, end: int) -> None:
        """Take note that all was read; WrongByte at `end` where a segmented APDU has not ended."""
        if self._segments:
            self._segments.clear()
            raise WrongByte(end, "the trace ends in the middle of a segmented APDU")

    def cursor(self, data: bytes, places: Sequence[int], node: Node) -> TraceCursor:
        """Return a cursor over octets whose places in the trace are `places`; what is read hangs under `node`."""
        return TraceCursor(data, places, node, self._apdus)

    def read(self, data: bytes, places: Sequence[int], node: Node, way: tuple[object, ...] = ()) -> None:
        """Read whole frames, APDUs or values; a segmented APDU may go on in the next call."""
        cursor = self.cursor(data, places, node)
        answered = False
        while cursor.left:
            self._state.way = way
            if answered and self._left_over(cursor):
                return
            answered = False
            first, second = cursor.peek(), cursor.data[cursor.offset + 1] if cursor.left > 1 else -1
            if first == FLAG or first & 0xF0 == FORMAT_TYPE:
                self._frame(cursor)
            elif (first, second) == (0, 1):
                self._wrapper(cursor)
            elif first == mbus.START and cursor.data[cursor.offset + 3 : cursor.offset + 4] == b"\x68":
                self._mbus(cursor)
            elif first == CONFIRM and cursor.left == LONG_OCTETS:
                cursor.field(CosemValue())  # its tag is that of a long, too
            elif (first == 1 and not _initiates(cursor)) or (apdu_name(first) is None and first < 0x60):
                cursor.field(CosemValue())
            else:
                _skip_llc(cursor)
                answered = self._apdus.read_apdu(cursor)

    def _left_over(self, cursor: TraceCursor) -> bool:
        """Show what follows a bare answer and begins neither a frame, nor an APDU, nor a value that is whole."""
        rest = Cursor(cursor.data[cursor.offset :])
        first = rest.peek()
        known = apdu_name(first) and (first != 1 or _initiates(cursor))
        if known or first == FLAG or first & 0xF0 == FORMAT_TYPE or rest.data[:2] == b"\0\1":
            return False
        with suppress(MeterProtocolError):
            axdr.read(rest)
            return False
        cursor.finish_apdu("the answer", answer=True)
        return True

    def _wrapper(self, cursor: TraceCursor) -> None:
        with cursor.group("wrapper") as node:
            cursor.take(2)
            source, destination = cursor.unsigned(2), cursor.unsigned(2)
            length = cursor.unsigned(2)
            node.value = f"{source} → {destination}, {length} octets"
            if not length:
                raise cursor.error("a wrapper header without an APDU")
            self._state.way = (*self._state.way, source, destination)
            self._carried(cursor.part(length))

    def _mbus(self, cursor: TraceCursor) -> None:
        """Read one long frame of M-Bus (EN 13757-2) with the DLMS transport layer in it."""
        with cursor.group("M-Bus frame") as node:
            cursor.take(1)
            length = cursor.u8()
            if cursor.u8() != length or length < mbus.HEADER + mbus.PORTS:
                raise cursor.error("an M-Bus frame has its length twice, and room for its header")
            cursor.expect(mbus.START)
            body = cursor.data[cursor.offset : cursor.offset + length]
            control, address, ci, source, destination = (cursor.u8() for _ in range(5))
            node.value = f"control {control:#04x}, address {address}, CI {ci:#04x}"
            part = cursor.part(length - mbus.HEADER - mbus.PORTS)
            if cursor.u8() != sum(body) & 0xFF:
                raise cursor.error(f"M-Bus checksum is wrong: {sum(body) & 0xFF:#04x} is expected")
            cursor.expect(mbus.STOP)
            if ci not in mbus.DLMS_CI:
                part.field(Rest("data"))
                return
            node.value += f", {source} → {destination}, segment {ci & mbus.SEQUENCE}"
            part.node = node
            self._information(part, (address, 512, source, destination), not ci & mbus.FINAL)

    def _frame(self, cursor: TraceCursor) -> None:
        flagged = False
        while cursor.left and cursor.peek() == FLAG:
            cursor.take(1)
            flagged = True
        if not cursor.left:
            return
        with cursor.group("HDLC frame") as node:
            high = cursor.u8()
            if high & 0xF0 != FORMAT_TYPE:
                raise cursor.error(f"HDLC format {high:#04x} is not type 3")
            length = (high & 7) << 8 | cursor.u8()
            if length < 7:
                raise cursor.error(f"an HDLC frame of {length} octets is too short")
            # A frame cut short is read as far as it goes, so that a wrong header is seen before the cut.
            start = cursor.offset - 2
            self._body(cursor, start, length, bool(high & SEGMENTED), node)
            if flagged:
                cursor.expect(FLAG)

    def _body(self, cursor: TraceCursor, start: int, length: int, segmented: bool, node: Node) -> None:
        destination, source = _address(cursor), _address(cursor)
        control = cursor.u8()
        node.value = f"{Address.decode(source)} → {Address.decode(destination)}, {_control_name(control)}"
        node.value += ", segmented" if segmented else ""
        info = start + length - cursor.offset - 4
        _check(cursor, cursor.offset - start, "header check sequence")
        if info == -2:
            return  # no information: the one check sequence covers the whole frame
        if info < 0:
            raise cursor.error(f"length {length} is too short for this header and its check sequences")
        body = cursor.part(info)
        _check(cursor, cursor.offset - start, "frame check sequence")
        body.node = node
        if control & 0xEF == FRMR:
            _rejection(body)
        elif control & 1 and control & 0xEF != UI:
            _parameters(body)
        elif info:
            self._information(body, (*destination, 256, *source), segmented)

    def _information(self, body: TraceCursor, way: tuple[int, ...], segmented: bool) -> None:
        octets, places = self._segments.pop(way, (bytearray(), []))
        places += body.places
        octets += body.rest()
        if segmented:
            if len(octets) > MAX_OCTETS:
                raise body.error("a segmented APDU without an end")
            self._segments[way] = (octets, places)
            return
        self._state.way = (*self._state.way, *way)
        whole = self.cursor(bytes(octets), places, body.node)
        _skip_llc(whole)
        self._carried(whole)

    def _carried(self, cursor: TraceCursor) -> None:
        """Read the APDU in a frame, or several pushes; what is left over behind them, or behind an answer, is shown."""
        pushes = cursor.left > 0 and cursor.peek() in notification.PUSH_TAGS
        answer = False
        for _ in notification.parts(cursor.data[cursor.offset :])[0] if pushes else range(1):
            answer = self._apdus.read_apdu(cursor)
        cursor.finish_apdu("the APDU", answer=answer or pushes)


def _next_frame(data: bytes, before: int) -> int | None:
    """Return where behind a place a right HDLC frame begins; None where none does."""
    at = before
    for _ in range(MAX_CANDIDATES):
        at = data.find(FLAG, at + 1)
        if at < 0:
            return None
        if leading_frame(data[at : at + MAX_FRAME + 2]) is not None:
            return at
    return None


def _initiates(cursor: TraceCursor) -> bool:
    """Return whether an initiate-request begins here, not an array of values: both begin with 01."""
    return b"\x06\x5f\x1f\x04" in cursor.data[cursor.offset : cursor.offset + 30]


def _rejection(body: TraceCursor) -> None:
    """Read what FRMR says (ISO 13239): the control field it rejects, its own state, and why."""
    if body.left != 3:
        if body.left:
            body.field(Rest("information"))
        return
    with body.group("rejected") as node:
        node.value = _control_name(body.u8())
    with body.group("state") as node:
        state = body.u8()
        node.value = f"sends {state >> 1 & 7}, awaits {state >> 5}"
    with body.group("reason") as node:
        reason = body.u8()
        named = [text for bit, text in FRMR_REASONS if reason & bit]
        node.value = f"{reason:#04x} ({', '.join(named) or 'none given'})"


def _check(cursor: TraceCursor, covered: int, what: str) -> None:
    expected = crc(cursor.data[cursor.offset - covered : cursor.offset])
    if cursor.take(2) != expected:
        raise cursor.error(f"HDLC {what} is wrong: {expected.hex(' ')} is expected")


def _address(cursor: TraceCursor) -> bytes:
    octets = bytearray(cursor.take(1))
    while not octets[-1] & 1 and len(octets) < 4:
        octets += cursor.take(1)
    if not octets[-1] & 1 or len(octets) == 3:
        raise cursor.error("an HDLC address has 1, 2 or 4 octets, the last of them odd")
    return bytes(octets)


def _control_name(control: int) -> str:
    if not control & 1:
        return f"I {control >> 1 & 7} (awaits {control >> 5})"
    if control & 3 == 1:
        return f"{_S_FRAMES.get(control & 0x0F, 'S?')} (awaits {control >> 5})"
    return _U_FRAMES.get(control & 0xEF, f"control {control:#04x}")


def _parameters(body: TraceCursor) -> None:
    """Read the limits in SNRM or UA; other frames may carry anything there."""
    if body.left < 3 or body.data[:2] != b"\x81\x80":
        if body.left:
            body.field(Rest("information"))
        return
    body.take(2)
    group = body.part(body.u8())
    while group.left:
        name = group.u8()
        group.field(UnsignedNumber(_PARAMETERS.get(name, f"parameter {name}"), group.u8()))


def _skip_llc(cursor: TraceCursor) -> None:
    """Take the LLC header, which some meters send twice."""
    while cursor.data[cursor.offset : cursor.offset + 3] in (LLC_REQUEST, LLC_RESPONSE):
        cursor.octets("LLC", 3)
