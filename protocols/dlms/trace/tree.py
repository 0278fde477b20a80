"""The tree that a decoded trace becomes: nodes with byte offsets, and a cursor that adds them as it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.axdr import MAX_DEPTH
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.types import Data, Tag
from protocols.errors import MeterProtocolError
from protocols.reading import Obis

MAX_NODES = 300_000
"""Parts of one tree; a compact-array of 20 octets can announce very many."""
MAX_SHOWN = 96
"""Octets of one field that are written out; longer ones are cut."""


class WrongByte(MeterProtocolError):
    """The trace is wrong at `offset` of `space` ("" the trace itself, else a deciphered or joined text)."""

    def __init__(self, offset: int, reason: str, space: str = "") -> None:
        where = f"offset {offset:#06x} ({offset})" + (f" of the {space} text" if space else "")
        super().__init__(f"wrong at {where}: {reason}")
        self.offset = offset
        self.reason = reason
        self.space = space


@dataclass(slots=True)
class Node:
    """One part of the trace. `offset` counts octets in `space` (see WrongByte)."""

    offset: int
    name: str
    value: str = ""
    space: str = ""
    children: list[Node] = field(default_factory=list)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Write the tree: offset, indentation, name, value. `+` marks offsets in another text."""
        mark = "+" if self.space else " "
        yield f"{mark}{self.offset:04x}  {'  ' * depth}{self.name}" + (
            f": {self.value}" if self.value else ""
        )
        for child in self.children:
            yield from child.lines(depth + 1)

    def document(self) -> dict[str, Any]:
        """Return the tree for JSON."""
        own: dict[str, Any] = {"offset": self.offset, "name": self.name}
        own |= {"value": self.value} if self.value else {}
        own |= {"of": self.space} if self.space else {}
        return own | ({"children": [c.document() for c in self.children]} if self.children else {})


class TraceCursor(Cursor):
    """A cursor that knows where its octets stand in the trace and hangs what it reads into the tree."""

    def __init__(
        self,
        data: bytes,
        places: Sequence[int],
        node: Node,
        space: str = "",
        budget: list[int] | None = None,
    ) -> None:
        super().__init__(data)
        self.budget = [MAX_NODES] if budget is None else budget  # one for all cursors of a tree
        self.places = places
        self.node = node
        self.space = space
        self._last = 0

    def place(self, offset: int) -> int:
        """Return the place of an octet of this cursor in its text."""
        if offset < len(self.places):
            return self.places[offset]
        return self.places[-1] + 1 if self.places else 0

    def take(self, count: int) -> bytes:
        """Consume exactly `count` octets; what is missing is missing at the end."""
        if count > self.left:
            short = f"{count} octets wanted, {self.left} left"
            raise WrongByte(self.place(self.offset + self.left), short, self.space)
        if count:
            self._last = self.offset
        return super().take(count)

    def u8(self) -> int:
        """Consume one octet."""
        return self.take(1)[0]

    def end(self, text: str) -> MeterProtocolError:
        """Make an error at the octets read last, which announce what is not there."""
        return self.error(text)

    def error(self, text: str) -> MeterProtocolError:
        """Make an error at the octets read last."""
        return WrongByte(self.place(self._last), text, self.space)

    def finish(self, what: str) -> None:
        """Refuse octets after the end of `what`, at the first of them."""
        if self.left:
            after = f"{self.left} octets after the end of {what}"
            raise WrongByte(self.place(self.offset), after, self.space)

    @contextmanager
    def group(self, name: str, value: str = "") -> Iterator[Node]:
        """Hang what is read inside under one node, which stays when that fails."""
        self._spend()
        outer, node = self.node, Node(self.place(self.offset), name, value, self.space)
        outer.children.append(node)
        self.node = node
        try:
            yield node
        finally:
            self.node = outer

    def number(self, name: str, octets: int = 1, names: Mapping[int, str] | None = None) -> int:
        """Read a number, with its name where it has one."""
        with self.group(name) as node:
            value = self.unsigned(octets)
            node.value = f"{value} ({names[value]})" if names and value in names else str(value)
        return value

    def octets(self, name: str, count: int, *, hidden: bool = False) -> bytes:
        """Read octets and show them, or only how many when they are a secret."""
        with self.group(name) as node:
            value = self.take(count)
            node.value = f"{count} octets, not shown" if hidden else shown(value)
        return value

    def part(self, count: int) -> TraceCursor:
        """Consume `count` octets as a cursor of their own, under the same node."""
        start = self.offset
        return TraceCursor(
            self.take(count), self.places[start : start + count], self.node, self.space, self.budget
        )

    def value(self, name: str = "data", depth: int = 0) -> None:
        """Read one COSEM value."""
        with self.group(name) as node:
            if depth > MAX_DEPTH:
                raise WrongByte(node.offset, f"nested deeper than {MAX_DEPTH}", self.space)
            code = self._peek()
            if code in (Tag.ARRAY, Tag.STRUCTURE):
                self._sequence(node, Tag(self.u8()), depth)
                return
            try:
                data = axdr.read(self)
            except WrongByte:
                raise
            except MeterProtocolError as error:  # inside the text of a compact-array
                raise WrongByte(node.offset, str(error), self.space) from error
            self._hang(node, data)

    def _sequence(self, node: Node, tag: Tag, depth: int) -> None:
        count = self.length()
        if count > self.left:
            raise self.error(f"{count} elements announced, {self.left} octets left")
        node.value = f"{tag.name.lower()} of {count}"
        for index in range(count):
            self.value(f"[{index}]", depth + 1)

    def _hang(self, node: Node, data: Data) -> None:
        name = data.tag.name.lower().replace("_", "-")
        if data.tag in (Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY):
            node.value = f"{name} of {len(data.items)}"
            for index, item in enumerate(data.items):
                self._spend()
                child = Node(node.offset, f"[{index}]", "", node.space)
                node.children.append(child)
                self._hang(child, item)
            return
        if isinstance(data.value, bytes):
            node.value = f"{name} {shown(data.value)}{_meaning(data.value)}"
        elif data.value is None:
            node.value = name
        else:
            node.value = f"{name} {data.value!r}" if isinstance(data.value, str) else f"{name} {data.value}"

    def _spend(self) -> None:
        self.budget[0] -= 1
        if self.budget[0] < 0:
            raise WrongByte(self.place(self._last), f"more than {MAX_NODES} parts", self.space)

    def _peek(self) -> int:
        return self.octet_at(self.offset) if self.left else -1

    def octets_before(self, count: int) -> bytes:
        """Return the octets read last, once more."""
        return self._data[self.offset - count : self.offset]

    def expect(self, tag: int) -> None:
        """Consume one octet that must be `tag`."""
        if (found := self.u8()) != tag:
            raise self.error(f"{found:#04x} where {tag:#04x} is expected")

    def octet_at(self, offset: int) -> int:
        """Return an octet without consuming it."""
        return self._data[offset]


def shown(octets: bytes) -> str:
    """Write octets as hex, the middle of many left out."""
    if len(octets) <= MAX_SHOWN:
        return octets.hex(" ")
    return f"{octets[:MAX_SHOWN].hex(' ')} … ({len(octets)} octets)"


def _meaning(octets: bytes) -> str:
    """Say what octets most likely are: a time, an OBIS code or text."""
    if len(octets) == cosem_time.OCTETS and 1990 <= int.from_bytes(octets[:2], "big") < 2100:
        at = cosem_time.decode(octets).at
        return f" ({at:%Y-%m-%d %H:%M:%S} UTC)" if at is not None else ""
    if len(octets) == 6 and octets[5] == 0xFF:
        return f" ({Obis.from_bytes(octets)})"
    if len(octets) > 3 and all(0x20 <= octet < 0x7F for octet in octets):
        return f" ({octets.decode('ascii')})"
    return ""
