"""A bounded cursor over octets, which every decoder of this stack reads with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from protocols.errors import MeterProtocolError

MAX_OCTETS = 1 << 20
"""Octets that one value or APDU may have: 35 days of quarter-hours in ten columns are about 200 kB."""
_T_co = TypeVar("_T_co", covariant=True)
_T = TypeVar("_T")


class EndOfOctets(MeterProtocolError):
    """A type or length asks for more octets than are left: the value is damaged, or was cut short."""


class OctetsLeftOver(MeterProtocolError):
    """A whole value or APDU was read, and `left` octets stand behind it."""

    def __init__(self, message: str, left: int) -> None:
        super().__init__(message)
        self.left = left


class MalformedField(MeterProtocolError):
    """The content of a field is wrong; what comes behind the field can be read all the same."""


class Readable(Protocol[_T_co]):
    """What can be read at a cursor: a field of `syntax`."""

    def read(self, cursor: Cursor) -> _T_co:
        """Consume the octets of one and return its value."""


class Cursor:
    """Reads forward through octets; every step checks what is left and errors name the offset.

    The methods from `field` on are what a trace listens to: `protocols.dlms.trace` has a cursor that builds
    its tree in them, so that the decoders of APDUs are also what `decode` shows.
    """

    __slots__ = ("_data", "_offset")
    traced = False

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_OCTETS:
            raise MeterProtocolError(f"{len(data)} octets are more than the {MAX_OCTETS} allowed")
        self._data = data
        self._offset = 0

    @property
    def data(self) -> bytes:
        """All octets, consumed or not."""
        return self._data

    @property
    def offset(self) -> int:
        """Octets consumed so far."""
        return self._offset

    @property
    def left(self) -> int:
        """Octets not yet consumed."""
        return len(self._data) - self._offset

    def take(self, count: int) -> bytes:
        """Consume exactly `count` octets."""
        start = self._offset
        end = start + count
        if end > len(self._data):
            raise self.end(f"{count} octets wanted, {self.left} left")
        self._offset = end
        return self._data[start:end]

    def u8(self) -> int:
        """Consume one octet."""
        offset = self._offset
        if offset == len(self._data):
            raise self.end("1 octets wanted, 0 left")
        self._offset = offset + 1
        return self._data[offset]

    def peek(self) -> int:
        """Return the next octet without consuming it; -1 at the end."""
        return self._data[self._offset] if self._offset < len(self._data) else -1

    def unsigned(self, octets: int) -> int:
        """Consume a big-endian unsigned integer."""
        return int.from_bytes(self.take(octets), "big")

    def length(self) -> int:
        """Consume a length: one octet, or 81..84 and that many octets."""
        first = self.u8()
        if first < 0x80:
            return first
        if not 0x81 <= first <= 0x84:
            raise self.error(f"length octet {first:#04x} is not valid")
        return self.unsigned(first - 0x80)

    def rest(self) -> bytes:
        """Consume all that is left."""
        return self.take(self.left)

    def finish(self, what: str) -> None:
        """Refuse octets after the end of `what`."""
        if self.left:
            raise OctetsLeftOver(
                f"bad octets at offset {self._offset}: {self.left} octets after the end of {what}", self.left
            )

    def expect(self, tag: int) -> None:
        """Consume one octet that must be `tag`."""
        if (found := self.u8()) != tag:
            raise self.error(f"{found:#04x} where {tag:#04x} is expected")

    def insert(self, offset: int, octets: bytes) -> None:
        """Go on as if `octets` stood at `offset`, which is not yet consumed."""
        self._data = self._data[:offset] + octets + self._data[offset:]

    def end(self, text: str) -> MeterProtocolError:
        """Return an EndOfOctets that names the offset."""
        return EndOfOctets(f"bad octets at offset {self._offset}: {text}")

    def error(self, text: str) -> MeterProtocolError:
        """Return a MeterProtocolError that names the offset."""
        return MeterProtocolError(f"bad octets at offset {self._offset}: {text}")

    # what a trace listens to

    def field(self, field: Readable[_T]) -> _T:
        """Read one declared field."""
        return field.read(self)

    def octets(self, name: str, count: int, *, hidden: bool = False) -> bytes:  # noqa: ARG002 (for a trace)
        """Consume `count` octets of a field; `hidden` ones are a secret."""
        return self.take(count)

    def part(self, count: int) -> Cursor:
        """Consume `count` octets and return a cursor over them."""
        return Cursor(self.take(count))

    def note(self, text: object) -> None:
        """Say what the field that is being read holds, before all of it is read."""

    def inner_apdu(self) -> bytes:
        """Consume all that is left, which is an APDU within this one or nothing."""
        return self.rest()

    def malformed(self, error: MeterProtocolError) -> MeterProtocolError:
        """Return the error for a field whose content is wrong and whose end is known."""
        return MalformedField(str(error))

    def refuse(self, text: str) -> None:
        """Refuse what is well formed and cannot be used here; a trace shows it and reads on."""
        raise self.error(text)


def leading(octets: bytes, decode: Callable[[bytes], _T]) -> tuple[_T, int]:
    """Decode what a meter's answer begins with; return it and how many octets are left over behind it.

    Some meters fill their answers up, or write more than the standard has; the result counts all the same.
    """
    try:
        return decode(octets), 0
    except OctetsLeftOver as error:
        return decode(octets[: len(octets) - error.left]), error.left


def encode_length(length: int) -> bytes:
    """Return a length in its shortest form."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 + len(octets),)) + octets
