"""What consumers acknowledge: whose word it is, whether it may count, and the proof of it that is kept.

Central's word is signed. Another consumer's is bound to its login by the topic's last level (the broker's access
rules) and counts where the configuration names it. An acknowledgement deletes nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.contract.central_word import CENTRAL, parse_signed, read_signed
from gateway.contract.envelope import parse, parse_data
from gateway.contract.messages import Ack, ReplayRequest
from gateway.contract.messages.generation import NO_GENERATION, Generation
from gateway.edge.sinks.base import JournalReader
from gateway.errors import ContractError


class AckFate(StrEnum):
    """What became of an acknowledgement that was not refused."""

    COUNTED = "counted"
    IGNORED = "ignored"


class AckRefused(ContractError):
    """An acknowledgement that nobody honest sends: forged, foreign, replayed, or beyond the journal's end."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A consumer's acknowledgement with the text that proves it: the signature, or the bare message."""

    ack: Ack
    proof: str


class Acknowledgements:
    """Takes the messages of `{gateway}/acks/{consumer}` and `{gateway}/replay/{consumer}`.

    `keys` verify central's signatures; `counting` are the consumers whose acknowledgements release entries.
    """

    def __init__(self, keys: Sequence[bytes], counting: frozenset[str]) -> None:
        self._keys = tuple(keys)
        self._counting = counting

    async def take(self, consumer: str, payload: bytes, journal: JournalReader) -> AckFate:
        """Let an acknowledgement count; AckRefused says why it does not."""
        word = self._word(consumer, payload)
        ack = word.ack
        _check_consumer(ack.consumer, consumer)
        if ack.journal != journal.uuid:
            raise AckRefused(f"$.data.journal: {ack.journal!r} is not our journal {journal.uuid!r}")
        if consumer not in self._counting:
            return AckFate.IGNORED
        if (
            consumer == CENTRAL
            and ack.generation is not None
            and await journal.heard(ack.generation, ack.seq)
        ):
            raise AckRefused(
                f"$.data.generation: {consumer} acknowledged {ack.seq} in generation {ack.generation} of our"
                f" journal, of which this file knows nothing: it goes on as journal {journal.uuid}"
            )
        if ack.seq > journal.last_seq:
            # No proof that our file was set back: another consumer may claim any number. The file beside the
            # journal tells that (`gateway.edge.journal.generation`).
            raise AckRefused(
                f"$.data.seq: {consumer} acknowledged {ack.seq}, but journal {journal.uuid} ends at"
                f" {journal.last_seq}: nothing was released; look who speaks for it, and whether this machine"
                " was restored from a copy"
            )
        ledger, life = self._counted(consumer, journal)
        told = ack.ledger_generation or NO_GENERATION
        if told.is_before(life):
            raise AckRefused(
                f"$.data.ledger_generation: {consumer} acknowledged in generation {told} of its ledger, and we"
                f" heard of {life}: an old message came again"
            )
        if told.is_twin_of(life) or (told == life != NO_GENERATION and ack.ledger != ledger):
            raise AckRefused(
                f"$.data.ledger_generation: {consumer} has two ledgers of one generation: {told} of {ack.ledger}"
                f" and {life} of {ledger}; see which of them is a copy"
            )
        await journal.consumer_ack(consumer, ack.seq, word.proof, anew=life.is_before(told))
        return AckFate.COUNTED

    def replay(self, consumer: str, payload: bytes, journal: JournalReader) -> ReplayRequest:
        """Return what a consumer wants again; ContractError when it may not ask for it."""
        if consumer == CENTRAL:
            wanted, _ = parse_signed(payload, ReplayRequest, self._keys)
        else:
            wanted = parse(payload, ReplayRequest).data
        _check_consumer(wanted.consumer, consumer)
        if wanted.journal != journal.uuid:
            raise ContractError(f"$.data.journal: {wanted.journal!r} is not our journal {journal.uuid!r}")
        return wanted

    def _word(self, consumer: str, payload: bytes) -> _Word:
        try:
            if consumer == CENTRAL:
                return _Word(*parse_signed(payload, Ack, self._keys))
            ack = parse(payload, Ack).data
        except ContractError as error:
            raise AckRefused(f"{error} (said in the name of {consumer})") from error
        return _Word(ack, ack.model_dump_json(exclude_none=True))

    def _counted(self, consumer: str, journal: JournalReader) -> tuple[str | None, Generation]:
        """Return which ledger of a consumer, and which life of it, counted last."""
        proof = journal.ack_proof(consumer)
        if proof is None:
            return None, NO_GENERATION
        try:
            if consumer == CENTRAL:
                ack = read_signed(proof, Ack, self._keys)
            else:
                ack = parse_data(proof.encode(), Ack)
        except ContractError:  # signed with a key that is no longer trusted
            return None, NO_GENERATION
        return ack.ledger, ack.ledger_generation or NO_GENERATION


def _check_consumer(said: str, topic: str) -> None:
    """Refuse what one consumer says in another's name: the broker's access rules hold per topic."""
    if said != topic:
        raise AckRefused(f"$.data.consumer: {said!r} on the topic of {topic!r}")
