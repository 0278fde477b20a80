"""What a consumer that joined late asks central for, page by page, and what central answers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from gateway.contract.messages.base import MAX_SEQ, Identifier, Message, UtcTime

MAX_METERS: Final = 500
"""Meters named in one request; without any, all are meant."""
MAX_ANSWERED: Final = 1_000
"""Messages of one page, and journals of one answer."""
Place = Annotated[str, Field(min_length=1, max_length=500)]


class HistoryRequest(Message):
    """A consumer wants a page of what central holds: of these `meters` (none named: of all), `from` to `to`.

    `what` is `readings` (captures, and of their meters all that is told on `attributions` and `verdicts`),
    `attributions` (that alone), or `journals` (how far each is stored). `from` and `to` are meter time and choose
    readings only: intervals that end after `from` and at or before `to`, snapshots from `from` on and up to `to`.
    `request` is the consumer's own name for it. `after` is that of the last answer, to go on from there.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    consumer: Identifier
    request: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
    what: Literal["readings", "attributions", "journals"]
    meters: Annotated[tuple[Identifier, ...], Field(max_length=MAX_METERS)] = ()
    since: UtcTime | None = Field(default=None, alias="from")
    until: UtcTime | None = Field(default=None, alias="to")
    after: Place | None = None


class JournalStored(Message):
    """Central holds 1..`seq` of this journal, or what came in their place, or has declared them lost."""

    journal: Identifier
    gateway: Identifier
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]


class HistoryAnswer(Message):
    """A page was sent: `messages` are the ids of its messages, in their order.

    Who lacks one of them repeats the request. `after` is where the next page begins; without it this was the last.
    `refused` says why there is no page.
    """

    consumer: Identifier
    request: Identifier
    messages: Annotated[tuple[Identifier, ...], Field(max_length=MAX_ANSWERED)] = ()
    journals: Annotated[tuple[JournalStored, ...], Field(max_length=MAX_ANSWERED)] = ()
    after: Place | None = None
    refused: Annotated[str, Field(max_length=500)] | None = None
