"""Fields that APDUs are declared with: each is written, read, and named in a trace, from one declaration.

    GET_NEXT = Record(GetNext, ("invoke", INVOKE_ID), ("block", UnsignedNumber("block number", 4)))
    GET_NEXT.write(GetNext(block=1))        # octets
    GET_NEXT.read(Cursor(octets))           # GetNext

`read` of a field consumes its octets; a field that holds others reads them by `cursor.field`, which a tracing
cursor overrides to hang each field with a name into its tree, with its offset and with what `show` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

from protocols.dlms.data import axdr
from protocols.dlms.data.axdr import MAX_ELEMENTS
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.types import Data
from protocols.errors import LocalError

T = TypeVar("T")
NO_NAMES: Mapping[int, str] = {}


class Field(Generic[T]):
    """One part of an APDU. `name` is what a trace calls it; without one, only its own parts are named."""

    name = ""

    def read(self, cursor: Cursor) -> T:
        """Consume the octets and return the value; MeterProtocolError at the first octet that cannot be."""
        raise NotImplementedError

    def write(self, value: T) -> bytes:
        """Return the octets; LocalError for a value that does not fit."""
        raise NotImplementedError

    def show(self, value: T) -> str:  # noqa: ARG002 (most composites show nothing)
        """Return the value as a trace shows it; nothing where `read` noted it or the parts say it."""
        return ""


class UnsignedNumber(Field[int]):
    """An unsigned number of `octets` octets, some of whose values have names."""

    def __init__(self, name: str, octets: int = 1, names: Mapping[int, str] = NO_NAMES) -> None:
        self.name = name
        self._octets = octets
        self._names = names

    def read(self, cursor: Cursor) -> int:
        return cursor.u8() if self._octets == 1 else cursor.unsigned(self._octets)

    def write(self, value: int) -> bytes:
        try:
            return value.to_bytes(self._octets, "big")
        except OverflowError as error:
            raise LocalError(f"{self.name} {value} does not fit into {self._octets} octets") from error

    def show(self, value: int) -> str:
        return f"{value} ({self._names[value]})" if value in self._names else str(value)


class Flag(Field[bool]):
    """An octet that is 0 for no, anything else for yes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, cursor: Cursor) -> bool:
        octet = cursor.u8()
        cursor.note(octet)
        return octet != 0

    def write(self, value: bool) -> bytes:
        return b"\x01" if value else b"\x00"


class OctetString(Field[bytes]):
    """Octets with their length before them; `hidden` where they are a secret."""

    def __init__(self, label: str, *, hidden: bool = False) -> None:
        self.label = label
        self._hidden = hidden

    def read(self, cursor: Cursor) -> bytes:
        return cursor.octets(self.label, cursor.length(), hidden=self._hidden)

    def write(self, value: bytes) -> bytes:
        return encode_length(len(value)) + value


class Rest(Field[bytes]):
    """All octets that are left."""

    def __init__(self, label: str) -> None:
        self.label = label

    def read(self, cursor: Cursor) -> bytes:
        return cursor.octets(self.label, cursor.left)

    def write(self, value: bytes) -> bytes:
        return value


class CosemValue(Field[Data]):
    """A COSEM value with its tag. A tracing cursor reads it itself, element by element."""

    def __init__(self, label: str = "data") -> None:
        self.label = label

    def read(self, cursor: Cursor) -> Data:
        return axdr.read(cursor)

    def write(self, value: Data) -> bytes:
        return axdr.encode(value)


class Optional(Field[T | None]):
    """A flag, and the field where the flag is set. `absent` is the value that stands for no field."""

    def __init__(self, flag: str, field: Field[T], absent: T | None = None) -> None:
        self._flag = Flag(flag)
        self._field = field
        self._absent = absent

    def read(self, cursor: Cursor) -> T | None:
        return cursor.field(self._field) if cursor.field(self._flag) else self._absent

    def write(self, value: T | None) -> bytes:
        if value is None or value == self._absent:
            return b"\x00"
        return b"\x01" + self._field.write(value)


class Sequence(Field[tuple[T, ...]]):
    """A number of elements and the elements, of which each takes at least one octet."""

    def __init__(self, name: str, field: Field[T]) -> None:
        self.name = name
        self._field = field

    def read(self, cursor: Cursor) -> tuple[T, ...]:
        count = cursor.length()
        if count > cursor.left:
            raise cursor.error(f"{count} {self.name} announced, {cursor.left} octets left")
        if count > MAX_ELEMENTS:
            raise cursor.error(f"{count} {self.name}; {MAX_ELEMENTS} are read")
        cursor.note(count)
        return tuple([cursor.field(self._field) for _ in range(count)])

    def write(self, value: tuple[T, ...]) -> bytes:
        return encode_length(len(value)) + b"".join(map(self._field.write, value))


class Single(Field[tuple[T, ...]]):
    """One element, where other forms of the same APDU have a sequence."""

    def __init__(self, field: Field[T]) -> None:
        self._field = field

    def read(self, cursor: Cursor) -> tuple[T, ...]:
        return (cursor.field(self._field),)

    def write(self, value: tuple[T, ...]) -> bytes:
        (one,) = value
        return self._field.write(one)


class Sized(Field[T]):
    """A field within a length of its own, which it must fill."""

    def __init__(self, what: str, field: Field[T]) -> None:
        self._what = what
        self._field = field

    def read(self, cursor: Cursor) -> T:
        part = cursor.part(cursor.length())
        value = part.field(self._field)
        part.finish(self._what)
        return value

    def write(self, value: T) -> bytes:
        octets = self._field.write(value)
        return encode_length(len(octets)) + octets


class Unused(Field[None]):
    """A field that nobody asks for: what it holds is dropped, and `octets` are written for it."""

    def __init__(self, field: Field[Any], octets: bytes = b"\x00") -> None:
        self._field = field
        self._octets = octets

    def read(self, cursor: Cursor) -> None:
        cursor.field(self._field)

    def write(self, value: None) -> bytes:  # noqa: ARG002 (there is none)
        return self._octets


class Record(Field[T]):
    """Fields in a row, as the attributes of an object.

    Each of `parts` names an attribute, or several of one field that holds a tuple, or none of a field that is
    Unused. `fixed` attributes are not in the octets: all that is read has them, only what has them is written.
    `complaint` says what is wrong with an object whose octets are well formed, or nothing.
    """

    def __init__(
        self,
        make: Callable[..., T],
        *parts: tuple[str, Field[Any]],
        fixed: Mapping[str, object] | None = None,
        complaint: Callable[[T], str] | None = None,
    ) -> None:
        self.makes = make
        self._fixed = dict(fixed or {})
        self._complaint = complaint
        self._parts = [
            (names if " " not in names else "", tuple(names.split()), field) for names, field in parts
        ]
        self._writers = [
            (attrgetter(*names.split()) if names else lambda _: None, field) for names, field in parts
        ]

    def fits(self, value: object) -> bool:
        """Return whether an object of the class has the fixed attributes."""
        return all(getattr(value, name) == fixed for name, fixed in self._fixed.items())

    def read(self, cursor: Cursor) -> T:
        values = self._fixed.copy()
        traced = cursor.traced  # the ordinary cursor is spared a call for each field
        for name, names, field in self._parts:
            value = cursor.field(field) if traced else field.read(cursor)
            if name:
                values[name] = value
            elif names:
                values.update(zip(names, value, strict=True))
        made = self.makes(**values)
        if self._complaint is not None and (text := self._complaint(made)):
            cursor.refuse(text)
        return made

    def write(self, value: T) -> bytes:
        return b"".join([field.write(get(value)) for get, field in self._writers])
