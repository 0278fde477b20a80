"""Reads a profile's buffer with a selection, and decodes it: with the columns read again where rows do not fit."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.data.cursor import leading
from protocols.dlms.profile.buffer import ColumnarBuffer, DecodedRows
from protocols.dlms.profile.decoder import decode_buffer
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.reading.layout_reader import MAX_PERIOD, LayoutReader
from protocols.errors import MeterProtocolError, MeterRefused, NotSupported
from protocols.reading import ProfileName
from protocols.session import Clock
from protocols.unused import Unused

PROFILE_GENERIC = 7
BUFFER, ENTRIES_IN_USE = 2, 7
SECOND = timedelta(seconds=1)


class BufferReader:
    """Buffers of one meter's profiles. `unstamped` counts rows left out because their stamp is unusable."""

    def __init__(
        self, exchange: ResumingExchange, layouts: LayoutReader, zone: ZoneInfo, clock: Clock
    ) -> None:
        self._exchange = exchange
        self._layouts = layouts
        self._zone = zone
        self._clock = clock
        self.unstamped = 0

    async def read(self, layout: Layout, selection: EntrySelection | None = None) -> DecodedRows:
        """Read the rows that a selection by entry chooses, or all; raises what `Exchange.get` does."""
        target = Target(PROFILE_GENERIC, layout.obis, BUFFER, selection)
        return await self.decode(layout, await self._exchange.get_octets(target))

    async def stamps(self, layout: Layout, entry: int) -> list[datetime]:
        """Read the stamp of one entry (none when it is unusable); its other cells may yet be beyond us."""
        target = Target(PROFILE_GENERIC, layout.obis, BUFFER, EntrySelection(entry, entry))
        octets = await self._exchange.get_octets(target)
        try:
            buffer = self._buffer(self._layouts.current(layout), octets)
        except MeterProtocolError:
            fresh = await self._layouts.again(layout)
            if fresh is None:
                raise
            buffer = self._buffer(fresh, octets)
        return [at for at in buffer.instants if at is not None]

    async def entries_in_use(self, layout: Layout) -> int:
        """Read how many rows the meter holds; 0 when it does not say."""
        try:
            target = Target(PROFILE_GENERIC, layout.obis, ENTRIES_IN_USE)
            return (await self._exchange.get(target)).integer or 0
        except (NotSupported, MeterRefused):
            return 0

    async def decode(self, layout: Layout, octets: bytes) -> DecodedRows:
        """Decode a buffer; when its rows do not fit, read the columns again, once, and try those."""
        decoded, misfit = None, None
        try:
            decoded = self._decode(self._layouts.current(layout), octets)
        except MeterProtocolError as error:
            misfit = error
        # rows without one stamp may mean that the clock is captured in another column since a firmware update
        if decoded is None or (decoded.unstamped and not decoded.sets):
            fresh = await self._layouts.again(layout)
            if fresh is not None:
                decoded = self._decode(fresh, octets)
            elif misfit is not None:
                raise misfit
        assert decoded is not None
        self.unstamped += decoded.unstamped
        return decoded

    def _decode(self, layout: Layout, octets: bytes) -> DecodedRows:
        buffer = self._buffer(layout, octets)
        if layout.profile is ProfileName.BLOCK_LOAD and not layout.period and buffer.count:
            # the meter shows no capture period: its rows do, and rows without stamps are counted on by it
            layout = self._layouts.note_period(layout, period_of(buffer))
            buffer = self._buffer(layout, octets)
        return buffer.sets(received_at=self._clock.now())

    def _buffer(self, layout: Layout, octets: bytes) -> ColumnarBuffer:
        buffer, left = leading(octets, partial(decode_buffer, layout, zone=self._zone))
        if left:
            self._exchange.unused[Unused.LEFT_OVER] += 1
        return buffer


def period_of(buffer: ColumnarBuffer) -> int:
    """Find the capture period in seconds in the stamps of neighbouring rows: the commonest distance.

    Raises MeterProtocolError when no two neighbours carry stamps: an interval without a start is no interval.
    """
    stamps = [None if counted else at for at, counted in zip(buffer.instants, buffer.counted, strict=True)]
    distances = Counter(abs(b - a) // SECOND for a, b in pairwise(stamps) if a and b and a != b)
    likely = [seconds for seconds in distances if seconds <= MAX_PERIOD]
    if not likely:
        raise MeterProtocolError("the block load's capture period is 0 s and its stamps do not tell it")
    # of two that are as common the shorter: power cuts make gaps of whole multiples
    return max(likely, key=lambda seconds: (distances[seconds], -seconds))
