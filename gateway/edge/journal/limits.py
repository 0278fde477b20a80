"""The journal's bounds, what happens when they are reached, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

GIB = 1 << 30


class FullPolicy(StrEnum):
    """What happens at the size bound. Neither policy drops what has not been delivered."""

    STOP_READING = "stop_reading"
    """Appends are refused (JournalFull): the poller pauses and the meters keep their history."""
    DROP_OLDEST_ACKNOWLEDGED = "drop_oldest_acknowledged"
    """First drop, oldest first, what every sink (and billing, where it acknowledges) has, though its
    retention is not over; then as `stop_reading`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """Bounds of one journal file.

    `max_bytes` bounds the used pages of the file (capture list included); one append may pass it by its
    own size. `retention` is how long delivered entries are kept for replay where billing does not
    acknowledge; with `billing_acks` they go as soon as billing and every sink have them. `sinks` are those
    whose cursors hold entries back (a sink that follows is added by itself).
    """

    max_bytes: int = GIB
    retention: timedelta = timedelta(days=30)
    policy: FullPolicy = FullPolicy.STOP_READING
    billing_acks: bool = False
    sinks: tuple[str, ...] = ()
    max_dead_letters: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatistics:
    """The journal at one moment. `full_reason` is the alarm: None while appends are taken."""

    uuid: str
    last_seq: int
    first_seq: int
    bytes: int
    max_bytes: int
    cursors: Mapping[str, int]
    billing_acked: int
    commits: int = 0
    appends: int = 0
    grouped: int = 0
    largest_group: int = 0
    repeats: int = 0
    revisions: int = 0
    trimmed: int = 0
    dropped: int = 0
    refused: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    dead_letters_dropped: int = 0
    full_reason: str | None = None
    full_since: datetime | None = None

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
