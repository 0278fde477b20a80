"""What the ledger takes and returns: stored captures, journal states, counts; immutable, times in UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from gateway.central.ledger.rows import CaptureRow
from gateway.contract.batches import (
    attributions_of,
    holders_from,
    layout_from,
    meter_time_of,
    suspect_of,
    values_of,
)
from gateway.contract.blocks import block_prefix, key_of, row_checksum
from gateway.contract.messages import Capture, CaptureClock, Gap, rfc3339
from gateway.contract.messages.generation import NO_GENERATION, Generation

LASTING_REASONS: Final = frozenset({"untrusted_time", "identity_mismatch"})
"""Why a capture stands under no account, whatever the directory says: its time or its meter is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedBatch:
    """A batch of either version as it came at an instant: the rows of its captures, and its gaps.

    `named` are the numbers of captures that say their capture_id themselves; of the others it follows from meter,
    profile and instant. `layouts` and `holders` are what its rows name, by key. `topic` and `payload` are what the
    broker gave: an entry that is not believed is kept as it came.
    """

    journal: str
    gateway: str
    generation: Generation
    rows: tuple[CaptureRow, ...] = ()
    gaps: tuple[Gap, ...] = ()
    named: frozenset[int] = frozenset()
    layouts: Mapping[str, str] = field(default_factory=dict)
    holders: Mapping[str, str] = field(default_factory=dict)
    at: datetime
    topic: str
    payload: bytes = field(repr=False)

    @property
    def seqs(self) -> list[int]:
        """The sequence numbers of its entries."""
        return [*[row.seq for row in self.rows], *(gap.seq for gap in self.gaps if gap.seq is not None)]

    @property
    def entries(self) -> list[tuple[int, str]]:
        """Sequence number and meter of each entry."""
        gaps = [(gap.seq, gap.meter) for gap in self.gaps if gap.seq is not None]
        return [*((row.seq, row.meter) for row in self.rows), *gaps]

    def halves(self) -> tuple[ReceivedBatch, ReceivedBatch]:
        """Return its entries in two batches, captures before gaps."""
        cut = len(self.rows)
        middle = (cut + len(self.gaps)) // 2
        rows, gaps = min(middle, cut), max(0, middle - cut)
        return (
            replace(self, rows=self.rows[:rows], gaps=self.gaps[:gaps]),
            replace(self, rows=self.rows[rows:], gaps=self.gaps[gaps:]),
        )


@dataclass(frozen=True, kw_only=True)  # without slots, so that `message` can be kept
class StoredCapture:
    """One capture as the ledger holds it: the columns of the table, and the texts that `layout` and `holders` name.

    `body` is the contract's Capture of version 1 as JSON text without `seq` and `raw`, or the capture's row of
    version 2 (where there is a layout); attribution and reason are those stamped by the edge at
    `directory_version`. Whose it is *now* comes from the directory.
    """

    capture_id: str
    value_rev: int
    meter: str
    profile: str
    at: datetime
    start: datetime | None
    received_at: datetime
    quality: str
    reason: str | None
    directory_version: int
    gateway: str
    journal: str
    seq: int
    ingested_at: datetime
    body: str = field(repr=False)
    raw: str | None = field(default=None, repr=False)
    epoch: int = 0
    directory_generation: str = str(NO_GENERATION)
    layout: str | None = None
    holders: str | None = None
    clock: str | None = None
    checksum: str | None = None
    layout_text: str | None = field(default=None, repr=False)
    holders_text: str | None = field(default=None, repr=False)

    @cached_property
    def message(self) -> Capture:
        """The contract's message: values exact as delivered, attributions as stamped, times as settled. Parsed once."""
        if self.layout_text is None:
            beside = {name: getattr(self, name) for name in ("seq", "raw", "at", "start", "reason")}
            return Capture.model_validate_json(self.body).model_copy(update=beside)
        members = json.loads(self.body)
        return Capture(
            capture_id=self.capture_id,
            value_rev=self.value_rev,
            seq=self.seq,
            meter=self.meter,
            profile=self.profile,
            at=self.at,
            start=self.start,
            meter_time=meter_time_of(members),
            received_at=self.received_at,
            quality=self.quality,
            values=values_of(members, layout_from(self.layout_text)),
            attributions=attributions_of(holders_from(self.holders_text)),
            reason=self.reason,
            directory_version=self.directory_version,
            directory_generation=Generation.parse(self.directory_generation),
            epoch=self.epoch,
            clock=None if self.clock is None else CaptureClock.model_validate_json(self.clock),
            raw=self.raw,
            checksum=self.checksum,
            suspect=suspect_of(members),
        )

    def is_sound(self) -> bool:
        """Say whether the capture is still what its edge stamped; of version 1 nobody can tell."""
        if self.checksum is None or self.layout is None:
            return True
        row = json.loads(self.body) | ({} if self.raw is None else {"raw": self.raw})
        interval = None
        if self.start is not None and "start" not in row:
            interval = int((self.at - self.start).total_seconds())
        prefix = block_prefix(self.layout, self.meter, rfc3339(self.received_at), interval)
        layout = key_of((self.layout_text or "").encode())
        return row_checksum(prefix, row) == self.checksum and layout == self.layout


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributedCapture:
    """A capture with the account it stands under, by the directory version that decided.

    Of a `partial` one the account held the meter from `since` until before `until`.
    """

    capture: StoredCapture
    account_id: str
    account_number: str | None
    legacy_number: str | None
    usage_point: str
    role: str
    since: datetime | None = None
    until: datetime | None = None
    directory_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What became of the captures of a transaction: stored + repeated + revised + quarantined is all of them.

    `revised`: a higher revision replaced the stored one, or a lower one came late and is kept beside it.
    `quarantined`: captures and gaps that are kept but not believed; `turned_away`: those that found the quarantine of
    their gateway full.
    """

    stored: int = 0
    repeated: int = 0
    revised: int = 0
    gaps: int = 0
    quarantined: int = 0
    turned_away: int = 0

    def __add__(self, other: IngestResult) -> IngestResult:
        return IngestResult(
            stored=self.stored + other.stored,
            repeated=self.repeated + other.repeated,
            revised=self.revised + other.revised,
            gaps=self.gaps + other.gaps,
            quarantined=self.quarantined + other.quarantined,
            turned_away=self.turned_away + other.turned_away,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """How much of a journal is stored: 1..contiguous, and islands up to `highest` with `holes` between."""

    journal: str
    gateway: str
    contiguous: int
    highest: int
    holes: tuple[tuple[int, int], ...]
    stored: int
    repeated: int
    revised: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGap:
    """A known missing span: after < at <= until."""

    gap_id: str
    meter: str
    profile: str
    after: datetime
    until: datetime
    state: str
    reason: str
    noticed_at: datetime
    gateway: str
    ingested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStatus:
    """The last status of a gateway; `body` is the contract's Status as JSON text.

    `received_at` is when central heard it, by its own clock.
    """

    gateway: str
    received_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineHealth:
    """One line as its gateway told it last."""

    gateway: str
    line: str
    state: str
    since: datetime | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DownLines:
    """The lines of one gateway that are down: the first of them, how many they are, and since when the longest is."""

    gateway: str
    lines: tuple[LineHealth, ...]
    count: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterHealth:
    """One meter as a gateway told it last; `health` is new, ok, or the code of what is wrong."""

    gateway: str
    meter: str
    line: str | None
    health: str
    since: datetime | None
    last_reading_at: datetime | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralSign:
    """Central's last sign of life; `heard_broker_at` is when it last had the broker, None: never."""

    at: datetime
    heard_broker_at: datetime | None
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBalance:
    """The wallet balance that billing last told for an account; `body` is the contract's Balance as JSON."""

    account_id: str
    as_of: datetime
    received_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnattributedGroup:
    """Captures of one meter and profile that stand under no account, for one reason."""

    meter: str
    profile: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    oldest_ingested: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnattributedCause:
    """One reason why captures of some meters stand under no account: the first of these, how many, and since when."""

    reason: str
    meters: tuple[str, ...]
    touched: int
    first_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapCause:
    """Open gaps of one profile and reason: how many, of how many meters, some of these, and since when."""

    profile: str
    reason: str
    gaps: int
    meters: int
    first_at: datetime
    named: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFaults:
    """What is missing of one gateway's journals: ranges that are open, and entries declared lost since an instant."""

    gateway: str
    holes: int
    last_seen: datetime | None
    lost: int
    lost_since: datetime | None
    lost_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingEntries:
    """Entries first..last of a journal that central lacks; `lost_at` is when they were given up, None: asked for."""

    gateway: str
    journal: str
    first: int
    last: int
    lost_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterLine:
    """A message that could not be taken, without its bytes."""

    id: int
    topic: str
    size: int
    reason: str
    detail: str
    first_seen: datetime
    last_seen: datetime
    times_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter:
    """A message that could not be taken, with its bytes (cut at a bound; `size` is the true size)."""

    id: int
    topic: str
    payload: bytes
    size: int
    reason: str
    detail: str
    first_seen: datetime
    last_seen: datetime
    times_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCounts:
    """Totals for pages and metrics; `full_quarantines` are gateways that are no longer acknowledged."""

    captures: int
    superseded: int
    repeated: int
    unattributed: int
    open_gaps: int
    dead_letters: int
    journals: int
    holes: int
    lost: int
    quarantined: int
    full_quarantines: int
    meters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """From `since` until `until` (None: further notice) a meter is read by a gateway, and by no other.

    `origin`: `migrated` (it last delivered the meter when allocations began), `claimed` (it was the first to deliver a
    meter that nobody had) or `given` (a person said so). `epoch` counts a meter's allocations from 1.
    """

    meter: str
    epoch: int
    gateway: str
    since: datetime
    until: datetime | None
    origin: str
    by: str
    note: str
    known_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineGroup:
    """Entries of one gateway and meter ("": unknown) that are kept but not believed, for one reason."""

    gateway: str
    meter: str
    reason: str
    detail: str
    entries: int
    octets: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedEntry:
    """One entry that is kept but not believed: `payload` is a message with this entry alone."""

    gateway: str
    journal: str
    seq: int
    meter: str
    reason: str
    detail: str
    topic: str
    payload: bytes = field(repr=False)
    size: int
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeClock:
    """A gateway's clock that is not central's: by how much it was ahead at `at`, and who of the two was trusted."""

    gateway: str
    ahead: timedelta
    trusted: bool
    central_trusted: bool
    at: datetime
