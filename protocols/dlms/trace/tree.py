"""The tree that a decoded trace becomes: nodes with byte offsets, and a cursor that adds them as it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

from protocols.capture.tree import MAX_NODES, Node, WrongByte, shown
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.axdr import MAX_DEPTH
from protocols.dlms.data.cursor import Cursor, Readable
from protocols.dlms.data.syntax import CosemValue, Field, T
from protocols.dlms.data.types import Data, Tag
from protocols.errors import MeterProtocolError
from protocols.obis import Obis


class Listener(Protocol):
    """What goes on beside the reading of fields: the APDUs within APDUs, and what is to be remembered."""

    parts_left: list[int]
    """Parts that the tree may still have, one number for all cursors that share it."""
    hides: bool
    """Whether the octets of values that are read now are keys or secrets: how many, and not which, is shown."""

    def read_apdu(self, cursor: TraceCursor) -> bool:
        """Read one APDU at the cursor into its tree; say whether it was an answer."""

    def noted(self, field: Field[Any], value: Any) -> str | None:
        """Take note of a field; returns the text that the tree shows instead of the field's own."""


class TraceCursor(Cursor):
    """A cursor that knows where its octets stand in the trace and hangs what is read into the tree.

    `places` has the place of each octet in the text `space` (see WrongByte).
    """

    traced = True

    def __init__(
        self, data: bytes, places: Sequence[int], node: Node, listener: Listener, space: str = ""
    ) -> None:
        super().__init__(data)
        self.places = places
        self.node = node
        self.space = space
        self._listener = listener
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

    def insert(self, offset: int, octets: bytes) -> None:
        """Go on as if `octets` stood at `offset`, which is where the octet before stands."""
        super().insert(offset, octets)
        places = list(self.places)
        self.places = [*places[:offset], *[self.place(offset - 1)] * len(octets), *places[offset:]]

    def end(self, text: str) -> MeterProtocolError:
        """Return an error at the octets read last, which announce what is not there."""
        return self.error(text)

    def error(self, text: str) -> MeterProtocolError:
        """Return an error at the octets read last."""
        return WrongByte(self.place(self._last), text, self.space)

    def finish(self, what: str) -> None:
        """Refuse octets after the end of `what`, at the first of them."""
        if self.left:
            after = f"{self.left} octets after the end of {what}"
            raise WrongByte(self.place(self.offset), after, self.space)

    def finish_apdu(self, what: str, *, answer: bool) -> None:
        """Show octets behind an answer as left over; refuse them behind anything else."""
        if not answer:
            self.finish(what)
        elif self.left:
            self.octets("left over, not part of the answer", self.left)

    # what decoders of APDUs say

    def field(self, field: Readable[T]) -> T:
        """Read a declared field as a node of its own, when it has a name."""
        assert isinstance(field, Field)
        if isinstance(field, CosemValue):
            return cast("T", self.value(field.label))
        if not field.name:
            read: T = field.read(self)
            return read
        with self.group(field.name) as node:
            value: T = field.read(self)
            node.value = self._listener.noted(field, value) or field.show(value) or node.value
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
        places = self.places[start : start + count]
        return TraceCursor(self.take(count), places, self.node, self._listener, self.space)

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

    def note(self, text: object) -> None:
        """Show what the field that is being read holds, also where the rest of it then fails."""
        self.node.value = str(text)

    def inner_apdu(self) -> bytes:
        """Read the APDU that is left, if any is."""
        if self.left:
            self._listener.read_apdu(self)
            self.finish("the user information")
        return self.data

    def malformed(self, error: MeterProtocolError) -> MeterProtocolError:
        """Return the error itself: a trace ends at the first octet that cannot be."""
        return error

    def refuse(self, text: str) -> None:
        """Read on: what cannot be used here is well formed all the same."""

    # values, element by element, so that a damaged one is shown up to the damage

    def value(self, name: str, depth: int = 0) -> Data:
        """Read one COSEM value."""
        with self.group(name) as node:
            if depth > MAX_DEPTH:
                raise WrongByte(node.offset, f"nested deeper than {MAX_DEPTH}", self.space)
            if self.peek() in (Tag.ARRAY, Tag.STRUCTURE):
                return self._sequence(node, Tag(self.u8()), depth)
            try:
                data = axdr.read(self)
            except WrongByte:
                raise
            except MeterProtocolError as error:  # inside the text of a compact-array
                raise WrongByte(node.offset, str(error), self.space) from error
            self._hang(node, data)
            return data

    def _sequence(self, node: Node, tag: Tag, depth: int) -> Data:
        count = self.length()
        if count > self.left:
            raise self.error(f"{count} elements announced, {self.left} octets left")
        node.value = f"{tag.name.lower()} of {count}"
        return Data(tag, tuple([self.value(f"[{index}]", depth + 1) for index in range(count)]))

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
            hidden = f"{len(data.value)} octets, not shown"
            node.value = (
                f"{name} {hidden if self._listener.hides else shown(data.value) + _meaning(data.value)}"
            )
        elif data.value is None:
            node.value = name
        else:
            node.value = f"{name} {data.value!r}" if isinstance(data.value, str) else f"{name} {data.value}"

    def _spend(self) -> None:
        self._listener.parts_left[0] -= 1
        if self._listener.parts_left[0] < 0:
            raise WrongByte(self.place(self._last), f"more than {MAX_NODES} parts", self.space)


def _meaning(octets: bytes) -> str:
    """Return what octets most likely are: a time, an OBIS code or text."""
    if len(octets) == cosem_time.OCTETS and 1990 <= int.from_bytes(octets[:2], "big") < 2100:
        at = cosem_time.decode(octets).at
        return f" ({at:%Y-%m-%d %H:%M:%S} UTC)" if at is not None else ""
    if len(octets) == 6 and octets[5] == 0xFF:
        return f" ({Obis.from_bytes(octets)})"
    if len(octets) > 3 and all(0x20 <= octet < 0x7F for octet in octets):
        return f" ({octets.decode('ascii')})"
    return ""
