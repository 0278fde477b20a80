"""One transaction of arrived batches: believed entries are stored, the others kept in quarantine, and both counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from sqlalchemy import Connection

from gateway.central.ledger.allocations import (
    MAX_CLAIMS,
    KnownAllocations,
    bump,
    claimed_by,
    end,
    enter,
    next_epoch,
)
from gateway.central.ledger.authority import (
    CONFLICT,
    DISAGREES,
    FOREIGN_JOURNAL,
    TOO_MANY_CLAIMS,
    WRONG_EPOCH,
    Refusal,
    agreement,
    judge,
)
from gateway.central.ledger.cursors import read_cursor
from gateway.central.ledger.evidence import without_raw
from gateway.central.ledger.gaps import store_gaps
from gateway.central.ledger.identity import was_set_back
from gateway.central.ledger.journals import JournalBook, journals_of
from gateway.central.ledger.meter_states import note_heard, note_words
from gateway.central.ledger.quarantine import MAX_DETAIL, OVERHEAD, forget, is_kept, keep
from gateway.central.ledger.records import Allocation, IngestResult, QuarantinedEntry, ReceivedBatch
from gateway.central.ledger.revisions import store_captures
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.texts import Texts
from gateway.central.ledger.unattributed import JUDGED_BY
from gateway.contract.entries import entries_alone
from gateway.contract.field import visited_gateway
from gateway.contract.messages import MAX_SEQ, Gap
from mapping.instants import instant

MAX_JOURNALS: Final = 1_000
"""Journals of one gateway: it begins another when its file is lost, or was set back."""
MAX_CLAIMED_EPOCH: Final = 1_000
"""Highest epoch that is taken from a capture: a meter moves a few times in its life."""


class NeedsToBeAlone(Exception):
    """Something is to be written that concerns all gateways, while others may be writing: nothing of it was."""


def ingest(
    connection: Connection,
    batches: Sequence[ReceivedBatch],
    allocations: KnownAllocations,
    *,
    alone: bool,
) -> IngestResult:
    """Store batches in the caller's transaction: what is acknowledged later is stored or kept now.

    Raises NeedsToBeAlone where a meter is to be allocated and the transaction is not the only one that writes.
    """
    known = read_cursor(connection, JUDGED_BY) or 0
    court = _Court.load(connection, batches, allocations, alone=alone)
    total = IngestResult()
    # A journal's book and its entries change in one transaction: what is acknowledged is stored.
    for gateway, journal in dict.fromkeys((one.gateway, one.journal) for one in batches):
        own = [one for one in batches if (one.gateway, one.journal) == (gateway, journal)]
        book = JournalBook.load(connection, journal, lock=True)
        if book.gateway not in ("", gateway):
            total += _keep_foreign(connection, own, f"journal {journal} belongs to {book.gateway}")
            continue
        if not book.gateway and journals_of(connection, gateway) >= MAX_JOURNALS:
            total += _keep_foreign(connection, own, f"{gateway} has {MAX_JOURNALS} journals before {journal}")
            continue
        total += _ingest_journal(connection, court, own, book, known)
    return total


def _ingest_journal(
    connection: Connection, court: _Court, own: Sequence[ReceivedBatch], book: JournalBook, known: int
) -> IngestResult:
    refused = _Refused(own)
    rows = [row for one in own for row in court.believed_rows(one, refused)]
    gaps = [(gap, one) for one in own for gap in court.believed_gaps(one, refused)]
    court.enter_claims()
    texts = Texts(connection, own)
    texts.keep(rows)
    result, conflicts = store_captures(connection, without_raw(rows), known, texts.layout)
    note_heard(connection, rows, own[-1].at)
    for row in conflicts:
        detail = f"revision {row.value_rev} of {row.capture_id} is stored with other values"
        refused.add(row.seq, row.meter, Refusal(CONFLICT, detail))
    if gaps:
        moved, strange = store_gaps(connection, gaps, own[-1].at)
        result += IngestResult(gaps=moved)
        for gap in strange:
            refused.add(gap.seq, gap.meter, Refusal(DISAGREES, f"gap {gap.gap_id!r} is another meter's"))
    kept = refused.keep(connection)
    seqs = set(chain.from_iterable(one.seqs for one in own))
    stored = seqs.difference(refused.why)
    forget(connection, own[-1].gateway, book.journal, stored)
    counted = stored | kept
    result += IngestResult(quarantined=len(kept), turned_away=len(seqs) - len(counted))
    book.record(connection, own[-1].gateway, sorted(counted), result, own[-1].at)
    return result


def _keep_foreign(connection: Connection, own: Sequence[ReceivedBatch], detail: str) -> IngestResult:
    """Keep batches of a journal that cannot be this gateway's; no count is touched."""
    refused = _Refused(own)
    for one in own:
        for seq, meter in one.entries:
            refused.add(seq, meter, Refusal(FOREIGN_JOURNAL, detail))
    kept = refused.keep(connection)
    return IngestResult(quarantined=len(kept), turned_away=len(refused.seqs) - len(kept))


def set_apart(connection: Connection, entry: QuarantinedEntry) -> IngestResult:
    """Keep one entry that cannot be read or stored; when it comes again so, its journal's count goes on without it.

    Once could be an accident on the way. A hole that cannot close would stop all that follows.
    """
    book = JournalBook.load(connection, entry.journal)
    own = book.gateway in ("", entry.gateway)
    if not own:
        detail = f"journal {entry.journal} belongs to {book.gateway}"
        entry = replace(entry, reason=FOREIGN_JOURNAL, detail=detail)
    again = is_kept(connection, entry)
    kept = bool(keep(connection, [entry]))
    result = IngestResult(quarantined=int(kept), turned_away=int(not kept))
    if own and again and 1 <= entry.seq <= MAX_SEQ:
        book.record(connection, entry.gateway, [entry.seq], result, entry.received_at)
    return result


@dataclass(slots=True)
class _Court:
    """Judges the entries of one transaction by the allocations that stand, and notes who claims what."""

    connection: Connection
    histories: dict[str, list[Allocation]]
    alone: bool
    claims: list[Allocation] = field(default_factory=list)
    claimed: dict[str, int] = field(default_factory=dict)
    settled: dict[tuple[str, str, int], Refusal | None] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        connection: Connection,
        batches: Sequence[ReceivedBatch],
        allocations: KnownAllocations,
        *,
        alone: bool,
    ) -> _Court:
        meters = {row.meter for one in batches for row in one.rows}
        meters.update(gap.meter for one in batches for gap in one.gaps)
        return cls(connection, allocations.histories(connection, meters), alone)

    def believed_rows(self, received: ReceivedBatch, refused: _Refused) -> list[CaptureRow]:
        believed, settled, named = [], self.settled, received.named
        for row in received.rows:
            key = row.meter, row.gateway, row.epoch
            refusal = agreement(row) if named and row.seq in named else None
            refusal = refusal or (settled[key] if key in settled else self._judge_row(row))
            if refusal is None:
                believed.append(row)
            else:
                refused.add(row.seq, row.meter, refusal)
        return believed

    def _judge_row(self, row: CaptureRow) -> Refusal | None:
        history = self.histories.get(row.meter)
        if history is None:
            return self._claim(row)
        refusal = judge(history, row.gateway, instant(row.at), row.epoch)
        if refusal is not None and self._was_lost(history[-1], row, refusal):
            self._restore(history, row)
            refusal = None
        if history[-1].gateway == visited_gateway(row.gateway):
            self.settled[row.meter, row.gateway, row.epoch] = (
                refusal  # whatever the instant: the meter is this gateway's now
            )
        return refusal

    def believed_gaps(self, received: ReceivedBatch, refused: _Refused) -> list[Gap]:
        believed = []
        for gap in received.gaps:
            # A meter that was never read has gaps, too; they claim nothing.
            history = self.histories.get(gap.meter)
            refusal = judge(history, received.gateway, gap.until, 0) if history else None
            if refusal is None:
                believed.append(gap)
            else:
                refused.add(gap.seq, gap.meter, refusal)
        return believed

    def _claim(self, row: CaptureRow) -> Refusal | None:
        """Allocate a meter that nobody has to the gateway that delivers it: nothing waits for paper."""
        self._must_be_alone()
        gateway, meter, at = visited_gateway(row.gateway), row.meter, instant(row.ingested_at)
        held = self.claimed.get(gateway)
        if held is None:
            held = claimed_by(self.connection, gateway)
        if held >= MAX_CLAIMS:
            return Refusal(
                TOO_MANY_CLAIMS, f"{gateway} has delivered {held} meters that nobody allocated to it"
            )
        if row.epoch > MAX_CLAIMED_EPOCH:
            return Refusal(WRONG_EPOCH, f"allocation {row.epoch} of {meter} is of no ledger")
        self.claimed[gateway] = held + 1
        made = Allocation(
            meter=meter,
            # What was allocated before the ledger was lost goes on: its edge stamps by it, and others were told of it.
            epoch=row.epoch or next_epoch(self.connection, ()),
            gateway=gateway,
            since=at,
            until=None,
            origin="claimed",
            by="central",
            note="the first gateway to deliver it",
            known_at=at,
        )
        self.claims.append(made)
        self.histories[meter] = [made]
        return None

    def _was_lost(self, current: Allocation, row: CaptureRow, refusal: Refusal) -> bool:
        """Say whether a meter's own gateway may know an allocation that a ledger lost when it was set back."""
        if refusal.reason != WRONG_EPOCH or current.gateway != visited_gateway(row.gateway):
            return False
        return current.epoch < row.epoch <= MAX_CLAIMED_EPOCH and was_set_back(self.connection)

    def _restore(self, history: list[Allocation], row: CaptureRow) -> None:
        """Allocate the meter anew to the gateway that has it, under the epoch that its edge stamps."""
        self._must_be_alone()
        self.enter_claims()
        at, note = instant(row.ingested_at), "stamped by its edge after the ledger was set back"
        last = replace(history[-1], until=at)
        made = replace(
            history[-1], epoch=row.epoch, since=at, origin="claimed", by="central", note=note, known_at=at
        )
        end(self.connection, last)
        self.claims.append(made)
        self.histories[row.meter] = [*history[:-1], last, made]

    def _must_be_alone(self) -> None:
        if not self.alone:
            raise NeedsToBeAlone

    def enter_claims(self) -> None:
        if self.claims:
            enter(self.connection, self.claims)
            note_words(self.connection, [one.meter for one in self.claims])
            bump(self.connection)
            self.claims = []


@dataclass(slots=True)
class _Refused:
    """Entries of one journal that are not believed, with the batches that they came in."""

    batches: Sequence[ReceivedBatch]
    why: dict[int, tuple[str, Refusal]] = field(default_factory=dict)

    @property
    def seqs(self) -> set[int]:
        return set(self.why)

    def add(self, seq: int | None, meter: str, refusal: Refusal) -> None:
        if seq is not None:  # check_batch refuses entries without one
            self.why[seq] = meter, refusal

    def keep(self, connection: Connection) -> set[int]:
        """Put them in quarantine and return the numbers of those that found room there."""
        entries: dict[int, QuarantinedEntry] = {}
        for one in self.batches if self.why else ():
            wanted = self.seqs.intersection(one.seqs)
            for seq, payload in entries_alone(one.payload, wanted).items():
                meter, refusal = self.why[seq]
                entries[seq] = quarantined(one, seq, payload, meter, refusal)
        return {one.seq for one in keep(connection, list(entries.values()))}


def quarantined(
    received: ReceivedBatch, seq: int, payload: bytes, meter: str, refusal: Refusal
) -> QuarantinedEntry:
    """Return what quarantine keeps of one entry of a batch; `payload` is a message with this entry alone."""
    return QuarantinedEntry(
        gateway=received.gateway,
        journal=received.journal,
        seq=seq,
        meter=meter,
        reason=refusal.reason,
        detail=refusal.detail[:MAX_DETAIL],
        topic=received.topic,
        payload=payload,
        size=len(payload) + OVERHEAD,
        received_at=received.at,
    )
