"""What billing hears of the directory: spans that changed hands, accounts that changed names."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.contract.messages.base import AccountNumberText, Identifier, Message, UtcTime, Version


class AttributedAccount(Message):
    """An account that a span belongs to."""

    account_id: Identifier
    account_number: AccountNumberText | None
    legacy_number: Identifier | None
    usage_point: Identifier


class AttributionChanged(Message):
    """From `from` (inclusive) to `to` (exclusive; null = until further notice) the meter belongs to `new`.

    Boundaries are instants of the meter's timeline; empty `new` means that it belongs to nobody.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    meter: Identifier
    since: UtcTime = Field(alias="from")
    until: UtcTime | None = Field(alias="to")
    old: tuple[AttributedAccount, ...]
    new: tuple[AttributedAccount, ...]
    directory_version: Version


class NamingChanged(Message):
    """An account got another number; no reading changes hands."""

    account_id: Identifier
    kind: Literal["legacy", "account_number"]
    old: Identifier | None
    new: Identifier | None
    directory_version: Version
