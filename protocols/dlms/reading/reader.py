"""Reads whole profiles through an association, from wherever the companion says that this meter has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.companion import (
    BufferSource,
    Companion,
    LogsSource,
    ObjectRead,
    ObjectsSource,
    companion,
    in_order,
)
from protocols.dlms.core.association_settings import CURRENT_ASSOCIATION
from protocols.dlms.data.types import Data
from protocols.dlms.data.values import is_number, to_value
from protocols.dlms.objects.object_list import ObjectEntry, parse_object_list
from protocols.dlms.profile.decoder import buffer_of, reading_set
from protocols.dlms.profile.layouts import CapturedColumn, Layout, cell_value
from protocols.dlms.reading.known_meter import MeterNotes
from protocols.dlms.reading.layout_cache import LayoutCache
from protocols.dlms.reading.layout_reader import PRESENT, LayoutReader
from protocols.dlms.reading.selective_access import SelectiveAccess
from protocols.dlms.reading.visit_plan import LayoutCheck
from protocols.errors import MeterProtocolError, NotSupported, ProtocolError
from protocols.reading import Missing, MissingReason, Obis, ProfileName, Quality, ReadingSet, Value
from protocols.session import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStatistics:
    """What was unusual about a meter.

    `unstamped_rows` were left out, their stamp being unusable. `scale_conflicts` are energy columns whose
    scaler profile contradicts the register. `layouts_reread` did not fit their rows any more. `continued`
    requests took up a truncated answer. `methods` names the profiles that are not read by range.
    """

    unstamped_rows: int = 0
    scale_conflicts: int = 0
    layouts_reread: int = 0
    continued: int = 0
    methods: tuple[tuple[str, str], ...] = ()


class ProfileReader:
    """Reads the profiles of one meter from where a companion says that they are.

    `cache` keeps what the meter shows for later sessions, `client` is whose object list that is.
    """

    def __init__(
        self,
        exchange: ResumingExchange,
        zone: ZoneInfo,
        clock: Clock,
        cache: LayoutCache | None = None,
        assumed: Companion | None = None,
        *,
        client: int = 0,
        notes: MeterNotes | None = None,
    ) -> None:
        self._notes = notes or MeterNotes()
        self._exchange = exchange
        self._zone = zone
        self._clock = clock
        self._client = str(client)
        self._companion = assumed or companion()
        self._cache = cache or LayoutCache({}, "", "")
        self._listed: tuple[ObjectEntry, ...] | None = None
        self._layouts = LayoutReader(exchange, clock, self._cache, self._companion)
        east = self._companion.clock.east
        self._stored = SelectiveAccess(exchange, self._layouts, zone, clock, self._notes, east=east)

    def statistics(self) -> ReaderStatistics:
        """Count what was unusual so far."""
        return ReaderStatistics(
            unstamped_rows=self._stored.buffers.unstamped,
            scale_conflicts=self._layouts.scale_conflicts,
            layouts_reread=self._layouts.reread,
            continued=self._stored.ranges.continued,
            methods=tuple((str(obis), method.value) for obis, method in self._stored.methods.items()),
        )

    async def read(
        self,
        profile: ProfileName,
        since: datetime | None,
        until: datetime | None,
        *,
        quiet: Collection[Obis] = (),
    ) -> AsyncIterator[ReadingSet]:
        """Read one profile, oldest first; stored rows have since < at <= until. Event logs in `quiet` are left out.

        All rows up to the last one given were given: a read that fails may be taken up again from its `at`.
        NotSupported when the companion or the meter has no such profile; else what `Exchange.get` raises.
        """
        match self._companion.source(profile, await self.objects()):
            case ObjectsSource(reads):
                yield await self._read_objects(profile, reads)
            case LogsSource(logs):
                wanted = tuple(log for log in logs if log.places[0] not in quiet)
                for reading in await self._read_logs(wanted, since, until) if wanted else ():
                    yield reading
            case BufferSource() as source:
                layout = await self._layouts.of(profile, source)
                if profile in PRESENT:  # one row, which is not chosen by time
                    yield await self._read_present(layout)
                    return
                async for reading in self._stored.read(layout, since, until):
                    yield reading

    async def recheck(self, check: LayoutCheck) -> None:
        """Look whether a layout is what it was; raises what `Exchange.get` does."""
        await self._layouts.recheck(check.profile, check.place, check.source)

    async def layout_of(self, profile: ProfileName) -> Layout:
        """Return the layout of a profile of rows; NotSupported when the companion or the meter has none."""
        match self._companion.source(profile, await self.objects()):
            case BufferSource() as source:
                return await self._layouts.of(profile, source)
        raise NotSupported(f"the {profile} profile is not one buffer of rows")

    async def layout_of_log(self, place: Obis) -> Layout:
        """Return the layout of the event log at `place`; NotSupported when the companion or the meter has none."""
        match self._companion.source(ProfileName.EVENTS, await self.objects()):
            case LogsSource(logs):
                for log in logs:
                    if place in log.places:
                        return await self._layouts.of(ProfileName.EVENTS, log)
        raise NotSupported(f"no event log is known at {place}")

    async def scaled(self, columns: tuple[CapturedColumn, ...]) -> tuple[CapturedColumn, ...]:
        """Return the columns with their scales, which the objects themselves tell."""
        return await self._layouts.scaled(columns, None)

    async def objects(self) -> tuple[ObjectEntry, ...]:
        """Return the meter's object list where the companion goes by it, else ().

        It is read once from the current association (class 15 #2) and kept as long as the firmware stays.
        """
        if not self._companion.by_object_list:
            return ()
        listed = self._listed or self._cache.objects(self._client)
        if listed is None:
            listed = in_order(parse_object_list(await self._exchange.get(Target(15, CURRENT_ASSOCIATION))))
            self._cache.put_objects(self._client, listed)
        self._listed = listed
        return listed

    # the present

    async def _read_present(self, layout: Layout) -> ReadingSet:
        buffer = await self._exchange.get(Target(7, layout.obis))
        received_at = self._clock.now()
        try:
            rows = list(buffer_of(layout, buffer, zone=self._zone).rows())
        except MeterProtocolError:
            fresh = await self._layouts.again(layout)
            if fresh is None:
                raise
            layout = fresh
            rows = list(buffer_of(layout, buffer, zone=self._zone).rows())
        if not rows:
            raise NotSupported(f"the meter's {layout.profile} profile is empty")
        row = rows[-1]
        # a live row without a usable clock is stamped by us; meter_time says that it is not trusted
        at = row.stamp.at if row.stamp and row.stamp.at else received_at.replace(microsecond=0)
        return reading_set(layout, row, at, 0, zone=self._zone, received_at=received_at)

    async def _read_objects(self, profile: ProfileName, reads: tuple[ObjectRead, ...]) -> ReadingSet:
        """Read single objects, each at the first of its places that answers; NotSupported when none does."""
        columns = (await self._layouts.of_objects(profile, reads)).columns
        found = await self._first_answers(reads)
        values = tuple(
            (column.quantity, self._value(column, read, one))
            for column, read, one in zip(columns, reads, found, strict=True)
        )
        if all(isinstance(one, NotSupported) for one in found):
            raise NotSupported(f"the meter has no {profile} objects")
        now = self._clock.now()
        # a date where an amount belongs, or the other way round: nobody may bill by its neighbours unseen
        wrong = any(value == Missing(MissingReason.OUT_OF_RANGE) for _, value in values)
        return ReadingSet(
            profile=profile,
            at=now.replace(microsecond=0),
            values=values,
            received_at=now,
            quality=Quality.SUSPECT if wrong else Quality.VALID,
        )

    async def _first_answers(self, reads: tuple[ObjectRead, ...]) -> list[Data | ProtocolError]:
        """Ask for all first places together, then for the next places of what was not there, and so on.

        A refusal counts for more than the absence of another place.
        """
        found: list[Data | ProtocolError] = [NotSupported("no place")] * len(reads)
        orders = [self._order(read) for read in reads]
        for attempt in range(max(map(len, orders))):
            missing = [n for n, o in enumerate(orders) if attempt < len(o) and not isinstance(found[n], Data)]
            targets = [
                Target(reads[n].class_id, reads[n].places[orders[n][attempt]], reads[n].quantity.attribute)
                for n in missing
            ]
            for n, one in zip(missing, await self._exchange.get_many(targets), strict=True):
                if isinstance(one, Data) or isinstance(found[n], NotSupported):
                    found[n] = one
                if isinstance(one, Data):
                    self._notes.note_one("places", str(reads[n].quantity), orders[n][attempt])
        return found

    def _order(self, read: ObjectRead) -> list[int]:
        """Return the places of a value by number, the one that answered last time first."""
        known = self._notes.known.places.get(str(read.quantity), 0)
        return sorted(range(len(read.places)), key=lambda place: place != known)

    def _value(self, column: CapturedColumn, read: ObjectRead, found: Data | ProtocolError) -> Value:
        match found:
            case NotSupported():
                return Missing(MissingReason.NOT_SUPPORTED)
            case ProtocolError():
                return Missing(MissingReason.METER_REFUSED)
        if read.scale is not None:
            number = is_number(read.quantity.obis, read.quantity.attribute)
            return to_value(found, scale=read.scale, time=read.time, zone=self._zone, number=number)
        return cell_value(column, found, self._zone)

    # events

    async def _read_logs(
        self, logs: tuple[BufferSource, ...], since: datetime | None, until: datetime | None
    ) -> list[ReadingSet]:
        """Read every log that the meter has; the captured code object tells which log it is.

        They are read before any event is given, and given by time: what a reader has then is complete up to
        the last event of any log, as its watermark says.
        """
        sets: list[ReadingSet] = []
        present = 0
        for log in logs:
            try:
                layout = await self._layouts.of(ProfileName.EVENTS, log)
            except NotSupported:
                continue
            present += 1
            sets += [reading async for reading in self._stored.read(layout, since, until)]
        if not present:
            raise NotSupported("the meter has no event logs")
        return sorted(sets, key=lambda s: (s.at, s.occurrence))
