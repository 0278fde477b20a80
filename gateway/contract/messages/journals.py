"""What a consumer tells a journal: how far it has stored, and what it wants again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.contract.messages.base import MAX_SEQ, Identifier, Message, Seq, UtcTime
from gateway.contract.messages.generation import DirectoryVersionText, GenerationText


class Ack(Message):
    """A consumer has durably stored every entry of this journal up to and with `seq`.

    `generation` is the journal's, as the consumer heard it last. `ledger` and `ledger_generation` say which
    store holds the entries, and in which life: one of a later life counts though its `seq` is lower, one of an
    earlier life does nothing. Central's travel signed (see `Signed`) and say all of it, and which state of the
    `directory` central had seen: what an edge shows of it proves that, too.
    """

    journal: Identifier
    generation: GenerationText | None = None
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    consumer: Identifier
    ledger: Identifier | None = None
    ledger_generation: GenerationText | None = None
    directory: DirectoryVersionText | None = None
    issued_at: UtcTime | None = None


class ReplayRequest(Message):
    """A consumer wants the entries first..last of this journal again. Central's travels signed (see `Signed`)."""

    journal: Identifier
    generation: GenerationText | None = None
    first: Seq
    last: Seq
    consumer: Identifier
    issued_at: UtcTime | None = None
