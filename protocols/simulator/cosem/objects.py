"""The COSEM objects that a simulated meter serves: plain data, registers and profile generics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from protocols.dlms.apdu.fields import Selection
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.companion import ColumnInfo
from protocols.dlms.data import axdr
from protocols.dlms.data.types import (
    Data,
    array,
    capture_object,
    double_long_unsigned,
    enum,
    octets,
    scaler_unit,
)
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.reading import Obis
from protocols.simulator.cosem.rows import CLOCK, Raw, encode, instant, row, scaler_row

Reader = Callable[[Selection | None], Data]
Writer = Callable[[Data], None]
Method = Callable[[Data | None], Data | None]
Rows = Callable[[datetime | None, datetime | None], Sequence[Mapping[str, Raw]]]
"""Stored rows with since <= stamp <= until (None = unbounded), oldest first, as quantity -> value."""

MAX_WRITTEN = 4096
"""Octets of one value that was written."""
_FIFO = 1


@dataclass(frozen=True, slots=True)
class Served:
    """One object as it is served: its class and version, and what answers for each attribute and method."""

    class_id: int
    read: Mapping[int, Reader]
    write: Mapping[int, Writer] = field(default_factory=dict)
    methods: Mapping[int, Method] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSource:
    """What a profile generic stands on: rows, and numbers that may change while it runs."""

    rows: Rows
    period: Callable[[], int]
    capacity: Callable[[], int]
    count: Callable[[], int] | None = None
    set_period: Writer | None = None
    methods: Mapping[int, Method] = field(default_factory=dict)


def constant(value: Data) -> Reader:
    """Return what answers always the same."""
    return lambda _selection: value


def live(value: Callable[[], Data]) -> Reader:
    """Return what answers with the value of now."""
    return lambda _selection: value()


def data_object(value: Callable[[], Data], write: Writer | None = None) -> Served:
    """Serve a Data object (class 1)."""
    return Served(1, {2: live(value)}, {2: write} if write else {})


def register(columns: Sequence[ColumnInfo], values: Callable[[], Mapping[str, Raw]]) -> Served:
    """Serve an object (class 1, 3, 4, 70, 71) whose attributes are the columns of one OBIS code."""
    read: dict[int, Reader] = {}
    for column in columns:
        read[column.quantity.attribute] = _column_reader(column, values)
        if column.class_id in (3, 4) and column.scaler is not None:
            read[3] = constant(scaler_unit(column.scaler, column.unit_code))
    return Served(columns[0].class_id, read)


def profile(columns: tuple[ColumnInfo, ...], source: ProfileSource) -> Served:
    """Serve a profile generic (class 7) that keeps its last `capacity` rows, oldest first."""
    names = _names(columns)

    def kept() -> Sequence[Mapping[str, Raw]]:
        return source.rows(None, None)[-source.capacity() :]

    def buffer(selection: Selection | None) -> Data:
        wanted = _columns_of(columns, selection)
        kept_names = names if wanted is columns else _names(wanted)
        return array(*(row(wanted, kept_names, values) for values in _select(selection)))

    def _select(selection: Selection | None) -> Sequence[Mapping[str, Raw]]:
        if isinstance(selection, RangeSelection):
            if str(selection.obis) not in (CLOCK, names[0]):
                raise AccessDenied(OTHER_REASON)
            return source.rows(instant(selection.since), instant(selection.until))[-source.capacity() :]
        if selection is None:
            return kept()
        if selection.first < 1:
            raise AccessDenied(TYPE_UNMATCHED)
        return kept()[selection.first - 1 : selection.last or None]

    def used() -> Data:
        count = len(kept()) if source.count is None else min(source.count(), source.capacity())
        return double_long_unsigned(count)

    captured = _captured(columns)
    return Served(
        7,
        {
            2: buffer,
            3: constant(captured),
            4: live(lambda: double_long_unsigned(source.period())),
            5: constant(enum(_FIFO)),
            6: constant(captured.items[0]),
            7: live(used),
            8: live(lambda: double_long_unsigned(source.capacity())),
        },
        {} if source.set_period is None else {4: source.set_period},
        source.methods,
        version=1,
    )


def _columns_of(columns: tuple[ColumnInfo, ...], selection: Selection | None) -> tuple[ColumnInfo, ...]:
    """Return the columns that a selection wants, in the order of the profile (Blue Book 4.3.6.4)."""
    match selection:
        case EntrySelection(first_column=first, last_column=last) if (first, last) != (1, 0):
            if not 1 <= first <= (last or len(columns)):
                raise AccessDenied(TYPE_UNMATCHED)
            return columns[first - 1 : last or None]
        case RangeSelection(columns=wanted) if wanted:
            found = {(c.obis, c.attribute) for c in wanted}
            chosen = tuple(c for c in columns if (c.quantity.obis, c.quantity.attribute) in found)
            if len(chosen) != len(found):
                raise AccessDenied(TYPE_UNMATCHED)
            return chosen
    return columns


def scaler_profile(columns: tuple[ColumnInfo, ...]) -> Served:
    """Serve the scaler profile of some columns: one row, capturing #3 of those that have a scaler."""
    buffer, captured = _scalers(columns)
    one = double_long_unsigned(1)
    return Served(
        7,
        {
            2: constant(buffer),
            3: constant(captured),
            4: constant(double_long_unsigned(0)),
            5: constant(enum(_FIFO)),
            7: constant(one),
            8: constant(one),
        },
        version=1,
    )


class Memory:
    """What was written into a meter, by object and attribute; objects built anew find it again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Obis, int], Data] = {}

    def get(self, obis: Obis, attribute: int) -> Data | None:
        """Return what was written, if anything was."""
        return self._kept.get((obis, attribute))

    def put(self, obis: Obis, attribute: int, value: Data) -> None:
        """Keep a value; AccessDenied when it is longer than a meter would keep."""
        if len(axdr.encode(value)) > MAX_WRITTEN:
            raise AccessDenied(OTHER_REASON)
        self._kept[obis, attribute] = value

    def reader(self, obis: Obis, attribute: int, first: Data) -> Reader:
        """Return what reads the value that was written, or `first`."""
        return lambda _selection: self._kept.get((obis, attribute), first)

    def writer(
        self, obis: Obis, attribute: int, first: Data, then: Callable[[Data], None] | None = None
    ) -> Writer:
        """Return what writes a value of the same type as `first`, and calls `then` with it."""

        def write(value: Data) -> None:
            if value.tag is not first.tag:
                raise AccessDenied(TYPE_UNMATCHED)
            self.put(obis, attribute, value)
            if then is not None:
                then(value)

        return write


def logical_name(obis: Obis) -> Data:
    """Return attribute 1 of any object."""
    return octets(obis.to_bytes())


@lru_cache(maxsize=256)
def _names(columns: tuple[ColumnInfo, ...]) -> tuple[str, ...]:
    return tuple(str(c.quantity) for c in columns)


@lru_cache(maxsize=256)
def _captured(columns: tuple[ColumnInfo, ...]) -> Data:
    """Return the capture list; meters of one kind share it, as they share the scaler profiles."""
    return array(
        *(
            capture_object(c.class_id, c.quantity.obis, c.quantity.attribute, c.quantity.index)
            for c in columns
        )
    )


@lru_cache(maxsize=256)
def _scalers(columns: tuple[ColumnInfo, ...]) -> tuple[Data, Data]:
    scaled = [c for c in columns if c.scaler is not None]
    captured = array(*(capture_object(c.class_id, c.quantity.obis, 3) for c in scaled))
    return array(scaler_row(columns)), captured


def _column_reader(column: ColumnInfo, values: Callable[[], Mapping[str, Raw]]) -> Reader:
    name = str(column.quantity)
    return lambda _selection: encode(column, values()[name])
