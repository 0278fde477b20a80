"""Profile buffers to reading sets: what the reader of profiles calls; layouts and blocks are its two halves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.block import Decoded, Row
from protocols.dlms.columns import block_of, decode_block
from protocols.dlms.layouts import (
    BILLING_DATE,
    CLOCK,
    EVENT_LOG_STEP,
    REGISTER_CLASSES,
    SORT_LIFO,
    CapturedColumn,
    Layout,
    cell_value,
    parse_columns,
    parse_scale,
    parse_scales,
    with_scales,
)
from protocols.dlms.stamps import meter_time
from protocols.dlms.types import Data
from protocols.reading import ProfileName, ReadingSet

__all__ = [
    "BILLING_DATE",
    "CLOCK",
    "EVENT_LOG_STEP",
    "REGISTER_CLASSES",
    "SORT_LIFO",
    "CapturedColumn",
    "Decoded",
    "Layout",
    "Row",
    "cell_value",
    "decode_octets",
    "decode_rows",
    "parse_columns",
    "parse_scale",
    "parse_scales",
    "reading_set",
    "rows_of",
    "with_scales",
]


def decode_octets(
    layout: Layout,
    octets: bytes,
    *,
    zone: ZoneInfo,
    received_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Decoded:
    """Turn a buffer's A-XDR octets into sets with since < at <= until, oldest first (see `Block.sets`).

    MeterProtocolError when the octets are no buffer of this layout or exceed a bound of `axdr`.
    """
    block = decode_block(layout, octets, zone=zone)
    return block.sets(received_at=received_at, since=since, until=until)


def decode_rows(
    layout: Layout,
    buffer: Data,
    *,
    zone: ZoneInfo,
    received_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Decoded:
    """Do the same with a buffer that is decoded already."""
    block = block_of(layout, buffer, zone=zone)
    return block.sets(received_at=received_at, since=since, until=until)


def rows_of(layout: Layout, buffer: Data, zone: ZoneInfo) -> Iterator[Row]:
    """Give the rows with null-data resolved: a null repeats the row before, a null stamp adds one period."""
    return block_of(layout, buffer, zone=zone).rows()


def reading_set(
    layout: Layout, row: Row, at: datetime, occurrence: int, *, zone: ZoneInfo, received_at: datetime
) -> ReadingSet:
    """Make a set of one row of a profile of the present, at an instant that the caller gives."""
    values = tuple(
        (c.quantity, cell_value(c, cell, zone))
        for c, cell in zip(layout.columns, row.cells, strict=True)
        if not c.is_clock
    )
    return ReadingSet(
        profile=layout.profile,
        at=at,
        start=at - timedelta(seconds=layout.period) if layout.profile is ProfileName.BLOCK_LOAD else None,
        values=values,
        received_at=received_at,
        meter_time=None if row.stamp is None else meter_time(row.stamp),
        occurrence=occurrence,
    )
