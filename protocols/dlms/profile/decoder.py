"""Decodes profile buffers by columns: runs of rows of one layout at once, all else value by value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.axdr import TypeDescription, ValueReader
from protocols.dlms.data.cosem_time import OCTETS
from protocols.dlms.data.cursor import Cursor, EndOfOctets
from protocols.dlms.data.types import DELTAS, INTEGERS, NULL, Data, DataValue, Tag
from protocols.dlms.profile import stamps
from protocols.dlms.profile.buffer import BufferColumn, BufferRow, ColumnarBuffer
from protocols.dlms.profile.layouts import CapturedColumn, Layout, cell_value
from protocols.dlms.profile.runs import Cell, RowPlan, tagged_plan, untagged_plan, values
from protocols.dlms.profile.stamps import meter_time
from protocols.errors import MeterProtocolError
from protocols.reading import ProfileName, ReadingSet

SHORTEST_RUN = 6
"""Rows that are worth a run; fewer cost less one by one."""
MAX_SINGLE_ROWS = 64
"""Rows that are read one by one, at most, before a run is looked for again."""
MAX_TAIL = 4096
"""Octets that a cut-off row may have; where more octets make no row, the buffer is damaged."""
_TIME_TAGS = (Tag.OCTET_STRING, Tag.DATE_TIME)


def decode_buffer(layout: Layout, octets: bytes, *, zone: ZoneInfo) -> ColumnarBuffer:
    """Decode a profile's buffer, an A-XDR array or compact-array of rows (Blue Book 4.3.6 #2).

    MeterProtocolError when it is something else, ends early, exceeds a bound of `axdr` or has rows that
    are not the layout's.
    """
    return _BufferDecoder(layout, octets, zone, cut=False).buffer()


def decode_cut_buffer(layout: Layout, octets: bytes, *, zone: ZoneInfo) -> ColumnarBuffer:
    """Decode the whole rows of a buffer whose end may be missing; damaged octets are MeterProtocolError."""
    return _BufferDecoder(layout, octets, zone, cut=True).buffer()


def buffer_of(layout: Layout, buffer: Data, *, zone: ZoneInfo) -> ColumnarBuffer:
    """Return the columns of a buffer whose values are decoded already."""
    _check_buffer(buffer.tag, buffer.tag.name)
    rows = _RowCollector(layout, zone)
    rows.add([_cells(layout, number, row) for number, row in enumerate(buffer.items)])
    return rows.buffer()


def reading_set(
    layout: Layout, row: BufferRow, at: datetime, occurrence: int, *, zone: ZoneInfo, received_at: datetime
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


def _check_buffer(code: int, name: object) -> None:
    if code not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise MeterProtocolError(f"a profile buffer is an array, not {name}")


def _cells(layout: Layout, number: int, row: Data) -> tuple[Data, ...]:
    cells = row.items
    if len(cells) != len(layout.columns):
        raise MeterProtocolError(
            f"row {number} has {len(cells)} cells, capture_objects names {len(layout.columns)}"
        )
    return cells


class _BufferDecoder:
    """Goes once through the octets of a buffer; `cut` says that its end may be missing."""

    def __init__(self, layout: Layout, octets: bytes, zone: ZoneInfo, *, cut: bool) -> None:
        self._layout = layout
        self._rows = _RowCollector(layout, zone)
        self._cut = cut
        self._cursor = Cursor(octets)
        self._reader = ValueReader(self._cursor)
        self._kind: TypeDescription | None = None
        self._codes = b""  # types of a compact-array's columns
        self._single_rows = 1
        self._pending: list[tuple[Data, ...]] = []

    def buffer(self) -> ColumnarBuffer:
        """Decode all rows."""
        if self._cursor.left:
            _check_buffer(self._cursor.data[0], f"data type {self._cursor.data[0]}")
        try:
            self._decode()
        except EndOfOctets:
            if not self._cut:
                raise
        self._flush()
        return self._rows.buffer()

    def _decode(self) -> None:
        self._reader.count(1)
        compact = self._cursor.u8() == Tag.COMPACT_ARRAY
        if compact:
            self._enter_compact_array()
            while self._cursor.left:
                self._decode_some(self._cursor.left)
            return
        left = self._cursor.length()
        if left > self._cursor.left and not self._cut:  # each row takes at least its tag
            raise self._cursor.end(f"{left} rows announced, {self._cursor.left} octets left")
        while left:
            left -= self._decode_some(left)
        self._cursor.finish("the buffer")

    def _enter_compact_array(self) -> None:
        """Read the type description of a compact-array, and go on with its contents."""
        outer = self._cursor
        self._kind = self._reader.type_description(1)
        if self._kind.code == Tag.STRUCTURE:
            self._codes = bytes(item.code for item in self._kind.items)
        length = outer.length()
        contents = outer.take(min(length, outer.left) if self._cut else length)
        outer.finish("the buffer")
        self._cursor = Cursor(contents)
        self._reader = self._reader.inside(self._cursor)

    def _decode_some(self, most: int) -> int:
        """Read a run, or some rows one by one; return how many."""
        found = self._decode_run(most)
        if found:
            self._single_rows = 1
            return found
        # Where rows differ in layout (texts of any length) a look for a run costs as much as a row: after each vain
        # one, twice as many rows are read before the next.
        rows = min(self._single_rows, most)
        for number in range(rows):
            if self._kind is not None and not self._cursor.left:
                return number
            self._pending.append(self._decode_row())
        self._single_rows = min(2 * self._single_rows, MAX_SINGLE_ROWS)
        return rows

    def _decode_run(self, most: int) -> int:
        data, offset = self._cursor.data, self._cursor.offset
        columns = len(self._layout.columns)
        if self._kind is None:
            plan = tagged_plan(data, offset, columns)
        else:
            plan = untagged_plan(self._codes, data, offset) if len(self._codes) == columns else None
        found = plan.rows(data, offset, most) if plan else 0
        if plan is None or found < SHORTEST_RUN:
            return 0
        # the bound on values is the same as if they were read one by one
        self._reader.count(found * (1 + columns))
        self._flush()
        self._rows.add_run(plan, data, offset, found)
        self._cursor.take(found * plan.width)
        return found

    def _decode_row(self) -> tuple[Data, ...]:
        begin = self._cursor.offset
        try:
            row = self._reader.value(1) if self._kind is None else self._reader.untagged(self._kind, 1)
        except EndOfOctets as error:
            # in the middle of a cut buffer a damaged length octet looks like the end: whole rows cannot be that long
            tail = len(self._cursor.data) - begin
            if self._cut and tail > MAX_TAIL:
                raise MeterProtocolError(f"{tail} octets from offset {begin} on make no row") from error
            raise
        if self._cursor.offset == begin:  # it would go on for ever
            raise self._cursor.error("compact-array of elements that have no octets")
        return _cells(self._layout, self._rows.count + len(self._pending), row)

    def _flush(self) -> None:
        self._rows.add(self._pending)
        self._pending = []


class _RowCollector:
    """Collects rows by columns; null-data repeats the row before, a null stamp counts on by one period."""

    def __init__(self, layout: Layout, zone: ZoneInfo) -> None:
        self._layout = layout
        self._zone = zone
        self._columns = [_ColumnCollector(captured) for captured in layout.columns]
        self._stamp = layout.stamp_index
        self._step = timedelta(seconds=-layout.period if layout.newest_first else layout.period)
        self._instants: list[datetime | None] = []
        self._counted = bytearray()
        self.count = 0

    def add_run(self, plan: RowPlan, octets: bytes, offset: int, rows: int) -> None:
        """Add rows of one layout from their octets."""
        for index, (cell, column) in enumerate(zip(plan.cells, self._columns, strict=True)):
            if cell.tag is Tag.NULL:
                column.repeat(rows)
                gathered = bytearray()
            else:
                gathered = plan.gather(cell, octets, offset, rows)
                column.extend(cell.tag, values(cell, gathered, rows))
            if index == self._stamp:
                self._stamps(cell, gathered, rows)
        self.count += rows

    def _stamps(self, cell: Cell, gathered: bytearray, rows: int) -> None:
        if cell.tag is Tag.NULL:  # left out: each row is one period behind the one before
            last = self._instants[-1] if self._instants else None
            self._instants += stamps.counted(last, self._step, rows)
        elif cell.size == OCTETS and cell.tag in _TIME_TAGS:
            self._instants += stamps.instants(gathered, self._zone)
        else:
            self._instants += [None] * rows
        self._counted += bytes((cell.tag is Tag.NULL,)) * rows

    def add(self, rows: Sequence[tuple[Data, ...]]) -> None:
        """Add rows of any kind."""
        for index, (cells, column) in enumerate(zip(zip(*rows, strict=True), self._columns, strict=False)):
            column.add(cells)
            if index == self._stamp:
                self._stamps_of(cells)
        self.count += len(rows)

    def _stamps_of(self, cells: Sequence[Data]) -> None:
        octets = [cosem_time.octets_of(cell) for cell in cells]
        resolved = iter(stamps.instants(b"".join(filter(None, octets)), self._zone))
        last = self._instants[-1] if self._instants else None
        null = Tag.NULL
        for (tag, _), given in zip(cells, octets, strict=True):
            if tag is null:
                last = stamps.following(last, self._step)
            else:
                last = next(resolved) if given else None
            self._instants.append(last)
        self._counted += bytes([tag is null for tag, _ in cells])

    def buffer(self) -> ColumnarBuffer:
        """Return what was collected."""
        unstamped = [None] * self.count if self._stamp is None else []
        return ColumnarBuffer(
            layout=self._layout,
            zone=self._zone,
            count=self.count,
            columns=tuple(column.column() for column in self._columns),
            instants=tuple(self._instants or unstamped),
            counted=bytes(self._counted),
        )


class _ColumnCollector:
    """One column as it grows: one tag for all cells as long as they have the same."""

    def __init__(self, captured: CapturedColumn) -> None:
        self._captured = captured
        self._tag = Tag.NULL
        self._tags: list[Tag] = []
        self._values: list[DataValue] = []

    def extend(self, tag: Tag, more: Sequence[DataValue]) -> None:
        """Add cells of one tag; deltas count on from the cell before."""
        if tag in DELTAS and more:
            tag, more = self._counted_on(more)
        if not self._values:
            self._tag = tag
        elif tag is not self._tag:
            self._mix()
        if self._tags:
            self._tags += [tag] * len(more)
        self._values += more

    def _counted_on(self, deltas: Sequence[DataValue]) -> tuple[Tag, Sequence[DataValue]]:
        """Return the values that deltas stand for, and the tag of the value that they count on from."""
        tag, value = self._last()
        if tag not in INTEGERS or not isinstance(value, int):
            raise MeterProtocolError(
                f"{self._captured.quantity.obis}: a delta, and no number before it to count on from"
            )
        steps = [step for step in deltas if isinstance(step, int)]
        found = list(accumulate(steps, initial=value))[1:]
        octets, signed = INTEGERS[tag]
        low = -(1 << 8 * octets - 1) if signed else 0
        if min(found) < low or max(found) >= low + (1 << 8 * octets):
            raise MeterProtocolError(
                f"{self._captured.quantity.obis}: deltas count beyond a {tag.name.lower()}"
            )
        return tag, found

    def _mix(self) -> None:
        """Keep a tag for each cell from now on."""
        if not self._tags:
            self._tags = [self._tag] * len(self._values)

    def repeat(self, rows: int) -> None:
        """Add cells that are those of the row before; null-data where there is none."""
        tag, value = self._last()
        self.extend(tag, [value] * rows)

    def add(self, cells: Sequence[Data]) -> None:
        """Add cells of any kind."""
        tags = [tag for tag, _ in cells]
        if Tag.NULL not in tags and tags.count(tags[0]) == len(tags):
            self.extend(tags[0], [value for _, value in cells])
            return
        if not DELTAS.keys().isdisjoint(tags):
            for cell in cells:
                if cell[0] is Tag.NULL:
                    self.repeat(1)
                else:
                    self.extend(cell[0], [cell[1]])
            return
        last = self._last()
        null = Tag.NULL
        resolved = [last := cell if cell[0] is not null else last for cell in cells]
        self._mix()
        self._tags += [tag for tag, _ in resolved]
        self._values += [value for _, value in resolved]

    def _last(self) -> Data:
        if not self._values:
            return NULL
        return Data(self._tags[-1] if self._tags else self._tag, self._values[-1])

    def column(self) -> BufferColumn:
        """Return the finished column."""
        tags: Tag | tuple[Tag, ...] = tuple(self._tags) or self._tag
        if isinstance(tags, tuple) and tags.count(tags[0]) == len(tags):
            tags = tags[0]
        return BufferColumn(captured=self._captured, tags=tags, values=tuple(self._values))
