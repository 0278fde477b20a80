"""READ by short names (Green Book 9.5): each attribute of each object has a number, 8 beyond that of the one before."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.apdu.fields import RESULT, SELECTOR, VALUE, Selection
from protocols.dlms.apdu.lists import Outcome, filling
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, Flag, OctetString, Record, Sequence, UnsignedNumber

STEP = 8
"""How far the names of two attributes of an object, one after the other, are apart."""
ASSOCIATION = 0xFA00
"""Base name of the association of the moment, in every meter."""
OBJECT_LIST = ASSOCIATION + STEP
MAX_VARIABLES = 255


@dataclass(frozen=True, slots=True)
class Variable:
    """An attribute by its short name, with the rows that are wanted of a profile's buffer."""

    name: int
    selection: Selection | None = None


@dataclass(frozen=True, slots=True)
class NextBlock:
    """Ask for the block after `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """READ of one or several attributes, or of the next block of a long answer."""

    variables: tuple[Variable | NextBlock, ...]


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One block of an encoded list of results."""

    last: bool
    number: int
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """A result for each attribute, or one block of them."""

    results: tuple[Outcome | ReadBlock, ...]


class AccessField(Field[Variable | NextBlock]):
    """Variable-Access-Specification: a name, a name with a selection, or the number of a block."""

    _choice = UnsignedNumber("access", 1, {2: "variable name", 4: "parameterised", 5: "block number"})
    _name = UnsignedNumber("short name", 2)
    _number = UnsignedNumber("block number", 2)

    def read(self, cursor: Cursor) -> Variable | NextBlock:
        match cursor.field(self._choice):
            case 2:
                return Variable(cursor.field(self._name))
            case 4:
                name = cursor.field(self._name)
                return Variable(name, cursor.field(SELECTOR))
            case 5:
                return NextBlock(cursor.field(self._number))
            case choice:
                raise cursor.error(f"variable access {choice} is not supported")

    def write(self, value: Variable | NextBlock) -> bytes:
        if isinstance(value, NextBlock):
            return b"\x05" + self._number.write(value.number)
        if value.selection is None:
            return b"\x02" + self._name.write(value.name)
        return b"\x04" + self._name.write(value.name) + SELECTOR.write(value.selection)


class ResultField(Field[Outcome | ReadBlock]):
    """What one variable gave: data, why not, or a block."""

    _choice = UnsignedNumber("choice", 1, {0: "data", 1: "result", 2: "block"})
    _last, _number = Flag("last block"), UnsignedNumber("block number", 2)
    _raw = OctetString("raw data")

    def read(self, cursor: Cursor) -> Outcome | ReadBlock:
        match cursor.field(self._choice):
            case 0:
                return Outcome(0, cursor.field(VALUE))
            case 1:
                code = cursor.field(RESULT)
                if code == 0:
                    cursor.refuse("success without a value")
                return Outcome(code)
            case 2:
                last, number = cursor.field(self._last), cursor.field(self._number)
                return ReadBlock(last, number, cursor.field(self._raw))
        raise cursor.error("a result is data (0), a result (1) or a block (2)")

    def write(self, value: Outcome | ReadBlock) -> bytes:
        if isinstance(value, ReadBlock):
            head = self._last.write(value.last) + self._number.write(value.number)
            return b"\x02" + head + self._raw.write(value.raw)
        if value.data is None:
            return b"\x01" + RESULT.write(value.result)
        return b"\x00" + VALUE.write(value.data)


RESULTS = Sequence("results", ResultField())
READ_REQUEST = Record(ReadRequest, ("variables", Sequence("variables", AccessField())))
READ_RESPONSE = Record(ReadResponse, ("results", RESULTS))
APDUS: dict[int, tuple[str, Record[ReadRequest] | Record[ReadResponse]]] = {
    0x05: ("read-request", READ_REQUEST),
    0x0C: ("read-response", READ_RESPONSE),
}
"""Name and field of each APDU by its tag."""


def encode_results(results: tuple[Outcome, ...]) -> bytes:
    """Return what the blocks of a long answer hold: the list as it stands in a short one."""
    return RESULTS.write(results)


def decode_results(octets: bytes) -> tuple[Outcome, ...]:
    """Return the results in such blocks; MeterProtocolError unless they fill `octets`."""
    return tuple(one for one in filling(octets, RESULTS, "the results") if isinstance(one, Outcome))
