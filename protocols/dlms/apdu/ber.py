"""Fields of association APDUs, which are in BER (ISO 8650): tag, length, content; read in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocols.dlms.data.cursor import Cursor, MalformedField, encode_length
from protocols.dlms.data.syntax import Field, T
from protocols.errors import MeterProtocolError

OTHER_FIELDS = {
    0x80: "acse requirements or reason",
    0x88: "acse requirements",
    0x8A: "acse requirements",
    0xA4: "system title of the meter",
    0xA6: "system title of the client",
    0xA8: "invocation of the client's process",
    0xA9: "user of the client",
    0xAA: "authentication value of the meter",
    0xAC: "authentication value of the client",
    0xBD: "implementation information",
}
"""Names of fields that nobody asks for."""


class Tagged(Field[T]):
    """A field of an association APDU: its tag, a length, and the content."""

    def __init__(self, tag: int, name: str, content: Field[T]) -> None:
        self.tag = tag
        self.name = name
        self._content = content

    def read(self, cursor: Cursor) -> T:
        cursor.expect(self.tag)
        content = cursor.part(cursor.length())
        try:
            value = self._content.read(content)
            if content.left:
                content.refuse(f"{content.left} octets after the end of field {self.tag:#04x}")
        except MeterProtocolError as error:
            raise cursor.malformed(error) from error
        return value

    def write(self, value: T) -> bytes:
        octets = self._content.write(value)
        return bytes((self.tag,)) + encode_length(len(octets)) + octets

    def show(self, value: T) -> str:
        return self._content.show(value)


class Title(Field[bytes]):
    """A system title, a challenge or a password: octets under a tag of their own."""

    def __init__(self, tag: int = 0x04) -> None:
        self._tag = tag

    def read(self, cursor: Cursor) -> bytes:
        if (tag := cursor.u8()) != self._tag:
            cursor.refuse(f"{tag:#04x} where {self._tag:#04x} is expected")
        return cursor.take(cursor.length())

    def write(self, value: bytes) -> bytes:
        return bytes((self._tag,)) + encode_length(len(value)) + value

    def show(self, value: bytes) -> str:
        head = value[:3]
        letters = f" ({head.decode('ascii')})" if head.isalpha() and head.isascii() else ""
        return f"{value.hex(' ')}{letters}"


class ObjectName(Field[int | None]):
    """A name of DLMS (2.16.756.5.8.*), of which the last arc says which context or mechanism.

    The arcs before are not compared: one Indian meter writes the 85 of the country differently. A `lenient`
    one may have any number of them.
    """

    def __init__(
        self, arcs: str, names: Mapping[int, str], *, inner_tag: bytes = b"", lenient: bool = False
    ) -> None:
        self._arcs = bytes.fromhex(arcs)
        self._names = names
        self._inner_tag = inner_tag
        self._lenient = lenient

    def read(self, cursor: Cursor) -> int | None:
        if self._inner_tag:
            if (tag := cursor.take(1)) != self._inner_tag:
                cursor.refuse(f"0x{tag.hex()} where an object name is expected")
            name = cursor.take(cursor.length())
        else:
            name = cursor.rest()
        if len(name) != len(self._arcs) + 1 and not self._lenient:
            cursor.refuse(f"object name {name.hex()} is not one of DLMS")
        return name[-1] if name else None

    def write(self, value: int | None) -> bytes:
        name = self._arcs + bytes((value or 0,))
        return self._inner_tag + encode_length(len(name)) + name if self._inner_tag else name

    def show(self, value: int | None) -> str:
        return self._names.get(value or 0, str(value))


class Enumerated(Field[int]):
    """An integer of one octet under its tag 02; `nought` is what a trace shows for 0."""

    def __init__(self, names: Mapping[int, str], *, nought: str = "") -> None:
        self._names = names
        self._nought = nought

    def read(self, cursor: Cursor) -> int:
        if (tag := cursor.u8()) != 0x02:
            cursor.refuse(f"{tag:#04x} where 0x02 is expected")
        return one_octet(cursor.part(cursor.length()))

    def write(self, value: int) -> bytes:
        return bytes((0x02, 0x01, value))

    def show(self, value: int) -> str:
        return f"{value} ({self._names.get(value, 'unknown')})" if value or not self._nought else self._nought


class Reason(Field[int]):
    """The reason of a release."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names

    def read(self, cursor: Cursor) -> int:
        return one_octet(cursor)

    def write(self, value: int) -> bytes:
        return bytes((value,))

    def show(self, value: int) -> str:
        return f"{value} ({self._names.get(value, 'unknown')})"


class Other(Field[bytes]):
    """A field that nobody asks for."""

    def __init__(self, tag: int) -> None:
        self.name = OTHER_FIELDS.get(tag, f"field {tag:#04x}")

    def read(self, cursor: Cursor) -> bytes:
        cursor.u8()
        return cursor.part(cursor.length()).rest()

    def show(self, value: bytes) -> str:
        return value.hex(" ")


def one_octet(cursor: Cursor) -> int:
    """Consume all that is left, which is a number of one octet."""
    octets = cursor.rest()
    if len(octets) != 1:
        cursor.refuse(f"a number of {len(octets)} octets, 1 is expected")
    return int.from_bytes(octets, "big")


class Association(Field[T]):
    """An association APDU: a length and tagged fields, read in any order and written in that of `parts`.

    What is None, or empty and not `always` there, is left out when it is written. `defaults` stand for what is
    not in the octets, `needs` must be. Where `refused` tells a refusal, a malformed field does not matter:
    meters leave the user information out or cut it short.
    """

    def __init__(
        self,
        makes: Callable[..., T],
        *parts: tuple[str, Tagged[Any]],
        defaults: Mapping[str, object] | None = None,
        needs: tuple[str, ...] = (),
        always: tuple[str, ...] = (),
        refused: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    ) -> None:
        self._makes = makes
        self._parts = [(tuple(names.split()), field) for names, field in parts]
        self._by_tag = {field.tag: (names, field) for names, field in self._parts}
        self._defaults = dict(defaults or {})
        self._needs = needs
        self._always = always
        self._refused = refused

    def read(self, cursor: Cursor) -> T:
        body = cursor.part(cursor.length())
        values = dict(self._defaults)
        wrong: list[MeterProtocolError] = []
        while body.left:
            names, field = self._by_tag.get(body.peek()) or ((), Other(body.peek()))
            try:
                value = body.field(field)
            except MalformedField as error:
                wrong.append(error)
                continue
            if len(names) == 1:
                values[names[0]] = value
            elif names:
                values.update(zip(names, value, strict=True))
        missing = next((name for name in self._needs if name not in values), None)
        if wrong and not self._refused(values):
            raise wrong[0]
        if missing is not None and not self._refused(values):
            cursor.refuse(f"the {missing} is missing")
        return self._makes(**values)

    def write(self, value: T) -> bytes:
        octets = b""
        for names, field in self._parts:
            given = [getattr(value, name) for name in names]
            if given[0] is not None and (given[0] != b"" or names[0] in self._always):
                octets += field.write(tuple(given) if len(given) > 1 else given[0])
        return encode_length(len(octets)) + octets
