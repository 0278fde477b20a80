"""Central's order to read from a meter's own memory what its ledger lost and no journal holds any more."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from gateway.contract.messages.base import MAX_SEQ, Identifier, Message, UtcTime
from gateway.contract.messages.generation import GenerationText

OrderNumber = Annotated[int, Field(ge=1, le=MAX_SEQ)]


class ReadAgain(Message):
    """Read a profile of a meter again, from < at <= to (without `from`: as far back as the edge ever reads).

    It travels signed (see `Signed`). What is read is journaled and delivered once more, under the same capture_id
    and the next value_rev. Of one meter and profile the order of the highest (`ledger_generation`, `number`) counts;
    one that was carried out is answered again and does nothing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    gateway: Identifier
    number: OrderNumber
    meter: Identifier
    profile: Identifier
    since: UtcTime | None = Field(default=None, alias="from")
    until: UtcTime = Field(alias="to")
    ledger_generation: GenerationText
    issued_at: UtcTime


class ReadAgainTaken(Message):
    """An edge has set the watermark back: the reading follows. `refused` says why it did not."""

    gateway: Identifier
    number: OrderNumber
    meter: Identifier
    profile: Identifier
    refused: Annotated[str, Field(max_length=500)] | None = None
