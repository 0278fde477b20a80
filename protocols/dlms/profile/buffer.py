"""A decoded profile buffer by columns; its rows become reading sets on demand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import compress, islice, repeat
from operator import is_, itemgetter, lt
from typing import TypeVar
from zoneinfo import ZoneInfo

from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cosem_time import Stamp
from protocols.dlms.data.types import INTEGERS, Data, DataValue, Tag
from protocols.dlms.data.values import is_time
from protocols.dlms.profile import stamps
from protocols.dlms.profile.columnwise import from_columns
from protocols.dlms.profile.layouts import (
    EVENT_LOG_STEP,
    REGISTER_CLASSES,
    CapturedColumn,
    Layout,
    cell_value,
)
from protocols.reading import MeterTime, Number, ProfileName, Quality, ReadingSet, Value

T = TypeVar("T")

NO_STAMP = Stamp(at=None, wall="", deviation=None, status=None, trusted=False)
"""What a row has whose stamp cell holds no date-time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferColumn:
    """One captured column: exact values as `Data` has them, and their tag, or a tag for each."""

    captured: CapturedColumn
    tags: Tag | tuple[Tag, ...]
    values: tuple[DataValue, ...]

    def cell(self, row: int) -> Data:
        """Return one cell."""
        tags = self.tags
        return Data(tags if isinstance(tags, Tag) else tags[row], self.values[row])

    def of(self, rows: Sequence[int], zone: ZoneInfo) -> Sequence[Value]:
        """Convert these rows' cells to values."""
        captured, tag = self.captured, self.tags
        quantity = captured.quantity
        time = is_time(captured.class_id, quantity.obis, quantity.attribute)
        scaled = captured.scale is not None or captured.class_id not in REGISTER_CLASSES
        if tag not in INTEGERS or time or not scaled or quantity.attribute < 1:
            return [cell_value(captured, self.cell(row), zone) for row in rows]
        scaler, unit = captured.scale or (0, "")
        mantissas = _pick(self.values, rows)
        return from_columns(Number, len(rows), mantissa=mantissas, scaler=repeat(scaler), unit=repeat(unit))


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferRow:
    """One row with its cells resolved and its stamp decoded (None when the profile has no stamp)."""

    cells: tuple[Data, ...]
    stamp: Stamp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRows:
    """Sets of one buffer, oldest first; of its `count` rows `unstamped` had no usable stamp."""

    sets: tuple[ReadingSet, ...]
    count: int
    unstamped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnarBuffer:
    """A profile buffer in columns, rows in the meter's order, null-data resolved.

    `instants` has each row's stamp in UTC (None: no usable stamp). `counted` has an octet for each row: 1 where
    the meter left the stamp out and it was counted on from the row before.
    """

    layout: Layout
    zone: ZoneInfo
    count: int
    columns: tuple[BufferColumn, ...]
    instants: tuple[datetime | None, ...]
    counted: bytes

    def cells(self, row: int) -> tuple[Data, ...]:
        """Return one row's cells."""
        return tuple(column.cell(row) for column in self.columns)

    def stamp(self, row: int) -> Stamp | None:
        """Return what the meter said of one row's time; None when the profile captures none."""
        at = self.layout.stamp_index
        if at is None:
            return None
        octets = cosem_time.octets_of(self.columns[at].cell(row))
        if octets is None:
            return NO_STAMP
        if not self.counted[row]:
            return cosem_time.decode(octets, self.zone)
        instant = self.instants[row]
        return NO_STAMP if instant is None else stamps.carried(instant, octets, self.zone)

    def rows(self) -> Iterator[BufferRow]:
        """Yield the rows one by one."""
        for row in range(self.count):
            yield BufferRow(cells=self.cells(row), stamp=self.stamp(row))

    def sets(
        self, *, received_at: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> DecodedRows:
        """Make sets of the rows with since < at <= until, oldest first.

        A row that repeats another in full is given once; rows that differ under one stamp are occurrences
        0, 1, … in the order in which the meter captured them. Events count from their log's own base, or
        carry the captured sequence number.
        """
        blank = sum(map(is_, self.instants, repeat(None)))
        # nearly all buffers rise in time without twins: they are cut by bisection, the others row by row
        rows = None if blank else self._in_order(since, until)
        if rows is not None:
            occurrences = self._occurrences(rows, [0] * len(rows))
        else:
            rows, occurrences, blank = self._selected(since, until)
        sets = tuple(self._materialised(rows, occurrences, received_at))
        return DecodedRows(sets=sets, count=self.count, unstamped=blank)

    def _in_order(self, since: datetime | None, until: datetime | None) -> Sequence[int] | None:
        """Select rows of which each is later than the one captured before; None when that is not so."""
        instants = [at for at in self.instants if at is not None]
        if self.layout.newest_first:
            instants.reverse()
        if not instants or not all(map(lt, instants, islice(instants, 1, None))):
            return None
        if not (stamps.usable(instants[0]) and stamps.usable(instants[-1])):  # a clock in the year 1 or 9999
            return None
        low = 0 if since is None else bisect_right(instants, since)
        high = self.count if until is None else bisect_right(instants, until)
        rows = range(low, max(low, high))
        return [self.count - 1 - row for row in rows] if self.layout.newest_first else rows

    def _selected(self, since: datetime | None, until: datetime | None) -> tuple[list[int], list[int], int]:
        """Select rows in any order: their numbers, their occurrences, and how many have no usable stamp."""
        events = self.layout.profile is ProfileName.EVENTS
        order = range(self.count)
        twins: dict[datetime, list[int]] = {}
        cells: dict[datetime, set[tuple[Data, ...]]] = {}
        rows, occurrences, blank = [], [], 0
        for row in reversed(order) if self.layout.newest_first else order:
            at = self.instants[row]
            if at is None or not stamps.usable(at):
                blank += 1
                continue
            if (since is not None and at <= since) or (until is not None and at > until):
                continue
            before = twins.setdefault(at, [])
            # two events alike in one second are two events; two rows alike are one that was given twice
            if before and not events:
                seen = cells.setdefault(at, {self.cells(before[0])})
                if (own := self.cells(row)) in seen:
                    continue
                seen.add(own)
            before.append(row)
            rows.append(row)
            occurrences.append(len(before) - 1)
        kept = zip(
            map(self.instants.__getitem__, rows), self._occurrences(rows, occurrences), rows, strict=True
        )
        ordered = sorted(kept, key=itemgetter(0, 1))
        return [row for _, _, row in ordered], [occurrence for _, occurrence, _ in ordered], blank

    def _occurrences(self, rows: Sequence[int], counted: list[int]) -> list[int]:
        """Return events the number that their log captured, above their log's base."""
        if self.layout.profile is not ProfileName.EVENTS:
            return counted
        log = 0
        for column in self.columns:
            obis = column.captured.quantity.obis
            if (obis.c, obis.d) == (96, 11):
                log = obis.e
            elif (obis.c, obis.d) == (96, 15):
                captured = (column.cell(row).integer for row in rows)
                counted = [n if c is None else c for n, c in zip(counted, captured, strict=True)]
        return [log * EVENT_LOG_STEP + number % EVENT_LOG_STEP for number in counted]

    def _materialised(
        self, rows: Sequence[int], occurrences: list[int], received_at: datetime
    ) -> list[ReadingSet]:
        if not rows:
            return []
        layout = self.layout
        ats = [at for at in _pick(self.instants, rows) if at is not None]
        starts: list[datetime | None] = [None] * len(rows)
        if layout.profile is ProfileName.BLOCK_LOAD:
            period = timedelta(seconds=layout.period)
            starts = [at - period for at in ats]
        # the first is made the checked way: what is checked is the same for all rows of a buffer
        ReadingSet(profile=layout.profile, at=ats[0], start=starts[0], values=(), received_at=received_at)
        return from_columns(
            ReadingSet,
            len(rows),
            profile=repeat(layout.profile),
            at=ats,
            values=self._values(rows),
            received_at=repeat(received_at),
            start=starts,
            meter_time=self._meter_times(rows),
            occurrence=occurrences,
            quality=repeat(Quality.VALID),
            raw=self._evidence(rows),
            suspect=repeat(()),
            remarks=repeat(()),
        )

    def _values(self, rows: Sequence[int]) -> Iterable[tuple[object, ...]]:
        """Pair each column's quantity with its values, then turn columns to rows; the clock is not repeated."""
        shown = [c for c in self.columns if not c.captured.is_clock]
        if not shown:
            return repeat((), len(rows))
        return zip(
            *(zip(repeat(c.captured.quantity), c.of(rows, self.zone), strict=False) for c in shown),
            strict=True,
        )

    def _meter_times(self, rows: Sequence[int]) -> list[MeterTime]:
        at = self.layout.stamp_index
        assert at is not None, "a row without a stamp column has no instant"
        column = self.columns[at]
        given = _pick(column.values, rows)
        if column.tags is not Tag.OCTET_STRING:
            given = [cosem_time.octets_of(column.cell(row)) for row in rows]
        octets = [one for one in given if isinstance(one, bytes)]
        if 1 not in self.counted:
            return stamps.meter_times(b"".join(octets), self.zone)
        flags = [self.counted[row] for row in rows]
        ats = [instant for instant in _pick(self.instants, rows) if instant is not None]
        own = stamps.meter_times(
            b"".join(o for o, flag in zip(octets, flags, strict=True) if not flag), self.zone
        )
        carried = stamps.carried_times(list(compress(ats, flags)), list(compress(octets, flags)), self.zone)
        sent, derived = iter(own), iter(carried)
        return [next(derived if flag else sent) for flag in flags]

    def _evidence(self, rows: Sequence[int]) -> Iterable[bytes | None]:
        if self.layout.profile is not ProfileName.BILLING:
            return repeat(None)
        return [axdr.encode(Data(Tag.STRUCTURE, self.cells(row))) for row in rows]


def _pick(values: Sequence[T], rows: Sequence[int]) -> Sequence[T]:
    return values if len(rows) == len(values) and isinstance(rows, range) else [values[row] for row in rows]
