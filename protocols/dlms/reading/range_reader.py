"""Reads stored rows by range of time, in chunks; after a fault it goes on behind the rows that came whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.reading.buffer_reader import BUFFER, PROFILE_GENERIC, SECOND, BufferReader
from protocols.dlms.reading.deviations import Deviations, full_hour
from protocols.dlms.reading.known_meter import MeterNotes
from protocols.dlms.reading.layout_reader import LayoutReader
from protocols.dlms.reading.rows_by_stamp import RowsByStamp, within
from protocols.dlms.reading.salvage import Salvage, WantedSpan, salvage
from protocols.errors import MeterBusy, MeterRefused, NotSupported, ProtocolError
from protocols.reading import ProfileName, ReadingSet
from protocols.session import Clock

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CHUNK = {ProfileName.BLOCK_LOAD: 3 * DAY, ProfileName.DAILY: 35 * DAY}
"""Span of one request; meters truncate or stall on longer ones. Other profiles are read in one."""
ONE_CHUNK = 400 * DAY
MARGIN = {ProfileName.DAILY: DAY, ProfileName.BILLING: DAY, ProfileName.EVENTS: timedelta(minutes=1)}
"""How much wider we ask where there is no capture period: some meters exclude a range's ends."""


class RangeRefused(Exception):
    """The meter refuses the first range of a profile: it does not select by time."""


class RangeIgnored(Exception):
    """The meter gives all its rows whatever range is asked: here they are.

    None where it gave as many as the range may have, with stamps of other hours in each form: what it makes of a
    range is not known, and they are not all.
    """

    def __init__(self, rows: list[ReadingSet] | None) -> None:
        super().__init__("rows of another range" if rows is None else f"{len(rows)} rows")
        self.rows = rows


class RangeReader:
    """Rows of one meter by range; how it reads a range's deviation is remembered for the session.

    `continued` counts the requests that took up a truncated answer.
    """

    def __init__(
        self,
        exchange: ResumingExchange,
        buffers: BufferReader,
        layouts: LayoutReader,
        zone: ZoneInfo,
        clock: Clock,
        notes: MeterNotes,
        *,
        east: bool,
    ) -> None:
        self._notes = notes
        self._exchange = exchange
        self._buffers = buffers
        self._layouts = layouts
        self._zone = zone
        self._clock = clock
        self._deviations = Deviations(zone, east=east, known=notes.known.range_form)
        self._salvaged: list[ReadingSet] = []  # what came whole of the range asked for last
        self._octets = 0  # of the answer that came last
        self.continued = 0

    async def read(self, layout: Layout, low: datetime, high: datetime) -> AsyncIterator[ReadingSet]:
        """Yield the rows of (low, high], oldest first.

        Raises RangeRefused or RangeIgnored before the first row when the meter turns out not to select by
        time, else what `Exchange.get` does; the rows before a fault were yielded then.
        """
        span = high - low if layout.profile is ProfileName.EVENTS else CHUNK.get(layout.profile, ONE_CHUNK)
        for number, (start, end) in enumerate(_chunks(low, high, span)):
            try:
                rows = await self._chunk(layout, start, end)
            except MeterBusy:
                raise
            except (MeterRefused, NotSupported) as error:
                if number:  # it selected before: this is a fault
                    raise MeterRefused(f"{error}, in the middle of profile {layout.obis}") from error
                raise RangeRefused from error
            except ProtocolError:
                # what came whole need not be asked for again, where nothing can be missing before it
                if self._salvaged and self._salvaged[0].at <= start + _period(layout):
                    for reading in within(self._salvaged, start, end):
                        yield reading
                raise
            for reading in rows:
                yield reading

    async def _chunk(self, layout: Layout, start: datetime, end: datetime) -> Sequence[ReadingSet]:
        """Read the rows of (start, end].

        Asks one interval wider than needed and from full hours: some meters exclude a range's ends, some
        select from full hours only. What does not come is asked for again, by the row that came last.
        """
        low, high = asked_range(layout, start, end, self._zone)
        rows = RowsByStamp(start, end)
        rows.add(await self._in_each_form(layout, start, low, high))
        await self._ask_on(layout, rows, end, self._octets)
        await self._ask_back(layout, rows, start)
        return rows.sets()

    async def _in_each_form(
        self, layout: Layout, start: datetime, low: datetime, high: datetime
    ) -> list[ReadingSet]:
        """Ask for a range, with its deviation written in each form until one brings what was meant.

        A meter that reads the deviation in its own way gives another range. Rows of other hours show it at
        once. Rows that begin late, or none, may mean a range heard as a later one: until an answer has
        proved a form once, the forms are compared and the one with most rows counts.
        """
        best: tuple[int, list[ReadingSet]] | None = None
        found: list[ReadingSet] = []
        every: list[ReadingSet] | None = None
        for attempt in range(self._deviations.forms):
            try:
                found = await self._range(layout, low, high)
            except (MeterRefused, NotSupported) as error:
                # refused in the first form: it does not select. Later ones may well be invalid to it.
                if best is None or isinstance(error, MeterBusy):
                    raise
                found = []
            if not all(low - HOUR <= row.at <= high + HOUR for row in found):
                if found[-1].at - found[0].at > high - low + 2 * HOUR:
                    every = found
                    break  # more than any range of this length can hold: the range is ignored
                # rows of another range: this form is wrong, the next is tried
            elif not self._may_begin_late(layout, found, start):
                self._prove(found)
                return found
            elif best is None or len(found) > len(best[1]):
                best = self._deviations.form, found
            self._deviations.next(attempt)
        if best is None:
            raise RangeIgnored(every)
        self._deviations.form = best[0]
        self._deviations.proven = False
        self._octets = 0  # of which form they were is not known any more
        self._prove(best[1])
        return best[1]

    def _prove(self, found: Sequence[ReadingSet]) -> None:
        """Note that rows came in the present form, where it matters which that is."""
        if found and not self._deviations.proven:
            self._deviations.proven = True
            self._notes.note(range_form=self._deviations.form)

    def _may_begin_late(self, layout: Layout, found: Sequence[ReadingSet], start: datetime) -> bool:
        """Say whether rows at the beginning may be missing because the range was heard as a later one."""
        if layout.profile is not ProfileName.BLOCK_LOAD or not self._deviations.matter(start):
            return False  # other profiles have gaps of any length; where UTC is local time all forms agree
        period = timedelta(seconds=self._layouts.current(layout).period)
        return not self._deviations.proven and (not found or found[0].at > start + (period or HOUR))

    async def _ask_on(self, layout: Layout, rows: RowsByStamp, end: datetime, octets: int) -> None:
        """Ask on from the last row while something is missing at the end.

        Some meters give the oldest rows of a range, as many as fit in one APDU. One that was seen to do so is
        asked up to the very end, others up to two periods before it: the newest row may not be stored yet. An answer
        half as long as one that was seen to be whole is taken for whole: nothing that is cut off makes it so short.
        """
        period = _period(layout)
        now = self._clock.now()
        expected = min(end, now - period) - period
        if 0 < 2 * octets <= self._notes.known.whole.get(str(layout.obis), 0):
            return
        while (last := rows.latest) is not None and last <= expected:
            # from the last row itself, as some exclude a range's ends; then behind it, as some give one row only
            for start in (last, last + SECOND):
                if rows.add(await self._more(layout, start, end)):
                    self.continued += 1
                    expected = min(end, now)
                    break
            else:
                break
        if not self.continued:
            self._note_whole(layout, octets)

    def _note_whole(self, layout: Layout, octets: int) -> None:
        """Note how long an answer may be that nothing was left out of."""
        if octets > self._notes.known.whole.get(str(layout.obis), 0):
            self._notes.note_one("whole", str(layout.obis), octets)

    async def _ask_back(self, layout: Layout, rows: RowsByStamp, start: datetime) -> None:
        """Ask back from the first row while the meter, which gave the newest of the range, left some out."""
        while layout.period and (first := rows.first) is not None and first - start > _period(layout):
            if not rows.add(await self._more(layout, start + SECOND, first - SECOND)):
                return
            self.continued += 1

    async def _more(self, layout: Layout, low: datetime, high: datetime) -> list[ReadingSet]:
        try:
            return await self._range(layout, low, high) if low <= high else []
        except MeterBusy:
            raise
        except (MeterRefused, NotSupported):  # some refuse ranges that do not begin on the hour, or are empty
            return []

    async def _range(self, layout: Layout, low: datetime, high: datetime) -> list[ReadingSet]:
        """Ask for a range; after a fault go on from the rows that came whole (see `salvage`)."""
        span, self._salvaged = WantedSpan(), []
        while True:
            target = Target(PROFILE_GENERIC, layout.obis, BUFFER, self._selection(layout, low, high))
            try:
                octets = await self._exchange.get_octets_once(target)
            except ProtocolError as error:
                came = self._whole_rows(layout, span)
                self._salvaged += came.rows
                await self._exchange.recover(error, progress=came.progress)
                # the rest is asked for from full hours again, and an hour wider, as `_chunk` does
                if came.rest.since > span.since:
                    low = max(low, full_hour(came.rest.since, self._zone) - HOUR)
                if came.rest.until < span.until:
                    high = min(high, full_hour(came.rest.until, self._zone) + 2 * HOUR)
                span = came.rest
                continue
            self._octets = len(octets)
            sets = (await self._buffers.decode(layout, octets)).sets
            return [*self._salvaged, *within(sets, span.since, span.until), *span.held]

    def _selection(self, layout: Layout, low: datetime, high: datetime) -> RangeSelection:
        return range_selection(layout, low, high, self._deviations)

    def _whole_rows(self, layout: Layout, span: WantedSpan) -> Salvage:
        current = self._layouts.current(layout)
        if current.profile is ProfileName.BLOCK_LOAD and not current.period:
            return Salvage(rest=span)  # without a period a row is no interval yet
        partial, now = self._exchange.partial, self._clock.now()
        return salvage(current, partial, span, zone=self._zone, received_at=now)


def asked_range(layout: Layout, start: datetime, end: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the ends to ask for so that the rows of (start, end] come from any meter."""
    margin = timedelta(seconds=layout.period) or MARGIN.get(layout.profile, DAY)
    return full_hour(start - margin, zone), full_hour(end + margin, zone) + HOUR


def range_selection(layout: Layout, low: datetime, high: datetime, deviations: Deviations) -> RangeSelection:
    """Write a range as the meter reads it."""
    stamp = layout.stamp
    assert stamp is not None
    return RangeSelection(stamp.quantity.obis, 2, deviations.encode(low), deviations.encode(high))


def _period(layout: Layout) -> timedelta:
    """Return the capture period; where there is none, rows may come every second."""
    return timedelta(seconds=layout.period) or SECOND


def _chunks(low: datetime, high: datetime, span: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Cut (low, high] into pieces of at most `span`."""
    while low < high:
        end = min(low + span, high)
        yield low, end
        low = end
