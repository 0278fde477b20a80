"""The COSEM objects that a simulated meter serves: plain data, registers and profile generics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from protocols.dlms.companion import Column
from protocols.dlms.model import (
    OTHER_REASON,
    TYPE_UNMATCHED,
    AccessDenied,
    EntrySelection,
    RangeSelection,
)
from protocols.dlms.types import (
    Data,
    array,
    capture_object,
    double_long_unsigned,
    enum,
    octets,
    scaler_unit,
)
from protocols.reading import Obis
from protocols.simulator.cosem_rows import CLOCK, Raw, encode, instant, row, scaler_row

Selection = RangeSelection | EntrySelection | None
Reader = Callable[[Selection], Data]
Writer = Callable[[Data], None]
Method = Callable[[Data | None], Data | None]
Rows = Callable[[datetime | None, datetime | None], Sequence[Mapping[str, Raw]]]
"""Stored rows with since <= stamp <= until (None = unbounded), oldest first, as quantity -> value."""

_FIFO = 1


@dataclass(frozen=True, slots=True)
class Served:
    """One object: its class, and what answers for each attribute and method."""

    class_id: int
    read: Mapping[int, Reader]
    write: Mapping[int, Writer] = field(default_factory=dict)
    methods: Mapping[int, Method] = field(default_factory=dict)


def constant(value: Data) -> Reader:
    """Answer always the same."""
    return lambda _selection: value


def data_object(value: Callable[[], Data], write: Writer | None = None) -> Served:
    """Serve a Data object (class 1)."""
    return Served(1, {2: lambda _selection: value()}, {2: write} if write else {})


def register(columns: Sequence[Column], values: Callable[[], Mapping[str, Raw]]) -> Served:
    """Serve an object (class 1, 3, 4, 70, 71) whose attributes are the columns of one OBIS code."""
    read: dict[int, Reader] = {}
    for column in columns:
        read[column.quantity.attribute] = _column_reader(column, values)
        if column.class_id in (3, 4) and column.scaler is not None:
            read[3] = constant(scaler_unit(column.scaler, column.unit_code))
    return Served(columns[0].class_id, read)


def profile(columns: Sequence[Column], rows: Rows, *, period: int, capacity: int) -> Served:
    """Serve a profile generic (class 7) that keeps its last `capacity` rows, oldest first."""
    names = tuple(str(c.quantity) for c in columns)

    def buffer(selection: Selection) -> Data:
        return array(*(row(columns, names, values) for values in _select(selection)))

    def _select(selection: Selection) -> Sequence[Mapping[str, Raw]]:
        if isinstance(selection, RangeSelection):
            if str(selection.obis) not in (CLOCK, names[0]):
                raise AccessDenied(OTHER_REASON)
            return rows(instant(selection.since), instant(selection.until))[-capacity:]
        kept = rows(None, None)[-capacity:]
        if selection is None:
            return kept
        if selection.first < 1:
            raise AccessDenied(TYPE_UNMATCHED)
        return kept[selection.first - 1 : selection.last or None]

    return Served(
        7,
        {
            2: buffer,
            3: constant(_captured(columns)),
            4: constant(double_long_unsigned(period)),
            5: constant(enum(_FIFO)),
            6: constant(_captured(columns[:1]).items[0]),
            7: lambda _selection: double_long_unsigned(len(rows(None, None)[-capacity:])),
            8: constant(double_long_unsigned(capacity)),
        },
    )


def scaler_profile(columns: Sequence[Column]) -> Served:
    """Serve the scaler profile of some columns: one row, capturing #3 of those that have a scaler."""
    scaled = [c for c in columns if c.scaler is not None]
    captured = array(*(capture_object(c.class_id, c.quantity.obis, 3) for c in scaled))
    one = double_long_unsigned(1)
    return Served(
        7,
        {
            2: constant(array(scaler_row(columns))),
            3: constant(captured),
            4: constant(double_long_unsigned(0)),
            7: constant(one),
            8: constant(one),
        },
    )


def logical_name(obis: Obis) -> Data:
    """Give attribute 1 of any object."""
    return octets(obis.to_bytes())


def _captured(columns: Sequence[Column]) -> Data:
    return array(
        *(
            capture_object(c.class_id, c.quantity.obis, c.quantity.attribute, c.quantity.index)
            for c in columns
        )
    )


def _column_reader(column: Column, values: Callable[[], Mapping[str, Raw]]) -> Reader:
    name = str(column.quantity)
    return lambda _selection: encode(column, values()[name])
