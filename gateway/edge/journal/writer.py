"""The journal's writer thread: groups what waits into one transaction, trims, and reports trouble."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gateway.edge.journal.entry import Entry, JournalBatch, RefusedEntry, SeqRange
from gateway.edge.journal.limits import FullPolicy, JournalLimits, JournalStatistics
from gateway.edge.journal.store import BILLING, Applied, JournalStore
from gateway.errors import JournalError, JournalFull
from gateway.statistics import counted
from protocols.session import Clock

GROUP_MAX = 256
"""Appends in one transaction: bounds what one failure or one slow commit concerns."""
IDLE_COMMIT = 0.25
"""Seconds after which cursor moves are made durable though nothing is appended: one fsync for many acks."""
TRIM_EVERY = 1.0
"""Seconds between two looks at what may be trimmed."""
TRIM_ROUNDS = 4
"""Trimming is bounded at each turn, so that appends never wait long for it."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Append:
    batch: JournalBatch
    future: asyncio.Future[SeqRange]


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
        on_commit: Callable[[list[Entry]], None],
    ) -> None:
        self._path = path
        self._clock = clock
        self._limits = limits
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._mutex = threading.Lock()
        self._moves: dict[str, int] = {}
        self._sinks = set(limits.sinks)
        self._statistics = JournalStatistics(
            uuid="", last_seq=0, first_seq=1, bytes=0, max_bytes=limits.max_bytes, cursors={}, billing_acked=0
        )
        self._trim_at = self._commit_moves_at = 0.0
        self._stopping = False
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self.last_seq = 0
        self.first_seq = 1
        self.uuid = ""
        self.store: JournalStore

    # -- on the event loop

    async def start(self) -> None:
        """Open the file in the thread; raises what opening raised."""
        self._thread.start()
        await asyncio.shield(self._started)

    async def append(self, batch: JournalBatch) -> SeqRange:
        """Queue one batch and wait until it is durable."""
        future: asyncio.Future[SeqRange] = self._loop.create_future()
        self._jobs.put(_Append(batch, future))
        return await future

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

    def move_cursor(self, sink: str, seq: int) -> None:
        """Move a cursor forward; durable with the next commit."""
        with self._mutex:
            if seq <= max(self._moves.get(sink, 0), self.store.cursors.get(sink, 0)):
                return
            self._moves[sink] = seq

    async def rewind(self, sink: str, seq: int) -> None:
        """Set a cursor to `seq` durably, backwards too."""

        def set_cursor(store: JournalStore) -> None:
            with self._mutex:  # a move forward that still waits would undo it with the next commit
                self._moves.pop(sink, None)
            store.apply([], {sink: seq}, self._clock.now())

        await self.call(set_cursor)

    async def renew(self) -> None:
        """Give the file another uuid; what was acknowledged under the old one counts no more."""

        def renew(store: JournalStore) -> None:
            with self._mutex:
                self._moves.pop(BILLING, None)
            store.renew()
            self.uuid = store.uuid

        await self.call(renew)

    async def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        """Keep one dead letter durably; the oldest of the sink may go for it."""
        letter = RefusedEntry(sink=sink, seq=seq, at=self._clock.now(), reason=reason, body=body)

        def keep(store: JournalStore) -> None:
            self._count(dead_letters_dropped=store.dead_letter(letter, self._limits.max_dead_letters))

        await self.call(keep)

    def cursors(self) -> dict[str, int]:
        """Return the sinks' cursors with the moves that are not durable yet."""
        with self._mutex:
            cursors = {**self.store.cursors, **self._moves}
            cursors.update({sink: 0 for sink in self._sinks if sink not in cursors})
        cursors.pop(BILLING, None)
        return cursors

    async def stop(self) -> None:
        """Finish what is queued, close the file, end the thread."""
        self._stopping = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def statistics(self) -> JournalStatistics:
        """Return counters, cursors and the alarm, frozen."""
        with self._mutex:
            billing = self._moves.get(BILLING, self.store.cursors.get(BILLING, 0))
        return replace(
            self._statistics,
            uuid=self.uuid,
            last_seq=self.last_seq,
            first_seq=self.first_seq,
            cursors=self.cursors(),
            billing_acked=billing,
            dead_letters=dict(self.store.dead_counts),
        )

    # -- in the thread

    def _run(self) -> None:
        try:
            self.store = JournalStore(self._path)
            self.uuid = self.store.uuid
            self._note_span()
            self._note_size()
        except JournalError as error:
            self._post(_fail, self._started, error)
            return
        self._post(_succeed, self._started, None)
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Do one group of jobs; False when the thread shall end."""
        jobs = self._take()
        # Appends first: a call was queued after them and may ask for what they brought.
        self._commit([job for job in jobs if isinstance(job, _Append)])
        for job in jobs:
            if isinstance(job, _Call):
                self._answer(job)
        if time.monotonic() >= self._trim_at:
            self._trim_in_time()
        if self._stopping and self._jobs.empty():
            self._commit([])  # cursor moves that came since the last commit
            try:
                self.store.close()
            except JournalError as error:
                self._statistics = replace(self._statistics, full_reason=str(error))
            return False
        return True

    def _take(self) -> list[_Job]:
        """Wait for work; what came while the last commit ran is taken with it, up to a call."""
        try:
            job = self._jobs.get(timeout=IDLE_COMMIT)
        except Empty:
            return []
        jobs = [job]
        with contextlib.suppress(Empty):
            while len(jobs) < GROUP_MAX and not isinstance(job, _Call):
                job = self._jobs.get_nowait()
                jobs.append(job)
        return jobs

    def _commit(self, waiting: Sequence[_Append]) -> None:
        """Make appends and cursor moves durable in one transaction: one fsync for all who wait."""
        appends = [job for job in waiting if not job.future.cancelled()]
        with self._mutex:
            moves = dict(self._moves)
        moves_due = time.monotonic() >= self._commit_moves_at or self._stopping
        if not appends and not (moves and moves_due):
            return
        self._commit_moves_at = time.monotonic() + IDLE_COMMIT
        try:
            if appends and self._statistics.bytes >= self._limits.max_bytes:
                self._make_room(moves)
            done = self.store.apply([job.batch for job in appends], moves, self._clock.now())
        except Exception as error:  # noqa: BLE001 - every waiting append is told; the thread lives on
            self._refuse(appends, error)
            return
        # From here on the commit stands: whatever fails, those who appended must hear that it is durable.
        self._forget(moves)
        self._note_span()
        self._note_commit(len(appends), done)
        results = [(job.future, span) for job, span in zip(appends, done.ranges, strict=True)]
        self._post(self._deliver, results, done.entries)

    def _deliver(
        self, results: list[tuple[asyncio.Future[SeqRange], SeqRange]], entries: list[Entry]
    ) -> None:
        """Tell followers, then those who appended (on the event loop)."""
        if entries:
            self._on_commit(entries)
        for future, span in results:
            _succeed(future, span)

    def _forget(self, moves: Mapping[str, int]) -> None:
        """Drop moves that are durable now, but for cursors that moved on meanwhile."""
        with self._mutex:
            for sink, seq in moves.items():
                if self._moves.get(sink) == seq:
                    del self._moves[sink]

    def _refuse(self, appends: Sequence[_Append], error: Exception) -> None:
        if not isinstance(error, JournalError):
            error = JournalError(f"the journal {self._path} failed: {error!r}")
        since = self._statistics.full_since or self._clock.now()
        self._count(refused=len(appends))
        self._statistics = replace(self._statistics, full_reason=str(error), full_since=since)
        for job in appends:
            self._post(_fail, job.future, error)
        if not appends:
            time.sleep(IDLE_COMMIT)  # cursor moves wait for space; do not spin meanwhile

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

    def _count(self, **more: int) -> None:
        self._statistics = counted(self._statistics, **more)

    def _note_span(self) -> None:
        self.last_seq, self.first_seq = self.store.last_seq, self.store.first_seq

    def _note_commit(self, appends: int, done: Applied) -> None:
        was = self._statistics
        size = was.bytes
        with contextlib.suppress(JournalError):
            size = self.store.used_bytes()
        self._statistics = replace(
            was,
            bytes=size,
            commits=was.commits + 1,
            appends=was.appends + appends,
            grouped=was.grouped + (appends if appends > 1 else 0),
            largest_group=max(was.largest_group, appends),
            repeats=was.repeats + done.repeats,
            revisions=was.revisions + done.revisions,
            # Cursor moves alone say nothing about space for entries: the alarm stays until an append is taken.
            full_reason=None if appends else was.full_reason,
            full_since=None if appends else was.full_since,
        )

    def _note_size(self) -> None:
        self._statistics = replace(self._statistics, bytes=self.store.used_bytes())

    # -- trimming, in the thread

    def _trim_in_time(self) -> None:
        self._trim_at = time.monotonic() + TRIM_EVERY
        try:
            for _ in range(TRIM_ROUNDS):
                gone = self._trim(young_too=False)
                self._count(trimmed=gone)
                if not gone:
                    return
        except JournalError:
            return  # no space even for this; the next append reports it
        self._trim_at = 0.0  # there is more: go on after the appends that wait

    def _make_room(self, moves: Mapping[str, int]) -> None:
        """Trim until the file is below its bound; JournalFull when nothing more may go."""
        self.store.apply([], moves, self._clock.now())  # what was delivered meanwhile may go
        self._forget(moves)
        while (used := self._statistics.bytes) >= self._limits.max_bytes:
            gone = self._trim(young_too=False)
            self._count(trimmed=gone)
            if not gone and self._limits.policy is FullPolicy.DROP_OLDEST_ACKNOWLEDGED:
                gone = self._trim(young_too=True)
                self._count(dropped=gone)
            if not gone:
                raise JournalFull(
                    f"the journal {self._path} holds {used} of {self._limits.max_bytes} octets that"
                    " are not delivered yet: see that the sinks deliver, or raise max_bytes"
                )

    def _trim(self, *, young_too: bool) -> int:
        """Let a chunk of delivered entries go, those within their retention only where `young_too`."""
        cutoff: datetime | None = None
        if not (young_too or self._limits.billing_acks):
            cutoff = self._clock.now() - self._limits.retention
        gone = self.store.trim(self._delivered(), cutoff)
        self._note_span()
        if gone:
            self._note_size()
        return gone

    def _delivered(self) -> int:
        """Return the last seq that every sink (and billing, where it acknowledges) has."""
        cursors = self.store.cursors  # the durable ones: a move may be lost in a crash, an entry may not
        with self._mutex:
            sinks = set(self._sinks)
        if self._limits.billing_acks:
            sinks.add(BILLING)
        return min((cursors.get(sink, 0) for sink in sinks), default=0)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
