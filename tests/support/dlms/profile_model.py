"""The simple path from decoded rows to reading sets, one row after the other: what the columnar path must equal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cosem_time import Stamp
from protocols.dlms.data.types import DELTAS, INTEGERS, Data, Tag
from protocols.dlms.profile.buffer import BufferRow, DecodedRows
from protocols.dlms.profile.layouts import CLOCK, EVENT_LOG_STEP, Layout, cell_value
from protocols.errors import MeterProtocolError
from protocols.reading import MeterTime, ProfileName, ReadingSet


def rows_of(layout: Layout, buffer: Data, zone: ZoneInfo) -> Iterator[BufferRow]:
    """Resolve compressed cells: a null repeats the row before, a null stamp adds one period, a delta counts on."""
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
        cells = tuple(
            _counted_on(cell, before[index] if before else None) for index, cell in enumerate(cells)
        )
        before, last = cells, stamp
        yield BufferRow(cells=cells, stamp=stamp)


def _counted_on(cell: Data, before: Data | None) -> Data:
    """Return a cell, a delta as the number that it makes of the one before; MeterProtocolError where it makes none."""
    if cell.tag not in DELTAS:
        return cell
    if before is None or before.integer is None:
        raise MeterProtocolError("a delta without a number before it")
    octets, signed = INTEGERS[before.tag]
    number = before.integer + cell.value  # type: ignore[operator]
    try:
        number.to_bytes(octets, "big", signed=signed)
    except OverflowError:
        raise MeterProtocolError("deltas count beyond their number's type") from None
    return Data(before.tag, number)


def _stamp(cell: Data, last: Stamp | None, step: timedelta, zone: ZoneInfo) -> Stamp:
    octets = cosem_time.octets_of(cell)
    if octets is not None:
        return cosem_time.decode(octets, zone)
    if cell.tag is Tag.NULL and last is not None and last.at is not None:
        try:
            at = last.at + step
        except OverflowError:
            return Stamp(at=None, wall="", deviation=None, status=None, trusted=False)
        if not 2 <= at.year <= 9998:
            return Stamp(at=None, wall="", deviation=None, status=None, trusted=False)
        wall = at.astimezone(zone).isoformat(" ", "seconds")[:19]
        return Stamp(at=at, wall=wall, deviation=last.deviation, status=last.status, trusted=last.trusted)
    return Stamp(at=None, wall="", deviation=None, status=None, trusted=False)


def decode_rows(
    layout: Layout,
    buffer: Data,
    *,
    zone: ZoneInfo,
    received_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> DecodedRows:
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
        if at is None or not 2 <= at.year <= 9998:
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
    return DecodedRows(sets=tuple(sets), count=len(rows), unstamped=unstamped)


def reading_set(
    layout: Layout, row: BufferRow, at: datetime, occurrence: int, *, zone: ZoneInfo, received_at: datetime
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


def _event_occurrence(layout: Layout, row: BufferRow, occurrence: int) -> int:
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
