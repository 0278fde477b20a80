"""Modbus traffic as a tree: RTU, TCP and ASCII frames, registers, and what a model says they are; pure.

A frame tells neither its direction nor, on RTU, where it ends: a request is told from an answer by its length and
check sum, and an answer's registers have the address of the last request to its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from protocols.capture.recorded import RecordedOctets, arrow_and_time
from protocols.capture.tree import MAX_NODES, Node, WrongByte, shown
from protocols.modbus.client.failure import EXCEPTIONS
from protocols.modbus.framing.hunt import MAX_ASCII, MAX_FRAME, MBAP, Frame, ascii_line, frame_at, mbap_at

MAX_PROBLEMS = 1_000
_COLON = 0x3A
_FUNCTIONS = {
    1: "read coils",
    2: "read discrete inputs",
    3: "read holding registers",
    4: "read input registers",
    5: "write one coil",
    6: "write one register",
    15: "write coils",
    16: "write registers",
    17: "report server id",
    20: "read file record",
    43: "read device identification",
}
_REGISTERS = (3, 4)
_ROW = 8

Describe = Callable[[int, int, Sequence[int]], Iterable[tuple[int, str, str]]]
"""Given function, first address and words of an answer: offsets in words, names and values of what stands there."""


class Framing(Enum):
    """How frames are told apart."""

    TCP = "Modbus TCP"
    ASCII = "Modbus ASCII"
    RTU = "Modbus RTU"


def framing_of(octets: bytes) -> Framing | None:
    """Return the framing of octets that are whole frames of Modbus from the first to the last; None for others."""
    for framing in Framing:
        reader = ModbusReader(framing)
        reader.take(RecordedOctets(conversation=0, sent=True, octets=octets, offset=0, whole=True))
        if octets and reader.explained == len(octets):
            return framing
    return None


@dataclass(slots=True)
class _Direction:
    octets: bytearray = field(default_factory=bytearray)
    places: list[int] = field(default_factory=list)
    last: RecordedOctets | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A frame at the beginning of a buffer, the octets that it takes and where its PDU begins."""

    frame: Frame
    octets: int
    pdu_at: int
    width: int = 1
    """Octets that one octet of the PDU takes."""


class ModbusReader:
    """Reads one conversation: `parts` is its tree, `problems` what is wrong, in order.

    `explained` of `total` octets are sound frames. Nothing in the octets raises.
    """

    def __init__(self, framing: Framing, describe: Describe | None = None, budget: int = MAX_NODES) -> None:
        self.framing = framing
        self.parts: list[Node] = []
        self.problems: list[WrongByte] = []
        self.explained = self.total = 0
        self._describe = describe
        self._budget = budget
        self._directions: dict[bool, _Direction] = {}
        self._asked: dict[int, tuple[int, int]] = {}

    @property
    def full(self) -> bool:
        """Say whether no more parts or problems are kept."""
        return self._budget <= 0 or len(self.problems) >= MAX_PROBLEMS

    def take(self, piece: RecordedOctets) -> None:
        """Read what a piece completes."""
        direction = self._directions.setdefault(piece.sent, _Direction())
        if piece.missing:
            self._flush(direction)
        direction.octets += piece.octets
        direction.places += range(piece.offset, piece.offset + len(piece.octets))
        direction.last = piece
        self.total += len(piece.octets)
        self._read(direction, final=piece.whole)

    def finish(self) -> None:
        """Read what was cut off at the end."""
        for direction in self._directions.values():
            self._flush(direction)

    def _flush(self, direction: _Direction) -> None:
        self._read(direction, final=True)

    def _read(self, direction: _Direction, *, final: bool) -> None:
        buffer, at, begins = direction.octets, 0, 0
        while at < len(buffer) and not self.full:
            found = self._frame(buffer, at)
            if isinstance(found, _Found):
                self._waste(direction, begins, at)
                self._show(direction, at, found)
                at += found.octets
                begins = at
            elif found is None and not final:
                break
            else:
                at += 1
        if final:
            self._waste(direction, begins, len(buffer))
            begins = len(buffer)
        elif at - begins > MAX_FRAME:
            self._waste(direction, begins, at)
            begins = at
        del buffer[:begins], direction.places[:begins]

    def _frame(self, buffer: bytearray, at: int) -> _Found | bool | None:
        """Return the frame that begins here, None while one may yet, False where none does."""
        return _AT[self.framing](buffer, at)

    def _waste(self, direction: _Direction, begins: int, end: int) -> None:
        if begins >= end or direction.last is None:
            return
        node = self._part(direction, begins)
        octets = bytes(direction.octets[begins:end])
        node.children.append(Node(node.offset, "octets that are no frame", shown(octets)))
        where = f" ({direction.last.where})" if direction.last.where else ""
        reason = f"{len(octets)} octets that are no frame of {self.framing.value}{where}"
        self.problems.append(WrongByte(node.offset, reason))
        self._budget -= 1

    def _part(self, direction: _Direction, at: int) -> Node:
        assert direction.last is not None
        node = Node(direction.places[at], arrow_and_time(direction.last), direction.last.label)
        self.parts.append(node)
        self._budget -= 1
        return node

    def _show(self, direction: _Direction, at: int, found: _Found) -> None:
        self.explained += found.octets
        frame, places = found.frame, direction.places[at : at + found.octets]
        part = self._part(direction, at)
        sent = direction.last is None or direction.last.sent
        kind = (
            "refusal" if frame.pdu[0] & 0x80 else "request" if _is_request(frame.pdu, sent=sent) else "answer"
        )
        node = Node(places[0], self.framing.value, f"unit {frame.unit}, {kind}")
        part.children.append(node)
        if frame.transaction is not None:
            node.children.append(Node(places[0], "transaction", str(frame.transaction)))
        node.children += self._pdu(frame, kind, places[found.pdu_at :: found.width])
        self._budget -= len(node.children) + 1

    def _pdu(self, frame: Frame, kind: str, places: Sequence[int]) -> Iterator[Node]:
        pdu = frame.pdu
        function = pdu[0] & 0x7F

        def place(offset: int) -> int:
            return places[min(offset, len(places) - 1)]

        yield Node(place(0), "function", f"{function}, {_FUNCTIONS.get(function, 'not known')}")
        if kind == "refusal":
            code = pdu[1] if len(pdu) > 1 else 0
            yield Node(place(1), "exception", f"{code}, {EXCEPTIONS.get(code, 'not known')}")
        elif kind == "request" and function in (1, 2, *_REGISTERS) and len(pdu) == 5:
            address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
            self._asked[frame.unit] = (function, address)
            yield Node(place(1), "address", f"{address} ({address:#06x})")
            yield Node(place(3), "count", str(count))
        elif kind == "answer" and function in _REGISTERS:
            yield self._registers(frame, place)
        elif len(pdu) > 1:
            yield Node(place(1), "data", shown(pdu[1:]))

    def _registers(self, frame: Frame, place: Callable[[int], int]) -> Node:
        data = frame.pdu[2:]
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data) - 1, 2)]
        node = Node(place(2), "registers", str(len(words)))
        asked = self._asked.pop(frame.unit, None)
        known = asked is not None and asked[0] == frame.pdu[0]
        first = asked[1] if asked is not None and known else 0
        for row in range(0, len(words), _ROW):
            name = f"{first + row:#06x}" if known else f"[{row}]"
            text = " ".join(f"{word:04x}" for word in words[row : row + _ROW])
            node.children.append(Node(place(2 + 2 * row), name, text))
        if known and self._describe is not None:
            for offset, name, value in self._describe(frame.pdu[0], first, words):
                node.children.append(Node(place(2 + 2 * offset), name, value))
        self._budget -= len(node.children)
        return node


def _is_request(pdu: bytes, *, sent: bool) -> bool:
    """Return whether a PDU asks: its length says so, and where both have one length its way does."""
    match pdu[0]:
        case 3 | 4:
            return len(pdu) == 5
        case 15 | 16:
            return len(pdu) > 5
        case 17:
            return len(pdu) == 1
        case 43:
            return len(pdu) == 4
        case 1 | 2:
            return len(pdu) == 5 and (sent or pdu[1] != 3)
    return sent


def _ascii_at(buffer: bytearray, at: int) -> _Found | bool | None:
    if buffer[at] != _COLON:
        return False
    end = buffer.find(b"\r\n", at, at + MAX_ASCII)
    if end < 0:
        return None if len(buffer) - at < MAX_ASCII else False
    frame, sound = ascii_line(buffer[at : end + 2])
    return _Found(frame, end + 2 - at, 3, 2) if frame is not None and sound else False


def _rtu_at(buffer: bytearray, at: int) -> _Found | bool | None:
    frame, size = frame_at(buffer, at)
    if frame is not None:
        return _Found(frame, size, 1)
    return None if size < 0 else False


def _mbap_at(buffer: bytearray, at: int) -> _Found | bool | None:
    if len(buffer) - at > MBAP and buffer[at + MBAP] & 0x7F not in _FUNCTIONS:
        return False
    frame, size = mbap_at(buffer, at)
    if frame is not None:
        return _Found(frame, size, MBAP)
    return None if size < 0 else False


_AT: Mapping[Framing, Callable[[bytearray, int], _Found | bool | None]] = {
    Framing.TCP: _mbap_at,
    Framing.ASCII: _ascii_at,
    Framing.RTU: _rtu_at,
}
