"""COSEM data types (Blue Book 4.1.5): a tag and a plain Python value."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from protocols.obis import Obis


class Tag(IntEnum):
    """A-XDR tag of a COSEM data type."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DELTA_INTEGER = 28
    DELTA_LONG = 29
    DELTA_DOUBLE_LONG = 30
    DELTA_UNSIGNED = 31
    DELTA_LONG_UNSIGNED = 32
    DELTA_DOUBLE_LONG_UNSIGNED = 33
    DONT_CARE = 255


INTEGERS: dict[Tag, tuple[int, bool]] = {
    Tag.DOUBLE_LONG: (4, True),
    Tag.DOUBLE_LONG_UNSIGNED: (4, False),
    Tag.BCD: (1, True),
    Tag.INTEGER: (1, True),
    Tag.LONG: (2, True),
    Tag.UNSIGNED: (1, False),
    Tag.LONG_UNSIGNED: (2, False),
    Tag.LONG64: (8, True),
    Tag.LONG64_UNSIGNED: (8, False),
    Tag.ENUM: (1, False),
}
"""Octets and signedness of the types whose value is an int."""

DELTAS: dict[Tag, tuple[int, bool]] = {
    Tag.DELTA_INTEGER: (1, True),
    Tag.DELTA_LONG: (2, True),
    Tag.DELTA_DOUBLE_LONG: (4, True),
    Tag.DELTA_UNSIGNED: (1, False),
    Tag.DELTA_LONG_UNSIGNED: (2, False),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: (4, False),
}
"""Octets and signedness of what counts on from the value before (Blue Book 4.1.5); no number by itself."""

FIXED_OCTETS: dict[Tag, int] = {
    Tag.FLOAT32: 4,
    Tag.FLOAT64: 8,
    Tag.DATE_TIME: 12,
    Tag.DATE: 5,
    Tag.TIME: 4,
}
"""Types kept as their octets: floats stay exact, times keep their wildcards (see `cosem_time`)."""

DataValue = int | bool | bytes | str | tuple["Data", ...] | None


class Data(NamedTuple):
    """One COSEM value.

    `value` by tag: int for integers, bcd, enum and deltas; bool for boolean; bytes for octet-string, floats,
    date-time, date and time; str for visible-string, utf8-string and bit-string (`0` and `1`, first bit
    first); a tuple of Data for array, structure and compact-array; None for null-data and don't-care.
    """

    tag: Tag
    value: DataValue

    @property
    def items(self) -> tuple[Data, ...]:
        """Elements of an array or structure; empty for every other type."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def integer(self) -> int | None:
        """The value of an integer type, or None."""
        is_integer = self.tag in INTEGERS and isinstance(self.value, int)
        return int(self.value) if is_integer and isinstance(self.value, int) else None

    @property
    def octets(self) -> bytes | None:
        """The octets of an octet-string, date or time, or None."""
        return self.value if isinstance(self.value, bytes) else None


NULL = Data(Tag.NULL, None)


def bits_of(octets: bytes, bits: int) -> str:
    """Return the first `bits` bits of a bit-string as `0` and `1`."""
    return f"{int.from_bytes(octets, 'big'):0{8 * len(octets)}b}"[:bits]


def array(*items: Data) -> Data:
    """Return an array."""
    return Data(Tag.ARRAY, items)


def structure(*items: Data) -> Data:
    """Return a structure."""
    return Data(Tag.STRUCTURE, items)


def octets(value: bytes) -> Data:
    """Return an octet-string."""
    return Data(Tag.OCTET_STRING, value)


def text(value: str) -> Data:
    """Return a visible-string."""
    return Data(Tag.VISIBLE_STRING, value)


def boolean(value: bool) -> Data:
    """Return a boolean."""
    return Data(Tag.BOOLEAN, value)


def unsigned(value: int) -> Data:
    """Return an unsigned (8 bits)."""
    return Data(Tag.UNSIGNED, value)


def integer(value: int) -> Data:
    """Return an integer (8 bits, signed)."""
    return Data(Tag.INTEGER, value)


def long(value: int) -> Data:
    """Return a long (16 bits, signed)."""
    return Data(Tag.LONG, value)


def long_unsigned(value: int) -> Data:
    """Return a long-unsigned (16 bits)."""
    return Data(Tag.LONG_UNSIGNED, value)


def double_long(value: int) -> Data:
    """Return a double-long (32 bits, signed)."""
    return Data(Tag.DOUBLE_LONG, value)


def double_long_unsigned(value: int) -> Data:
    """Return a double-long-unsigned (32 bits)."""
    return Data(Tag.DOUBLE_LONG_UNSIGNED, value)


def enum(value: int) -> Data:
    """Return an enum."""
    return Data(Tag.ENUM, value)


def scaler_unit(scaler: int, unit: int) -> Data:
    """Return the structure {integer scaler, enum unit} of a register (Blue Book 4.3.2)."""
    return structure(integer(scaler), enum(unit))


def capture_object(class_id: int, obis: Obis, attribute: int = 2, index: int = 0) -> Data:
    """Return one entry of capture_objects (Blue Book 4.3.6)."""
    return structure(
        long_unsigned(class_id), octets(obis.to_bytes()), integer(attribute), long_unsigned(index)
    )
