"""Reads the stored rows of a profile from meters that select by range, by entry, or not at all, in whole or in bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.profile.buffer import ColumnarBuffer, DecodedRows
from protocols.dlms.profile.decoder import decode_buffer
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.reading.deviations import Deviations, full_hour
from protocols.dlms.reading.layout_reader import MAX_PERIOD, LayoutReader
from protocols.dlms.reading.salvage import Salvage, WantedSpan, salvage
from protocols.errors import MeterBusy, MeterProtocolError, MeterRefused, NotSupported, ProtocolError
from protocols.reading import ProfileName, ReadingSet
from protocols.session import Clock

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Where an unbounded read begins; no smart meter is older."""
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CHUNK = {ProfileName.BLOCK_LOAD: 3 * DAY, ProfileName.DAILY: 35 * DAY}
"""Span of one request; meters truncate or stall on longer ones. Other profiles are read in one."""
ONE_CHUNK = 400 * DAY
MARGIN = {ProfileName.DAILY: DAY, ProfileName.BILLING: DAY, ProfileName.EVENTS: timedelta(minutes=1)}
"""How much wider we ask where there is no capture period: some meters exclude a range's ends."""
AHEAD = DAY
"""How far a meter's clock may be ahead of ours when no end is given."""
LONGEST_HISTORY = 400 * DAY
"""Reads from further back begin at the oldest stored row, or here when the meter does not give that."""
MAX_ENTRIES = 20_000
"""Rows that are read from a meter that cannot select by time; a year of half-hours is 17,520."""
PAGE = 48
"""Entries of one request where rows are selected by entry."""
MARGIN_ENTRIES = 4
"""Entries before the first wanted that are read too: a clock set back leaves stamps out of order."""


class AccessMethod(Enum):
    """How a meter lets us choose rows."""

    RANGE = "range"
    ENTRIES = "entries"
    WHOLE = "whole"


class SelectiveAccess:
    """Stored rows of one meter. What it turns out not to do is remembered for the session.

    `unstamped` counts rows left out because their stamp is unusable, `ways` says how each profile is read.
    """

    def __init__(
        self, exchange: ResumingExchange, layouts: LayoutReader, zone: ZoneInfo, clock: Clock, *, east: bool
    ) -> None:
        self._exchange = exchange
        self._layouts = layouts
        self._zone = zone
        self._clock = clock
        self._deviations = Deviations(zone, east=east)
        self._unheeded: list[ReadingSet] = []
        self._cut: list[ReadingSet] = []  # what came whole of the range asked for last, up to its last fault
        self.ways: dict[str, AccessMethod] = {}
        self.unstamped = 0
        self.continued = 0

    async def read(
        self, layout: Layout, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[ReadingSet]:
        """Yield the sets with since < at <= until, oldest first; nothing older follows one that was given.

        A read that fails may be taken up again from the last set's `at`. Raises what `Exchange.get` does.
        """
        if layout.stamp is None:
            raise MeterProtocolError(f"profile {layout.obis} captures no time")
        low, high = _no_earlier(since), self._no_later(until)
        dated = layout.profile is not ProfileName.EVENTS and self._way(layout) is AccessMethod.RANGE
        if dated and low < self._clock.now() - LONGEST_HISTORY:
            low = max(low, await self._beginning(layout))
        if self._way(layout) is AccessMethod.RANGE:
            async for reading in self._by_range(layout, low, high):
                yield reading
        if self._way(layout) is not AccessMethod.RANGE:
            for reading in _within(await self._without_range(layout, low), low, high):
                yield reading

    def _way(self, layout: Layout) -> AccessMethod:
        return self.ways.get(str(layout.obis), AccessMethod.RANGE)

    def _no_later(self, until: datetime | None) -> datetime:
        now = self._clock.now()
        return now + AHEAD if until is None else min(until, now + LONGEST_HISTORY)

    # by range

    async def _by_range(self, layout: Layout, low: datetime, high: datetime) -> AsyncIterator[ReadingSet]:
        """Read chunk by chunk; ends at once, with the way changed, when the meter turns out not to select."""
        span = high - low if layout.profile is ProfileName.EVENTS else CHUNK.get(layout.profile, ONE_CHUNK)
        for number, (start, end) in enumerate(_chunks(low, high, span)):
            try:
                rows = await self._chunk(layout, start, end)
            except MeterBusy:
                raise
            except (MeterRefused, NotSupported) as error:
                if number:  # it has the profile: this is a fault
                    raise MeterRefused(f"{error}, in the middle of profile {layout.obis}") from error
                self.ways[str(layout.obis)] = AccessMethod.ENTRIES
                return
            except ProtocolError:
                for reading in self._came(layout, start, end):
                    yield reading
                raise
            if rows is None:
                self.ways[str(layout.obis)] = AccessMethod.WHOLE
                return
            for reading in rows:
                yield reading

    async def _chunk(self, layout: Layout, start: datetime, end: datetime) -> Sequence[ReadingSet] | None:
        """Read the rows of (start, end], None when the meter does not heed the range.

        Asks one interval wider than needed and from full hours: some meters exclude a range's ends, some
        select from full hours only. What does not come is asked for again, by the row that came last.
        """
        margin = timedelta(seconds=layout.period) or MARGIN.get(layout.profile, DAY)
        edges = full_hour(start - margin, self._zone), full_hour(end + margin, self._zone) + HOUR
        found = await self._heeded(layout, start, *edges)
        if found is None:
            return None
        rows = _RowsByStamp(found, start, end)
        await self._later(layout, rows, end)
        await self._earlier(layout, rows, start)
        return rows.sets()

    async def _heeded(
        self, layout: Layout, start: datetime, low: datetime, high: datetime
    ) -> list[ReadingSet] | None:
        """Ask for a range; None when the meter gives everything whatever is asked.

        A meter that reads the range's deviation in its own way gives another range: it is written otherwise.
        Rows of other hours show it at once. Rows that begin late, or none, may mean a range heard as a later
        one: until an answer has proved the way once, the ways are compared and the one with most rows counts.
        """
        best: tuple[int, list[ReadingSet]] | None = None
        found: list[ReadingSet] = []
        for attempt in range(self._deviations.ways):
            try:
                found = await self._range(layout, low, high)
            except (MeterRefused, NotSupported) as error:
                if best is None or isinstance(error, MeterBusy):
                    raise
                found = []
            if not all(low - HOUR <= row.at <= high + HOUR for row in found):
                if found[-1].at - found[0].at > high - low + 2 * HOUR:
                    break
            elif not self._may_be_late(layout, found, start):
                self._deviations.proven = self._deviations.proven or bool(found)
                return found
            elif best is None or len(found) > len(best[1]):
                best = self._deviations.way, found
            self._deviations.next(attempt)
        if best is None:
            self._unheeded = found
            return None
        self._deviations.way = best[0]
        self._deviations.proven = bool(best[1])
        return best[1]

    def _may_be_late(self, layout: Layout, found: Sequence[ReadingSet], start: datetime) -> bool:
        """Tell that rows at the beginning may be missing because the range was heard as a later one."""
        if layout.profile is not ProfileName.BLOCK_LOAD or not self._deviations.matter(start):
            return False
        period = timedelta(seconds=self._layouts.current(layout).period)
        return not self._deviations.proven and (not found or found[0].at > start + (period or HOUR))

    async def _later(self, layout: Layout, rows: _RowsByStamp, end: datetime) -> None:
        """Ask on from the last row while something is missing at the end; a meter that did, to the very end."""
        period = _period(layout)
        now = self._clock.now()
        expected = min(end, now - period) - period
        while (last := rows.last) is not None and last <= expected:
            for start in (last, last + SECOND):
                if rows.add(await self._more(layout, start, end)):
                    self.continued += 1
                    expected = min(end, now)
                    break
            else:
                return

    async def _earlier(self, layout: Layout, rows: _RowsByStamp, start: datetime) -> None:
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
        """Ask for a range; after a fault go on from the rows that came whole (see `resume`)."""
        span, self._cut = WantedSpan(), []
        while True:
            try:
                octets = await self._exchange.get_octets_once(
                    Target(7, layout.obis, 2, self._selection(layout, low, high))
                )
            except ProtocolError as error:
                came = self._salvaged(layout, span)
                self._cut += came.rows
                await self._exchange.recover(error, progress=came.progress)
                if came.rest.since > span.since:
                    low = max(low, full_hour(came.rest.since, self._zone) - HOUR)
                if came.rest.until < span.until:
                    high = min(high, full_hour(came.rest.until, self._zone) + 2 * HOUR)
                span = came.rest
                continue
            sets = (await self._decoded(layout, octets)).sets
            return [*self._cut, *_within(sets, span.since, span.until), *span.held]

    def _selection(self, layout: Layout, low: datetime, high: datetime) -> RangeSelection:
        stamp = layout.stamp
        assert stamp is not None
        edges = (self._deviations.encode(low), self._deviations.encode(high))
        return RangeSelection(stamp.quantity.obis, 2, *edges)

    def _salvaged(self, layout: Layout, span: WantedSpan) -> Salvage:
        current = self._layouts.current(layout)
        if current.profile is ProfileName.BLOCK_LOAD and not current.period:
            return Salvage(rest=span)
        partial, now = self._exchange.partial, self._clock.now()
        return salvage(current, partial, span, zone=self._zone, received_at=now)

    def _came(self, layout: Layout, start: datetime, end: datetime) -> Iterator[ReadingSet]:
        """Yield the rows that came whole of a chunk that failed, where nothing can be missing before them."""
        if self._cut and self._cut[0].at <= start + _period(layout):
            yield from _within(self._cut, start, end)

    async def _get(self, layout: Layout, selection: RangeSelection | EntrySelection | None = None) -> bytes:
        return await self._exchange.get_octets(Target(7, layout.obis, 2, selection))

    async def _beginning(self, layout: Layout) -> datetime:
        """Find an instant just before the oldest row, by the profile's first and last entry."""
        fallback = self._clock.now() - LONGEST_HISTORY
        used = await self._used(layout)
        stamps: list[datetime] = []
        for entry in {1, max(used, 1)}:
            try:
                stamps += await self._stamps(layout, EntrySelection(entry, entry))
            except (NotSupported, MeterRefused):
                return fallback
        return min(stamps) - SECOND if stamps else fallback

    async def _stamps(self, layout: Layout, selection: EntrySelection) -> list[datetime]:
        """Read the stamps of some entries; the rest of their rows may yet be beyond us."""
        buffer = await self._get(layout, selection)
        try:
            block = decode_buffer(self._layouts.current(layout), buffer, zone=self._zone)
        except MeterProtocolError:
            fresh = await self._layouts.again(layout)
            if fresh is None:
                raise
            block = decode_buffer(fresh, buffer, zone=self._zone)
        return [at for at in block.instants if at is not None]

    # by entry, or the whole buffer

    async def _without_range(self, layout: Layout, low: datetime) -> list[ReadingSet]:
        """Read by entry, or else the whole buffer; the first refusal is raised when neither is allowed."""
        used = 0 if self._unheeded else await self._used(layout)
        if used > MAX_ENTRIES:
            raise NotSupported(f"profile {layout.obis} has {used} rows and cannot select them by time")
        refusal: MeterRefused | NotSupported | None = None
        if used and self._way(layout) is AccessMethod.ENTRIES:
            try:
                return await self._by_entry(layout, low, used)
            except MeterBusy:
                raise
            except (MeterRefused, NotSupported) as error:
                refusal = error
        self.ways[str(layout.obis)] = AccessMethod.WHOLE
        if self._unheeded:
            whole, self._unheeded = self._unheeded, []
            return whole
        try:
            return list((await self._decoded(layout, await self._get(layout))).sets)
        except (MeterRefused, NotSupported) as error:
            raise refusal or error from error

    async def _by_entry(self, layout: Layout, low: datetime, used: int) -> list[ReadingSet]:
        """Read all entries from shortly before the first that is later than `low`.

        Places count from the oldest entry. Pages overlap: a row stored meanwhile moves all others by one.
        """
        place = 1
        if layout.obis not in self._layouts.unordered:
            place = max(1, await self._first_after(layout, low, used) - MARGIN_ENTRIES)
        rows = _RowsByStamp([], EARLIEST, datetime.max.replace(tzinfo=UTC))
        while place <= used:
            count, found = await self._page(layout, place, min(place + PAGE - 1, used), used)
            if not count:
                break
            rows.add(found)
            place += max(
                1, count - (MARGIN_ENTRIES if count > MARGIN_ENTRIES and place + count <= used else 0)
            )
        return rows.sets()

    async def _page(self, layout: Layout, first: int, last: int, used: int) -> tuple[int, list[ReadingSet]]:
        """Read some places; gives how many rows came, which may be fewer than asked for."""
        if layout.newest_first:
            first, last = used + 1 - last, used + 1 - first
        buffer = await self._get(layout, EntrySelection(first, last))
        decoded = await self._decoded(layout, buffer)
        count = decode_buffer(self._layouts.current(layout), buffer, zone=self._zone).count
        return count, list(decoded.sets)

    async def _first_after(self, layout: Layout, low: datetime, used: int) -> int:
        """Find the place of the first row later than `low` by halving."""
        left, right = 1, used + 1
        while left < right:
            middle = (left + right) // 2
            entry = used + 1 - middle if layout.newest_first else middle
            found = await self._stamps(layout, EntrySelection(entry, entry))
            if found and found[0] <= low:
                left = middle + 1
            else:
                right = middle
        return left

    async def _used(self, layout: Layout) -> int:
        """Read entries_in_use; 0 when the meter does not say."""
        try:
            return (await self._exchange.get(Target(7, layout.obis, 7))).integer or 0
        except (NotSupported, MeterRefused):
            return 0

    # rows

    async def _decoded(self, layout: Layout, buffer: bytes) -> DecodedRows:
        """Decode a buffer; when its rows do not fit, read the columns again, once, and try those."""
        decoded, misfit = None, None
        try:
            decoded = self._decode(self._layouts.current(layout), buffer)
        except MeterProtocolError as error:
            misfit = error
        if decoded is None or (decoded.unstamped and not decoded.sets):
            fresh = await self._layouts.again(layout)
            if fresh is not None:
                decoded = self._decode(fresh, buffer)
            elif misfit is not None:
                raise misfit
        assert decoded is not None
        self.unstamped += decoded.unstamped
        return decoded

    def _decode(self, layout: Layout, buffer: bytes) -> DecodedRows:
        if layout.profile is ProfileName.BLOCK_LOAD and not layout.period:
            block = decode_buffer(layout, buffer, zone=self._zone)
            if not block.count:
                return DecodedRows(sets=(), unstamped=0)
            layout = self._layouts.note_period(layout, period_of(block))
        return decode_buffer(layout, buffer, zone=self._zone).sets(received_at=self._clock.now())


class _RowsByStamp:
    """Rows of several answers that may overlap, with low < at <= high.

    Of rows with one stamp the answer with most of them counts: their occurrences are numbered within it.
    """

    def __init__(self, found: Iterable[ReadingSet], low: datetime, high: datetime) -> None:
        self._low, self._high = low, high
        self._by_stamp: dict[datetime, list[ReadingSet]] = {}
        self._reached: datetime | None = None
        self.add(found)

    def add(self, found: Iterable[ReadingSet]) -> bool:
        """Take the rows of an answer; tells whether there was any that we did not have, or a later one."""
        answer: dict[datetime, list[ReadingSet]] = {}
        before = self._reached
        for row in found:
            self._reached = max(self._reached or row.at, row.at)
            if self._low < row.at <= self._high:
                answer.setdefault(row.at, []).append(row)
        new = self._reached != before
        for at, rows in answer.items():
            if len(rows) > len(self._by_stamp.get(at, ())):
                self._by_stamp[at] = rows
                new = True
        return new

    @property
    def first(self) -> datetime | None:
        """The oldest stamp."""
        return min(self._by_stamp, default=None)

    @property
    def last(self) -> datetime | None:
        """The latest stamp that came, be it one before `low`: a meter may give one row at a time."""
        return self._reached

    def sets(self) -> list[ReadingSet]:
        """Return all rows, oldest first."""
        return [row for at in sorted(self._by_stamp) for row in self._by_stamp[at]]


def period_of(block: ColumnarBuffer) -> int:
    """Find the capture period in the stamps of neighbouring rows: the commonest distance.

    Raises MeterProtocolError when no two neighbours carry stamps: an interval without a start is no interval.
    """
    stamps = [None if counted else at for at, counted in zip(block.instants, block.counted, strict=True)]
    distances = Counter(abs(b - a) // SECOND for a, b in pairwise(stamps) if a and b and a != b)
    likely = [seconds for seconds in distances if seconds <= MAX_PERIOD]
    if not likely:
        raise MeterProtocolError("the block load's capture period is 0 s and its stamps do not tell it")
    return max(likely, key=lambda seconds: (distances[seconds], -seconds))


def _period(layout: Layout) -> timedelta:
    """Return the capture period; where there is none, rows may come every second."""
    return timedelta(seconds=layout.period) or SECOND


def _within(rows: Iterable[ReadingSet], low: datetime, high: datetime) -> Iterator[ReadingSet]:
    return (row for row in rows if low < row.at <= high)


def _no_earlier(since: datetime | None) -> datetime:
    return EARLIEST if since is None else max(since, EARLIEST)


def _chunks(low: datetime, high: datetime, span: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Cut (low, high] into pieces of at most `span`."""
    while low < high:
        end = min(low + span, high)
        yield low, end
        low = end
