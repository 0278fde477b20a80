"""Reads conversations with two directions (a trace file, a capture): frames put together, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from protocols.capture.recorded import Conversations, RecordedOctets, arrow_and_time
from protocols.capture.tree import MAX_NODES, Node, WrongByte, shown
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.framing.hdlc import FLAG, FORMAT_TYPE, crc, told_octets
from protocols.dlms.trace.apdus import apdu_name
from protocols.dlms.trace.frames import TraceReader
from protocols.dlms.trace.state import TraceState

MAX_PROBLEMS = 1_000
"""Wrong places that are listed; a capture of another protocol has many."""
MAX_CONVERSATIONS = 10_000
MAX_HELD = 64
"""Octets of one direction that may wait for what tells DLMS from another protocol."""
MAX_STARTS = 64
"""Flags of one piece that are tried as the start of the first frame."""
_WRAPPER = b"\x00\x01"
_HEADER = 8
_LONGEST_HEADER = 2 + 4 + 4 + 1 + 2
"""Octets of an HDLC header: format, two addresses, control, check sequence."""


@dataclass(slots=True)
class _DirectionBuffer:
    octets: bytearray = field(default_factory=bytearray)
    places: list[int] = field(default_factory=list)
    last: RecordedOctets | None = None


@dataclass(slots=True)
class _Conversation:
    reader: TraceReader
    recognised: bool = False
    held: list[RecordedOctets] = field(default_factory=list)
    directions: dict[bool, _DirectionBuffer] = field(default_factory=dict)


def decode_conversations(
    recorded: Iterable[RecordedOctets], known: Callable[[], TraceState]
) -> Conversations:
    """Return the trees of conversations that were recorded with two directions, each piece with its time.

    `recorded` comes in the order of time; `known` makes the state (keys, titles) that each conversation begins
    with. Nothing in the octets raises; what `recorded` itself raises passes. A wrong unit is noted, and reading
    goes on with the next one, where the framing tells where that begins.
    """
    reader = _ConversationsReader(known)
    full = False
    for piece in recorded:
        if not reader.take(piece):
            full = True
            break
    if not full:
        reader.finish()
    return Conversations(
        parts=tuple(reader.root.children),
        problems=tuple(reader.problems),
        unknown=frozenset(number for number, one in reader.conversations.items() if not one.recognised),
    )


class _ConversationsReader:
    """All conversations of one input; they share one bound of parts."""

    def __init__(self, known: Callable[[], TraceState]) -> None:
        self._known = known
        self.root = Node(0, "trace")
        self.problems: list[WrongByte] = []
        self.conversations: dict[int, _Conversation] = {}
        self._budget = [MAX_NODES]

    def take(self, piece: RecordedOctets) -> bool:
        """Read what a piece completes; False when no more can be read."""
        conversation = self.conversations.get(piece.conversation)
        if conversation is None:
            if len(self.conversations) >= MAX_CONVERSATIONS:
                return True
            conversation = self.conversations[piece.conversation] = _Conversation(
                TraceReader(self._known(), self._budget)
            )
        if conversation.recognised:
            self._add(conversation, piece)
        else:
            self._recognise(conversation, piece)
        return self._budget[0] > 0 and len(self.problems) < MAX_PROBLEMS

    def _recognise(self, conversation: _Conversation, piece: RecordedOctets) -> None:
        """Hold pieces back until they tell what they are: a wrapper header and a tag, or a right HDLC header."""
        conversation.held.append(piece)
        mine = [one for one in conversation.held if one.sent is piece.sent]
        octets = b"".join(one.octets for one in mine)
        start = _beginning(octets)
        if start is None and not piece.whole and len(octets) < MAX_HELD and _may_begin(octets):
            return
        if start is None:
            for one in mine:
                self._show_other(one)
            conversation.held = [one for one in conversation.held if one.sent is not piece.sent]
            return
        conversation.recognised = True
        held, conversation.held = conversation.held, []
        for one in held:
            skipped = min(start, len(one.octets)) if one.sent is piece.sent else 0
            if skipped:
                start -= skipped
                self._show_other(replace(one, octets=one.octets[:skipped]))
            if one.octets[skipped:]:
                self._add(
                    conversation, replace(one, octets=one.octets[skipped:], offset=one.offset + skipped)
                )

    def _add(self, conversation: _Conversation, piece: RecordedOctets) -> None:
        direction = conversation.directions.setdefault(piece.sent, _DirectionBuffer())
        if piece.missing and direction.octets:
            self._read_rest(conversation, direction)
        direction.octets += piece.octets
        direction.places += range(piece.offset, piece.offset + len(piece.octets))
        direction.last = piece
        flags = len(direction.octets) - len(direction.octets.lstrip(bytes((FLAG,))))
        if flags > 1:  # a line at rest may send nothing else
            del direction.octets[: flags - 1], direction.places[: flags - 1]
        while (length := _unit(direction.octets)) is not None:
            self._read(conversation, direction, length)
        if piece.whole:
            self._read_rest(conversation, direction)

    def finish(self) -> None:
        """Read what was cut off at the end."""
        for conversation in self.conversations.values():
            for piece in conversation.held:
                self._show_other(piece)
            for direction in conversation.directions.values():
                self._read_rest(conversation, direction)

    def _read_rest(self, conversation: _Conversation, direction: _DirectionBuffer) -> None:
        if any(octet != FLAG for octet in direction.octets):
            self._read(conversation, direction, len(direction.octets))
        direction.octets.clear()
        direction.places.clear()

    def _read(self, conversation: _Conversation, direction: _DirectionBuffer, length: int) -> None:
        octets, places = bytes(direction.octets[: min(length, MAX_OCTETS)]), direction.places[:length]
        del direction.octets[:length], direction.places[:length]
        piece = direction.last
        assert piece is not None
        node = Node(places[0], arrow_and_time(piece), piece.label)
        self.root.children.append(node)
        self._budget[0] -= 1
        try:
            if octets[:2] != _WRAPPER and not _is_frame(octets):
                conversation.reader.cursor(octets, places, node).octets(
                    "octets that are no frame", len(octets)
                )
                return
            conversation.reader.read(octets, places, node, (piece.sent,))
        except WrongByte as error:
            self._note(node, error, piece)

    def _show_other(self, piece: RecordedOctets) -> None:
        if not piece.always_shown or self._budget[0] <= 0:
            return
        node = Node(piece.offset, arrow_and_time(piece), piece.label)
        node.children.append(Node(piece.offset, "octets that are not DLMS", shown(piece.octets)))
        self.root.children.append(node)
        self._budget[0] -= 2

    def _note(self, node: Node, error: WrongByte, piece: RecordedOctets) -> None:
        reason = f"{error.reason} ({piece.where})" if piece.where else error.reason
        found = WrongByte(error.offset, reason, error.space)
        node.children.append(Node(error.offset, "WRONG", error.reason, error.space))
        self.problems.append(found)


def _beginning(octets: bytes) -> int | None:
    """Return where DLMS begins: a wrapper header with an APDU, or the first HDLC frame with a right header."""
    if octets[:2] == _WRAPPER and len(octets) > _HEADER and any(octets[6:8]):
        return 0 if apdu_name(octets[_HEADER]) is not None else None
    at = octets.find(FLAG)
    for _ in range(MAX_STARTS):
        if at < 0:
            break
        if _right_header(octets[at + 1 : at + 1 + _LONGEST_HEADER]):
            return at
        at = octets.find(FLAG, at + 1)
    return None


def _may_begin(octets: bytes) -> bool:
    """Return whether more octets could still tell."""
    if octets[:2] == _WRAPPER[: len(octets)] and len(octets) <= _HEADER:
        return True
    last = octets.rfind(FLAG)
    return last >= 0 and len(octets) - last <= _LONGEST_HEADER


def _right_header(body: bytes) -> bool:
    if len(body) < 7 or body[0] & 0xF0 != FORMAT_TYPE:
        return False
    return any(crc(body[:end]) == body[end : end + 2] for end in range(5, len(body) - 1))


def _is_frame(octets: bytes) -> bool:
    return octets.lstrip(bytes((FLAG,)))[0] & 0xF0 == FORMAT_TYPE


def _unit(octets: bytearray) -> int | None:
    """Return the length of the whole unit that `octets` begin with; None while it is not complete."""
    if not octets:
        return None
    if octets[0] == FLAG:
        start = 0
        while start < len(octets) and octets[start] == FLAG:
            start += 1
        if start == len(octets):
            return None
        told = told_octets(octets, start)
        if told == 0:
            return _to_next_flag(octets, start)
        return (
            None if told is None or len(octets) <= start + told else start + told + 1
        )  # with the flag behind it
    if len(octets) > 1 and (told := told_octets(octets, 0)):  # the flag before served the frame before
        return told + 1 if len(octets) > told else None
    if octets[:2] == _WRAPPER[: len(octets)]:
        if len(octets) < _HEADER:
            return None
        end = _HEADER + int.from_bytes(octets[6:8], "big")
        return end if len(octets) >= end else None
    return _to_next_flag(octets, 0)


def _to_next_flag(octets: bytearray, start: int) -> int:
    """Return how many octets are no frame: up to the next flag, or all."""
    at = octets.find(FLAG, start)
    return at if at > 0 else len(octets)
