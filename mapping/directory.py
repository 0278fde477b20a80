"""Who holds which meter, over time: installations, holdings, namings and the lookup of attributions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a meter is installed for."""

    CONSUMER = "consumer"
    CHECK = "check"
    FEEDER = "feeder"
    TRANSFORMER = "transformer"
    STOCK = "stock"


class AttributionRole(StrEnum):
    """How a capture belongs to an account."""

    NORMAL = "normal"
    FINAL = "final"
    OPENING = "opening"
    PARTIAL = "partial"


class Unattributed(StrEnum):
    """Why a capture stands under no account."""

    NO_ACCOUNT = "no_account"
    NOT_A_CONSUMER = "not_a_consumer"
    UNTRUSTED_TIME = "untrusted_time"
    IDENTITY_MISMATCH = "identity_mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """One account that a capture belongs to; `account_number` is None until the re-key names it."""

    account_id: str
    account_number: str | None
    legacy_number: str | None
    usage_point: str
    role: AttributionRole = AttributionRole.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributions:
    """The answer of a lookup.

    `reason` is set when `accounts` is empty, and is `no_account` too while an account in it
    has no 10-digit number yet.
    """

    accounts: tuple[Attribution, ...]
    reason: Unattributed | None
    directory_version: int
