"""The tree that recorded traffic becomes for people: parts with their offsets, and what is wrong where; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import MeterProtocolError

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
        """Yield the tree: offset, indentation, name, value. `+` marks offsets in another text."""
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


def shown(octets: bytes) -> str:
    """Return octets as hex, of many the first."""
    if len(octets) <= MAX_SHOWN:
        return octets.hex(" ")
    return f"{octets[:MAX_SHOWN].hex(' ')} … ({len(octets)} octets)"
