"""What the journal holds and hands to sinks."""

from __future__ import annotations

from dataclasses import dataclass, field
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

    `body` is the contract's Capture as JSON octets with `"value_rev":1` and without `seq`;
    `value_hash` covers the values only, so that a repeat is told from a revision. With `if_new` the record
    never revises one that is there: what a meter pushed may hold less than what was read from it.
    """

    kind: EntryKind
    meter: str
    profile: str
    capture_id: str
    at: datetime
    value_hash: bytes
    body: bytes
    if_new: bool = False


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
    """What one append makes durable together: all of it or nothing."""

    captures: tuple[CaptureRecord, ...] = ()
    watermarks: tuple[tuple[str, str, datetime], ...] = field(default=())
    gaps: tuple[GapRecord, ...] = ()


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
