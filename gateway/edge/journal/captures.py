"""The list of captures: what was journaled of each stream (a meter's profile), so that a repeat is told.

The list forgets what no read brings back: captures journaled long ago whose instant lies below the stream's
horizon (see `horizon`). What was forgotten is remembered as a few spans a stream: a capture that shows up
within one, and is not in the list, was most likely delivered long ago, and is refused. Outside of them
nothing was ever forgotten, so an odd date alone (a meter that lost its clock) refuses nothing.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TypeVar

from gateway.contract.blocks import EncodedRow
from gateway.edge.journal.packed import PACKED_OCTETS, Known, PackedRows, pack, row_of, unpack
from gateway.errors import JournalFull
from mapping.instants import instant, micros

CAPTURE_OCTETS = 128
"""Most octets that one capture takes in the list, half-filled pages included (47 measured, 70 usual)."""
USUAL_OCTETS = 64
"""Octets that one capture with a row of its own usually takes in the list."""
MAX_SPANS = 8
"""Forgotten spans of one stream; beyond, the two nearest become one."""
MAX_STREAMS = 100_000
"""Streams of one journal: 10,000 meters of seven profiles, and those that were here before."""
NEIGHBOURS = 100
"""Captures that may lie between those of one block; beyond, each is looked for by itself."""
NEAR = 40 * 86_400
"""Spans this near to each other, in seconds, are one: monthly billing must not make a span a row."""
DAY = 86_400
_KEY = struct.Struct(">IQ")
_BIAS = 1 << 62
_ROWS = (256, 64, 16, 4, 1)
_REMARK = " on conflict (id) do update set mark = excluded.mark"
_UPSERT = " on conflict (key) do update set hash = excluded.hash, rev = excluded.rev, day = excluded.day"

Stream = tuple[str, str]
_T = TypeVar("_T")


class CaptureList:
    """Streams, their watermarks, and the captures of each. Writes run inside the caller's transaction.

    What is held in memory (streams, watermarks, count) changes in `committed` only.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.streams: dict[Stream, int] = {}
        self.marks: dict[Stream, int] = {}
        for number, meter, profile, mark in db.execute("select id, meter, profile, mark from stream"):
            self.streams[meter, profile] = number
            if mark is not None:
                self.marks[meter, profile] = mark
        self._spans: dict[int, list[tuple[int, int]]] = {}
        for number, first, last in db.execute(
            "select stream, first, last from forgotten order by stream, first"
        ):
            self._spans.setdefault(number, []).append((first, last))
        counts = dict(db.execute("select key, value from meta where key in ('captures', 'packed')"))
        self.count, self.packed = int(counts["captures"]), int(counts["packed"])
        self._packs = PackedRows(db)
        self._newest: dict[int, bytes] = {}
        self._new_streams: dict[Stream, int] = {}
        self._new_marks: dict[Stream, int] = {}
        self._new_count, self._new_packed = self.count, self.packed

    def begin(self) -> None:
        """Forget what a transaction that failed had begun."""
        self._new_streams, self._new_marks = {}, {}
        self._new_count, self._new_packed = self.count, self.packed

    def committed(self) -> None:
        """Take over what the transaction brought."""
        self.streams.update(self._new_streams)
        self.marks.update(self._new_marks)
        self.count, self.packed = self._new_count, self._new_packed
        self.begin()

    @property
    def octets(self) -> int:
        """Octets that the list usually takes in the file."""
        return USUAL_OCTETS * (self.count - self.packed) + PACKED_OCTETS * self.packed

    # -- streams and watermarks

    def stream(self, stream: Stream) -> int:
        """Return the stream's number, a new one where it has none; JournalFull at MAX_STREAMS."""
        number = self.streams.get(stream) or self._new_streams.get(stream)
        if number is None:
            if len(self.streams) + len(self._new_streams) >= MAX_STREAMS:
                raise JournalFull(
                    f"the journal knows {MAX_STREAMS} streams (profiles of meters) and takes no more:"
                    " an edge is built for 10,000 meters; begin a new journal for other ones"
                )
            done = self._db.execute("insert into stream (meter, profile) values (?, ?) returning id", stream)
            number = self._new_streams[stream] = int(done.fetchone()[0])
        return number

    def set_mark(self, meter: str, profile: str, at: datetime) -> None:
        """Note a watermark; `store_marks` writes it."""
        self._new_marks[meter, profile] = micros(at)

    def store_marks(self) -> None:
        """Write the watermarks of this transaction."""
        rows = [(self.stream(stream), *stream, mark) for stream, mark in self._new_marks.items()]
        insert(self._db, "stream", rows, _REMARK)

    def watermark(self, meter: str, profile: str) -> datetime | None:
        """Return the instant up to which everything of the profile is journaled, None before the first."""
        mark = self.marks.get((meter, profile))
        return None if mark is None else instant(mark)

    # -- captures

    def key(self, number: int, at: datetime, capture_id: str) -> bytes:
        """Return the key of a capture: stream and second first, so that neighbours share a page."""
        return self.keys(number, [EncodedRow(capture_id, at, b"", b"")])[0]

    def keys(self, number: int, rows: Iterable[EncodedRow]) -> list[bytes]:
        """Return the keys of captures of one stream."""
        return [
            _KEY.pack(number, int(row.at.timestamp()) + _BIAS)
            + blake2b(row.capture_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for row in rows
        ]

    def is_newer(self, number: int, key: bytes) -> bool:
        """Say whether a key of a stream lies above all that are listed and all that were forgotten."""
        if key <= self._newest_of(number):
            return False
        spans = self._spans.get(number)
        return not spans or int(_KEY.unpack_from(key)[1]) - _BIAS > spans[-1][1]

    def known(self, number: int, keys: Sequence[bytes]) -> Known:
        """Return value hash and revision of those keys of one stream that are in the list.

        Rows that are newer than all that is listed need no look; those of one poll lie side by side, and are
        found by one range.
        """
        low, high = min(keys), max(keys)
        if low > self._newest_of(number):
            return {}
        most = 2 * len(keys) + NEIGHBOURS
        rows = self._db.execute(
            "select key, hash, rev from capture where key between ? and ? limit ?", (low, high, most)
        ).fetchall()
        if len(rows) == most:
            rows = list(self._one_by_one(keys))
        return self._packs.known(keys, low, high) | {key: (value, rev) for key, value, rev in rows}

    def _one_by_one(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
        for part, size in parts(keys):
            marks = ",".join("?" * size)
            # Only question marks are put into the statement.
            yield from self._db.execute(f"select key, hash, rev from capture where key in ({marks})", part)

    def _newest_of(self, number: int) -> bytes:
        """Return the highest key of a stream, b"" where it has none."""
        newest = self._newest.get(number)
        if newest is None:
            bounds = (_KEY.pack(number, 0), _KEY.pack(number + 1, 0))
            found = self._db.execute("select max(key) from capture where key >= ? and key < ?", bounds)
            newest = max(found.fetchone()[0] or b"", self._packs.newest(*bounds))
            self._newest[number] = newest
        return newest

    def any_forgotten(self, number: int) -> bool:
        """Return whether captures of a stream were forgotten."""
        return number in self._spans

    def was_forgotten(self, key: bytes) -> bool:
        """Return whether a capture that is not in the list lies where captures were forgotten."""
        number, biased = _KEY.unpack_from(key)
        spans = self._spans.get(number)
        if not spans:
            return False
        second = biased - _BIAS
        # The newest span first: nearly every new capture is newer than all of them.
        return spans[-1][1] >= second and any(first <= second <= last for first, last in spans)

    def note_newest(self, number: int, key: bytes) -> None:
        """Note the highest key of a block; too high where the commit fails, which costs a look."""
        if key > self._newest.get(number, b""):
            self._newest[number] = key

    def store(
        self,
        changed: Mapping[bytes, tuple[bytes, int]],
        packs: Sequence[Mapping[bytes, bytes]],
        fresh: int,
        now: datetime,
    ) -> None:
        """Write new captures and revised ones, `fresh` of them new.

        `packs` are new captures of a stream, above all that it had, by their keys in rising order: hashes.
        """
        day = int(now.timestamp()) // DAY
        if changed:
            self._loosen(key for key, (_, rev) in changed.items() if rev > 1)
            rows = [(key, value, rev, day) for key, (value, rev) in changed.items()]
            insert(self._db, "capture", rows, _UPSERT)
        if packs:
            insert(self._db, "packed (key, body, day)", [(*pack(captures), day) for captures in packs])
        self._note_counts(fresh, sum(map(len, packs)))

    def _loosen(self, keys: Iterable[bytes]) -> None:
        """Unpack the rows that hold any of these captures."""
        rows = {
            row for key in keys if (row := row_of(self._db, key)) is not None and key in dict(unpack(*row))
        }
        self._note_counts(0, -self._packs.loosen(rows))

    def _note_counts(self, more: int, packed: int) -> None:
        """Note how many captures came or went, and how many of the packed ones."""
        if not more and not packed:
            return
        self._new_count += more
        self._new_packed += packed
        self._db.execute(
            "update meta set value = case key when 'packed' then ? else ? end where key in ('packed', 'captures')",
            (self._new_packed, self._new_count),
        )

    def doubt(self, stream: Stream, low: datetime, high: datetime) -> None:
        """Let what is read of a span be journaled again: as the next revision, and from the watermark on."""
        number = self.streams[stream]
        first, end = _KEY.pack(number, _biased(low)), _KEY.pack(number, _biased(high) + 1)
        rows = self._packs.between(first, end, -1)
        self._note_counts(0, -self._packs.loosen([row for row in rows if row[0] >= _KEY.pack(number, 0)]))
        self._db.execute("update capture set hash = x'' where key >= ? and key < ?", (first, end))
        before = micros(low) - 1
        if self.marks.get(stream, before) > before:
            self._new_marks[stream] = before
            self.store_marks()

    def unforget(self, stream: Stream, low: datetime) -> None:
        """Let what was forgotten from an instant on be taken when it comes again."""
        number, second = self.streams[stream], int(low.timestamp())
        kept = [
            (first, min(last, second - 1)) for first, last in self._spans.get(number, ()) if first < second
        ]
        self._db.execute("delete from forgotten where stream = ?", (number,))
        self._db.executemany("insert into forgotten values (?, ?, ?)", [(number, *span) for span in kept])
        # Known too early when the commit fails: the captures that are listed are found there first.
        self._spans[number] = kept

    # -- forgetting

    def forget(self, streams: Iterable[tuple[Stream, datetime]], limit: int) -> int:
        """Forget captures below each stream's horizon, about `limit` in all; return how many went.

        One that was journaled on the horizon's day or later stays though its instant is older: what a meter
        with a lost clock dates to the year 2000 is as new as any.
        """
        gone = 0
        for stream, below in streams:
            number = self.streams[stream]
            second = int(below.timestamp())
            bounds = _KEY.pack(number, 0), _KEY.pack(number, _BIAS + second)
            rows = self._forget_rows(bounds, second // DAY, limit - gone)
            packs = self._packs.forget(*bounds, second // DAY, limit - gone - len(rows))
            packed = sum(size for _, _, size in packs)
            self._note_counts(-len(rows) - packed, -packed)
            if rows or packs:
                spans = [(rows[0], rows[-1])] if rows else []
                for first, last in (*spans, *[(first, last) for first, last, _ in packs]):
                    self._remember_span(number, *(_KEY.unpack_from(key)[1] - _BIAS for key in (first, last)))
            gone += len(rows) + packed
            if gone >= limit:
                break
        return gone

    def _forget_rows(self, bounds: tuple[bytes, bytes], day: int, limit: int) -> list[bytes]:
        """Delete rows between two keys that were journaled before `day`; return their keys in order."""
        keys: list[bytes] = [
            key
            for (key,) in self._db.execute(
                "select key from capture where key >= ? and key < ? and day < ? order by key limit ?",
                (*bounds, day, limit),
            )
        ]
        if keys:
            self._db.execute(
                "delete from capture where key >= ? and key <= ? and day < ?", (keys[0], keys[-1], day)
            )
        return keys

    def _remember_span(self, number: int, first: int, last: int) -> None:
        spans = merged([*self._spans.get(number, ()), (first, last)])
        self._db.execute("delete from forgotten where stream = ?", (number,))
        self._db.executemany("insert into forgotten values (?, ?, ?)", [(number, *span) for span in spans])
        # Known too early when the commit fails: then a capture that is still in the list is found there first.
        self._spans[number] = spans


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, near ones as one, and no more than MAX_SPANS."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    while len(found) > MAX_SPANS:
        at = min(range(len(found) - 1), key=lambda i: found[i + 1][0] - found[i][1])
        found[at : at + 2] = [(found[at][0], found[at + 1][1])]
    return found


def horizon(
    now: datetime, memory: timedelta, mark: datetime | None, gap: datetime | None, pressure: int
) -> datetime:
    """Return the instant below which a stream's captures may be forgotten.

    `memory` is how far below the present, and below the watermark, a read may go; the oldest open gap is
    still read again. Under `pressure` (the list is over its bound) the present alone counts, with half the
    memory, a quarter, … down to one day.
    """
    if pressure:
        return now - max(memory / (1 << pressure), timedelta(days=1))
    below = now if mark is None else min(now, mark)
    below -= memory
    return below if gap is None else min(below, gap)


def insert(db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]], tail: str = "") -> None:
    """Insert with many rows a statement: each step gives up the interpreter lock and waits for it."""
    for part, size in parts(rows):
        values = ",".join(["(" + ",".join("?" * len(part[0])) + ")"] * size)
        db.execute(f"insert into {table} values {values}{tail}", [v for row in part for v in row])


def parts(rows: Sequence[_T]) -> Iterator[tuple[Sequence[_T], int]]:
    """Cut into parts of a few fixed sizes, so that SQLite's statement cache holds every statement."""
    start = 0
    while left := len(rows) - start:
        size = next(s for s in _ROWS if s <= left)
        yield rows[start : start + size], size
        start += size


def _biased(at: datetime) -> int:
    return int(at.timestamp()) + _BIAS
