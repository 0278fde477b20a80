"""What billing hears of the directory: spans that changed hands, accounts that changed names, whose word counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from gateway.contract.messages.base import MAX_SEQ, AccountNumberText, Identifier, Message, UtcTime
from gateway.contract.messages.generation import DirectoryVersionText


class AttributedAccount(Message):
    """An account that a span belongs to; without `account_number` it has no 10-digit number yet."""

    account_id: Identifier
    account_number: AccountNumberText | None = None
    legacy_number: Identifier | None = None
    usage_point: Identifier


class AttributionChanged(Message):
    """From `from` (inclusive) to `to` (exclusive) the meter belongs to `new`.

    Boundaries are instants of the meter's timeline; without `from` it is since ever, without `to` until further
    notice. `new` empty: it belongs to nobody, and `reason` says why. The statement is that of the directory's
    state `directory`; `old` is what an earlier state said.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    meter: Identifier
    since: UtcTime | None = Field(default=None, alias="from")
    until: UtcTime | None = Field(default=None, alias="to")
    old: tuple[AttributedAccount, ...] = ()
    new: tuple[AttributedAccount, ...] = Field(default=(), max_length=1)
    reason: Literal["no_account", "not_a_consumer"] | None = None
    directory: DirectoryVersionText


class NamingChanged(Message):
    """An account got another number (`new` absent: lost it); no reading changes hands."""

    account_id: Identifier
    kind: Literal["legacy", "account_number"]
    old: Identifier | None = None
    new: Identifier | None = None
    directory: DirectoryVersionText


class AllocationChanged(Message):
    """A meter is read by `gateway` from `from` until `to` (absent: until further notice): its word counts.

    Each allocation of a meter has an `epoch` of its own, 1 and up, and never another gateway. It is told again when
    it ends.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    meter: Identifier
    epoch: Annotated[int, Field(ge=1, le=MAX_SEQ)]
    gateway: Identifier
    since: UtcTime = Field(alias="from")
    until: UtcTime | None = Field(default=None, alias="to")
