"""How a meter's pushes are to be read: columns in the order of its own push object list (class 40 #2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.companion import ColumnInfo, companion
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, Tag, array, octets, structure
from protocols.dlms.profile.decoder import buffer_of, reading_set
from protocols.dlms.profile.layouts import CLOCK, CapturedColumn, Layout, parse_columns
from protocols.dlms.push.body import LOG_OF_SETUP, PROFILE_OF_SETUP, PushBody, PushedCells, PushedRows
from protocols.dlms.push.described import PUSH_SETUP_CLASS
from protocols.dlms.reading.reader import ProfileReader
from protocols.errors import MeterProtocolError, MeterRefused, NotSupported
from protocols.reading import Obis, ProfileName, Quantity, ReadingSet

PROFILE_CLASS = 7
_HEADER = 2
"""Device id and push setup's own name come before what is pushed."""
_CLOCK_COLUMN = CapturedColumn(class_id=8, quantity=Quantity(CLOCK))


async def push_layouts(exchange: ResumingExchange, reader: ProfileReader) -> dict[Obis, Layout]:
    """Read how each push setup that carries readings is laid out, and each profile and event log by its OBIS code.

    Setups and profiles that lack are left out.

    A setup that names a profile's buffer has that profile's layout, as has one whose list cannot be read;
    one that names single objects has those as columns, scaled by the objects themselves.
    """
    found: dict[Obis, Layout] = {}
    for setup, profile in PROFILE_OF_SETUP.items():
        with suppress(NotSupported, MeterRefused):
            found[setup] = await _layout(exchange, reader, setup, profile)
            buffer = await reader.layout_of(profile)
            found[buffer.obis] = buffer
    for setup, log in LOG_OF_SETUP.items():  # rows of a log are pushed as its buffer has them
        with suppress(NotSupported, MeterRefused, MeterProtocolError):
            found[setup] = found[log.obis] = await reader.layout_of_log(log.obis)
    return found


async def _layout(
    exchange: ResumingExchange, reader: ProfileReader, setup: Obis, profile: ProfileName
) -> Layout:
    try:
        pushed = parse_columns(await exchange.get(Target(PUSH_SETUP_CLASS, setup)))
    except (NotSupported, MeterRefused, MeterProtocolError):  # hidden from this client, or no such list
        return await reader.layout_of(profile)
    known = companion().profiles[profile].obis
    if any(c.class_id == PROFILE_CLASS for c in pushed):  # the buffer itself is pushed, as rows
        return await reader.layout_of(profile)
    columns = tuple(c for c in pushed[_HEADER:] if c.quantity.obis != CLOCK)
    if not columns:
        return await reader.layout_of(profile)
    stamped = any(c.is_stamp for c in columns)  # a billing date stamps the row, not the clock of the push
    scaled = await reader.scaled(columns if stamped else (_CLOCK_COLUMN, *columns))
    interval = profile is ProfileName.BLOCK_LOAD
    period = (await reader.layout_of(profile)).period if interval else 0
    return Layout(profile=profile, obis=known, columns=scaled, period=period)


@lru_cache(maxsize=1)
def companion_layouts() -> Mapping[Obis, Layout]:
    """Lay pushes out as the companion expects them, scales included: only for meters that are known to fit. Cached."""
    profiles = ((setup, companion().profiles[profile]) for setup, profile in PROFILE_OF_SETUP.items())
    found = {
        setup: Layout(
            profile=info.name, obis=info.obis, period=info.capture_period, columns=_expected(info.columns)
        )
        for setup, info in profiles
    }
    logs = {
        setup: Layout(profile=ProfileName.EVENTS, obis=log.obis, columns=_expected(log.columns))
        for setup, log in LOG_OF_SETUP.items()
    }
    by_obis = {layout.obis: layout for layout in (*found.values(), *logs.values())}
    return MappingProxyType(found | logs | by_obis)


def _expected(columns: Sequence[ColumnInfo]) -> tuple[CapturedColumn, ...]:
    return tuple(
        CapturedColumn(
            class_id=column.class_id,
            quantity=column.quantity,
            scale=None if column.scaler is None else (column.scaler, column.unit),
        )
        for column in columns
    )


def pushed_sets(
    layout: Layout, body: PushBody, *, zone: ZoneInfo, received_at: datetime
) -> tuple[ReadingSet, ...]:
    """Turn a pushed payload into reading sets, oldest first: rows, or values in the order of a layout.

    MeterProtocolError when it does not fit the layout: a column too many, a type that is none, no stamp, an
    interval of unknown length.
    """
    if layout.profile is ProfileName.BLOCK_LOAD and not layout.period:
        raise MeterProtocolError("a pushed block load whose capture period is not known")
    buffer = array(*_rows(layout, body))
    if layout.profile is ProfileName.INSTANTANEOUS:
        return tuple(_present(layout, buffer, zone, received_at))
    decoded = buffer_of(layout, buffer, zone=zone).sets(received_at=received_at)
    if decoded.unstamped:
        raise MeterProtocolError(f"{decoded.unstamped} pushed rows without a usable stamp")
    return decoded.sets


def _present(layout: Layout, buffer: Data, zone: ZoneInfo, received_at: datetime) -> Iterator[ReadingSet]:
    for number, row in enumerate(buffer_of(layout, buffer, zone=zone).rows()):
        at = row.stamp.at if row.stamp else None
        yield reading_set(
            layout,
            row,
            at or received_at.replace(microsecond=0),
            number if at is None else 0,
            zone=zone,
            received_at=received_at,
        )


def _rows(layout: Layout, body: PushBody) -> tuple[Data, ...]:
    match body.payload:
        case PushedRows(rows):
            if any(row.tag is not Tag.STRUCTURE for row in rows):
                raise MeterProtocolError("a pushed row is a structure")
            return rows
        case PushedCells(cells):
            if len(cells) == len(layout.columns):
                return (structure(*cells),)
            at = next((i for i, c in enumerate(layout.columns) if c.is_stamp), None)
            if at is not None and len(body.clock) == cosem_time.OCTETS:
                return (structure(*cells[:at], octets(body.clock), *cells[at:]),)
            return (structure(*cells),)
    raise MeterProtocolError("an alert has no rows")
