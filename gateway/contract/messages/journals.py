"""What a consumer tells a journal: how far it has stored, and what it wants again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.contract.messages.base import MAX_SEQ, Identifier, Message, Seq


class Ack(Message):
    """A consumer has durably stored every entry of this journal up to and with `seq`."""

    journal: Identifier
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    consumer: Identifier


class ReplayRequest(Message):
    """A consumer wants the entries first..last of this journal again."""

    journal: Identifier
    first: Seq
    last: Seq
    consumer: Identifier
