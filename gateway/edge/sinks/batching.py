"""Which journal entries go into which message, and how far the cursor may move; does no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from msgspec import Struct, structs

from gateway.bisection import halves
from gateway.contract.blocks import EVENTS_TYPE, GAPS_TYPE, READINGS_TYPE, SEQ_ROOM
from gateway.contract.topics import Topics
from gateway.edge.journal.cuts import halves_of
from gateway.edge.journal.entry import Entry, EntryKind

KEY_ROOM = 20
"""Octets of a key in the tables of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """When a message goes out: with `count` captures or `size` octets, or when its first entry is `age` s old.

    `held` bounds the captures that wait in memory.
    """

    count: int = 200
    size: int = 128 * 1024
    age: float = 2.0
    held: int = 4_000


class OutgoingBatch(Struct, frozen=True):
    """Entries of one topic that travel together."""

    topic: str
    type: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        """The lowest sequence number."""
        return self.entries[0].seq

    @property
    def count(self) -> int:
        """How many captures (or gaps) it carries."""
        if len(self.entries) == 1:
            return self.entries[0].count
        return sum([entry.count for entry in self.entries])


class _Group:
    __slots__ = ("count", "entries", "named", "since", "size")

    def __init__(self, since: float) -> None:
        self.entries: list[Entry] = []
        self.count = self.size = 0
        self.named: set[str] = set()
        self.since = since

    def has_room(self, entry: Entry, limits: BatchLimits) -> bool:
        return self.count + entry.count <= limits.count and self.size + self._size(entry) <= limits.size

    def add(self, entry: Entry) -> None:
        self.size += self._size(entry)
        self.count += entry.count
        self.entries.append(entry)
        self.named.update(keyed.key for keyed in (entry.layout, entry.holders) if keyed is not None)

    def _size(self, entry: Entry) -> int:
        """Return the octets that an entry adds; layouts and holders stand once in a batch."""
        size = len(entry.body) + SEQ_ROOM
        for keyed in (entry.layout, entry.holders):
            if keyed is not None and keyed.key not in self.named:
                size += len(keyed.text) + KEY_ROOM
        return size


class Batcher:
    """Groups entries by topic and knows the highest seq below which everything was acknowledged.

    Entries come in rising seq (`take`); `next` gives the batch that is due; `done` notes a receipt. Does no
    I/O and has no clock: `now` is any clock's seconds.

    >>> batcher.take(entries, now)  # doctest: +SKIP
    >>> while (batch := batcher.next(now, flush=True)) is not None:  # doctest: +SKIP
    ...     publish(batch)
    ...     batcher.done(batch)
    """

    def __init__(self, topics: Topics, gateway: str, limits: BatchLimits, cursor: int = 0) -> None:
        self._topics = topics
        self._gateway = gateway
        self._limits = limits
        self._groups: dict[tuple[EntryKind, str], _Group] = {}
        self._ready: deque[OutgoingBatch] = deque()
        self._in_flight: set[int] = set()
        self._begun: list[int] = []
        self._finished: set[int] = set()
        self._last_taken = cursor
        self._waiting = 0
        self._places: dict[tuple[EntryKind, str], tuple[str, str]] = {}

    @property
    def full(self) -> bool:
        """Whether no more should be taken before something was sent."""
        return self._waiting >= self._limits.held

    @property
    def idle(self) -> bool:
        """Whether everything that was taken is acknowledged."""
        return not (self._groups or self._ready or self._in_flight)

    @property
    def cursor(self) -> int:
        """The highest seq up to which everything taken was acknowledged.

        `_begun` is a heap of the first seqs of all batches begun, `_finished` those of them that are done.
        """
        # Receipts come in any order, and batches of several topics overlap in seq: the cursor may pass a
        # batch only when every batch that began before it is done, or a crash would skip what is between.
        while self._begun and self._begun[0] in self._finished:
            self._finished.remove(heappop(self._begun))
        return self._begun[0] - 1 if self._begun else self._last_taken

    def take(self, entries: Iterable[Entry], now: float) -> None:
        """Accept entries in rising seq."""
        limits = self._limits
        for entry in entries:
            key = _key_of(entry)
            group = self._groups.get(key)
            if group is not None and not group.has_room(entry, limits):  # too large with it: go without it
                self._complete(key)
                group = None
            if group is None:
                group = self._groups[key] = _Group(now)
                heappush(self._begun, entry.seq)
            group.add(entry)
            self._last_taken = entry.last
            self._waiting += entry.count
            if group.count >= limits.count or group.size >= limits.size:
                self._complete(key)

    def next(self, now: float, *, flush: bool = False) -> OutgoingBatch | None:
        """Return the next batch that is due, and count it as in flight; None when nothing is due yet."""
        if not self._ready:
            for key, group in list(self._groups.items()):
                if flush or now - group.since >= self._limits.age:
                    self._complete(key)
        if not self._ready:
            return None
        batch = self._ready.popleft()
        self._waiting -= batch.count
        self._in_flight.add(batch.first)
        return batch

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a batch is due; None when there is none."""
        if self._ready:
            return 0.0
        if not self._groups:
            return None
        oldest = min(group.since for group in self._groups.values())
        return max(0.0, oldest + self._limits.age - now)

    def done(self, batch: OutgoingBatch) -> None:
        """Note that the peer has taken a batch (or that it was set aside)."""
        self._in_flight.remove(batch.first)
        self._finished.add(batch.first)

    def again(self, batch: OutgoingBatch) -> None:
        """Take a refused batch of more than one capture back in two halves, to be sent before all others."""
        self._in_flight.remove(batch.first)
        entries = batch.entries if len(batch.entries) > 1 else halves_of(batch.entries[0])
        one, other = (structs.replace(batch, entries=tuple(part)) for part in halves(entries))
        heappush(self._begun, other.first)
        self._ready.extendleft((other, one))  # each goes before the one that was put there first
        self._waiting += batch.count

    def instead(self, batch: OutgoingBatch, entry: Entry) -> None:
        """Send an entry in place of a refused one of the same seq, before all others."""
        self._in_flight.remove(batch.first)
        self._ready.appendleft(OutgoingBatch(*self._where(entry), (entry,)))
        self._waiting += 1

    def _complete(self, key: tuple[EntryKind, str]) -> None:
        group = self._groups.pop(key)
        self._ready.append(OutgoingBatch(*self._where(group.entries[0]), tuple(group.entries)))

    def _where(self, entry: Entry) -> tuple[str, str]:
        """Return topic and type of message for an entry."""
        key = _key_of(entry)
        if key not in self._places:
            self._places[key] = self._place(*key)
        return self._places[key]

    def _place(self, kind: EntryKind, profile: str) -> tuple[str, str]:
        if kind is EntryKind.CAPTURE:
            return self._topics.readings(self._gateway, profile), READINGS_TYPE
        if kind is EntryKind.EVENT:
            return self._topics.events(self._gateway), EVENTS_TYPE
        return self._topics.gaps(self._gateway), GAPS_TYPE


def _key_of(entry: Entry) -> tuple[EntryKind, str]:
    """Return what entries of one message have in common."""
    return entry.kind, entry.profile if entry.kind is EntryKind.CAPTURE else ""
