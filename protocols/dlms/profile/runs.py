"""Runs of rows of one fixed layout: a plan compiled from the first row takes whole columns out of the octets.

Rows of values whose types have fixed widths have tags and lengths at the same places. These constant octets
are compared for all rows in one slice with a stride; a column's octets are gathered by slices too, and unpacked
at once. What has no fixed layout has no plan and is read value by value (`axdr`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from protocols.dlms.data.types import DELTAS, FIXED_OCTETS, INTEGERS, DataValue, Tag, bits_of

FIRST_GLANCE = 16
"""Rows looked at first; each glance is four times the one before, so that a short run costs little."""
MAX_COLUMNS = 0x7F
"""Columns of a plan: more have a longer length octet, and do not occur."""

_FORMATS = {(1, True): "b", (1, False): "B", (2, True): "h", (2, False): "H"} | {
    (4, True): "i",
    (4, False): "I",
    (8, True): "q",
    (8, False): "Q",
}
_NUMBERS = INTEGERS | DELTAS
_INTEGER_FORMATS = {tag: _FORMATS[kind] for tag, kind in _NUMBERS.items()}
_SIZES = {int(tag): size for tag, (size, _) in _NUMBERS.items()} | {
    Tag.NULL: 0,
    Tag.DONT_CARE: 0,
    Tag.BOOLEAN: 1,
    **FIXED_OCTETS,
}
_COUNTED = (Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.BIT_STRING)
"""Types that carry their length, in octets or bits."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a column's octets are in a row; `bits` is the length of a bit-string."""

    tag: Tag
    at: int
    size: int
    bits: int = 0


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Octets of a row, those of them that are the same in each row (position, octet), and its cells."""

    width: int
    constants: tuple[tuple[int, bytes], ...]
    cells: tuple[Cell, ...]

    def rows(self, octets: bytes, offset: int, most: int) -> int:
        """Count the rows from `offset` on that have this layout, up to `most`; linear in what it counts."""
        most = min(most, (len(octets) - offset) // self.width)
        found, glance = 0, FIRST_GLANCE
        while found < most:
            wanted = min(glance, most - found)
            same = self._same(octets, offset + found * self.width, wanted)
            found += same
            if same < wanted:
                break
            glance *= 4
        return found

    def _same(self, octets: bytes, offset: int, rows: int) -> int:
        for position, octet in self.constants:
            column = octets[offset + position : offset + rows * self.width : self.width]
            if column != octet * rows:
                rows -= len(column.lstrip(octet))
        return rows

    def gather(self, cell: Cell, octets: bytes, offset: int, rows: int) -> bytearray:
        """Put a column's octets together, row after row."""
        gathered = bytearray(rows * cell.size)
        first, end = offset + cell.at, offset + rows * self.width
        for part in range(cell.size):
            gathered[part :: cell.size] = octets[first + part : end : self.width]
        return gathered


def values(cell: Cell, gathered: bytearray, rows: int) -> Sequence[DataValue]:
    """Return a column's values from its gathered octets, as `axdr` gives them."""
    tag = cell.tag
    if tag in _INTEGER_FORMATS:
        return struct.unpack(f">{rows}{_INTEGER_FORMATS[tag]}", gathered)
    if tag is Tag.BOOLEAN:
        return [octet != 0 for octet in gathered]
    if tag is Tag.DONT_CARE:
        return [None] * rows
    each = [bytes(0)] * rows
    if cell.size:
        each = [octets for (octets,) in struct.iter_unpack(f"{cell.size}s", gathered)]
    if tag is Tag.BIT_STRING:
        return [bits_of(octets, cell.bits) for octets in each]
    if tag is Tag.VISIBLE_STRING:
        return [octets.decode("latin-1") for octets in each]
    return each


def tagged_plan(octets: bytes, offset: int, columns: int) -> RowPlan | None:
    """Compile the plan of the row at `offset`: tag, count, and each value after its tag; None if it has none."""
    head = octets[offset : offset + 2]
    if (
        len(head) < 2
        or head[0] not in (Tag.ARRAY, Tag.STRUCTURE)
        or head[1] != columns
        or columns > MAX_COLUMNS
    ):
        return None
    constant = bytearray(head)
    at = offset + 2
    for _ in range(columns):
        code = octets[at : at + 1]
        found = _header(code, octets, at + 1) if code else None
        if found is None:
            return None
        constant += code + found[0]
        at += 1 + len(found[0]) + found[1]
    return _compile_tagged(bytes(constant))


def untagged_plan(codes: bytes, octets: bytes, offset: int) -> RowPlan | None:
    """Compile the plan of a compact-array's element: a structure of these types, written without tags."""
    lengths = []
    at = offset
    for code in codes:
        found = _header(bytes((code,)), octets, at)
        if found is None:
            return None
        lengths.append(found[0])
        at += len(found[0]) + found[1]
    return _compile(b"", codes, tuple(lengths), tagged=False) if at > offset else None


def _header(code: bytes, octets: bytes, at: int) -> tuple[bytes, int] | None:
    """Return a value's length octet (none for most types) and its size; None for a type of no fixed width."""
    size = _SIZES.get(code[0])
    if size is not None:
        return b"", size
    length = octets[at : at + 1]
    if code[0] not in _COUNTED or not length or length[0] > MAX_COLUMNS:
        return None
    return length, _size(code[0], length)


def _size(code: int, length: bytes) -> int:
    if not length:
        return _SIZES[code]
    return (length[0] + 7) // 8 if code == Tag.BIT_STRING else length[0]


@lru_cache(maxsize=256)
def _compile_tagged(constant: bytes) -> RowPlan:
    codes, lengths = bytearray(), []
    at = 2
    while at < len(constant):
        codes.append(constant[at])
        counted = constant[at] in _COUNTED
        lengths.append(constant[at + 1 : at + 2] if counted else b"")
        at += 2 if counted else 1
    return _compile(constant[:2], bytes(codes), tuple(lengths), tagged=True)


@lru_cache(maxsize=256)
def _compile(head: bytes, codes: bytes, lengths: tuple[bytes, ...], *, tagged: bool) -> RowPlan:
    constants = [(place, bytes((octet,))) for place, octet in enumerate(head)]
    cells = []
    at = len(head)
    for code, length in zip(codes, lengths, strict=True):
        header = (bytes((code,)) if tagged else b"") + length
        constants += [(at + place, bytes((octet,))) for place, octet in enumerate(header)]
        at += len(header)
        size = _size(code, length)
        bits = length[0] if code == Tag.BIT_STRING else 0
        cells.append(Cell(Tag(code), at, size, bits))
        at += size
    return RowPlan(at, tuple(constants), tuple(cells))
