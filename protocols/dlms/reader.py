"""Reads whole profiles through an association: layouts, chunks of a range, event logs, prepayment objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms import cosem_time
from protocols.dlms.companion import PrepaymentItem, companion
from protocols.dlms.exchange import Exchange
from protocols.dlms.model import EntrySelection, RangeSelection
from protocols.dlms.profiles import (
    BILLING_DATE,
    REGISTER_CLASSES,
    SORT_LIFO,
    CapturedColumn,
    Layout,
    decode_rows,
    parse_columns,
    parse_scale,
    parse_scales,
    reading_set,
    rows_of,
    with_scales,
)
from protocols.dlms.types import Data
from protocols.dlms.values import Scale, to_value
from protocols.errors import MeterProtocolError, MeterRefused, NotSupported
from protocols.reading import Missing, MissingReason, Obis, ProfileName, Quantity, ReadingSet, Value
from protocols.session import Clock

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Where an unbounded read begins; no smart meter is older."""
PRESENT = (ProfileName.INSTANTANEOUS, ProfileName.NAMEPLATE)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CHUNK = {ProfileName.BLOCK_LOAD: 3 * DAY, ProfileName.DAILY: 35 * DAY}
"""Span of one request; meters truncate or stall on longer ones. Other profiles are read in one."""
ONE_CHUNK = 400 * DAY
MARGIN = {ProfileName.DAILY: DAY, ProfileName.BILLING: DAY, ProfileName.EVENTS: timedelta(minutes=1)}
"""How much wider we ask where there is no capture period: some meters exclude a range's ends."""
AHEAD = DAY
"""How far a meter's clock may be ahead of ours when no end is given."""
MAX_PERIOD = 86_400
LONGEST_HISTORY = 400 * DAY
"""Reads from further back begin at the oldest stored row, or here when the meter does not give that."""


class LayoutCache:
    """Layouts of one manufacturer and firmware in a cache shared by sessions."""

    def __init__(
        self, entries: MutableMapping[tuple[str, str, str], Layout], manufacturer: str, firmware: str
    ) -> None:
        self._entries = entries
        self._prefix = (manufacturer, firmware)

    def get(self, name: str) -> Layout | None:
        """Find a layout; without a firmware version nothing may be shared."""
        return self._entries.get((*self._prefix, name)) if self._prefix[1] else None

    def put(self, name: str, layout: Layout) -> None:
        """Keep a layout."""
        if self._prefix[1]:
            self._entries[*self._prefix, name] = layout

    def drop(self, name: str) -> None:
        """Forget a layout that a meter's rows do not fit."""
        self._entries.pop((*self._prefix, name), None)


class ProfileReader:
    """Reads profiles of one meter; layouts are read once."""

    def __init__(
        self, exchange: Exchange, zone: ZoneInfo, clock: Clock, cache: LayoutCache | None = None
    ) -> None:
        self._exchange = exchange
        self._zone = zone
        self._clock = clock
        self._cache = cache or LayoutCache({}, "any", "any")
        self._layouts: dict[Obis, Layout] = {}
        self._scales: dict[Obis, Mapping[tuple[Obis, int], Scale]] = {}
        self._object_scales: dict[Obis, Scale | None] = {}
        self.unstamped_rows = 0

    async def read(
        self, profile: ProfileName, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[ReadingSet]:
        """Read one profile, oldest first."""
        match profile:
            case ProfileName.PREPAYMENT:
                yield await self._prepayment()
            case name if name in PRESENT:
                yield await self._present(profile)
            case ProfileName.EVENTS:
                for reading in await self._events(since, until):
                    yield reading
            case _:
                info = companion().profiles[profile]
                layout = await self._layout(profile, info.obis, info.scaler_profile)
                async for reading in self._stored(layout, since, until):
                    yield reading

    # layouts

    async def layout_of(self, profile: ProfileName) -> Layout:
        """Give the layout of a profile of the companion; NotSupported when the meter lacks it."""
        info = companion().profiles[profile]
        return await self._layout(profile, info.obis, info.scaler_profile)

    async def scaled(self, columns: tuple[CapturedColumn, ...]) -> tuple[CapturedColumn, ...]:
        """Give columns their scales, asked of the objects themselves."""
        return await self._scaled(columns, None)

    async def _layout(self, profile: ProfileName, obis: Obis, scalers: Obis | None) -> Layout:
        """Give the layout: columns may come from the shared cache, period and order are the meter's own."""
        if obis not in self._layouts:
            name = _cache_name(profile, obis)
            known = self._cache.get(name)
            if known is None:
                columns = parse_columns(await self._exchange.get(7, obis, 3))
                known = Layout(profile=profile, obis=obis, columns=await self._scaled(columns, scalers))
                self._cache.put(name, known)
            self._layouts[obis] = await self._with_settings(known)
        return self._layouts[obis]

    async def _with_settings(self, layout: Layout) -> Layout:
        if layout.profile in PRESENT:
            return layout
        periodic = layout.profile in (ProfileName.BLOCK_LOAD, ProfileName.DAILY)
        period = await self._number(layout.obis, 4) if periodic else 0
        if layout.profile is ProfileName.BLOCK_LOAD and not 0 < period <= MAX_PERIOD:
            raise MeterProtocolError(f"the block load's capture period is {period} s")
        newest_first = await self._number(layout.obis, 5) == SORT_LIFO
        return replace(layout, period=min(period, MAX_PERIOD), newest_first=newest_first)

    async def _number(self, obis: Obis, attribute: int) -> int:
        try:
            return (await self._exchange.get(7, obis, attribute)).integer or 0
        except (NotSupported, MeterRefused):
            return 0

    async def _scaled(
        self, columns: tuple[CapturedColumn, ...], scalers: Obis | None
    ) -> tuple[CapturedColumn, ...]:
        """Join the scaler profile by OBIS; ask the object itself (#3) where it has no entry."""
        scales = dict(await self._profile_scales(scalers)) if scalers is not None else {}
        for column in columns:
            obis = column.quantity.obis
            wanted = column.class_id in REGISTER_CLASSES and column.quantity.attribute == 2
            if not wanted or (obis, 2) in scales or obis == BILLING_DATE:
                continue
            scale = await self._object_scale(column.class_id, obis)
            if scale is not None:
                scales[obis, 2] = scale
        return with_scales(columns, scales)

    async def _profile_scales(self, scalers: Obis) -> Mapping[tuple[Obis, int], Scale]:
        if scalers not in self._scales:
            try:
                captured = parse_columns(await self._exchange.get(7, scalers, 3))
                scales = parse_scales(captured, await self._exchange.get(7, scalers, 2))
            except (NotSupported, MeterRefused):
                scales = {}
            self._scales[scalers] = scales
        return self._scales[scalers]

    async def _object_scale(self, class_id: int, obis: Obis) -> Scale | None:
        if obis not in self._object_scales:
            try:
                scale = parse_scale(await self._exchange.get(class_id, obis, 3 if class_id != 5 else 4))
            except (NotSupported, MeterRefused):
                scale = None
            self._object_scales[obis] = scale
        return self._object_scales[obis]

    @contextmanager
    def _fitting(self, layout: Layout) -> Iterator[None]:
        """Forget a shared layout that the rows do not fit, so that the next session reads it again."""
        try:
            yield
        except MeterProtocolError:
            self._cache.drop(_cache_name(layout.profile, layout.obis))
            raise

    # snapshots of the present

    async def _present(self, profile: ProfileName) -> ReadingSet:
        info = companion().profiles[profile]
        layout = await self._layout(profile, info.obis, info.scaler_profile)
        buffer = await self._exchange.get(7, layout.obis, 2)
        received_at = self._clock.now()
        with self._fitting(layout):
            rows = list(rows_of(layout, buffer, self._zone))
        if not rows:
            raise NotSupported(f"the meter's {profile} profile is empty")
        row = rows[-1]
        at = row.stamp.at if row.stamp else None
        # a live row without a usable clock is stamped by us; meter_time says that it is not trusted
        return reading_set(
            layout, row, at or received_at.replace(microsecond=0), 0, zone=self._zone, received_at=received_at
        )

    async def _prepayment(self) -> ReadingSet:
        items = companion().prepayment
        found = [(Quantity(item.obis), await self._prepayment_value(item)) for item in items]
        if all(value == Missing(MissingReason.NOT_SUPPORTED) for _, value in found):
            raise NotSupported("the meter has no prepayment objects")
        now = self._clock.now()
        return ReadingSet(
            profile=ProfileName.PREPAYMENT,
            at=now.replace(microsecond=0),
            values=tuple(found),
            received_at=now,
        )

    async def _prepayment_value(self, item: PrepaymentItem) -> Value:
        """Read the newer object or else the older one; both are given under the newer code."""
        reason = MissingReason.NOT_SUPPORTED
        for obis in (item.obis, item.older):
            try:
                data = await self._exchange.get(1, obis)
            except NotSupported:
                continue
            except MeterRefused:
                reason = MissingReason.METER_REFUSED
                continue
            known = companion()
            scale = (known.prepayment_scaler, known.prepayment_unit) if item.kind == "amount" else None
            return to_value(data, scale=scale, time=item.kind == "time", zone=self._zone)
        return Missing(reason)

    # stored rows

    async def _stored(
        self, layout: Layout, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[ReadingSet]:
        low = _no_earlier(since)
        if low < self._clock.now() - LONGEST_HISTORY:
            low = max(low, await self._beginning(layout))
        high = self._no_later(until)
        for start, end in _chunks(low, high, CHUNK.get(layout.profile, ONE_CHUNK)):
            for reading in await self._range(layout, start, end):
                yield reading

    def _no_later(self, until: datetime | None) -> datetime:
        now = self._clock.now()
        return now + AHEAD if until is None else min(until, now + LONGEST_HISTORY)

    async def _range(self, layout: Layout, since: datetime, until: datetime) -> list[ReadingSet]:
        """Ask one interval wider than needed, keep since < at <= until."""
        margin = timedelta(seconds=layout.period) or MARGIN.get(layout.profile, DAY)
        stamp = layout.stamp
        if stamp is None:
            raise MeterProtocolError(f"profile {layout.obis} captures no time")
        selection = RangeSelection(
            stamp.quantity.obis,
            2,
            cosem_time.encode(_hour(since - margin, self._zone), self._zone),
            cosem_time.encode(_hour(until + margin, self._zone) + HOUR, self._zone),
        )
        buffer = await self._exchange.get(7, layout.obis, 2, selection)
        return self._decode(layout, buffer, since, until)

    def _decode(
        self, layout: Layout, buffer: Data, since: datetime | None, until: datetime | None
    ) -> list[ReadingSet]:
        now = self._clock.now()
        with self._fitting(layout):
            decoded = decode_rows(layout, buffer, zone=self._zone, received_at=now, since=since, until=until)
        self.unstamped_rows += decoded.unstamped
        return list(decoded.sets)

    async def _beginning(self, layout: Layout) -> datetime:
        """Find an instant just before the oldest row, by the profile's first and last entry."""
        fallback = self._clock.now() - LONGEST_HISTORY
        used = await self._number(layout.obis, 7)
        stamps = []
        for entry in {1, max(used, 1)}:
            try:
                buffer = await self._exchange.get(7, layout.obis, 2, EntrySelection(entry, entry))
            except (NotSupported, MeterRefused):
                return fallback
            stamps += [
                row.stamp.at for row in rows_of(layout, buffer, self._zone) if row.stamp and row.stamp.at
            ]
        return min(stamps) - timedelta(seconds=1) if stamps else fallback

    # events

    async def _events(self, since: datetime | None, until: datetime | None) -> list[ReadingSet]:
        """Read every log that the meter has; the captured code object tells which log it is."""
        known = companion()
        sets: list[ReadingSet] = []
        logs = 0
        for log in known.event_logs:
            try:
                layout = await self._layout(ProfileName.EVENTS, log.obis, known.event_scaler_profile)
            except NotSupported:
                continue
            logs += 1
            sets += await self._range(layout, self._no_later(_no_earlier(since)), self._no_later(until))
        if not logs:
            raise NotSupported("the meter has no event logs")
        return sorted(sets, key=lambda s: (s.at, s.occurrence))


def _no_earlier(since: datetime | None) -> datetime:
    return EARLIEST if since is None else max(since, EARLIEST)


def _cache_name(profile: ProfileName, obis: Obis) -> str:
    return f"{profile}/{obis}"


def _hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Round down to the local hour: some meters select only from full hours."""
    return at.astimezone(zone).replace(minute=0, second=0, microsecond=0)


def _chunks(low: datetime, high: datetime, span: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Cut (low, high] into pieces of at most `span`."""
    while low < high:
        end = min(low + span, high)
        yield low, end
        low = end
