"""The journal's writer thread: groups what waits into one transaction, keeps house, and reports trouble."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gateway.contract.messages.generation import Generation
from gateway.edge.journal.board import Board
from gateway.edge.journal.cursors import CONSUMER
from gateway.edge.journal.disk import reserve_octets
from gateway.edge.journal.entry import Entry, JournalBatch, RefusedEntry, SeqRange
from gateway.edge.journal.file import JournalDamaged, mark_suspect
from gateway.edge.journal.generation import contradiction
from gateway.edge.journal.housekeeping import Housekeeping, acknowledged
from gateway.edge.journal.letters import tombstone
from gateway.edge.journal.limits import JournalLimits, JournalStatistics
from gateway.edge.journal.store import Applied, JournalStore
from gateway.errors import JournalError, JournalFull
from protocols.session import Clock

GROUP_MAX = 256
"""Appends in one transaction: bounds what one failure or one slow commit concerns."""
MOVES_WAIT = 1.0
"""Seconds after which cursor moves are made durable though nothing is appended: one fsync for many acks."""
RETRY_MOVES = 0.25
"""Seconds after which moves that the disk did not take are tried again."""
KEEP_HOUSE_EVERY = 1.0
"""Seconds between two turns of housekeeping, while there are commits."""
IDLE_HOUSE_EVERY = 5.0
"""Seconds between two turns of housekeeping where nothing was committed: time alone moves what is due."""
SEEN_EVERY = 128 << 10
"""Octets of entries that are written between two looks how large the file is, where there is much room."""
LOOK_AT_FILE_EVERY = 0.25
"""Seconds between looks whether the file is still there, while there are appends."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Append:
    batches: Sequence[JournalBatch]
    future: asyncio.Future[list[SeqRange]] | None
    """None for what the journal appends itself."""


@dataclass(slots=True)
class _Call:
    function: Callable[[JournalStore], Any]
    future: asyncio.Future[Any]


_Job = _Append | _Call | None
"""None only wakes the thread."""


class JournalWriter:
    """Owns the store and its thread. The event loop queues jobs; results come back as futures.

    `on_commit` is called on the event loop with the entries of each commit, before the appends that brought
    them return.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        limits: JournalLimits,
        gateway: str,
        on_commit: Callable[[list[Entry]], None],
    ) -> None:
        self._path = path
        self._gateway = gateway
        self._clock = clock
        self._limits = limits
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._mutex = threading.Lock()
        self._moves: dict[str, int] = {}
        self._proofs: dict[str, str] = {}
        self._sinks = set(limits.sinks)
        self._board = Board(
            JournalStatistics(
                uuid="",
                last_seq=0,
                first_seq=1,
                bytes=0,
                max_bytes=limits.max_bytes,
                cursors={},
                billing_acked=0,
            )
        )
        self._keep_house_at = self._commit_moves_at = self._look_at_file_at = 0.0
        self._committed = False
        self._unseen = self._largest_group = 0
        self._stopping = False
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self.last_seq = self.turns = 0
        self.first_seq = 1
        self.store: JournalStore

    # -- on the event loop

    async def start(self) -> None:
        """Open the file in the thread; raises what opening raised."""
        self._thread.start()
        await asyncio.shield(self._started)

    def submit(self, batches: Sequence[JournalBatch]) -> asyncio.Future[list[SeqRange]]:
        """Queue batches for one transaction; the future is done when they are durable."""
        future: asyncio.Future[list[SeqRange]] = self._loop.create_future()
        self._jobs.put(_Append(batches, future))
        return future

    async def call(self, function: Callable[[JournalStore], _T]) -> _T:
        """Run a function of the store in the thread, after the appends queued before it."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Call(function, future))
        return await future

    async def register(self, sink: str) -> int:
        """Let the sink's cursor hold entries back; return the cursor."""
        with self._mutex:
            self._sinks.add(sink)
        return self.cursors().get(sink, 0)

    def move_cursor(self, sink: str, seq: int, proof: str = "") -> None:
        """Move a cursor forward; durable with the next commit, together with the proof of it."""
        with self._mutex:
            if seq <= max(self._moves.get(sink, 0), self.store.cursors.get(sink, 0)):
                return
            first = not self._moves
            if first:
                self._commit_moves_at = time.monotonic() + MOVES_WAIT
            self._moves[sink] = seq
            if proof:
                self._proofs[sink] = proof
        if first:
            self._jobs.put(None)  # it may sleep until housekeeping is due, and moves are due before

    async def rewind(self, sink: str, seq: int, proof: str = "") -> None:
        """Set a cursor to `seq` durably, backwards too, with the proof of it."""

        def set_cursor(store: JournalStore) -> None:
            with self._mutex:  # a move forward that still waits would undo it with the next commit
                self._moves.pop(sink, None)
                self._proofs.pop(sink, None)
            store.apply([], {sink: seq}, self._clock.now(), {sink: proof} if proof else {})

        await self.call(set_cursor)

    async def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        """Keep one dead letter durably; the oldest of the sink may go for it."""
        letter = RefusedEntry(sink=sink, seq=seq, at=self._clock.now(), reason=reason, body=body)
        limits = self._limits

        def keep(store: JournalStore) -> None:
            gone = store.dead_letter(letter, limits.max_dead_letters, limits.max_dead_letter_bytes)
            self._board.count(dead_letters_dropped=gone)

        await self.call(keep)

    async def bury(self, sink: str, entry: Entry, reason: str) -> Entry:
        """Keep a refused entry as a dead letter and put a tombstone in its place; return the tombstone."""
        at = self._clock.now()
        letter = RefusedEntry(sink=sink, seq=entry.seq, at=at, reason=reason, body=entry.body)
        made = tombstone(entry, at)
        limits = self._limits

        def bury(store: JournalStore) -> None:
            gone = store.bury(letter, made, limits.max_dead_letters, limits.max_dead_letter_bytes)
            self._board.count(dead_letters_dropped=gone, tombstones=1)

        await self.call(bury)
        return made

    def proof(self, cursor: str) -> str | None:
        """Return the proof of a cursor's last move."""
        with self._mutex:
            return self._proofs.get(cursor) or self.store.cursors.proofs.get(cursor)

    async def heard(self, generation: Generation, seq: int) -> bool:
        """Take a peer's proof of a generation of this journal; return whether it goes on under another uuid."""
        if contradiction(self.store.begun, generation, seq) is None:
            return False

        def begin_anew(store: JournalStore) -> None:
            why = contradiction(store.begun, generation, seq)
            if why is None:
                return
            with self._mutex:  # what consumers have of the former uuid counts no more
                for name in [name for name in self._moves if name.startswith("@")]:
                    del self._moves[name]
            store.begin_anew(generation, why, self._clock.now())
            self._house.tell_another_name(store.begun)

        await self.call(begin_anew)
        return True

    def cursors(self) -> dict[str, int]:
        """Return the sinks' cursors with the moves that are not durable yet."""
        with self._mutex:
            cursors = {**self.store.cursors, **self._moves}
            cursors.update({sink: 0 for sink in self._sinks if sink not in cursors})
        return {name: seq for name, seq in cursors.items() if not name.startswith("@")}

    def consumers(self) -> dict[str, int]:
        """Return how far consumers acknowledged: those that count, else all that ever did."""
        with self._mutex:
            cursors = {**self.store.cursors, **self._moves}
        heard = {
            name.removeprefix(CONSUMER): seq for name, seq in cursors.items() if name.startswith(CONSUMER)
        }
        return acknowledged(cursors, self._limits) or heard

    async def stop(self) -> None:
        """Finish what is queued, close the file, end the thread."""
        self._stopping = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def statistics(self) -> JournalStatistics:
        """Return counters, cursors and the alarm, frozen."""
        consumers = self.consumers()
        return replace(
            self._board.now,
            uuid=self.store.uuid,
            last_seq=self.last_seq,
            first_seq=self.first_seq,
            cursors=self.cursors(),
            consumers=consumers,
            billing_acked=min(consumers.values(), default=0),
            captures=self.store.captures.count,
            dead_letters=dict(self.store.letters.counts),
        )

    # -- in the thread

    def _run(self) -> None:
        try:
            limits = self._limits
            self.store = JournalStore(
                self._path,
                now=self._clock.now(),
                gateway=self._gateway,
                reserve=reserve_octets(limits.max_bytes) if limits.reserve else 0,
            )
            self._house = Housekeeping(
                self._path,
                self.store,
                limits,
                self._clock,
                self._board,
                sinks=self._sinks_now,
                append=lambda batch: self._jobs.put(_Append((batch,), None)),
            )
            self.store.on_damage = self._house.tell_damage
            self._note_span()
            self._board.set(bytes=self.store.used_bytes())
            self._house.tell_opening()
        except JournalError as error:
            self._post(_fail, self._started, error)
            return
        self._post(_succeed, self._started, None)
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Do one group of jobs; False when the thread shall end."""
        jobs = self._take()
        self.turns += 1
        # Appends first: a call was queued after them and may ask for what they brought.
        self._commit([job for job in jobs if isinstance(job, _Append)])
        for job in jobs:
            if isinstance(job, _Call):
                self._answer(job)
        if time.monotonic() >= self._keep_house_at:
            # Where there is more to do it goes on after the appends that wait.
            more = self._house.tick()
            if self._unseen:
                self._look_at_size(SEEN_EVERY)
            self._note_span()
            period = KEEP_HOUSE_EVERY if self._committed else IDLE_HOUSE_EVERY
            self._keep_house_at = 0.0 if more else time.monotonic() + period
            self._committed = False
        if self._stopping and self._jobs.empty():
            self._commit([])  # cursor moves that came since the last commit
            try:
                self.store.close()
            except JournalError as error:
                self._board.set(full_reason=str(error))
            return False
        return True

    def _take(self) -> list[_Job]:
        """Wait for work; what came while the last commit ran is taken with it, up to a call."""
        try:
            job = self._jobs.get(timeout=self._patience())
        except Empty:
            return []
        jobs = [job]
        with contextlib.suppress(Empty):
            while len(jobs) < GROUP_MAX and not isinstance(job, _Call):
                job = self._jobs.get_nowait()
                jobs.append(job)
        return jobs

    def _patience(self) -> float:
        """Return the seconds until something is due, though nobody asks for anything."""
        with self._mutex:
            due = min(self._keep_house_at, self._commit_moves_at) if self._moves else self._keep_house_at
        return max(0.0, due - time.monotonic())

    def _commit(self, waiting: Sequence[_Append]) -> None:
        """Make appends and cursor moves durable in one transaction: one fsync for all who wait."""
        appends = [job for job in waiting if job.future is None or not job.future.cancelled()]
        with self._mutex:
            moves = dict(self._moves)
        moves_due = time.monotonic() >= self._commit_moves_at or self._stopping
        if not appends and not (moves and moves_due):
            return
        self._committed = True
        batches = [batch for job in appends for batch in job.batches]
        try:
            if appends:
                self._look_at_file()
                self._house.before_append(batches, moves)
            done = self._apply(batches, moves)
        except Exception as error:  # noqa: BLE001 - every waiting append is told; the thread lives on
            self._refuse(appends, error)
            return
        # From here on the commit stands: whatever fails, those who appended must hear that it is durable.
        self._forget(moves)
        self._note_span()
        self._note_commit(len(appends), done)
        spans = iter(done.ranges)
        results = [(job.future, list(islice(spans, len(job.batches)))) for job in appends]
        self._post(self._deliver, results, done.entries)

    def _apply(self, batches: list[JournalBatch], moves: Mapping[str, int]) -> Applied:
        """Commit; when the disk refuses, make room from what all have, and try once more."""
        with self._mutex:
            proofs = {sink: proof for sink, proof in self._proofs.items() if sink in moves}
        try:
            return self.store.apply(batches, moves, self._clock.now(), proofs)
        except JournalFull as error:
            if not self._house.heal(moves):
                raise self._house.disk_full(error) from error
            return self.store.apply(batches, moves, self._clock.now(), proofs)

    def _look_at_file(self) -> None:
        """Refuse appends to a file that is gone: what they promise would not be on the disk."""
        if time.monotonic() < self._look_at_file_at and self.store.watch.found is None:
            return
        if (why := self.store.watch.lost()) is not None:
            text = self._house.lost_text(why)
            self._board.alarm("journal_file_lost", text, self._clock.now())
            raise JournalError(text)
        self._look_at_file_at = time.monotonic() + LOOK_AT_FILE_EVERY

    def _deliver(
        self,
        results: list[tuple[asyncio.Future[list[SeqRange]] | None, list[SeqRange]]],
        entries: list[Entry],
    ) -> None:
        """Tell followers, then those who appended (on the event loop)."""
        if entries:
            self._on_commit(entries)
        for future, spans in results:
            if future is not None:
                _succeed(future, spans)

    def _forget(self, moves: Mapping[str, int]) -> None:
        """Drop moves that are durable now, but for cursors that moved on meanwhile."""
        with self._mutex:
            for sink, seq in moves.items():
                if self._moves.get(sink) == seq:
                    del self._moves[sink]
                    self._proofs.pop(sink, None)

    def _refuse(self, appends: Sequence[_Append], error: Exception) -> None:
        if not isinstance(error, JournalError):
            error = JournalError(f"the journal {self._path} failed: {error!r}")
        if isinstance(error, JournalDamaged):
            mark_suspect(self._path)
        since = self._board.now.full_since or self._clock.now()
        self._board.count(refused=len(appends))
        self._board.set(full_reason=str(error), full_since=since)
        for job in appends:
            if job.future is not None:
                self._post(_fail, job.future, error)
        if not appends:
            time.sleep(RETRY_MOVES)  # cursor moves wait for space; do not spin meanwhile

    def _answer(self, job: _Call) -> None:
        try:
            result = job.function(self.store)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._post(_fail, job.future, error)
        else:
            self._post(_succeed, job.future, result)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._stopping = True  # the loop is gone, and with it everybody who could wait for a result

    def _note_span(self) -> None:
        self.last_seq, self.first_seq = self.store.last_seq, self.store.first_seq

    def _note_commit(self, appends: int, done: Applied) -> None:
        if done.forgotten:
            self._house.note_refused(done.forgotten)
        if done.other_values:
            self._house.note_revised(done.other_values)
        self._board.count(
            commits=1,
            appends=appends,
            grouped=appends if appends > 1 else 0,
            repeats=done.repeats,
            revisions=done.revisions,
        )
        # Cursor moves alone say nothing about space for entries: the alarm stays until an append is taken.
        if appends:
            self._largest_group = max(self._largest_group, appends)
            self._board.set(largest_group=self._largest_group, full_reason=None, full_since=None)
        self._look_at_size(sum([len(entry.body) for entry in done.entries]))

    def _look_at_size(self, written: int) -> None:
        """Look how large the file is, as often as it may matter after so many octets were written."""
        self._unseen += written
        room = self._limits.max_bytes - self._board.bytes
        if self._unseen >= min(SEEN_EVERY, room >> 8):
            with contextlib.suppress(JournalError):
                self._board.set(bytes=self.store.used_bytes())
                self._unseen = 0

    def _sinks_now(self) -> set[str]:
        with self._mutex:
            return set(self._sinks)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
