"""What central does with a handful of messages: store, set aside, remember; durable on return."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from gateway.central.intake.arrivals import Arrival, TakenBatch
from gateway.central.intake.journals import HeardJournal
from gateway.central.intake.messages import RefusedMessage, take
from gateway.central.intake.salvage import SpoiledEntry
from gateway.central.intake.witnesses import Witnesses
from gateway.central.ledger.authority import (
    FOREIGN_JOURNAL,
    NOT_ALLOCATED,
    TOO_MANY_CLAIMS,
    UNREADABLE,
    WRONG_CHECKSUM,
    WRONG_EPOCH,
    Refusal,
)
from gateway.central.ledger.identity import SetBack
from gateway.central.ledger.ingest import quarantined
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import (
    IngestResult,
    JournalState,
    QuarantineGroup,
    ReceivedBatch,
    StoredDeadLetter,
)
from gateway.central.ledger.statuses import ToldStatus
from gateway.central.ledger.times import AHEAD
from gateway.contract.entries import entries_alone
from gateway.contract.field import visited_gateway
from gateway.contract.messages import (
    Balance,
    CountersReserved,
    DirectoryRequest,
    ReadAgainTaken,
    Status,
    StatusChanges,
    StatusVersion1,
)
from gateway.contract.topics import Topics, TopicVersion
from gateway.errors import ContractError

UNSTORABLE = (ContractError, ValueError, TypeError, ArithmeticError, LookupError)
"""What one hostile message may cause: it is set aside, and the others go on."""

RELEASED: Final = frozenset({NOT_ALLOCATED, WRONG_EPOCH, TOO_MANY_CLAIMS})
"""Why entries wait in quarantine that a change of allocations may release."""

log = structlog.get_logger("gateway.central.intake")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message with the time of its arrival; `heard_at` is that of the machine, where time is simulated."""

    topic: str
    payload: bytes
    at: datetime
    retained: bool = False
    heard_at: datetime | None = None


@dataclass(slots=True)
class HandledMessages:
    """What became of a handful of messages; `fresh` are statuses that were just sent.

    `behind` are gateways whose changes were missed, None: not looked; `heard` is what senders said of
    journals, which only the owner of a journal can say.
    """

    result: IngestResult = field(default_factory=IngestResult)
    journals: dict[str, JournalState] = field(default_factory=dict)
    heard: list[HeardJournal] = field(default_factory=list)
    statuses: list[Status | StatusVersion1] = field(default_factory=list)
    fresh: list[tuple[Status, datetime]] = field(default_factory=list)
    set_backs: list[SetBack] = field(default_factory=list)
    behind: frozenset[str] | None = None
    requests: list[tuple[DirectoryRequest, TopicVersion]] = field(default_factory=list)
    set_aside: int = 0


class MessageStore:
    """Takes messages to the ledger. LedgerError means that nothing can be stored now: try the same again.

    `witnesses` look at what statuses prove of the ledger's past.
    """

    def __init__(self, ledger: Ledger, topics: Topics, witnesses: Witnesses | None = None) -> None:
        self._ledger = ledger
        self._topics = topics
        self._witnesses = witnesses

    def handle(self, messages: Sequence[ReceivedMessage]) -> HandledMessages:
        """Store everything that can be stored; all of it is durable on return."""
        handled = HandledMessages()
        batches: list[ReceivedBatch] = []
        spoiled: list[tuple[ReceivedBatch, SpoiledEntry]] = []
        told: list[tuple[ToldStatus, ReceivedMessage]] = []
        for message in messages:
            item = take(self._topics, Arrival(message.topic, message.payload, message.at))
            if isinstance(item, RefusedMessage):
                self._set_aside(handled, message, item)
            elif isinstance(item, TakenBatch):
                received = item.received
                handled.heard.append(
                    HeardJournal(
                        journal=received.journal,
                        gateway=received.gateway,
                        version=self._topics.parse(message.topic).version,
                        generation=received.generation,
                    )
                )
                batches.append(received)
                spoiled += [(received, entry) for entry in item.spoiled]
            elif isinstance(item, Status | StatusVersion1 | StatusChanges):
                told.append((item, message))
                if isinstance(item, Status) and not message.retained:
                    handled.fresh.append((item, message.at))
                if not isinstance(item, StatusChanges):
                    self._hear_journal(handled, message, item)
            elif isinstance(item, CountersReserved):
                self._ledger.carried.note(item.gateway, item.counters)
            elif isinstance(item, ReadAgainTaken):
                self._ledger.rereads.answered(
                    item.gateway, item.meter, item.profile, item.number, item.refused, message.at
                )
            elif isinstance(item, Balance):
                self._take_balance(handled, message, item)
            else:
                handled.requests.append((item, self._topics.parse(message.topic).version))
        if told:
            self._keep_statuses(handled, told)
            handled.behind = frozenset(self._ledger.statuses.behind())
        if batches:
            self._store(handled, batches)
        for received, entry in spoiled:
            refusal = Refusal(WRONG_CHECKSUM if entry.reason == "checksum" else UNREADABLE, entry.detail)
            self._set_apart(handled, received, entry.seq, entry.payload, entry.meter, refusal)
        known = {received.journal for received in batches}
        for status in handled.statuses:
            known.add(status.journal)
            version: TopicVersion = 1 if isinstance(status, StatusVersion1) else 2
            handled.heard.append(
                HeardJournal(journal=status.journal, gateway=status.gateway, version=version)
            )
            # Now that the batches are stored: an honest edge proves no more than that.
            if self._witnesses is not None and isinstance(status, Status):
                found = self._witnesses.look(status)
                handled.set_backs += [found] if found is not None else []
        handled.journals = {journal: self._ledger.journals.state(journal) for journal in known}
        return handled

    def _keep_statuses(
        self, handled: HandledMessages, told: Sequence[tuple[ToldStatus, ReceivedMessage]]
    ) -> None:
        """Keep statuses in one transaction; where that fails, each by itself, and set aside what fails alone."""
        try:
            self._ledger.statuses.take(
                [(item, message.heard_at or message.at, message.retained) for item, message in told]
            )
        except UNSTORABLE as error:
            if len(told) > 1:
                for one in told:
                    self._keep_statuses(handled, [one])
            else:
                self._set_aside(handled, told[0][1], RefusedMessage("cannot_be_stored", str(error)))

    def _take_balance(self, handled: HandledMessages, message: ReceivedMessage, balance: Balance) -> None:
        """Keep a balance; one of the future is set aside, since every later one would lose against it."""
        if balance.at > message.at + AHEAD:
            detail = f"a balance of {balance.account_id} is dated {balance.at.isoformat()}: look at billing's clock"
            self._set_aside(handled, message, RefusedMessage("dated_ahead", detail))
            return
        self._ledger.balances.put(balance.account_id, balance.at, balance.model_dump_json(), message.at)

    def _hear_journal(
        self, handled: HandledMessages, message: ReceivedMessage, status: Status | StatusVersion1
    ) -> None:
        """Note what a status says of its journal, unless that is another gateway's.

        It would lead acknowledgements and replays astray.
        """
        owner = self._ledger.journals.state(status.journal).gateway
        if owner in ("", status.gateway):
            handled.statuses.append(status)
        else:
            detail = f"journal {status.journal} belongs to {owner}"
            self._set_aside(handled, message, RefusedMessage(FOREIGN_JOURNAL, detail))

    def _store(self, handled: HandledMessages, batches: Sequence[ReceivedBatch]) -> None:
        """Store batches in one transaction; where that fails, look for the entry that makes it fail."""
        try:
            result = self._ledger.ingest(batches)
            handled.result += result
            if result.turned_away:
                log.error("quarantine_full", gateway=batches[-1].gateway, entries=result.turned_away)
        except UNSTORABLE as error:
            # First every batch by itself, since one edge's poison must not hold back another's readings; then
            # that one in halves, until the bad entry stands alone.
            if len(batches) > 1:
                for one in batches:
                    self._store(handled, [one])
                return
            received = batches[0]
            entries = received.entries
            if len(entries) > 1:
                for half in received.halves():
                    self._store(handled, [half])
            elif entries:
                ((seq, meter),) = entries
                alone = entries_alone(received.payload, {seq})[seq]
                self._set_apart(handled, received, seq, alone, meter, Refusal(UNREADABLE, str(error)))
            else:
                whole = ReceivedMessage(received.topic, received.payload, received.at)
                self._set_aside(handled, whole, RefusedMessage("cannot_be_stored", str(error)))

    def _set_apart(
        self,
        handled: HandledMessages,
        received: ReceivedBatch,
        seq: int,
        payload: bytes,
        meter: str,
        refusal: Refusal,
    ) -> None:
        """Keep one entry that this program cannot take, and let its journal's count go on: a newer one may."""
        handled.result += self._ledger.set_apart(quarantined(received, seq, payload, meter, refusal))
        log.warning(
            "entry_quarantined", topic=received.topic, seq=seq, reason=refusal.reason, error=refusal.detail
        )

    def _set_aside(self, handled: HandledMessages, message: ReceivedMessage, refused: RefusedMessage) -> int:
        handled.set_aside += 1
        times = self._ledger.letters.put(
            message.topic, message.payload, refused.reason, refused.detail, message.at
        )
        log.warning("message_set_aside", topic=message.topic, reason=refused.reason, error=refused.detail)
        return times

    def waiting(self, reasons: Collection[str]) -> list[QuarantineGroup]:
        """Return what waits in quarantine for one of these reasons and may be believed now."""
        return [
            group
            for group in self._ledger.quarantine.groups()
            if group.reason in reasons and self._may_be_believed(group)
        ]

    def take_again(
        self, group: QuarantineGroup, after: tuple[str, int] = ("", 0)
    ) -> tuple[HandledMessages, tuple[str, int] | None]:
        """Take some entries of a group again, from behind `after` on; return with them how far, None at the end."""
        some = self._ledger.quarantine.entries(
            group.gateway, meter=group.meter, reasons={group.reason}, after=after
        )
        # With the time at which they came: what is judged by its age or order is judged as it was.
        again = [ReceivedMessage(one.topic, one.payload, one.received_at) for one in some]
        return self.handle(again), (some[-1].journal, some[-1].seq) if some else None

    def _may_be_believed(self, group: QuarantineGroup) -> bool:
        if group.reason == UNREADABLE:
            return True  # a newer program may read what an older one could not
        history = self._ledger.allocations.history(group.meter)
        return any(one.gateway == visited_gateway(group.gateway) for one in history)

    def redrive(self, letter: StoredDeadLetter, at: datetime) -> bool:
        """Try a dead letter again, after whatever made it fail was mended; gone, and True, when it is stored."""
        # Like a retained message: what it tells of a gateway may be old.
        handled = self.handle([ReceivedMessage(letter.topic, letter.payload, at, retained=True)])
        if not handled.set_aside:
            self._ledger.letters.remove(letter.id)
        return not handled.set_aside
