"""A-XDR (IEC 61334-6): COSEM values to octets and back, over one bounded cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.types import DELTAS, FIXED_OCTETS, INTEGERS, Data, Tag, bits_of
from protocols.errors import LocalError

MAX_DEPTH = 16
"""Nesting that a value may have; real profiles need 4."""
MAX_ELEMENTS = 200_000
"""Elements of one value, all levels together."""
FREE_ELEMENTS = 512
"""Elements that a value may have beyond one for each octet: compact-arrays may announce what takes no octets."""


def decode(data: bytes) -> Data:
    """Return the value that fills `data`.

    Raises MeterProtocolError with the offset of what is wrong: a type that is not known, octets that are missing
    (then EndOfOctets) or left over, nesting deeper than MAX_DEPTH, more than MAX_OCTETS or MAX_ELEMENTS.

    Example: `decode(bytes.fromhex("120007")) == Data(Tag.LONG_UNSIGNED, 7)`
    """
    cursor = Cursor(data)
    value = read(cursor)
    cursor.finish("the value")
    return value


def read(cursor: Cursor) -> Data:
    """Return one value at the cursor; MeterProtocolError with the offset where it cannot be one."""
    return ValueReader(cursor).value(0)


class TypeDescription(NamedTuple):
    """Type description of a compact-array: its tag, and the types of what a structure or array holds."""

    code: int
    items: tuple[TypeDescription, ...] = ()
    repeat: int = 0


class ValueReader:
    """Reads the parts of one whole value, whose elements it counts."""

    __slots__ = ("_cursor", "_elements", "_most")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._elements = 0
        self._most = min(MAX_ELEMENTS, cursor.left + FREE_ELEMENTS)

    def inside(self, cursor: Cursor) -> ValueReader:
        """Return a reader of a compact-array's contents that goes on counting."""
        reader = ValueReader(cursor)
        reader._elements, reader._most = self._elements, self._most
        return reader

    def count(self, elements: int) -> None:
        """Count elements that were read elsewhere; MeterProtocolError when they are too many."""
        self._elements += elements
        if self._elements > self._most:
            raise self._cursor.error(f"more than {self._most} elements")

    def value(self, depth: int) -> Data:
        """Read one value with its tag."""
        self._count(depth)
        cursor = self._cursor
        code = cursor.u8()
        if (plain := _PLAIN.get(code)) is not None:
            return plain(cursor)
        if (sequence := _SEQUENCES.get(code)) is not None:
            return self._sequence(sequence, depth)
        if code == Tag.COMPACT_ARRAY:
            return self._compact(depth)
        raise cursor.error(f"data type {code} is not known")

    def _count(self, depth: int) -> None:
        self._elements += 1
        if depth > MAX_DEPTH:
            raise self._cursor.error(f"nested deeper than {MAX_DEPTH}")
        if self._elements > self._most:
            raise self._cursor.error(f"more than {self._most} elements")

    def _sequence(self, tag: Tag, depth: int) -> Data:
        count = self._cursor.length()
        if count > self._cursor.left:  # every element takes at least its tag
            raise self._cursor.end(f"{count} elements announced, {self._cursor.left} octets left")
        return _new(Data, (tag, tuple([self.value(depth + 1) for _ in range(count)])))

    # compact-array (Blue Book 4.1.5): one type description, then the contents without their tags

    def _compact(self, depth: int) -> Data:
        described = self.type_description(depth + 1)
        outer = self._cursor
        self._cursor = contents = Cursor(outer.take(outer.length()))
        items = []
        while contents.left:
            before = contents.left  # an element of null-data takes nothing: the loop would never end
            items.append(self.untagged(described, depth + 1))
            if contents.left == before:
                raise outer.error("compact-array of elements that have no octets")
        self._cursor = outer
        return Data(Tag.COMPACT_ARRAY, tuple(items))

    def type_description(self, depth: int) -> TypeDescription:
        """Read a compact-array's type description."""
        self._count(depth)
        cursor = self._cursor
        code = cursor.u8()
        if code == Tag.ARRAY:
            count = cursor.unsigned(2)
            return TypeDescription(code, (self.type_description(depth + 1),), count)
        if code == Tag.STRUCTURE:
            count = cursor.length()
            if count > cursor.left:
                raise cursor.end(f"{count} types announced, {cursor.left} octets left")
            return TypeDescription(code, tuple(self.type_description(depth + 1) for _ in range(count)))
        if code == Tag.COMPACT_ARRAY or code not in _CODES:
            raise cursor.error(f"data type {code} is not known in a compact-array")
        return TypeDescription(code)

    def untagged(self, described: TypeDescription, depth: int) -> Data:
        """Read one element of a compact-array, by its type description."""
        self._count(depth)
        code, items, count = described
        if (plain := _PLAIN.get(code)) is not None:
            return plain(self._cursor)
        every = items * count if code == _ARRAY else items
        return _new(Data, (_SEQUENCES[code], tuple([self.untagged(item, depth + 1) for item in every])))


_new = tuple.__new__
"""Makes `Data` in half the time of the class, which is a function written in Python."""
_NUMBERS = INTEGERS | DELTAS
_CODES = frozenset(int(tag) for tag in Tag)
_ARRAY = int(Tag.ARRAY)
_SEQUENCES = {int(tag): tag for tag in (Tag.ARRAY, Tag.STRUCTURE)}


def _reader(tag: Tag) -> Callable[[Cursor], Data]:
    """Return what reads the values of a type that holds no others; enum members are looked up once, here."""
    if tag in _NUMBERS:
        size, signed = _NUMBERS[tag]
        return lambda cursor: _new(Data, (tag, int.from_bytes(cursor.take(size), "big", signed=signed)))
    if tag in FIXED_OCTETS:
        octets = FIXED_OCTETS[tag]
        return lambda cursor: _new(Data, (tag, cursor.take(octets)))
    match tag:
        case Tag.BOOLEAN:
            return lambda cursor: _new(Data, (tag, cursor.u8() != 0))
        case Tag.OCTET_STRING:
            return lambda cursor: _new(Data, (tag, cursor.take(cursor.length())))
        case Tag.VISIBLE_STRING:  # meters put any octet here; latin-1 keeps each of them
            return lambda cursor: _new(Data, (tag, cursor.take(cursor.length()).decode("latin-1")))
        case Tag.UTF8_STRING:
            return lambda cursor: _new(Data, (tag, _utf8(cursor)))
        case Tag.BIT_STRING:
            return lambda cursor: _new(Data, (tag, _bits(cursor)))
    empty = Data(tag, None)
    return lambda _: empty


def _bits(cursor: Cursor) -> str:
    bits = cursor.length()
    return bits_of(cursor.take((bits + 7) // 8), bits)


def _utf8(cursor: Cursor) -> str:
    try:
        return cursor.take(cursor.length()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise cursor.error("utf8-string is not UTF-8") from error


_PLAIN = {int(tag): _reader(tag) for tag in Tag if tag not in (Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY)}
"""What reads the types that hold no others."""


def encode(data: Data) -> bytes:
    """Return the octets of one value; LocalError when its value does not fit its tag."""
    tag, value = data
    try:
        return bytes((tag,)) + _encode_value(tag, value)
    except (OverflowError, UnicodeEncodeError) as error:
        raise LocalError(f"{value!r} does not fit {tag.name}") from error


def _encode_value(tag: Tag, value: object) -> bytes:
    match value:
        case None if tag in (Tag.NULL, Tag.DONT_CARE):
            return b""
        case bool() if tag is Tag.BOOLEAN:
            return b"\x01" if value else b"\x00"
        case int() if tag in _NUMBERS:
            size, signed = _NUMBERS[tag]
            return value.to_bytes(size, "big", signed=signed)
        case tuple() if tag in (Tag.ARRAY, Tag.STRUCTURE):
            return encode_length(len(value)) + b"".join(encode(item) for item in value)
        case tuple() if tag is Tag.COMPACT_ARRAY:
            return _encode_compact(value)
        case bytes() if tag is Tag.OCTET_STRING:
            return encode_length(len(value)) + value
        case bytes() if FIXED_OCTETS.get(tag) == len(value):
            return value
        case str() if tag is Tag.BIT_STRING:
            return _encode_bits(value)
        case str() if tag is Tag.VISIBLE_STRING:
            return encode_length(len(value)) + value.encode("latin-1")
        case str() if tag is Tag.UTF8_STRING:
            octets = value.encode("utf-8")
            return encode_length(len(octets)) + octets
    raise LocalError(f"{value!r} does not fit {tag.name}")


def _encode_bits(bits: str) -> bytes:
    if set(bits) - {"0", "1"}:
        raise LocalError(f"a bit-string is written with 0 and 1, not {bits!r}")
    padded = bits + "0" * (-len(bits) % 8)
    octets = int(padded or "0", 2).to_bytes(len(padded) // 8, "big")
    return encode_length(len(bits)) + octets


def _encode_compact(items: tuple[Data, ...]) -> bytes:
    kind = _type_of(items[0]) if items else bytes((Tag.NULL,))
    if any(_type_of(item) != kind for item in items):
        raise LocalError("the elements of a compact-array are all of one type")
    contents = b"".join(_encode_untagged(item) for item in items)
    if items and not contents:
        raise LocalError("the elements of a compact-array have octets")
    return kind + encode_length(len(contents)) + contents


def _type_of(data: Data) -> bytes:
    tag, items = data.tag, data.items
    if tag is Tag.COMPACT_ARRAY:
        raise LocalError("a compact-array holds no compact-array")
    if tag is Tag.STRUCTURE:
        return bytes((tag,)) + encode_length(len(items)) + b"".join(map(_type_of, items))
    if tag is not Tag.ARRAY:
        return bytes((tag,))
    inner = _type_of(items[0]) if items else bytes((Tag.NULL,))
    if any(_type_of(item) != inner for item in items):
        raise LocalError("the elements of an array in a compact-array are all of one type")
    return bytes((tag,)) + len(items).to_bytes(2, "big") + inner


def _encode_untagged(data: Data) -> bytes:
    if data.tag in (Tag.ARRAY, Tag.STRUCTURE):
        return b"".join(map(_encode_untagged, data.items))
    return encode(data)[1:]
