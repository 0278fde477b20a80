"""The journal's bounds, what happens when they are reached, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.edge.journal.captures import CAPTURE_OCTETS
from gateway.edge.journal.gaps import MAX_GAPS
from gateway.edge.journal.letters import MAX_LETTER_OCTETS

GIB = 1 << 30


class FullPolicy(StrEnum):
    """What happens at the size bound where no consumer acknowledges (`consumers` is empty).

    Where consumers acknowledge, what all of them have goes at the bound, oldest first, under either policy.
    Neither drops what has not been delivered or not been acknowledged.
    """

    STOP_READING = "stop_reading"
    """Appends are refused (JournalFull): the poller pauses and the meters keep their history."""
    DROP_OLDEST_ACKNOWLEDGED = "drop_oldest_acknowledged"
    """First drop, oldest first, what every sink has, though its retention is not over; then as
    `stop_reading`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """Bounds of one journal file.

    `max_bytes` bounds the used pages of the file without the list of captures; one append may pass it by its
    own size. `max_capture_bytes` bounds that list, at CAPTURE_OCTETS each. `retention` is the floor: how long
    entries stay for replay after every sink and consumer has them. `sinks` are those whose cursors hold
    entries back (a sink that follows is added by itself), `consumers` those whose acknowledgements do (empty:
    the sinks' receipts are enough).

    `memory` is, by profile, how far below the present and below its watermark a read may go (under "" for
    all other profiles): captures below it are forgotten.
    """

    max_bytes: int = GIB
    max_capture_bytes: int = GIB
    retention: timedelta = timedelta(days=45)
    policy: FullPolicy = FullPolicy.STOP_READING
    consumers: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    max_dead_letters: int = 10_000
    max_dead_letter_bytes: int = MAX_LETTER_OCTETS
    max_gaps: int = MAX_GAPS
    memory: Mapping[str, timedelta] = field(default_factory=lambda: {"": timedelta(days=470)})
    reserve: bool = False
    """Whether a file of blocks is kept for the time when the disk is full."""

    @property
    def max_captures(self) -> int:
        """Captures that the list may hold."""
        return self.max_capture_bytes // CAPTURE_OCTETS


@dataclass(frozen=True, slots=True)
class JournalAlarm:
    """Something that a person should look at; `code` is stable."""

    code: str
    text: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatistics:
    """The journal at one moment. `full_reason` is the alarm: None while appends are taken.

    `trimmed` entries went after their retention, `dropped` ones before it. `captures` is the length of the
    list of captures; `captures_forgotten` went below their horizon, `captures_dropped` for its bound;
    `captures_refused` came again where the list was forgotten. `consumers` is how far each consumer has
    acknowledged, `billing_acked` the least of it.
    """

    uuid: str
    last_seq: int
    first_seq: int
    bytes: int
    max_bytes: int
    cursors: Mapping[str, int]
    billing_acked: int
    consumers: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    appends: int = 0
    grouped: int = 0
    largest_group: int = 0
    repeats: int = 0
    revisions: int = 0
    trimmed: int = 0
    dropped: int = 0
    refused: int = 0
    captures: int = 0
    captures_forgotten: int = 0
    captures_dropped: int = 0
    captures_refused: int = 0
    gaps_dropped: int = 0
    tombstones: int = 0
    damaged: int = 0
    disk_free: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    dead_letters_dropped: int = 0
    full_reason: str | None = None
    full_since: datetime | None = None
    alarms: tuple[JournalAlarm, ...] = ()

    @property
    def entries(self) -> int:
        """Entries in the file; seq is gapless, so it is the span's length."""
        return self.last_seq - self.first_seq + 1

    @property
    def full(self) -> bool:
        """Whether the last append was refused for want of space."""
        return self.full_reason is not None

    def backlog(self, sink: str) -> int:
        """Return how many entries `sink` has not acknowledged."""
        return self.last_seq - max(self.cursors.get(sink, 0), self.first_seq - 1)
