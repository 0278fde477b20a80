"""The journal's writer thread: groups what waits into one transaction, trims, and reports trouble."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gateway.edge.journal.entry import Entry, JournalBatch, SeqRange
from gateway.edge.journal.store import BILLING, JournalStore
from gateway.edge.journal.types import DeadLetter, FullPolicy, JournalLimits, JournalStatistics
from gateway.errors import JournalError, JournalFull
from protocols.session import Clock

GROUP_MAX = 256
"""Appends in one transaction: bounds what one failure or one slow commit concerns."""
IDLE_COMMIT = 0.25
"""Seconds after which cursor moves are made durable though nothing is appended: one fsync for many acks."""
TRIM_EVERY = 1.0
TRIM_ROUNDS = 4
"""Trimming is bounded at each turn, so that appends never wait long for it."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Append:
    batch: JournalBatch
    future: asyncio.Future[SeqRange]


@dataclass(slots=True)
class _Call:
    function: Callable[[JournalWriter], Any]
    future: asyncio.Future[Any]


class _Wake:
    """Says that the thread shall end."""


_WAKE = _Wake()
_Job = _Append | _Call | _Wake


@dataclass(slots=True)
class _Counts:
    commits: int = 0
    appends: int = 0
    grouped: int = 0
    largest_group: int = 0
    repeats: int = 0
    revisions: int = 0
    trimmed: int = 0
    dropped: int = 0
    refused: int = 0
    dead_dropped: int = 0


class JournalWriter:
    """Owns the store and its thread. The event loop queues jobs; results come back as futures."""

    def __init__(self, path: Path, *, clock: Clock, limits: JournalLimits) -> None:
        self._path = path
        self._clock = clock
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._mutex = threading.Lock()
        self._moves: dict[str, int] = {}
        self._sinks = set(limits.sinks)
        self._counts = _Counts()
        self._full_reason: str | None = None
        self._full_since: datetime | None = None
        self._bytes = 0
        self._trim_at = self._cursors_at = 0.0
        self._stopping = False
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self.on_commit: Callable[[list[Entry]], None] = lambda _: None
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

    async def call(self, function: Callable[[JournalWriter], _T]) -> _T:
        """Run a function in the thread, after the appends queued before it."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Call(function, future))
        return await future

    async def register(self, sink: str) -> int:
        """Let the sink's cursor hold entries back; gives the cursor."""
        with self._mutex:
            self._sinks.add(sink)
        return self.current_cursors().get(sink, 0)

    def move_cursor(self, sink: str, seq: int) -> None:
        """Move a cursor forward; durable with the next commit."""
        with self._mutex:
            if seq <= max(self._moves.get(sink, 0), self.store.cursors.get(sink, 0)):
                return
            self._moves[sink] = seq

    async def rewind(self, sink: str, seq: int) -> None:
        """Set a cursor to `seq` durably, backwards too."""
        await self.call(lambda w: w.set_cursor(sink, seq))

    def current_cursors(self) -> dict[str, int]:
        """Cursors with the moves that are not durable yet."""
        with self._mutex:
            cursors = {**self.store.cursors, **self._moves}
            cursors.update({sink: 0 for sink in self._sinks if sink not in cursors})
        cursors.pop(BILLING, None)
        return cursors

    async def stop(self) -> None:
        """Finish what is queued, close the file, end the thread."""
        self._stopping = True
        self._jobs.put(_WAKE)
        await asyncio.to_thread(self._thread.join)

    def statistics(self) -> JournalStatistics:
        """Return a frozen copy."""
        counts = self._counts
        with self._mutex:
            billing = self._moves.get(BILLING, self.store.cursors.get(BILLING, 0))
        return JournalStatistics(
            uuid=self.uuid,
            last_seq=self.last_seq,
            first_seq=self.first_seq,
            bytes=self._bytes,
            max_bytes=self._limits.max_bytes,
            cursors=self.current_cursors(),
            billing_acked=billing,
            commits=counts.commits,
            appends=counts.appends,
            grouped=counts.grouped,
            largest_group=counts.largest_group,
            repeats=counts.repeats,
            revisions=counts.revisions,
            trimmed=counts.trimmed,
            dropped=counts.dropped,
            refused=counts.refused,
            dead_letters=dict(self.store.dead_counts),
            dead_letters_dropped=counts.dead_dropped,
            full_reason=self._full_reason,
            full_since=self._full_since,
        )

    # -- in the thread

    def _run(self) -> None:
        try:
            self.store = JournalStore(self._path)
            self.uuid = self.store.uuid
            self._note_span()
            self._bytes = self.store.used_bytes()
        except JournalError as error:
            self._post(_fail, self._started, error)
            return
        self._post(_give, self._started, None)
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Do one group; gives False when the thread shall end."""
        jobs = self._take()
        appends = [job for job in jobs if isinstance(job, _Append)]
        self._commit(appends)
        for job in jobs:
            if isinstance(job, _Call):
                self._do(job)
        if time.monotonic() >= self._trim_at:
            self._trim_in_time()
        if self._stopping and self._jobs.empty():
            self._commit([])
            self._close()
            return False
        return True

    def _take(self) -> list[_Job]:
        """Wait for work; what came while the last commit ran is taken with it, up to a call."""
        try:
            job = self._jobs.get(timeout=IDLE_COMMIT)
        except Empty:
            return []
        jobs = [job]
        try:
            while len(jobs) < GROUP_MAX and not isinstance(job, _Call):
                job = self._jobs.get_nowait()
                jobs.append(job)
        except Empty:
            pass
        return jobs

    def _commit(self, appends: list[_Append]) -> None:
        appends = [job for job in appends if not job.future.cancelled()]
        with self._mutex:
            moves = dict(self._moves)
        late = time.monotonic() >= self._cursors_at or self._stopping
        if not appends and not (moves and late):
            return
        self._cursors_at = time.monotonic() + IDLE_COMMIT
        try:
            if appends and self._bytes >= self._limits.max_bytes:
                self._make_room(moves)
            done = self.store.apply([job.batch for job in appends], moves, self._clock.now())
        except Exception as error:  # noqa: BLE001 - every waiting append is told; the thread lives on
            self._refuse(appends, error)
            return
        with contextlib.suppress(JournalError):  # the commit stands whatever the size
            self._bytes = self.store.used_bytes()
        self._settle(moves)
        self._note_span()
        self._count(len(appends), done.repeats, done.revisions)
        if appends:
            self._full_reason = self._full_since = None
        results = [(job.future, span) for job, span in zip(appends, done.ranges, strict=True)]
        self._post(self._deliver, results, done.entries)

    def _deliver(
        self, results: list[tuple[asyncio.Future[SeqRange], SeqRange]], entries: list[Entry]
    ) -> None:
        if entries:
            self.on_commit(entries)
        for future, span in results:
            _give(future, span)

    def _settle(self, moves: dict[str, int]) -> None:
        with self._mutex:
            for sink, seq in moves.items():
                if self._moves.get(sink) == seq:
                    del self._moves[sink]

    def _count(self, appends: int, repeats: int, revisions: int) -> None:
        counts = self._counts
        counts.commits += 1
        counts.appends += appends
        counts.grouped += appends if appends > 1 else 0
        counts.largest_group = max(counts.largest_group, appends)
        counts.repeats += repeats
        counts.revisions += revisions

    def _refuse(self, appends: list[_Append], error: Exception) -> None:
        if not isinstance(error, JournalError):
            error = JournalError(f"the journal {self._path} failed: {error!r}")
        self._counts.refused += len(appends)
        self._full_reason = str(error)
        self._full_since = self._full_since or self._clock.now()
        for job in appends:
            self._post(_fail, job.future, error)
        if not appends:
            time.sleep(IDLE_COMMIT)  # cursor moves wait for space; do not spin meanwhile

    def _do(self, job: _Call) -> None:
        try:
            result = job.function(self)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._post(_fail, job.future, error)
        else:
            self._post(_give, job.future, result)

    def _close(self) -> None:
        try:
            self.store.close()
        except JournalError as error:
            self._full_reason = str(error)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._stopping = True  # the loop is gone, and with it everybody who could wait for a result

    def _note_span(self) -> None:
        self.last_seq, self.first_seq = self.store.last_seq, self.store.first_seq

    def set_cursor(self, sink: str, seq: int) -> None:
        """Store one cursor as it is (rewind)."""
        with self._mutex:
            self._moves.pop(sink, None)
        self.store.apply([], {sink: seq}, self._clock.now())

    def renew(self) -> None:
        """Begin to count anew for those who acknowledge: see `Journal.renew`."""
        with self._mutex:
            self._moves.pop(BILLING, None)
        self.store.renew()
        self.uuid = self.store.uuid

    def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        """Store one dead letter and count the oldest that went for it."""
        letter = DeadLetter(sink=sink, seq=seq, at=self._clock.now(), reason=reason, body=body)
        self._counts.dead_dropped += self.store.dead_letter(letter, self._limits.max_dead_letters)

    # -- trimming, in the thread

    def _delivered(self) -> int:
        """The last seq that every sink (and billing, where it acknowledges) has."""
        cursors = self.store.cursors
        with self._mutex:
            sinks = set(self._sinks)
        if self._limits.billing_acks:
            sinks.add(BILLING)
        return min((cursors.get(sink, 0) for sink in sinks), default=0)

    def _trim(self, *, young_too: bool) -> int:
        cutoff = None
        if not (young_too or self._limits.billing_acks):
            cutoff = self._clock.now() - self._limits.retention
        gone = self.store.trim(self._delivered(), cutoff)
        self._note_span()
        if gone:
            self._bytes = self.store.used_bytes()
        return gone

    def _trim_in_time(self) -> None:
        self._trim_at = time.monotonic() + TRIM_EVERY
        try:
            for _ in range(TRIM_ROUNDS):
                gone = self._trim(young_too=False)
                self._counts.trimmed += gone
                if not gone:
                    return
        except JournalError:
            return  # no space even for this; the next append reports it
        self._trim_at = 0.0

    def _make_room(self, moves: dict[str, int]) -> None:
        self.store.apply([], moves, self._clock.now())  # what was delivered meanwhile may go
        self._settle(moves)
        while self._bytes >= self._limits.max_bytes:
            gone = self._trim(young_too=False)
            self._counts.trimmed += gone
            if not gone and self._limits.policy is FullPolicy.DROP_OLDEST_ACKNOWLEDGED:
                gone = self._trim(young_too=True)
                self._counts.dropped += gone
            if not gone:
                raise JournalFull(
                    f"the journal {self._path} holds {self._bytes} of {self._limits.max_bytes} octets that"
                    " are not delivered yet: see that the sinks deliver, or raise max_bytes"
                )


def _give(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
