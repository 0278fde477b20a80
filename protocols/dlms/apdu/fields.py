"""Parts that the GET, SET and ACTION services share: attribute names, selective access, value or error."""

from __future__ import annotations

from protocols.dlms.apdu.selection import ColumnName, EntrySelection, RangeSelection
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    capture_object,
    double_long_unsigned,
    long_unsigned,
    octets,
)
from protocols.dlms.data.types import structure as struct_of
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import Obis

INVOKE = 0xC1
"""Invoke id 1, confirmed, high priority: one request at a time is outstanding."""

Selection = RangeSelection | EntrySelection


def data_or_error(data: Data | None, error: int | None) -> bytes:
    """Write a Get-Data-Result."""
    if error is not None:
        return bytes((1, error))
    if data is None:
        raise LocalError("a response carries a value or an error")
    return b"\x00" + axdr.encode(data)


def read_data_or_error(cursor: Cursor) -> tuple[Data | None, int | None]:
    """Read a Get-Data-Result."""
    match cursor.u8():
        case 0:
            return axdr.read(cursor), None
        case 1:
            return None, cursor.u8()
    raise cursor.error("a response is data (0) or a result (1)")


def attribute_octets(class_id: int, obis: Obis, attribute: int) -> bytes:
    """Write class, OBIS code and number of an attribute or method."""
    return class_id.to_bytes(2, "big") + obis.to_bytes() + attribute.to_bytes(1, "big", signed=True)


def read_attribute(cursor: Cursor) -> tuple[int, Obis, int]:
    """Read class, OBIS code and number of an attribute or method."""
    class_id = cursor.unsigned(2)
    obis = Obis.from_bytes(cursor.take(6))
    return class_id, obis, int.from_bytes(cursor.take(1), "big", signed=True)


def selection_octets(selection: Selection | None) -> bytes:
    """Write an optional selective access."""
    match selection:
        case None:
            return b"\x00"
        case RangeSelection():  # Blue Book 4.3.6, selector 1
            column = capture_object(_clock_class(selection.obis), selection.obis, selection.attribute)
            wanted = array(*(capture_object(*name) for name in selection.columns))
            parameter = struct_of(column, octets(selection.since), octets(selection.until), wanted)
            return b"\x01\x01" + axdr.encode(parameter)
        case EntrySelection():  # selector 2
            entries = (double_long_unsigned(selection.first), double_long_unsigned(selection.last))
            columns = (long_unsigned(selection.first_column), long_unsigned(selection.last_column))
            return b"\x01\x02" + axdr.encode(struct_of(*entries, *columns))


def _clock_class(obis: Obis) -> int:
    return 8 if (obis.c, obis.d) == (1, 0) else 3


def read_selection(cursor: Cursor) -> Selection | None:
    """Read an optional selective access."""
    if not cursor.u8():
        return None
    selector = cursor.u8()
    parameter = axdr.read(cursor)
    selection = {1: _range_of, 2: _entries_of}.get(selector, lambda _: None)(parameter)
    if selection is None:
        raise MeterProtocolError(f"selective access {selector} is malformed or not supported")
    return selection


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
