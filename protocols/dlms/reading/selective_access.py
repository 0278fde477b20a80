"""Reads the stored rows of a profile from meters that select by range, by entry, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.selection import EntrySelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.reading.buffer_reader import SECOND, BufferReader
from protocols.dlms.reading.known_meter import MeterNotes
from protocols.dlms.reading.layout_reader import LayoutReader
from protocols.dlms.reading.range_reader import RangeIgnored, RangeReader, RangeRefused
from protocols.dlms.reading.rows_by_stamp import RowsByStamp, within
from protocols.errors import MeterBusy, MeterProtocolError, MeterRefused, NotSupported
from protocols.reading import Obis, ProfileName, ReadingSet
from protocols.session import Clock

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Where an unbounded read begins; no smart meter is older."""
LATEST = datetime.max.replace(tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How far a meter's clock may be ahead of ours when no end is given."""
LONGEST_HISTORY = timedelta(days=400)
"""Reads from further back begin at the oldest stored row, or here when the meter does not give that."""
FURTHEST = LATEST - 2 * LONGEST_HISTORY
"""End of any span: beyond it there is no room for margins."""
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

    `methods` says by profile how rows are chosen, where it is not by range.
    """

    def __init__(
        self,
        exchange: ResumingExchange,
        layouts: LayoutReader,
        zone: ZoneInfo,
        clock: Clock,
        notes: MeterNotes,
        *,
        east: bool,
    ) -> None:
        self._notes = notes
        self._layouts = layouts
        self._clock = clock
        self.buffers = BufferReader(exchange, layouts, zone, clock)
        self.ranges = RangeReader(exchange, self.buffers, layouts, zone, clock, notes, east=east)
        self.methods: dict[Obis, AccessMethod] = {}

    async def read(
        self, layout: Layout, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[ReadingSet]:
        """Yield the sets with since < at <= until, oldest first; nothing older follows one that was given.

        A read that fails may be taken up again from the last set's `at`. Raises what `Exchange.get` does.
        """
        if layout.stamp is None:
            raise MeterProtocolError(f"profile {layout.obis} captures no time")
        now = self._clock.now()
        low = EARLIEST if since is None else min(max(since, EARLIEST), FURTHEST)
        high = now + AHEAD if until is None else min(until, FURTHEST)
        method = self._method(layout.obis)
        rows: list[ReadingSet] | None = None
        if method is AccessMethod.RANGE:
            # chunks from the year 2000 on, or far into the future, would be hundreds; events are read in one
            if layout.profile is not ProfileName.EVENTS:
                latest = max(now, high)  # whoever knows that our clock is slow asks beyond it
                if low < latest - LONGEST_HISTORY:
                    low = max(low, await self._beginning(layout, latest))
                high = min(high, max(now, low) + LONGEST_HISTORY)
            try:
                async for reading in self.ranges.read(layout, low, high):
                    yield reading
            except RangeRefused:
                method = AccessMethod.ENTRIES
            except RangeIgnored as ignored:
                method, rows = AccessMethod.WHOLE, ignored.rows
            else:
                return
        if rows is None:
            rows, method = await self._without_range(layout, low, method)
        self._note_method(layout.obis, method)
        for reading in within(rows, low, high):
            yield reading

    def _method(self, place: Obis) -> AccessMethod:
        """Return how rows are chosen, as this session or an earlier one found out."""
        if place not in self.methods and (known := self._notes.known.methods.get(str(place))) is not None:
            self.methods[place] = AccessMethod(known)
        return self.methods.get(place, AccessMethod.RANGE)

    def _note_method(self, place: Obis, method: AccessMethod) -> None:
        self.methods[place] = method
        self._notes.note_one("methods", str(place), method.value)

    async def _beginning(self, layout: Layout, latest: datetime) -> datetime:
        """Find an instant just before the oldest row, by the profile's first and last entry."""
        fallback = latest - LONGEST_HISTORY
        used = await self.buffers.entries_in_use(layout)
        stamps: list[datetime] = []
        for entry in {1, max(used, 1)}:  # either may be the oldest
            try:
                stamps += await self.buffers.stamps(layout, entry)
            except (NotSupported, MeterRefused):
                return fallback
        return min(stamps) - SECOND if stamps else fallback

    # by entry, or the whole buffer

    async def _without_range(
        self, layout: Layout, low: datetime, method: AccessMethod
    ) -> tuple[list[ReadingSet], AccessMethod]:
        """Read by entry, or else the whole buffer; the first refusal is raised when neither is allowed."""
        used = await self.buffers.entries_in_use(layout)
        if used > MAX_ENTRIES:
            raise NotSupported(f"profile {layout.obis} has {used} rows and cannot select them by time")
        refusal: MeterRefused | NotSupported | None = None
        if used and method is AccessMethod.ENTRIES:
            try:
                return await self._by_entry(layout, low, used), method
            except MeterBusy:
                raise
            except (MeterRefused, NotSupported) as error:
                refusal = error
        self._note_method(layout.obis, AccessMethod.WHOLE)  # also when the read below fails
        try:
            return list((await self.buffers.read(layout)).sets), AccessMethod.WHOLE
        except (MeterRefused, NotSupported) as error:
            raise refusal or error from error

    async def _by_entry(self, layout: Layout, low: datetime, used: int) -> list[ReadingSet]:
        """Read all entries from shortly before the first that is later than `low`.

        Places count from the oldest entry. Pages overlap: a row stored meanwhile moves all others by one.
        """
        place = 1
        if layout.obis not in self._layouts.unordered:
            place = max(1, await self._first_after(layout, low, used) - MARGIN_ENTRIES)
        rows = RowsByStamp(EARLIEST, LATEST)
        while place <= used:
            page = EntrySelection(*self._entries(layout, place, min(place + PAGE - 1, used), used))
            decoded = await self.buffers.read(layout, page)
            if not decoded.count:
                break
            rows.add(decoded.sets)
            overlaps = decoded.count > MARGIN_ENTRIES and place + decoded.count <= used
            place += max(1, decoded.count - (MARGIN_ENTRIES if overlaps else 0))
        return rows.sets()

    async def _first_after(self, layout: Layout, low: datetime, used: int) -> int:
        """Find the place of the first row later than `low` by halving."""
        left, right = 1, used + 1
        while left < right:
            middle = (left + right) // 2
            entry, _ = self._entries(layout, middle, middle, used)
            found = await self.buffers.stamps(layout, entry)
            if found and found[0] <= low:
                left = middle + 1
            else:
                right = middle
        return left

    def _entries(self, layout: Layout, first: int, last: int, used: int) -> tuple[int, int]:
        """Return the meter's entry numbers of these places: it counts from the newest where that is first."""
        return (used + 1 - last, used + 1 - first) if layout.newest_first else (first, last)
