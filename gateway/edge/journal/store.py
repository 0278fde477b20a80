"""The journal's file: SQLite transactions. Synchronous; one thread owns it."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from gateway.contract.capture_body import with_value_rev
from gateway.edge.journal.entry import (
    CaptureRecord,
    Entry,
    EntryKind,
    GapRecord,
    GapState,
    JournalBatch,
    RefusedEntry,
    SeqRange,
)
from gateway.edge.journal.file import lock_file, open_file, translated
from gateway.errors import ContractError, JournalError
from mapping.instants import instant, micros

TRIM_CHUNK = 2_000
BILLING = "@billing"
_KEY = struct.Struct(">IQ")
_LAST = "\U0010ffff"
_ROWS = (256, 64, 16, 4, 1)
_UPSERT = " on conflict (key) do update set hash = excluded.hash, rev = excluded.rev"

_Stream = tuple[str, str]
_T = TypeVar("_T")


@dataclass(slots=True)
class Applied:
    """What one transaction did: a range per batch, the new entries, and counts."""

    ranges: list[SeqRange] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    repeats: int = 0
    revisions: int = 0


class JournalStore:
    """One journal file. Every public method is one transaction or one read; none is thread-safe.

    sqlite3 and OS errors leave as JournalFull (no space; nothing of the transaction was kept, the next
    try may succeed) or JournalError (damaged, locked, of another version).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = lock_file(path)
        try:
            with translated(path):
                self._db = open_file(path)
                self._load()
        except BaseException:
            self._lock.close()
            raise

    def _load(self) -> None:
        meta = dict(self._db.execute("select key, value from meta"))
        self.uuid = str(meta["uuid"])
        low, high = self._db.execute("select min(seq), max(seq) from entry").fetchone()
        self.last_seq: int = max(int(meta["trimmed"]), high or 0)
        self.first_seq: int = low or self.last_seq + 1
        self._streams: dict[_Stream, int] = {}
        self._marks: dict[_Stream, int] = {}
        for number, meter, profile, mark in self._db.execute("select id, meter, profile, mark from stream"):
            self._streams[meter, profile] = number
            if mark is not None:
                self._marks[meter, profile] = mark
        self.cursors: dict[str, int] = dict(self._db.execute("select sink, seq from cursor"))
        counts = self._db.execute("select sink, count(*) from dead_letter group by sink")
        self.dead_counts: dict[str, int] = dict(counts)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        with translated(self._path):
            self._db.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self._path):
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise

    def renew(self) -> None:
        """Give the journal another uuid durably, and forget what billing acknowledged under the old one."""
        name = str(uuid.uuid4())
        with self._transaction():
            self._db.execute("update meta set value = ? where key = 'uuid'", (name,))
            self._db.execute("delete from cursor where sink = ?", (BILLING,))
        self.uuid = name
        self.cursors.pop(BILLING, None)

    # -- appending

    def apply(self, batches: Sequence[JournalBatch], cursors: Mapping[str, int], now: datetime) -> Applied:
        """Make all batches and cursor moves durable together; on an error nothing of them is kept.

        What is held in memory (streams, watermarks, cursors, last_seq) changes after the commit only.
        """
        done = Applied()
        streams: dict[_Stream, int] = {}
        marks: dict[_Stream, int] = {}
        with self._transaction():
            seq = self._entries(batches, streams, marks, done)
            at = int(now.timestamp())
            self._insert("entry", [(e.seq, e.kind.value, e.profile, at, e.body) for e in done.entries])
            self._store_marks(marks, streams)
            self._store_cursors(cursors)
        self._streams.update(streams)
        self._marks.update(marks)
        self.cursors.update(cursors)
        self.last_seq = seq  # first_seq needs no change: in an empty journal it is last_seq + 1
        return done

    def _entries(
        self,
        batches: Sequence[JournalBatch],
        streams: dict[_Stream, int],
        marks: dict[_Stream, int],
        done: Applied,
    ) -> int:
        keyed = [[(self._key(r, streams), r) for r in batch.captures] for batch in batches]
        known = self._known([key for batch in keyed for key, _ in batch])
        changed: dict[bytes, tuple[bytes, int]] = {}
        seq = self.last_seq
        for batch, captures in zip(batches, keyed, strict=True):
            first = seq + 1
            for key, record in captures:
                # Of two that are alike in one group the second is a repeat: `known` has the first already.
                old = known.get(key)
                if old is not None and (old[0] == record.value_hash or not batch.revise):
                    done.repeats += 1
                    continue
                rev = 1 if old is None else old[1] + 1
                done.revisions += rev > 1
                known[key] = changed[key] = (record.value_hash, rev)
                seq += 1
                done.entries.append(Entry(seq, record.kind, record.profile, _revised(record, rev)))
            for gap in batch.gaps:
                if self._store_gap(gap):
                    seq += 1
                    done.entries.append(Entry(seq, EntryKind.GAP, gap.profile, gap.body))
            for meter, profile, at in batch.watermarks:
                marks[meter, profile] = micros(at)
            done.ranges.append(SeqRange(first, seq))
        self._insert("capture", [(key, value, rev) for key, (value, rev) in changed.items()], _UPSERT)
        return seq

    def _key(self, record: CaptureRecord, streams: dict[_Stream, int]) -> bytes:
        """Return the key of the capture list: stream and second first, so that neighbours share a page."""
        stream = (record.meter, record.profile)
        number = self._streams.get(stream) or streams.get(stream) or self._new_stream(stream, streams)
        digest = blake2b(record.capture_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return _KEY.pack(number, int(record.at.timestamp()) + (1 << 62)) + digest

    def _new_stream(self, stream: _Stream, streams: dict[_Stream, int]) -> int:
        done = self._db.execute("insert into stream (meter, profile) values (?, ?) returning id", stream)
        number = int(done.fetchone()[0])
        streams[stream] = number
        return number

    def _known(self, keys: list[bytes]) -> dict[bytes, tuple[bytes, int]]:
        known: dict[bytes, tuple[bytes, int]] = {}
        for part, size in _parts(keys):
            marks = ",".join("?" * size)
            # Only question marks are put into the statement.
            rows = self._db.execute(f"select key, hash, rev from capture where key in ({marks})", part)
            known.update({key: (value, rev) for key, value, rev in rows.fetchall()})
        return known

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]], tail: str = "") -> None:
        """Insert with many rows a statement: each step gives up the interpreter lock and waits for it."""
        for part, size in _parts(rows):
            values = ",".join(["(" + ",".join("?" * len(part[0])) + ")"] * size)
            self._db.execute(f"insert into {table} values {values}{tail}", [v for row in part for v in row])

    def _store_gap(self, gap: GapRecord) -> bool:
        old = self._db.execute("select state, body from gap where gap_id = ?", (gap.gap_id,)).fetchone()
        if old == (gap.state, gap.body):
            return False
        row = (
            gap.gap_id,
            gap.meter,
            gap.profile,
            micros(gap.after),
            micros(gap.until),
            gap.state,
            gap.body,
        )
        self._db.execute("insert or replace into gap values (?, ?, ?, ?, ?, ?, ?)", row)
        return True

    def _store_marks(self, marks: Mapping[_Stream, int], streams: dict[_Stream, int]) -> None:
        for stream, mark in marks.items():
            number = self._streams.get(stream) or streams.get(stream) or self._new_stream(stream, streams)
            self._db.execute("update stream set mark = ? where id = ?", (mark, number))

    def _store_cursors(self, cursors: Mapping[str, int]) -> None:
        for cursor in cursors.items():
            self._db.execute("insert or replace into cursor values (?, ?)", cursor)

    # -- reading

    def read(self, first: int, last: int, limit: int, max_bytes: int) -> list[Entry]:
        """Return entries first..last that are there, at most `limit` and (beyond one) `max_bytes` of bodies."""
        with translated(self._path):
            rows = self._db.execute(
                "select seq, kind, profile, body from entry where seq between ? and ? order by seq limit ?",
                (first, last, limit),
            ).fetchall()
        entries: list[Entry] = []
        for seq, kind, profile, body in rows:
            max_bytes -= len(body)
            if max_bytes < 0 and entries:
                break
            entries.append(Entry(seq, EntryKind(kind), profile, body))
        return entries

    def watermark(self, meter: str, profile: str) -> datetime | None:
        """Return the instant up to which everything of the profile is journaled, None before the first."""
        mark = self._marks.get((meter, profile))
        return None if mark is None else instant(mark)

    def open_gaps(self, meter: str | None = None, profile: str | None = None) -> list[GapState]:
        """Return gaps in state open, by meter, profile and time; of one meter and profile when they are given."""
        with translated(self._path):
            rows = self._db.execute(
                "select gap_id, meter, profile, after, until, state, body from gap"
                " where state = 'open' and meter between ? and ? and profile between ? and ?"
                " order by meter, profile, after",
                (meter or "", meter or _LAST, profile or "", profile or _LAST),
            ).fetchall()
        return [
            GapState(
                gap_id=gap_id,
                meter=meter,
                profile=profile,
                after=instant(after),
                until=instant(until),
                state=state,
                body=body,
            )
            for gap_id, meter, profile, after, until, state, body in rows
        ]

    def used_bytes(self) -> int:
        """Return the octets of the pages in use; freed pages are used again before the file grows."""
        with translated(self._path):
            pages = self._db.execute("pragma page_count").fetchone()[0]
            free = self._db.execute("pragma freelist_count").fetchone()[0]
            size = self._db.execute("pragma page_size").fetchone()[0]
        return int(pages - free) * int(size)

    # -- trimming

    def trim(self, upto: int, older_than: datetime | None) -> int:
        """Delete at most TRIM_CHUNK of the oldest entries with seq <= `upto`; return how many.

        It stops at the first that was journaled after `older_than` (None: any age goes).
        """
        if upto < self.first_seq:
            return 0
        last = min(upto, self.first_seq + TRIM_CHUNK - 1)
        with self._transaction():
            if older_than is not None:
                young = self._db.execute(
                    "select min(seq) from entry where seq <= ? and at > ?",
                    (last, int(older_than.timestamp())),
                ).fetchone()[0]
                last = last if young is None else young - 1
            if last < self.first_seq:
                return 0
            self._db.execute("delete from entry where seq <= ?", (last,))
            self._db.execute("update meta set value = ? where key = 'trimmed'", (last,))
        gone = last - self.first_seq + 1
        self.first_seq = last + 1
        return gone

    # -- dead letters

    def dead_letter(self, letter: RefusedEntry, keep: int) -> int:
        """Keep a refused entry; beyond `keep` of one sink the oldest goes. Return how many went."""
        row = (letter.sink, letter.seq, int(letter.at.timestamp()), letter.reason, letter.body)
        with self._transaction():
            self._db.execute("insert or replace into dead_letter values (?, ?, ?, ?, ?)", row)
            count = "select count(*) from dead_letter where sink = ?"
            excess = self._db.execute(count, (letter.sink,)).fetchone()[0] - keep
            if excess > 0:
                self._db.execute(
                    "delete from dead_letter where sink = ? and seq in"
                    " (select seq from dead_letter where sink = ? order by seq limit ?)",
                    (letter.sink, letter.sink, excess),
                )
            self.dead_counts[letter.sink] = self._db.execute(count, (letter.sink,)).fetchone()[0]
        return max(0, int(excess))

    def dead_letters(self, sink: str, limit: int) -> list[RefusedEntry]:
        """Return the newest `limit` dead letters of one sink, oldest first."""
        with translated(self._path):
            rows = self._db.execute(
                "select sink, seq, at, reason, body from dead_letter where sink = ?"
                " order by seq desc limit ?",
                (sink, limit),
            ).fetchall()
        return [
            RefusedEntry(sink=s, seq=seq, at=datetime.fromtimestamp(at, UTC), reason=reason, body=body)
            for s, seq, at, reason, body in reversed(rows)
        ]


def _revised(record: CaptureRecord, rev: int) -> bytes:
    try:
        return with_value_rev(record.body, rev)
    except ContractError as error:
        raise JournalError(f"{record.capture_id} cannot be revised: {error}") from error


def _parts(rows: Sequence[_T]) -> Iterator[tuple[Sequence[_T], int]]:
    """Cut into parts of a few fixed sizes, so that SQLite's statement cache holds every statement."""
    start = 0
    while left := len(rows) - start:
        size = next(s for s in _ROWS if s <= left)
        yield rows[start : start + size], size
        start += size
