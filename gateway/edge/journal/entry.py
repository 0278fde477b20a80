"""What is put into the journal, and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from gateway.contract.blocks import EncodedBlock, Keyed
from protocols.reading import ProfileName


class EntryKind(StrEnum):
    """Which topic family an entry belongs to."""

    CAPTURE = "capture"
    EVENT = "event"
    GAP = "gap"


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


class JournalBatch(Struct, frozen=True, kw_only=True):
    """What one append makes durable together: all of it or nothing.

    `watermarks` are (meter, profile, instant). Without `revise` a capture that is there already stays as it
    is: what a meter pushed may hold less than what was read from it. `stored` rows are from a meter's memory: one that
    has other values than before is told, too.
    """

    blocks: tuple[EncodedBlock, ...] = ()
    watermarks: tuple[tuple[str, str, datetime], ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    revise: bool = True
    stored: bool = False


@dataclass(frozen=True, slots=True)
class SeqRange:
    """Sequence numbers first..last given to one append; empty when last < first (all were repeats)."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many they are."""
        return max(0, self.last - self.first + 1)


class Entry(Struct, frozen=True):
    """One journaled entry: a block, whose captures are numbered seq..last, or a gap.

    `body` is the contract's, without the number. A block names its layout and its holders by their keys;
    they stand beside it.
    """

    seq: int
    last: int
    kind: EntryKind
    profile: str
    body: bytes
    layout: Keyed | None = None
    holders: Keyed | None = None

    @property
    def count(self) -> int:
        """How many captures it holds; 1 for a gap."""
        return self.last - self.seq + 1


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


def kind_of(profile: str) -> EntryKind:
    """Return the kind of a profile's captures."""
    return EntryKind.EVENT if profile == ProfileName.EVENTS else EntryKind.CAPTURE
