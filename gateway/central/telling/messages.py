"""What is queued, what is handed to a provider, what came of it: the words between queue, sender and providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from gateway.central.telling.templates import Rendered

REPORTED_WITHIN: Final = timedelta(hours=72)
"""Operators try a phone that is off for two days at most; a report that is not there by then does not come."""


class State(StrEnum):
    """Where a message is.

    waiting → handing → accepted → delivered | undelivered | unreported. From `handing` also back to `waiting` (not
    taken, for certain), to `failed` (refused for good, or tried too often), or to `unconfirmed`: the program or the
    line ended in between, so the provider may have it; it is never sent again by itself. `expired` and `refused`
    (opted out, contact removed, …) were never handed over.
    """

    WAITING = "waiting"
    HANDING = "handing"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    UNREPORTED = "unreported"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to queue: to one contact, once for ever for its `dedupe_key`.

    `values` are those of the template and of its `unverified` one. `batch` names what it is sent for, to count by
    (a campaign). It is not sent before `not_before`, nor after `expires`.
    """

    template: str
    contact_id: str
    values: Mapping[str, str]
    dedupe_key: str
    batch: str = ""
    not_before: datetime | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """What became of a message that was put: its id and state; `fresh` is False where its key was there already."""

    id: str
    state: State
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A message that is being handed over: noted durably before a provider hears of it."""

    id: str
    attempt: int
    mobile: str
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has it, under this id where it gives one."""

    provider_id: str | None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The provider has it not, for certain; it may be tried again.

    `away`: the provider takes nothing at all now, so that this is no try of this message.
    """

    reason: str
    away: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will never take this message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Nobody knows whether the provider has it: the line broke, or its answer says nothing."""

    reason: str


Outcome = Accepted | NotTaken | Refused | Doubtful


class Provider(Protocol):
    """A way to people's phones. `reports` says whether delivery reports come."""

    reports: bool

    async def hand(self, message: Handed) -> Outcome:
        """Hand a message over and say what came of it. When cancelled, nobody knows."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the provider says later of a message: found by its id, or by ours."""

    state: State
    provider_id: str | None = None
    message_id: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message as it stands in the queue, for people: without mobile and values."""

    id: str
    template: str
    account_id: str
    state: State
    reason: str
    queued_at: datetime
    handed_at: datetime | None
    ended_at: datetime | None
    tries: int
    segments: int
    provider_id: str | None
    batch: str
