"""The durable journal: what was appended is on the disk, and every sink follows it at its own pace.

Three layers, and a call goes down through them: `Journal` keeps the promises to callers on the event loop,
`JournalWriter` owns the thread that groups commits, `JournalStore` owns the file and its SQL. Between commits
the thread's `Housekeeping` keeps every table within its bound. `docs/operator.md` names the bounds.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.contract.messages.generation import Generation
from gateway.edge.journal.cursors import CONSUMER
from gateway.edge.journal.cuts import singles_of
from gateway.edge.journal.entry import (
    Entry,
    EntryKind,
    GapState,
    JournalBatch,
    RefusedEntry,
    SeqRange,
)
from gateway.edge.journal.generation import Former
from gateway.edge.journal.limits import JournalLimits, JournalStatistics
from gateway.edge.journal.store import JournalStore
from gateway.edge.journal.writer import JournalWriter
from gateway.errors import JournalError
from protocols.session import Clock

MAX_BODY = 1 << 20
"""Largest body of one entry, in octets: far above any block, far below any harm."""
CHUNK_ENTRIES = 500
CHUNK_BYTES = 1 << 20
LOOK_ENTRIES = 2_000
"""Entries looked at in one turn of the journal's thread for the captures of one meter."""
"""Bounds of what is read at once, in entries and octets."""
TAIL_ENTRIES = 4_096
TAIL_BYTES = 8 << 20
"""The newest entries are kept in memory too, so that sinks that keep up do not read the file."""

_T = TypeVar("_T")


class Journal:
    """One open journal; made by `open`, used from one event loop.

    `append` returns when all of the batch is on the disk. Appends that wait at the same time share one
    transaction. What a cancel leaves behind: a cancelled append may have been made durable; repeating it
    is harmless, since repeats are skipped.

    >>> journal = await Journal.open(Path("journal.db"), clock=SystemClock())  # doctest: +SKIP
    >>> await journal.append(JournalBatch(blocks=(block,)))  # doctest: +SKIP
    SeqRange(first=1, last=1)
    >>> async for entries in journal.follow("mqtt"):  # doctest: +SKIP
    ...     deliver(entries)
    ...     await journal.ack("mqtt", entries[-1].last)
    """

    def __init__(self, path: Path, *, clock: Clock, limits: JournalLimits, gateway: str) -> None:
        self._writer = JournalWriter(
            path, clock=clock, limits=limits, gateway=gateway, on_commit=self._committed
        )
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._more = asyncio.Event()
        self._next_seq: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, *, clock: Clock, limits: JournalLimits | None = None, gateway: str = ""
    ) -> Journal:
        """Open or make the file of `gateway`; under another name than before it gets another uuid.

        JournalError says what to do when the file is foreign, of a newer program, or in use.
        """
        journal = cls(path, clock=clock, limits=limits or JournalLimits(), gateway=gateway)
        await journal._writer.start()
        return journal

    @property
    def uuid(self) -> str:
        """The file's own name; a new file is a new journal, and so is one that was set back or copied."""
        return self._writer.store.uuid

    @property
    def generation(self) -> Generation:
        """The generation of this run."""
        return self._writer.store.begun.generation

    @property
    def former(self) -> tuple[Former, ...]:
        """Where former runs and former uuids ended, newest first, one for each uuid."""
        return self._writer.store.former

    @property
    def last_seq(self) -> int:
        """The newest durable sequence number, 0 before the first."""
        return self._writer.last_seq

    @property
    def turns(self) -> int:
        """How often the writer's thread came round: a number that stands shows that it hangs."""
        return self._writer.turns

    @property
    def first_seq(self) -> int:
        """The oldest sequence number still in the file; last_seq + 1 when it is empty."""
        return self._writer.first_seq

    # -- writing

    async def append(self, batch: JournalBatch) -> SeqRange:
        """Make blocks of captures, watermarks and gaps durable together.

        A block becomes one entry, of those of its captures that are news: a capture that is known with the same
        values is skipped; one with other values gets the next value_rev, unless the batch says not to revise.

        Returns the sequence numbers given, an empty range when all were repeats. Raises JournalFull (bound
        or disk; nothing was kept, try again later) or JournalError.
        """
        (span,) = await self.submit((batch,))
        return span

    def submit(self, batches: Sequence[JournalBatch]) -> asyncio.Future[list[SeqRange]]:
        """Hand batches over that become durable together, in this order, as `append` has it; return at once.

        The future's result are the numbers of each batch, or its exception is what `append` raises. What is asked
        of the journal afterwards is answered after them, but for what stands in memory (`watermark`, `open_gaps`).
        Cancelled before the thread took them the batches are not kept. Raises JournalError for what is too long.
        """
        self._check_open()
        for batch in batches:
            for block in batch.blocks:
                if sum([len(row.body) for row in block.rows]) > MAX_BODY:
                    raise JournalError(f"a block of {block.template.meter} is longer than {MAX_BODY} octets")
            if any(len(gap.body) > MAX_BODY for gap in batch.gaps):
                raise JournalError(f"the body of a gap is longer than {MAX_BODY} octets")
        return self._writer.submit(batches)

    # -- following

    async def follow(self, sink: str) -> AsyncGenerator[list[Entry], None]:
        """Yield what follows the sink's durable cursor, in chunks, for ever; ends when the journal closes.

        One follower a sink. Chunks have at most CHUNK_ENTRIES entries; the first may hold captures up to the
        cursor, too. `rewind` moves it back. From the
        first call on, the sink's cursor holds entries back from trimming.
        """
        if self._closed:
            return
        self._next_seq[sink] = await self._writer.register(sink) + 1
        while not self._closed:
            start = self._next_seq[sink]
            # Cleared before looking: an append while we look sets it again, and nothing is overslept.
            self._more.clear()
            chunk = await self._chunk(start)
            if self._next_seq[sink] != start:
                continue  # rewound while the chunk was read: it begins too late
            if chunk:
                self._next_seq[sink] = chunk[-1].last + 1
                yield chunk
            elif not self._closed:
                await self._more.wait()

    async def _chunk(self, start: int) -> list[Entry]:
        if start > self.last_seq:
            return []
        if self._tail and start >= self._tail[0].seq:
            skip = bisect_right(self._tail, start, key=lambda entry: entry.seq) - 1
            # A commit is durable a moment before its entries are here: then `_committed` is still to come.
            return self._tail[skip : skip + CHUNK_ENTRIES] if start <= self._tail[skip].last else []
        return await self.read(start, self.last_seq)

    async def ack(self, sink: str, seq: int) -> None:
        """Move the sink's cursor: everything up to `seq` has been delivered.

        It is durable with the next commit, a moment later: a crash before that repeats deliveries, never
        loses one. A lower `seq` than the cursor's is ignored. JournalError for one beyond the journal's end.
        """
        self._check_ack(sink, seq)
        self._writer.move_cursor(sink, seq)

    def note_sent(self, sink: str, seq: int) -> None:
        """Note that entries up to `seq` were handed to the sink's peer, though it has not taken them yet."""
        self._sent[sink] = max(seq, self._sent.get(sink, 0))

    async def consumer_ack(
        self, consumer: str, seq: int, proof: str = "", *, anew: bool = False, sink: str = "mqtt"
    ) -> None:
        """Note that a consumer stored everything up to `seq`; durable like `ack`, with the `proof` of it.

        It deletes nothing by itself, and counts only up to what `sink` has sent: nobody can have more.
        With `anew` the consumer's store began anew, perhaps from a copy: `seq` counts though it is lower, and
        is durable on return. JournalError for a seq beyond the journal's end.
        """
        sent = max(self._sent.get(sink, 0), self._writer.cursors().get(sink, 0))
        name, counted = CONSUMER + consumer, min(seq, sent)
        self._check_ack(consumer, seq)
        if anew:
            await self._writer.rewind(name, counted, proof)
        else:
            self._writer.move_cursor(name, counted, proof)

    def ack_proof(self, consumer: str) -> str | None:
        """Return the proof of the acknowledgement of a consumer that counted last, None before the first."""
        return self._writer.proof(CONSUMER + consumer)

    async def heard(self, generation: Generation, seq: int) -> bool:
        """Take what a peer proved: that it has entries up to `seq` of this journal's `generation`.

        Where this file cannot be the one that gave them it goes on under another uuid, and an alarm says so;
        return whether it did. The caller has verified who says it.
        """
        self._check_open()
        return await self._writer.heard(generation, seq)

    async def rewind(self, sink: str, seq: int) -> None:
        """Set the sink's cursor back to `seq` durably; its follower goes on with seq + 1."""
        self._check_open()
        await self._writer.rewind(sink, max(0, min(seq, self.last_seq)))
        if sink in self._next_seq:
            self._next_seq[sink] = seq + 1
        self._more.set()

    async def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        """Keep an entry that the sink's peer refuses for good; the caller acks it afterwards."""
        self._check_open()
        await self._writer.dead_letter(sink, seq, reason, body)

    async def bury(self, sink: str, entry: Entry, reason: str) -> Entry | None:
        """Keep an entry that the broker refuses for good, and return its tombstone: what goes in its place.

        The caller delivers the tombstone before it acks. None where there is nothing to deliver: every
        consumer has the entry, or its tombstone stands already. PeerUnavailable when too many stand.
        """
        self._check_open()
        acknowledged = self._writer.statistics().billing_acked
        if entry.seq <= acknowledged or entry.seq in self._writer.store.letters.tombstones:
            return None
        return await self._writer.bury(sink, entry, reason)

    def deliverable(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries with tombstones in place of those that the broker refused for good."""
        buried = self._writer.store.letters.tombstones
        if not buried:
            return entries
        found: list[Entry] = []
        for entry in entries:
            if buried.keys().isdisjoint(range(entry.seq, entry.last + 1)):
                found.append(entry)
            else:
                found += [_buried(one, buried) for one in singles_of(entry)]
        return found

    # -- asking

    async def read(self, first: int, last: int, limit: int = CHUNK_ENTRIES) -> list[Entry]:
        """Return entries that hold any of first..last, at most `limit` and about CHUNK_BYTES of them.

        In place of an entry that is damaged in the file stand gaps.
        """
        return await self._ask(lambda store: store.read(first, last, min(limit, CHUNK_ENTRIES), CHUNK_BYTES))

    async def of_meter(self, meter: str, since: datetime) -> list[Entry]:
        """Return the blocks of a meter that were journaled from `since` on, in rising seq, some of before among them.

        It looks at every entry since then, so it is for what is rare; other questions come between.
        """
        found: list[list[Entry]] = []
        before = self.last_seq + 1
        while True:
            entries, before, oldest = await self._ask(
                partial(JournalStore.of_meter, meter=meter, before=before, count=LOOK_ENTRIES)
            )
            found.append(entries)
            if oldest is None or oldest < since:
                return [entry for some in reversed(found) for entry in some]

    async def watermark(self, meter: str, profile: str) -> datetime | None:
        """Return the instant up to which all of the profile is journaled, None before the first.

        It stands in memory, as of the last commit.
        """
        self._check_open()
        return self._writer.store.watermark(meter, profile)

    async def open_gaps(self, meter: str | None = None, profile: str | None = None) -> list[GapState]:
        """Return gaps neither filled nor unfillable, of all meters or of one, all profiles or one.

        Of what is committed; where a meter's profile has none, which is usual, the file is not asked.
        """
        self._check_open()
        if meter and profile and not self._writer.store.gaps.may_be_open(meter, profile):
            return []
        return await self._ask(lambda store: store.open_gaps(meter, profile))

    async def read_again(
        self, meter: str, profile: str, since: datetime, until: datetime, order: str
    ) -> bool:
        """Set a watermark back to `since`, and let what is read of since..until be journaled once more, durably.

        Each capture then gets the next revision, under its own id. `order` is kept: `last_order` returns it.
        False where nothing was ever journaled of the meter's profile: then it is read from the beginning anyway.
        """
        return await self._ask(lambda store: store.read_again((meter, profile), since, until, order))

    async def last_order(self, meter: str, profile: str) -> str | None:
        """Return the last order by which a meter's profile was read again, None before the first."""
        return await self._ask(lambda store: store.last_order((meter, profile)))

    async def cursors(self) -> dict[str, int]:
        """Return the sinks' cursors, moves that are not durable yet included."""
        return self._writer.cursors()

    async def dead_letters(self, sink: str, limit: int = 1_000) -> list[RefusedEntry]:
        """Return the newest dead letters of one sink, oldest first."""
        return await self._ask(lambda store: store.dead_letters(sink, limit))

    def statistics(self) -> JournalStatistics:
        """Return counters, cursors and the alarm, frozen."""
        return self._writer.statistics()

    async def close(self) -> None:
        """Make what was accepted durable, end the followers, close the file; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._more.set()
        await self._writer.stop()

    # -- inside

    async def _ask(self, question: Callable[[JournalStore], _T]) -> _T:
        self._check_open()
        return await self._writer.call(question)

    def _check_ack(self, who: str, seq: int) -> None:
        self._check_open()
        if seq > self.last_seq:
            raise JournalError(f"{who} acknowledges {seq}, but the journal ends at {self.last_seq}")

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")

    def _committed(self, entries: list[Entry]) -> None:
        self._tail.extend(entries)
        self._tail_bytes += sum(len(entry.body) for entry in entries)
        if len(self._tail) > 2 * TAIL_ENTRIES or self._tail_bytes > TAIL_BYTES:
            self._shorten_tail()
        self._more.set()

    def _shorten_tail(self) -> None:
        """Let go of the oldest in one step: down to half of the octets, and TAIL_ENTRIES."""
        gone = max(0, len(self._tail) - TAIL_ENTRIES)
        self._tail_bytes -= sum(len(entry.body) for entry in self._tail[:gone])
        while gone < len(self._tail) and self._tail_bytes > TAIL_BYTES // 2:
            self._tail_bytes -= len(self._tail[gone].body)
            gone += 1
        del self._tail[:gone]


def _buried(entry: Entry, tombstones: Mapping[int, bytes]) -> Entry:
    body = tombstones.get(entry.seq)
    return entry if body is None else Entry(entry.seq, entry.seq, EntryKind.GAP, entry.profile, body)
