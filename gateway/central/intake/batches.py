"""What central does with a handful of messages: store, set aside, remember; durable on return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from gateway.central.intake.messages import Refused, take
from gateway.central.intake.salvage import Salvaged, Spoiled, entry_alone
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult, JournalState
from gateway.central.ledger.revisions import sequence
from gateway.contract.messages import MAX_SEQ, Balance, Batch, Capture, DirectoryRequest, Gap, Status
from gateway.contract.topics import Topics
from gateway.errors import ContractError

INDIGESTIBLE = (ContractError, ValueError, TypeError, ArithmeticError, LookupError)
"""What one hostile message may cause: it is set aside, and the others go on."""

log = structlog.get_logger("gateway.central")


@dataclass(frozen=True, slots=True)
class Received:
    """A message with the time of its arrival."""

    topic: str
    payload: bytes
    at: datetime


@dataclass(slots=True)
class Outcome:
    """What became of a handful of messages."""

    result: IngestResult = field(default_factory=IngestResult)
    journals: dict[str, JournalState] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)
    requests: list[DirectoryRequest] = field(default_factory=list)
    set_aside: int = 0


def _halves(batch: Batch) -> list[Batch]:
    """Divide a batch of several entries in two; nothing when it has one or none."""
    entries = [*batch.captures, *batch.gaps]
    if len(entries) < 2:
        return []
    middle = len(entries) // 2
    return [
        batch.model_copy(
            update={
                "captures": tuple(e for e in part if isinstance(e, Capture)),
                "gaps": tuple(e for e in part if isinstance(e, Gap)),
            }
        )
        for part in (entries[:middle], entries[middle:])
    ]


class Desk:
    """Takes messages to the ledger. LedgerError means that nothing can be stored now: try the same again."""

    def __init__(self, ledger: Ledger, topics: Topics) -> None:
        self._ledger = ledger
        self._topics = topics

    def handle(self, messages: Sequence[Received]) -> Outcome:
        """Store everything that can be stored; all of it is durable on return."""
        outcome = Outcome()
        batches: list[tuple[Received, Batch]] = []
        spoiled: list[tuple[Received, Batch, Spoiled]] = []
        for message in messages:
            item = take(self._topics, message.topic, message.payload)
            if isinstance(item, Refused):
                self._set_aside(outcome, message, item)
            elif isinstance(item, Batch):
                batches.append((message, item))
            elif isinstance(item, Salvaged):
                batches.append((message, item.batch))
                spoiled += [(message, item.batch, one) for one in item.spoiled]
            elif isinstance(item, Status):
                self._ledger.statuses.put(item.gateway, item.model_dump_json(), message.at)
                outcome.statuses.append(item)
            elif isinstance(item, Balance):
                self._ledger.balances.put(item.account_id, item.at, item.model_dump_json(), message.at)
            else:
                self._ledger.edges.set_meters(item.gateway, item.meters)
                outcome.requests.append(item)
        if batches:
            self._store(outcome, batches)
        for message, batch, one in spoiled:
            aside = Received(message.topic, one.payload, message.at)
            self._give_up(outcome, aside, batch.journal, one.seq, Refused("malformed", one.detail))
        known = {batch.journal for _, batch in batches} | {status.journal for status in outcome.statuses}
        outcome.journals = {journal: self._ledger.journals.state(journal) for journal in known}
        return outcome

    def _store(self, outcome: Outcome, batches: Sequence[tuple[Received, Batch]]) -> None:
        try:
            outcome.result += self._ledger.ingest_many([(batch, message.at) for message, batch in batches])
        except INDIGESTIBLE as error:
            if len(batches) > 1:
                for one in batches:
                    self._store(outcome, [one])
                return
            message, batch = batches[0]
            refused = Refused("cannot_be_stored", str(error))
            parts = _halves(batch)
            if parts:
                for part in parts:
                    self._store(outcome, [(message, part)])
            elif (seq := next(iter(sequence(batch)), None)) is not None:
                alone = Received(message.topic, entry_alone(message.payload, seq), message.at)
                self._give_up(outcome, alone, batch.journal, seq, refused)
            else:
                self._set_aside(outcome, message, refused)

    def _give_up(self, outcome: Outcome, message: Received, journal: str, seq: int, refused: Refused) -> None:
        """Set one entry aside; when it comes again unchanged, let the journal's count go on without it.

        A hole that cannot close would stop all that follows; once could be an accident on the way.
        """
        times = self._set_aside(outcome, message, refused)
        if times > 1 and 1 <= seq <= MAX_SEQ:
            self._ledger.journals.declare_lost(
                journal, seq, seq, f"dead letter: {refused.detail}"[:500], message.at
            )

    def _set_aside(self, outcome: Outcome, message: Received, refused: Refused) -> int:
        outcome.set_aside += 1
        times = self._ledger.letters.put(
            message.topic, message.payload, refused.reason, refused.detail, message.at
        )
        log.warning("message_set_aside", topic=message.topic, reason=refused.reason, detail=refused.detail)
        return times

    def redrive(self, letter_id: int, at: datetime) -> Outcome:
        """Try a dead letter again, after whatever made it fail was repaired; gone when it is stored.

        ContractError when there is no such letter or its bytes were too many to keep.
        """
        letter = next((one for one in self._ledger.letters.all() if one.id == letter_id), None)
        if letter is None:
            raise ContractError(f"there is no dead letter {letter_id}")
        if letter.size > len(letter.payload):
            raise ContractError(f"dead letter {letter_id} was cut when it was kept: ask for a replay instead")
        outcome = self.handle([Received(letter.topic, letter.payload, at)])
        if not outcome.set_aside:
            self._ledger.letters.remove(letter_id)
        return outcome
