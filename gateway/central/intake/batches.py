"""What central does with a handful of messages: store, set aside, remember; durable on return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from gateway.central.intake.messages import RefusedMessage, take
from gateway.central.intake.salvage import SpoiledEntry, TakenBatch, entry_alone
from gateway.central.intake.witnesses import Witnesses
from gateway.central.ledger.identity import SetBack
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult, JournalState, ReceivedBatch
from gateway.central.ledger.revisions import sequence
from gateway.central.ledger.statuses import ToldStatus
from gateway.contract.messages import (
    MAX_SEQ,
    Balance,
    DirectoryRequest,
    Status,
    StatusChanges,
    StatusVersion1,
)
from gateway.contract.topics import Topics, TopicVersion
from gateway.errors import ContractError

UNSTORABLE = (ContractError, ValueError, TypeError, ArithmeticError, LookupError)
"""What one hostile message may cause: it is set aside, and the others go on."""

log = structlog.get_logger("gateway.central.intake")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message with the time of its arrival."""

    topic: str
    payload: bytes
    at: datetime
    retained: bool = False


@dataclass(slots=True)
class HandledMessages:
    """What became of a handful of messages.

    `behind` are gateways whose changes were missed, None: not looked; `versions` of the contract are by journal.
    """

    result: IngestResult = field(default_factory=IngestResult)
    journals: dict[str, JournalState] = field(default_factory=dict)
    versions: dict[str, TopicVersion] = field(default_factory=dict)
    statuses: list[Status | StatusVersion1] = field(default_factory=list)
    set_backs: list[SetBack] = field(default_factory=list)
    behind: frozenset[str] | None = None
    requests: list[DirectoryRequest] = field(default_factory=list)
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
        batches: list[tuple[ReceivedMessage, ReceivedBatch]] = []
        spoiled: list[tuple[ReceivedMessage, str, SpoiledEntry]] = []
        told: list[tuple[ToldStatus, datetime, bool]] = []
        for message in messages:
            item = take(self._topics, message.topic, message.payload)
            if isinstance(item, RefusedMessage):
                self._set_aside(handled, message, item)
            elif isinstance(item, TakenBatch):
                handled.versions[item.batch.journal] = self._topics.parse(message.topic).version
                received = ReceivedBatch(batch=item.batch, bodies=item.bodies, at=message.at)
                batches.append((message, received))
                spoiled += [(message, item.batch.journal, entry) for entry in item.spoiled]
            elif isinstance(item, Status | StatusVersion1 | StatusChanges):
                told.append((item, message.at, message.retained))
            elif isinstance(item, Balance):
                self._ledger.balances.put(item.account_id, item.at, item.model_dump_json(), message.at)
            else:
                self._ledger.edges.set_meters(item.gateway, item.meters)
                handled.requests.append(item)
        if told:
            self._ledger.statuses.take(told)
            handled.statuses = [item for item, _, _ in told if not isinstance(item, StatusChanges)]
            handled.behind = frozenset(self._ledger.statuses.behind())
        if batches:
            self._store(handled, batches)
        # After the good entries of the same batch: should this process die in between, the whole batch comes
        # again, and an entry must not be given up while its neighbours are not even stored.
        for message, journal, entry in spoiled:
            alone = ReceivedMessage(message.topic, entry.payload, message.at)
            self._give_up(handled, alone, journal, entry.seq, RefusedMessage("malformed", entry.detail))
        known = {received.batch.journal for _, received in batches}
        for status in handled.statuses:
            known.add(status.journal)
            handled.versions[status.journal] = 1 if isinstance(status, StatusVersion1) else 2
            # Now that the batches are stored: an honest edge proves no more than that.
            if self._witnesses is not None and isinstance(status, Status):
                found = self._witnesses.look(status)
                handled.set_backs += [found] if found is not None else []
        handled.journals = {journal: self._ledger.journals.state(journal) for journal in known}
        return handled

    def _store(
        self, handled: HandledMessages, batches: Sequence[tuple[ReceivedMessage, ReceivedBatch]]
    ) -> None:
        """Store batches in one transaction; where that fails, look for the entry that makes it fail."""
        try:
            handled.result += self._ledger.ingest([received for _, received in batches])
        except UNSTORABLE as error:
            # First every batch by itself, since one edge's poison must not hold back another's readings; then
            # that one in halves, until the bad entry stands alone.
            if len(batches) > 1:
                for one in batches:
                    self._store(handled, [one])
                return
            message, received = batches[0]
            numbers = sequence(received.batch)
            refused = RefusedMessage("cannot_be_stored", str(error))
            if len(numbers) > 1:
                for half in received.halves():
                    self._store(handled, [(message, half)])
            elif numbers and numbers[0] is not None:
                alone = ReceivedMessage(message.topic, entry_alone(message.payload, numbers[0]), message.at)
                self._give_up(handled, alone, received.batch.journal, numbers[0], refused)
            else:
                self._set_aside(handled, message, refused)

    def _give_up(
        self,
        handled: HandledMessages,
        message: ReceivedMessage,
        journal: str,
        seq: int,
        refused: RefusedMessage,
    ) -> None:
        """Set one entry aside; when it comes again unchanged, let the journal's count go on without it.

        A hole that cannot close would stop all that follows; once could be an accident on the way.
        """
        times = self._set_aside(handled, message, refused)
        if times > 1 and 1 <= seq <= MAX_SEQ:
            reason = f"dead letter: {refused.detail}"[:500]
            self._ledger.journals.declare_lost(journal, seq, seq, reason, message.at)

    def _set_aside(self, handled: HandledMessages, message: ReceivedMessage, refused: RefusedMessage) -> int:
        handled.set_aside += 1
        times = self._ledger.letters.put(
            message.topic, message.payload, refused.reason, refused.detail, message.at
        )
        log.warning("message_set_aside", topic=message.topic, reason=refused.reason, error=refused.detail)
        return times

    def redrive(self, letter_id: int, at: datetime) -> HandledMessages:
        """Try a dead letter again, after whatever made it fail was repaired; gone when it is stored.

        ContractError when there is no such letter or its bytes were too many to keep.
        """
        letter = next((one for one in self._ledger.letters.all() if one.id == letter_id), None)
        if letter is None:
            raise ContractError(f"there is no dead letter {letter_id}")
        if letter.size > len(letter.payload):
            raise ContractError(f"dead letter {letter_id} was cut when it was kept: ask for a replay instead")
        handled = self.handle([ReceivedMessage(letter.topic, letter.payload, at)])
        if not handled.set_aside:
            self._ledger.letters.remove(letter_id)
        return handled
