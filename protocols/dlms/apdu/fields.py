"""Fields that the services share (Green Book 9.5): invoke id, attribute names, selective access, value or result."""

from __future__ import annotations

from protocols.dlms.apdu.diagnostics import ACCESS_RESULTS
from protocols.dlms.apdu.selection import ColumnName, EntrySelection, RangeSelection
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import CosemValue, Field, Flag, Optional, T, UnsignedNumber
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    capture_object,
    double_long_unsigned,
    long_unsigned,
    octets,
    structure,
)
from protocols.errors import LocalError
from protocols.obis import Obis

INVOKE = 0xC1
"""Invoke id 1, confirmed, high priority: one request at a time is outstanding."""

Selection = RangeSelection | EntrySelection


class InvokeId(Field[int]):
    """Invoke-id-and-priority: the id in the low four bits, confirmed 40, high priority 80."""

    name = "invoke id"

    def read(self, cursor: Cursor) -> int:
        return cursor.u8()

    def write(self, value: int) -> bytes:
        return bytes((value,))

    def show(self, value: int) -> str:
        confirmed, high = ", confirmed" * bool(value & 0x40), ", high" * bool(value & 0x80)
        return f"{value & 0x0F}{confirmed}{high}"


class Descriptor(Field[tuple[int, Obis, int]]):
    """Class, OBIS code and number of an attribute or a method (Cosem-Attribute-Descriptor)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, cursor: Cursor) -> tuple[int, Obis, int]:
        class_id, obis = cursor.unsigned(2), Obis.from_bytes(cursor.take(6))
        return class_id, obis, int.from_bytes(cursor.take(1), "big", signed=True)

    def write(self, value: tuple[int, Obis, int]) -> bytes:
        class_id, obis, index = value
        try:
            return class_id.to_bytes(2, "big") + obis.to_bytes() + index.to_bytes(1, "big", signed=True)
        except OverflowError as error:
            raise LocalError(f"class {class_id}, {self.name} {index} does not fit") from error

    def show(self, value: tuple[int, Obis, int]) -> str:
        class_id, obis, index = value
        return f"class {class_id}, {obis}, {self.name} {index}"


class SelectorField(Field[Selection]):
    """Which rows of a profile (Blue Book 4.3.6: by range 1, by entry 2)."""

    _selector = UnsignedNumber("selector", 1, {1: "range", 2: "entries"})
    _parameter = CosemValue("selection")

    def read(self, cursor: Cursor) -> Selection:
        selector, parameter = cursor.field(self._selector), cursor.field(self._parameter)
        selection = {1: _range_of, 2: _entries_of}.get(selector, lambda _: None)(parameter)
        if selection is None:
            cursor.refuse(f"selective access {selector} is malformed or not supported")
            return EntrySelection(0, 0)  # a trace reads on
        return selection

    def write(self, value: Selection) -> bytes:
        match value:
            case RangeSelection():
                is_clock = (value.obis.c, value.obis.d) == (1, 0)  # 0.0.1.0.0.255, else a register
                column = capture_object(8 if is_clock else 3, value.obis, value.attribute)
                wanted = array(*(capture_object(*name) for name in value.columns))
                parameter = structure(column, octets(value.since), octets(value.until), wanted)
                return b"\x01" + axdr.encode(parameter)
            case EntrySelection():
                entries = (double_long_unsigned(value.first), double_long_unsigned(value.last))
                columns = (long_unsigned(value.first_column), long_unsigned(value.last_column))
                return b"\x02" + axdr.encode(structure(*entries, *columns))


class SelectionField(Field[Selection | None]):
    """Selective access to the rows of a profile, or none."""

    _present = Flag("selective access")

    def read(self, cursor: Cursor) -> Selection | None:
        return cursor.field(SELECTOR) if cursor.field(self._present) else None

    def write(self, value: Selection | None) -> bytes:
        return b"\x00" if value is None else b"\x01" + SELECTOR.write(value)


def _range_of(parameter: Data) -> Selection | None:
    match parameter.items:
        case (
            Data(Tag.STRUCTURE, (_, Data(_, bytes() as name), Data(_, int() as attribute), _)),
            Data(_, bytes() as low),
            Data(_, bytes() as high),
            Data(Tag.ARRAY, tuple() as wanted),
        ) if len(name) == 6:
            columns = tuple(_column_of(one) for one in wanted if isinstance(one, Data))
            if None not in columns:
                known = tuple(c for c in columns if c is not None)
                return RangeSelection(Obis.from_bytes(name), attribute, low, high, known)
    return None


def _column_of(entry: Data) -> ColumnName | None:
    match entry.items:
        case (
            Data(_, int() as class_id),
            Data(_, bytes() as name),
            Data(_, int() as attribute),
            Data(_, int() as index),
        ) if len(name) == 6:
            return ColumnName(class_id, Obis.from_bytes(name), attribute, index)
    return None


def _entries_of(parameter: Data) -> Selection | None:
    match parameter.items:
        case (
            Data(_, int() as first),
            Data(_, int() as last),
            Data(_, int() as first_column),
            Data(_, int() as last_column),
        ):
            return EntrySelection(first, last, first_column, last_column)
    return None


class NoSelectionField(Field[None]):
    """The selective access of a SET, which is shown in a trace and not supported."""

    def read(self, cursor: Cursor) -> None:
        if cursor.peek() > 0:
            cursor.refuse("selective access in a set-request is not supported")
        cursor.field(SELECTION)

    def write(self, value: None) -> bytes:  # noqa: ARG002 (there is none)
        return b"\x00"


class OrResult(Field[tuple[T | None, int | None]]):
    """A choice: 0 the field, 1 a data-access-result instead; the pair holds one of them.

    `absent` stands for the field where a result came.
    """

    def __init__(self, what: str, label: str, field: Field[T], absent: T | None = None) -> None:
        self._what = what
        self._field = field
        self._absent = absent
        self._choice = UnsignedNumber("choice", 1, {0: label, 1: "result"})
        self._label = label

    def read(self, cursor: Cursor) -> tuple[T | None, int | None]:
        match cursor.field(self._choice):
            case 0:
                return cursor.field(self._field), None
            case 1:
                return self._absent, cursor.field(RESULT)
        raise cursor.error(f"{self._what} is {self._label} (0) or a result (1)")

    def write(self, value: tuple[T | None, int | None]) -> bytes:
        given, error = value
        if error is not None:
            return b"\x01" + RESULT.write(error)
        if given is None:
            raise LocalError("a response carries a value or an error")
        return b"\x00" + self._field.write(given)


class ActionAnswer(Field[tuple[Data | None, int | None]]):
    """What a method returned, or why that is missing, or nothing."""

    _present = Flag("answer present")

    def read(self, cursor: Cursor) -> tuple[Data | None, int | None]:
        return cursor.field(DATA_OR_RESULT) if cursor.field(self._present) else (None, None)

    def write(self, value: tuple[Data | None, int | None]) -> bytes:
        return b"\x00" if value == (None, None) else b"\x01" + DATA_OR_RESULT.write(value)


INVOKE_ID = InvokeId()
ATTRIBUTE = Descriptor("attribute")
METHOD = Descriptor("method")
SELECTOR = SelectorField()
SELECTION = SelectionField()
NO_SELECTION = NoSelectionField()
VALUE = CosemValue()
PARAMETER = CosemValue("parameter")
RESULT = UnsignedNumber("result", 1, {0: "success"} | ACCESS_RESULTS)
DATA_OR_RESULT = OrResult("a response", "data", VALUE)
ANSWER = ActionAnswer()
OPTIONAL_PARAMETER = Optional("parameter present", PARAMETER)
