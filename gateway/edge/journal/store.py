"""The journal's file: SQLite transactions. Synchronous; one thread owns it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from gateway.contract.blocks import BlockTemplate, EncodedRow
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.beside import Beside
from gateway.edge.journal.captures import CaptureList, Stream, horizon
from gateway.edge.journal.cursors import CursorTable
from gateway.edge.journal.damage import Mender
from gateway.edge.journal.disk import FileWatch, Reserve
from gateway.edge.journal.entries import EntryTable
from gateway.edge.journal.entry import (
    Entry,
    EntryKind,
    GapState,
    JournalBatch,
    RefusedEntry,
    SeqRange,
    kind_of,
)
from gateway.edge.journal.file import JournalDamaged, damaged, lock_file, mark_suspect, translated
from gateway.edge.journal.gaps import GapTable
from gateway.edge.journal.generation import Begun, Former, begin_anew, begin_generation, former
from gateway.edge.journal.letters import MAX_TOMBSTONES, LetterTable
from gateway.edge.journal.news import News
from gateway.edge.journal.rows import Damaged, EntryRow, entry_of, sealed
from gateway.edge.journal.salvage import Salvage, open_or_salvage
from gateway.edge.journal.templates import TemplateTable
from gateway.errors import JournalError, JournalFull, PeerUnavailable
from mapping.instants import micros

PAGE = 4096
TRIM_CHUNK = 2_000
ORDER = "read again "
"""Beginning of the name in `meta` of the last order to read a stream again."""


@dataclass(slots=True)
class Applied:
    """What one transaction did: a range per batch, the new entries, and counts.

    `forgotten` captures were refused: they lie where the list of captures was forgotten. `other_values` are meter,
    profile and instant of rows of meters' memories that are not what they were.
    """

    ranges: list[SeqRange] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    repeats: int = 0
    revisions: int = 0
    forgotten: int = 0
    other_values: list[tuple[str, str, datetime]] = field(default_factory=list)


@dataclass(slots=True)
class Opened:
    """What opening found: the generation begun, and what was salvaged from a damaged file."""

    begun: Begun
    salvage: Salvage | None


class JournalStore:
    """One journal file. Every public method is one transaction or one read; none is thread-safe.

    sqlite3 and OS errors leave as JournalFull (no space; nothing of the transaction was kept, the next
    try may succeed) or JournalError (damaged, locked, of another version). A file that is found damaged when
    it is opened is put aside and salvaged. `reserve` are octets of disk kept for hard times, `gateway` is whose
    journal it is ("": nobody asks).
    """

    def __init__(self, path: Path, *, now: datetime, gateway: str = "", reserve: int = 0) -> None:
        self._path = path
        self._now, self._gateway = now, gateway
        self._lock = lock_file(path)
        self._beside = Beside(path)
        self.on_damage: Callable[[str], None] = lambda _: None
        self.reserve = Reserve(path, reserve)
        try:
            with translated(path):
                try:
                    self._open()
                except JournalDamaged:  # not where it was looked for, but where it is read: put it aside too
                    mark_suspect(path)
                    self._open()
                except JournalFull:
                    # A disk that filled up while the edge was off: the reserve lets it start all the same.
                    if not self.reserve.release():
                        raise
                    self._open()
                if reserve:
                    # The log must fit into the reserve when it is brought into the file on a full disk.
                    self._db.execute(f"pragma wal_autocheckpoint = {min(1_000, reserve // 2 // PAGE)}")
                    self.reserve.take()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        with translated(self._path):
            self._db, salvage = open_or_salvage(self._path)
            try:
                self._load()
                begun = begin_generation(
                    self._db,
                    self._beside,
                    last_seq=self.last_seq,
                    gateway=self._gateway,
                    place=str(os.fstat(self._lock.fileno()).st_ctime_ns),
                    now=self._now,
                )
                self.opened = Opened(begun, salvage)
                self._load()
            except BaseException:
                self._db.close()
                raise
        self._begin(self.opened.begun)
        self.watch = FileWatch(self._path)

    def _begin(self, begun: Begun) -> None:
        self.begun, self.uuid = begun, begun.journal
        self.former: tuple[Former, ...] = former(self._db)

    def _load(self) -> None:
        self._page_size = int(self._db.execute("pragma page_size").fetchone()[0])
        meta = dict(self._db.execute("select key, value from meta"))
        self.entries = EntryTable(self._db)
        self.last_seq: int = max(int(meta["trimmed"]), self.entries.last())
        self.first_seq: int = self.entries.first() or self.last_seq + 1
        self.captures = CaptureList(self._db)
        self.templates = TemplateTable(self._db)
        self.gaps = GapTable(self._db)
        self.letters = LetterTable(self._db)
        self.cursors = CursorTable(self._db)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        with contextlib.suppress(JournalError):
            self.sync_generation()
        self._beside.close()
        with translated(self._path):
            self._db.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self._path):
            self.captures.begin()
            self.templates.begin()
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
            self.captures.committed()
            self.templates.committed()

    def sync_generation(self) -> None:
        """Make durable what stands beside the journal of how far it has come."""
        with translated(self._path):
            self._beside.sync()

    def begin_anew(self, heard: Generation, why: str, now: datetime) -> None:
        """Go on under another uuid: a peer proved another life of this journal."""
        with translated(self._path):
            begun = begin_anew(
                self._db, self._beside, self.begun, last_seq=self.last_seq, above=heard, why=why, now=now
            )
        self._begin(begun)
        self.cursors.forget([name for name in self.cursors if name.startswith("@")])

    # -- appending

    def apply(
        self,
        batches: Sequence[JournalBatch],
        cursors: Mapping[str, int],
        now: datetime,
        proofs: Mapping[str, str] | None = None,
    ) -> Applied:
        """Make all batches and cursor moves, with their proofs, durable together; on an error nothing is kept.

        What is held in memory (streams, watermarks, cursors, last_seq) changes after the commit only.
        """
        done = Applied()
        at = int(now.timestamp())
        with self._transaction():
            seq = self._take(batches, done, now)
            self.captures.store_marks()
            self.cursors.store(cursors, proofs or {}, at)
        self.cursors.moved(cursors, proofs or {}, at)
        if seq != self.last_seq:
            self.last_seq = seq  # first_seq needs no change: in an empty journal it is last_seq + 1
            self._beside.note(seq)
        return done

    def _take(self, batches: Sequence[JournalBatch], done: Applied, now: datetime) -> int:
        """Write what is new of the batches; return the last number given."""
        news = News(self.captures)
        seq, at = self.last_seq, int(now.timestamp())
        rows: list[EntryRow] = []
        for batch in batches:
            first = seq + 1
            for block in batch.blocks:
                taken = news.of(block, revise=batch.revise, stored=batch.stored)
                if not taken:
                    continue
                body = block.body(None if taken is block.rows else [row.body for row in taken])
                template, last = block.template, seq + len(taken)
                kind, profile = kind_of(template.layout.profile), template.layout.profile
                rows.append(self._row(template, taken, kind, body, (seq + 1, last), at))
                keyed = template.layout.keyed, template.holders
                done.entries.append(Entry(seq + 1, last, kind, profile, body, *keyed))
                seq = last
            for gap in batch.gaps:
                if self.gaps.store(gap):
                    seq += 1
                    rows.append(_gap_row(seq, gap.profile, gap.body, at))
                    done.entries.append(Entry(seq, seq, EntryKind.GAP, gap.profile, gap.body))
            for mark in batch.watermarks:
                self.captures.set_mark(*mark)
            done.ranges.append(SeqRange(first, seq))
        self.entries.store(rows)
        self.captures.store(news.changed, news.packs(), news.fresh, now)
        done.repeats, done.revisions, done.forgotten = news.repeats, news.revisions, news.forgotten
        done.other_values = news.other_values
        return seq

    def _row(
        self,
        template: BlockTemplate,
        taken: Sequence[EncodedRow],
        kind: EntryKind,
        body: bytes,
        span: tuple[int, int],
        at: int,
    ) -> EntryRow:
        """Return the row of a block's new captures, and note the layout and holders that it names."""
        layout, holders, profile = template.layout.keyed, template.holders, template.layout.profile
        self.templates.use(layout, span[1])
        if holders is not None:
            self.templates.use(holders, span[1])
        times = [row.at for row in taken]
        low = micros(min(times))
        return sealed(
            (
                span[0],
                kind.value,
                profile,
                at,
                body,
                span[1],
                self.captures.stream((template.meter, profile)),
                low,
                low if len(times) == 1 else micros(max(times)),
                layout.key,
                None if holders is None else holders.key,
            )
        )

    def read_again(self, stream: Stream, low: datetime, high: datetime, order: str) -> bool:
        """Set the watermark back and let a span be journaled once more; False for an unknown stream.

        `order` is kept with it: `last_order` returns it.
        """
        if stream not in self.captures.streams:
            return False
        with self._transaction():
            self.captures.doubt(stream, low, high)
            self.captures.unforget(stream, low)
            key = ORDER + "/".join(stream)
            self._db.execute("insert or replace into meta values (?, ?)", (key, order))
        return True

    def last_order(self, stream: Stream) -> str | None:
        """Return the last order to read a stream again, None before the first."""
        with translated(self._path):
            row = self._db.execute(
                "select value from meta where key = ?", (ORDER + "/".join(stream),)
            ).fetchone()
        return None if row is None else str(row[0])

    # -- reading

    def read(self, first: int, last: int, limit: int, max_bytes: int) -> list[Entry]:
        """Return entries that hold any of first..last, at most `limit` and (beyond one) `max_bytes` of bodies.

        Each is compared with its checksum: in place of what is damaged, or gone, stand gaps of the same
        numbers (`damage`), and `on_damage` is told.
        """
        with translated(self._path):
            rows = self.entries.between(first, last, limit, max_bytes)
        entries = [entry_of(row, self.templates.get) for row in rows]
        due = max(first, self.first_seq)
        if not _is_whole(entries, due):
            self._mend(rows, entries, due)
            with translated(self._path):
                rows = self.entries.between(first, last, limit, max_bytes)
            entries = [entry_of(row, self.templates.get) for row in rows]
            if not _is_whole(entries, due):
                raise damaged(self._path, f"entries from {due} on cannot be mended")
        return [entry for entry in entries if isinstance(entry, Entry)]

    def _mend(self, rows: Sequence[EntryRow], entries: Sequence[Entry | Damaged], first: int) -> None:
        mender = Mender(
            self._db, self.uuid, captures=self.captures, letters=self.letters, last_seq=self.last_seq
        )
        with self._transaction():
            told = mender.mend(rows, entries, first)
        for text in told:
            self.on_damage(text)

    def of_meter(self, meter: str, before: int, count: int) -> tuple[list[Entry], int, datetime | None]:
        """Look at the `count` entries below number `before` for the captures of a meter.

        Returns them in rising seq, the number below which to look next, and when the oldest entry that was looked at
        was journaled; None at the journal's beginning. What is damaged is left out.
        """
        streams = [number for (name, _), number in self.captures.streams.items() if name == meter]
        with translated(self._path):
            rows, low, at = self.entries.of_streams(streams, before, count)
        entries = [entry_of(row, self.templates.get) for row in rows]
        return [entry for entry in entries if isinstance(entry, Entry)], low, at

    def watermark(self, meter: str, profile: str) -> datetime | None:
        """Return the instant up to which everything of the profile is journaled, None before the first."""
        return self.captures.watermark(meter, profile)

    def open_gaps(self, meter: str | None = None, profile: str | None = None) -> list[GapState]:
        """Return gaps in state open, by meter, profile and time; of one meter and profile when they are given."""
        with translated(self._path):
            return self.gaps.open(meter, profile)

    def journaled_at(self, seq: int) -> datetime | None:
        """Return when the first entry from `seq` on was journaled, None without one."""
        with translated(self._path):
            return self.entries.journaled_at(seq)

    def used_bytes(self) -> int:
        """Return the octets of the pages in use; freed pages are used again before the file grows."""
        with translated(self._path):
            pages = self._db.execute("pragma page_count").fetchone()[0]
            free = self._db.execute("pragma freelist_count").fetchone()[0]
        return int(pages - free) * self._page_size

    def free_pages(self) -> int:
        """Return how many pages of the file are free: what they take needs no new space on the disk."""
        with translated(self._path):
            return int(self._db.execute("pragma freelist_count").fetchone()[0])

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the file; its blocks are kept and used again."""
        with translated(self._path):
            self._db.execute("pragma wal_checkpoint(restart)")

    # -- trimming and forgetting

    def trim(self, upto: int, older_than: datetime | None, chunk: int = TRIM_CHUNK) -> int:
        """Delete at most about `chunk` of the oldest numbers up to `upto`, whole entries; return how many.

        It stops at the first that was journaled after `older_than` (None: any age goes).
        """
        if upto < self.first_seq:
            return 0
        with self._transaction():
            last = self.entries.old_enough((self.first_seq, self.last_seq), upto, older_than, chunk)
            if last < self.first_seq:
                return 0
            self.entries.delete(last)
            self.letters.trim(last)
        for seq in [seq for seq in self.letters.tombstones if seq <= last]:
            del self.letters.tombstones[seq]
        gone = last - self.first_seq + 1
        self.first_seq = last + 1
        return gone

    def forget(
        self,
        streams: Sequence[Stream],
        memory: Mapping[str, timedelta],
        now: datetime,
        pressure: int,
        limit: int,
    ) -> int:
        """Forget captures of these streams below their horizon (`memory` by profile; "" for all others)."""
        below = [
            (
                stream,
                horizon(
                    now,
                    memory.get(stream[1], memory[""]),
                    self.captures.watermark(*stream),
                    self.gaps.oldest_open(*stream),
                    pressure,
                ),
            )
            for stream in streams
        ]
        with self._transaction():
            return self.captures.forget(below, limit)

    def bound_gaps(self, before: datetime, bound: int, limit: int) -> tuple[int, list[GapState]]:
        """Forget closed gaps that ended before an instant, and more beyond `bound`.

        Returns how many went for the bound, and the open ones beyond it, which the caller gives up.
        """
        with self._transaction():
            self.gaps.forget_closed(before, limit)
            return self.gaps.excess(bound, limit)

    def bound_cursors(self, wanted: set[str]) -> None:
        """Let cursors go that nobody names any more, beyond MAX_CURSORS."""
        strangers = self.cursors.excess(wanted)
        if strangers:
            with self._transaction():
                self.cursors.delete(strangers)
            self.cursors.forget(strangers)

    def bound_templates(self) -> None:
        """Delete layouts and holders that no entry names any more."""
        with self._transaction():
            self.templates.trim(self.first_seq)

    # -- what peers refuse

    def dead_letter(self, letter: RefusedEntry, most: int, most_octets: int) -> int:
        """Keep a refused entry; beyond the bounds the oldest go. Return how many went."""
        with self._transaction():
            return self.letters.keep(letter, most, most_octets)

    def bury(self, letter: RefusedEntry, tombstone: Entry, most: int, most_octets: int) -> int:
        """Keep a refused entry and put a tombstone in its place; return how many dead letters went for it.

        PeerUnavailable at MAX_TOMBSTONES: a broker that refuses so much shall rather get nothing.
        """
        if len(self.letters.tombstones) >= MAX_TOMBSTONES:
            raise PeerUnavailable(
                f"the broker refused {MAX_TOMBSTONES} entries for good: no more is set aside until they are"
                " acknowledged and trimmed; see `outbox --dead` for its reasons"
            )
        with self._transaction():
            gone = self.letters.keep(letter, most, most_octets)
            self.letters.bury(tombstone)
        self.letters.tombstones[tombstone.seq] = tombstone.body
        return gone

    def dead_letters(self, sink: str, limit: int) -> list[RefusedEntry]:
        """Return the newest `limit` dead letters of one sink, oldest first."""
        with translated(self._path):
            return self.letters.newest(sink, limit)


def _gap_row(seq: int, profile: str, body: bytes, at: int) -> EntryRow:
    return EntryRow(seq, EntryKind.GAP.value, profile, at, body, seq).sealed()


def _is_whole(entries: Sequence[Entry | Damaged], first: int) -> bool:
    """Say whether nothing is damaged, and the numbers follow each other from `first` on."""
    due = first
    for entry in entries:
        if not isinstance(entry, Entry) or (entry.seq != due and entry.seq > first):
            return False
        due = entry.last + 1
    return True
