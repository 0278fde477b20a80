"""What keeps the journal within its bounds: trimming, forgetting, the disk, and saying why it cannot.

Runs in the journal's thread, between commits and a little at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.contract.messages import Gap
from gateway.edge.journal.board import Board, log
from gateway.edge.journal.captures import Stream
from gateway.edge.journal.cursors import ALL_CONSUMERS, CONSUMER
from gateway.edge.journal.disk import free_octets, reserve_octets
from gateway.edge.journal.entry import GapRecord, GapState, JournalBatch
from gateway.edge.journal.generation import Begun
from gateway.edge.journal.limits import FullPolicy, JournalLimits
from gateway.edge.journal.store import PAGE, TRIM_CHUNK, JournalStore
from gateway.errors import JournalError, JournalFull
from protocols.session import Clock

TRIM_ROUNDS = 4
"""Trimming is bounded at each turn, so that appends never wait long for it."""
HARD_TIMES_CHUNK = 32
"""Numbers trimmed at once while the disk is full: what deleting them writes must fit into the reserve."""
FORGET_STREAMS, FORGET_CAPTURES = 200, 2_000
"""Most streams looked at, and captures forgotten, in one turn."""
FORGET_EVERY = 30.0
"""Seconds between two rounds through all streams."""
LOOK_EVERY = 5.0
"""Seconds between looks at the disk and at who is behind."""
NOTE_EVERY = 60.0
"""Seconds after which what is noted beside the journal, how far it has come, is made durable."""
ACK_PATIENCE = timedelta(hours=1)
"""How long a consumer may leave what was delivered unacknowledged before an alarm says so."""
ACK_PATIENCE_REAL = 60.0
"""The same in seconds of real time: a simulated hour passes too fast for anybody."""
REVISED_TOLD = timedelta(days=1)
"""How long it is told that a row was read again with other values."""
DISK_LOW = 64 << 20
"""Free octets of the disk below which an alarm is raised."""
SPARE_PAGES = 64
"""Free pages of the file that an append needs beside its own while there is no reserve."""


class Housekeeping:
    """Keeps one store within `limits`; `sinks` gives the sinks whose cursors count, `append` queues a batch."""

    def __init__(
        self,
        path: Path,
        store: JournalStore,
        limits: JournalLimits,
        clock: Clock,
        board: Board,
        *,
        sinks: Callable[[], set[str]],
        append: Callable[[JournalBatch], None],
    ) -> None:
        self._path = path
        self._store = store
        self._limits = limits
        self._clock = clock
        self._board = board
        self._sinks = sinks
        self._append = append
        self._streams: list[Stream] = []
        self._round_open = False
        self._pressure = 0
        self._forget_at = self._look_at = 0.0
        self._note_at = time.monotonic() + NOTE_EVERY
        self._behind: dict[str, tuple[int, float]] = {}
        self._refused_told_at = 0.0
        self._revised = 0
        self._revised_at: datetime | None = None

    def tell_opening(self) -> None:
        """Let what opening found stand as alarms for this run."""
        found, now = self._store.opened, self._clock.now()
        if (salvage := found.salvage) is not None:
            self._board.alarm(
                "journal_quarantined",
                f"the journal was damaged and was put aside as {salvage.aside} ({salvage.why}): journal"
                f" {self._store.uuid} goes on with {salvage.entries} entries of it; keep that file until all is told",
                now,
            )
        elif found.begun.was is not None:
            self.tell_another_name(found.begun)

    def tell_another_name(self, begun: Begun) -> None:
        """Let it stand as an alarm that the journal goes on under another uuid."""
        self._board.alarm(
            "journal_set_back",
            f"journal {begun.was} is not what it was ({begun.why}): it goes on as journal {begun.journal}, and"
            " consumers ask for what they lack of it; where nobody restored or copied it, look who did",
            self._clock.now(),
        )

    def tell_damage(self, text: str) -> None:
        """Count and alarm an entry that was found damaged in the file."""
        self._board.count(damaged=1)
        self._board.alarm("journal_entry_damaged", text, self._clock.now())

    # -- who has what

    def acknowledged(self) -> dict[str, int]:
        """Return how far each consumer that counts has acknowledged, durably."""
        return acknowledged(self._store.cursors, self._limits)

    def _delivered(self, moves: Mapping[str, int] | None = None) -> int:
        """Return the last seq that every sink and every consumer that counts has; with `moves`, will have."""
        # The durable cursors: a move may be lost in a crash, an entry may not.
        cursors = {**self._store.cursors, **(moves or {})}
        held = [cursors.get(sink, 0) for sink in self._sinks()]
        return min([*held, *acknowledged(cursors, self._limits).values()], default=0)

    def _who_holds(self) -> str:
        """Return who keeps entries from going, and since when, for the operator."""
        store, held = self._store, self._store.first_seq - 1
        waiting = {sink: store.last_seq - max(store.cursors.get(sink, 0), held) for sink in self._sinks()}
        told = [f"{sink} has not taken {count} entries" for sink, count in sorted(waiting.items()) if count]
        told += [
            self._not_acknowledged(consumer, seq)
            for consumer, seq in self.acknowledged().items()
            if seq < store.last_seq
        ]
        return "; ".join(told) or "nobody is behind, but entries are kept for retention_days"

    def _not_acknowledged(self, consumer: str, seq: int) -> str:
        at = self._store.cursors.moved_at.get(CONSUMER + consumer, 0)
        since = f"since {datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}" if at else "anything yet"
        waiting = self._store.last_seq - max(seq, self._store.first_seq - 1)
        return f"{consumer} has not acknowledged {since} ({waiting} entries)"

    # -- before an append

    def before_append(self, batches: Sequence[JournalBatch], moves: Mapping[str, int]) -> None:
        """Make room for an append, or raise JournalFull with the true cause."""
        if self.charged() >= self._limits.max_bytes:
            self._make_room(moves)
        if self._store.captures.count >= 2 * self._limits.max_captures:
            raise JournalFull(
                f"the journal's list of captures has {self._store.captures.count} rows and may have"
                f" {self._limits.max_captures}: raise max_capture_bytes"
            )
        if self._limits.reserve and not self._store.reserve.take():
            # Without a reserve the file must not grow: what cannot be checkpointed cannot be trimmed either.
            octets = sum(len(row.body) for one in batches for block in one.blocks for row in block.rows)
            wanted = SPARE_PAGES + 2 * octets // PAGE
            self._store.checkpoint()
            self._store.apply([], moves, self._clock.now())
            if not self._free_pages(wanted):
                raise JournalFull(self._disk_full())

    def charged(self) -> int:
        """Return the octets that count against `max_bytes`: those of the list of captures do not."""
        return max(0, self._board.bytes - self._store.captures.octets)

    def _make_room(self, moves: Mapping[str, int]) -> None:
        """Trim until the file is below its bound; JournalFull when nothing more may go."""
        self._store.apply([], moves, self._clock.now())  # what was delivered meanwhile may go
        while (used := self.charged()) >= self._limits.max_bytes:
            if not self._trim_for_space():
                raise JournalFull(
                    f"the journal {self._path} holds {used} of {self._limits.max_bytes} octets that"
                    f" are not delivered yet: {self._who_holds()}; see to that, or raise max_bytes"
                )

    def _trim_for_space(self, chunk: int = TRIM_CHUNK) -> int:
        """Let a chunk go for want of space: first what is past its retention, then what all have."""
        if gone := self._trim(young_too=False, chunk=chunk):
            self._board.count(trimmed=gone)
            return gone
        if not self._drops_young():
            return 0
        if gone := self._trim(young_too=True, chunk=chunk):
            self._board.count(dropped=gone)
            self._board.alarm(
                "journal_floor_short",
                f"acknowledged entries go before their {self._limits.retention.days} days are over: a restored"
                " ledger could not ask for them; raise max_bytes (`check` says to what) or free the disk",
                self._clock.now(),
            )
        return gone

    # -- a full disk

    def heal(self, moves: Mapping[str, int]) -> bool:
        """After the disk refused a commit: free pages with the reserve's help; return whether there are any.

        The reserve is touched only when there is something that may go: it helps once.
        """
        store = self._store
        if not self._may_go(moves):
            return False
        store.reserve.release()
        try:
            store.checkpoint()
            store.apply([], moves, self._clock.now())
            store.checkpoint()
            self._free_pages(SPARE_PAGES)
            return store.free_pages() > 0
        except JournalError:
            return False
        finally:
            if self._limits.reserve:
                store.reserve.take()

    def _may_go(self, moves: Mapping[str, int]) -> bool:
        """Return whether there are entries that may go for want of space, once `moves` are durable."""
        oldest = self._store.first_seq
        if self._delivered(moves) < oldest:
            return False
        if self._drops_young():
            return True
        at = self._store.journaled_at(oldest)
        return at is not None and at < self._clock.now() - self._limits.retention

    def _drops_young(self) -> bool:
        return bool(self._limits.consumers) or self._limits.policy is FullPolicy.DROP_OLDEST_ACKNOWLEDGED

    def _free_pages(self, wanted: int) -> bool:
        """Trim until so many pages of the file are free; return whether they are."""
        while self._store.free_pages() < wanted:
            if not self._trim_for_space(HARD_TIMES_CHUNK):
                return False
            self._store.checkpoint()  # keeps the log short: it may not grow either
        return True

    def disk_full(self, error: JournalError) -> JournalError:
        """Return the error of a refused commit with the true cause."""
        return JournalFull(f"{error}; {self._disk_full()}")

    def _disk_full(self) -> str:
        free = free_octets(self._path)
        return (
            f"the disk of the journal {self._path} is full ({free} octets left), and nothing that all have is"
            f" left to delete: {self._who_holds()}; free some space; it goes on by itself"
        )

    # -- from time to time

    def tick(self) -> bool:
        """Do what is due; return whether there is more to do at once."""
        more = False
        for step in (self._trim_in_time, self._forget, self._look):
            try:
                more = step() or more
            except JournalError as error:
                log.warning("journal_housekeeping_failed", error=str(error))  # the next append reports it too
        return more

    def _trim_in_time(self) -> bool:
        for _ in range(TRIM_ROUNDS):
            gone = self._trim(young_too=False)
            self._board.count(trimmed=gone)
            if not gone:
                return False
            self._board.calm("journal_floor_short")  # the oldest were kept to the end of their time
        return True

    def _trim(self, *, young_too: bool, chunk: int = TRIM_CHUNK) -> int:
        """Let a chunk of delivered entries go, those within their retention only where `young_too`."""
        cutoff: datetime | None = None
        if not young_too:
            if not self._clock.disciplined():
                return 0  # an age by a clock that may be wrong is no reason to delete
            cutoff = self._clock.now() - self._limits.retention
        gone = self._store.trim(self._delivered(), cutoff, chunk)
        if gone:
            self._board.set(bytes=self._store.used_bytes())
        return gone

    def _forget(self) -> bool:
        """Forget captures below the horizon, stream by stream; harder while the list is over its bound."""
        store, limits = self._store, self._limits
        if not self._clock.disciplined():
            return False
        over = store.captures.count > limits.max_captures
        if not self._streams:
            if not over and time.monotonic() < self._forget_at:
                return False
            if self._round_open:
                self._pressure = self._pressure + 1 if over else 0
            self._tell_list(over)
            self._streams = list(store.captures.streams)
            self._round_open = bool(self._streams)
            self._forget_at = time.monotonic() + FORGET_EVERY
            self._bound_tables()
        part, self._streams = self._streams[:FORGET_STREAMS], self._streams[FORGET_STREAMS:]
        if not part:
            return False
        pressure = min(self._pressure, 16) if over else 0
        gone = store.forget(part, limits.memory, self._clock.now(), pressure, FORGET_CAPTURES)
        self._board.count(**{"captures_dropped" if pressure else "captures_forgotten": gone})
        if gone >= FORGET_CAPTURES:
            self._streams = part + self._streams
        return bool(self._streams) or (over and gone > 0)

    def _tell_list(self, over: bool) -> None:
        if not over:
            self._board.calm("capture_list_full")
            return
        self._board.alarm(
            "capture_list_full",
            f"the list of captures is longer than max_capture_bytes allows ({self._limits.max_captures}):"
            " it forgets captures that a meter may still be asked for, and refuses them when they come again",
            self._clock.now(),
        )

    def _bound_tables(self) -> None:
        before = self._clock.now() - max(self._limits.memory.values())
        gone, excess = self._store.bound_gaps(before, self._limits.max_gaps, FORGET_CAPTURES)
        self._board.count(gaps_dropped=gone + len(excess))
        if excess:
            self._append(JournalBatch(gaps=tuple(_given_up(gap) for gap in excess)))
        wanted = self._sinks() | {CONSUMER + name for name in self._limits.consumers}
        self._store.bound_cursors(wanted)
        self._store.bound_templates()

    def note_refused(self, captures: int) -> None:
        """Count captures that came again where the list was forgotten; the log tells it once a minute."""
        self._board.count(captures_refused=captures)
        if time.monotonic() >= self._refused_told_at:
            self._refused_told_at = time.monotonic() + 60.0
            log.warning(
                "captures_refused", count=captures, error="older than what the list of captures keeps"
            )

    def note_revised(self, rows: Sequence[tuple[str, str, datetime]]) -> None:
        """Tell of rows (meter, profile, instant) of meters' memories that are not what they were."""
        self._revised += len(rows)
        self._revised_at = self._clock.now()
        meter, profile, at = rows[-1]
        log.warning("captures_revised", count=len(rows), meter=meter, profile=profile, at=at.isoformat())
        text = (
            f"{self._revised} rows of meters' memories were read again and have other values than before, the last:"
            f" {profile} of {meter} at {at:%Y-%m-%d %H:%M} UTC; both are delivered, the later as a revision"
        )
        self._board.alarm("captures_revised", text, self._revised_at)

    def _look_at_revised(self) -> None:
        if self._revised_at is not None and self._clock.now() - self._revised_at > REVISED_TOLD:
            self._revised, self._revised_at = 0, None
            self._board.calm("captures_revised")

    def _look(self) -> bool:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look_at_disk()
            self._look_at_consumers(now)
            self._look_at_revised()
        if now >= self._note_at:
            self._note_at = now + NOTE_EVERY
            self._store.sync_generation()
        return False

    def _look_at_disk(self) -> None:
        at = self._clock.now()
        if (why := self._store.watch.lost()) is not None:
            self._board.alarm("journal_file_lost", self.lost_text(why), at)
        free = free_octets(self._path)
        self._board.set(disk_free=free or 0)
        if free is not None and free < DISK_LOW:
            self._board.alarm(
                "disk_low",
                f"{free} octets are left on the disk of the journal {self._path}: reading stops when it is full",
                at,
            )
        else:
            self._board.calm("disk_low")
        if self._limits.reserve and not self._store.reserve.take():
            octets = reserve_octets(self._limits.max_bytes)
            text = f"there is no room for the journal's reserve of {octets} octets: free some space"
            self._board.alarm("disk_reserve_missing", text, at)
        else:
            self._board.calm("disk_reserve_missing")

    def lost_text(self, why: str) -> str:
        """Return what is told when the file went away."""
        return (
            f"the journal {self._path} {why} under the running gateway: what it holds is still delivered,"
            " nothing more is taken; restart the gateway"
        )

    def _look_at_consumers(self, now: float) -> None:
        """Say who does not acknowledge, long before reading stops for it."""
        late: list[str] = []
        published = min((self._store.cursors.get(sink, 0) for sink in self._sinks()), default=0)
        for consumer, seq in self.acknowledged().items():
            was, since = self._behind.get(consumer, (-1, now))
            self._behind[consumer] = (seq, now if seq != was else since)
            waits = max(seq, self._store.first_seq - 1) + 1
            if waits > published or (seq == was and now - since < ACK_PATIENCE_REAL) or seq != was:
                continue
            oldest = self._store.journaled_at(waits)
            moved = self._store.cursors.moved_at.get(CONSUMER + consumer, 0)
            last = max(oldest.timestamp() if oldest else 0.0, moved)
            if self._clock.now().timestamp() - last >= ACK_PATIENCE.total_seconds():
                late.append(self._not_acknowledged(consumer, seq))
        if late:
            share = 100 * self.charged() // self._limits.max_bytes
            text = f"{'; '.join(late)}; the journal is {share} % full, reading stops at 100 %"
            self._board.alarm("not_acknowledged", text, self._clock.now())
        else:
            self._board.calm("not_acknowledged")


def acknowledged(cursors: Mapping[str, int], limits: JournalLimits) -> dict[str, int]:
    """Return how far each consumer that counts has acknowledged."""
    before = cursors.get(ALL_CONSUMERS, 0)
    return {name: cursors.get(CONSUMER + name, before) for name in limits.consumers}


def _given_up(gap: GapState) -> GapRecord:
    told = Gap.model_validate_json(gap.body).model_copy(update={"state": "unfillable"})
    return GapRecord(
        gap_id=gap.gap_id,
        meter=gap.meter,
        profile=gap.profile,
        after=gap.after,
        until=gap.until,
        state="unfillable",
        body=told.model_dump_json(exclude_defaults=True).encode(),
    )
