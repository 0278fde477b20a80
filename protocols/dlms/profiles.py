"""Profile buffers to reading sets: columns from capture_objects, scales by OBIS, times resolved; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms import axdr, cosem_time
from protocols.dlms.cosem_time import Stamp
from protocols.dlms.types import Data, Tag
from protocols.dlms.units import unit_name
from protocols.dlms.values import Scale, is_time, to_value
from protocols.errors import MeterProtocolError
from protocols.reading import (
    MeterTime,
    Missing,
    MissingReason,
    Obis,
    ProfileName,
    Quantity,
    ReadingSet,
    Value,
)

CLOCK = Obis(0, 0, 1, 0, 0)
BILLING_DATE = Obis(0, 0, 0, 1, 2)
SORT_LIFO = 2
EVENT_LOG_STEP = 100_000_000
"""Occurrences of event log e count from e times this, so that logs with one stamp stay apart; seven logs stay
below 10^9, so that a sink may add the occurrence to a time in nanoseconds."""
REGISTER_CLASSES = (3, 4, 5)
MAX_COLUMNS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedColumn:
    """One captured column; `scale` None means the meter gave none."""

    class_id: int
    quantity: Quantity
    scale: Scale | None = None

    @property
    def is_stamp(self) -> bool:
        """Tell the column that stamps a row."""
        return self.quantity.attribute == 2 and self.quantity.obis in (CLOCK, BILLING_DATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read one profile's rows: columns, capture period in seconds, newest first or not."""

    profile: ProfileName
    obis: Obis
    columns: tuple[CapturedColumn, ...]
    period: int = 0
    newest_first: bool = False

    @property
    def stamp(self) -> CapturedColumn | None:
        """The column that stamps a row, or None."""
        return next((c for c in self.columns if c.is_stamp), None)


def parse_columns(data: Data) -> tuple[CapturedColumn, ...]:
    """Read capture_objects (Blue Book 4.3.6 #3); MeterProtocolError when it is no such list."""
    columns = []
    for entry in data.items[:MAX_COLUMNS]:
        match entry.items:
            case (Data(_, int() as class_id), Data(_, bytes() as name), Data(_, int() as attribute), *rest):
                index = rest[0].integer or 0 if rest else 0
                if len(name) != 6:
                    raise MeterProtocolError(f"a capture object with a name of {len(name)} octets")
                quantity = Quantity(Obis.from_bytes(name), attribute, index)
                columns.append(CapturedColumn(class_id=class_id, quantity=quantity))
            case _:
                raise MeterProtocolError("capture_objects holds an entry that is no capture object")
    if not columns:
        raise MeterProtocolError("capture_objects is empty or no list")
    return tuple(columns)


def parse_scale(data: Data) -> Scale | None:
    """Read a scaler_unit structure, None when it is something else."""
    match data.items:
        case (Data(_, int() as scaler), Data(_, int() as unit)):
            return scaler, unit_name(unit)
    return None


def parse_scales(columns: Sequence[CapturedColumn], buffer: Data) -> dict[tuple[Obis, int], Scale]:
    """Join a scaler profile's columns (#3 of each object) and its one row by OBIS."""
    rows = buffer.items
    if not rows:
        return {}
    row = rows[0].items
    scales: dict[tuple[Obis, int], Scale] = {}
    for column, cell in zip(columns, row, strict=False):
        scale = parse_scale(cell)
        if scale is not None:
            scales[column.quantity.obis, 2] = scale
    return scales


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row with its cells resolved and its stamp decoded (None when the profile has no stamp)."""

    cells: tuple[Data, ...]
    stamp: Stamp | None


def rows_of(layout: Layout, buffer: Data, zone: ZoneInfo) -> Iterator[Row]:
    """Resolve null-compressed cells: a null repeats the row before, a null stamp adds one period."""
    if buffer.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise MeterProtocolError(f"a profile buffer is an array, not {buffer.tag.name}")
    before: tuple[Data, ...] | None = None
    last: Stamp | None = None
    step = timedelta(seconds=-layout.period if layout.newest_first else layout.period)
    at = next((i for i, c in enumerate(layout.columns) if c.is_stamp), None)
    for number, entry in enumerate(buffer.items):
        cells = entry.items
        if len(cells) != len(layout.columns):
            raise MeterProtocolError(
                f"row {number} has {len(cells)} cells, capture_objects names {len(layout.columns)}"
            )
        stamp = None
        if at is not None:
            stamp = _stamp(cells[at], last, step, zone)
        if before is not None:
            cells = tuple(b if c.tag is Tag.NULL else c for c, b in zip(cells, before, strict=True))
        before, last = cells, stamp
        yield Row(cells=cells, stamp=stamp)


def _stamp(cell: Data, last: Stamp | None, step: timedelta, zone: ZoneInfo) -> Stamp:
    octets = cell.octets
    if octets is not None and len(octets) == cosem_time.OCTETS:
        return cosem_time.decode(octets, zone)
    if cell.tag is Tag.NULL and last is not None and last.at is not None:
        at = last.at + step
        wall = at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
        return Stamp(at=at, wall=wall, deviation=last.deviation, status=last.status, trusted=last.trusted)
    return Stamp(at=None, wall="", deviation=None, status=None, trusted=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Sets of one buffer, oldest first, and how many rows had no usable stamp."""

    sets: tuple[ReadingSet, ...]
    unstamped: int


def decode_rows(
    layout: Layout,
    buffer: Data,
    *,
    zone: ZoneInfo,
    received_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Decoded:
    """Turn a stored buffer into sets with since < at <= until, oldest first.

    A row that repeats another in full is given once; rows that differ under one stamp are occurrences
    0, 1, … in the order in which the meter captured them. Events count from their log's own base, or
    carry the captured sequence number.
    """
    rows = list(rows_of(layout, buffer, zone))
    if layout.newest_first:
        rows.reverse()
    seen: dict[datetime, list[tuple[Data, ...]]] = {}
    sets: list[ReadingSet] = []
    unstamped = 0
    for row in rows:
        at = row.stamp.at if row.stamp else None
        if at is None:
            unstamped += 1
            continue
        if (since is not None and at <= since) or (until is not None and at > until):
            continue
        twins = seen.setdefault(at, [])
        cells = row.cells
        if cells in twins and layout.profile is not ProfileName.EVENTS:
            continue
        twins.append(cells)
        sets.append(reading_set(layout, row, at, len(twins) - 1, zone=zone, received_at=received_at))
    sets.sort(key=lambda s: (s.at, s.occurrence))
    return Decoded(sets=tuple(sets), unstamped=unstamped)


def reading_set(
    layout: Layout, row: Row, at: datetime, occurrence: int, *, zone: ZoneInfo, received_at: datetime
) -> ReadingSet:
    """Make one set of a row; the clock column becomes its stamp and is not repeated as a value."""
    values = tuple(
        (c.quantity, cell_value(c, cell, zone))
        for c, cell in zip(layout.columns, row.cells, strict=True)
        if not (c.is_stamp and c.quantity.obis == CLOCK)
    )
    stamp = row.stamp
    meter_time = None
    if stamp is not None:
        meter_time = MeterTime(
            wall=stamp.wall, deviation=stamp.deviation, status=stamp.status, trusted=stamp.trusted
        )
    interval = layout.profile is ProfileName.BLOCK_LOAD
    evidence = axdr.encode(Data(Tag.STRUCTURE, row.cells)) if layout.profile is ProfileName.BILLING else None
    return ReadingSet(
        profile=layout.profile,
        at=at,
        start=at - timedelta(seconds=layout.period) if interval else None,
        values=values,
        received_at=received_at,
        meter_time=meter_time,
        occurrence=_event_occurrence(layout, row, occurrence),
        raw=evidence,
    )


def _event_occurrence(layout: Layout, row: Row, occurrence: int) -> int:
    if layout.profile is not ProfileName.EVENTS:
        return occurrence
    log, number = 0, occurrence
    for column, cell in zip(layout.columns, row.cells, strict=True):
        obis = column.quantity.obis
        if (obis.c, obis.d) == (96, 11):
            log = obis.e
        elif (obis.c, obis.d) == (96, 15) and cell.integer is not None:
            number = cell.integer
    return log * EVENT_LOG_STEP + number % EVENT_LOG_STEP


def cell_value(column: CapturedColumn, cell: Data, zone: ZoneInfo) -> Value:
    """Convert one cell; a register's number without a known scale is Missing, not a guess."""
    quantity = column.quantity
    time = is_time(column.class_id, quantity.obis, quantity.attribute)
    numeric = cell.integer is not None and not time
    if numeric and column.scale is None and column.class_id in REGISTER_CLASSES:
        return Missing(MissingReason.NOT_SUPPORTED)
    if quantity.attribute < 1:
        return Missing(MissingReason.NOT_SUPPORTED)
    return to_value(cell, scale=column.scale, time=time, zone=zone)


def with_scales(
    columns: Sequence[CapturedColumn], scales: Mapping[tuple[Obis, int], Scale]
) -> tuple[CapturedColumn, ...]:
    """Give each column the scale of its object; only the value attributes have one."""
    return tuple(
        CapturedColumn(
            class_id=c.class_id,
            quantity=c.quantity,
            scale=scales.get((c.quantity.obis, 2)) if _scaled(c) else None,
        )
        for c in columns
    )


def _scaled(column: CapturedColumn) -> bool:
    attribute = column.quantity.attribute
    return attribute == 2 or (column.class_id, attribute) in ((5, 3), (71, 3), (71, 4))
