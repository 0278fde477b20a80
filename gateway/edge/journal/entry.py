"""What is put into the journal, and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EntryKind(StrEnum):
    """Which topic family an entry belongs to."""

    CAPTURE = "capture"
    EVENT = "event"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRecord:
    """A stamped capture before it has a sequence number.

    `body` is laid out as `gateway.contract.capture_body` says: a first revision without `seq`;
    `value_hash` covers the values and whether their time was provisional (`value_hash`), so that a repeat is
    told from a revision.
    """

    kind: EntryKind
    meter: str
    profile: str
    capture_id: str
    at: datetime
    value_hash: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRecord:
    """A gap opened, filled or declared unfillable; `body` is the contract's Gap as JSON, without `seq`."""

    gap_id: str
    meter: str
    profile: str
    after: datetime
    until: datetime
    state: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBatch:
    """What one append makes durable together: all of it or nothing.

    `watermarks` are (meter, profile, instant). Without `revise` a capture that is there already stays as it
    is: what a meter pushed may hold less than what was read from it.
    """

    captures: tuple[CaptureRecord, ...] = ()
    watermarks: tuple[tuple[str, str, datetime], ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    revise: bool = True


@dataclass(frozen=True, slots=True)
class SeqRange:
    """Sequence numbers first..last given to one append; empty when last < first (all were repeats)."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One journaled entry; `body` carries the right value_rev, `seq` stands beside it."""

    seq: int
    kind: EntryKind
    profile: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    """A dead letter: an entry that a sink's peer refuses for good, with the peer's reason."""

    sink: str
    seq: int
    at: datetime
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GapState:
    """A gap as the journal last knew it: after < missing <= until."""

    gap_id: str
    meter: str
    profile: str
    after: datetime
    until: datetime
    state: str
    body: bytes
