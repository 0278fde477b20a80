"""Who holds which meter, over time: installations, holdings, namings and the lookup of attributions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, TypeVar


class Role(StrEnum):
    """What a meter is installed for.

    Only a consumer's meter counts for an account; a check meter stands beside one, feeders and transformers
    feed many, and stock stands in no house.
    """

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


class Holder(NamedTuple):
    """Who a meter's energy belongs to: an account, at the usage point where the meter serves it."""

    account_id: str
    usage_point: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """One account that a capture belongs to; `account_number` is None until the re-key names it.

    Of a `partial` one the account held the meter from `since` until before `until`, inside the capture's interval.
    """

    account_id: str
    account_number: str | None
    legacy_number: str | None
    usage_point: str
    role: AttributionRole = AttributionRole.NORMAL
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributions:
    """The answer of a lookup.

    `reason` is set when `accounts` is empty, and is `no_account` too while an account in it
    has no 10-digit number yet.
    """

    accounts: tuple[Attribution, ...]
    reason: Unattributed | None
    directory_version: int


class NumberKind(StrEnum):
    """Which of an account's names a number is; never mixed in a lookup (users.md §6 row 11).

    The legacy number of one account may have the very digits that are the new account number of another.
    """

    LEGACY = "legacy_number"
    ACCOUNT = "account_number"


class PaymentMode(StrEnum):
    """How a holding pays."""

    PREPAID = "prepaid"
    POSTPAID = "postpaid"


class AttributeKind(StrEnum):
    """What is kept of a usage point beside who holds it (users.md §B.4): where it hangs, and what it may draw."""

    TRANSFORMER = "transformer"
    FEEDER = "feeder"
    ROUTE = "route"
    SANCTIONED_LOAD = "sanctioned_load"
    PHASE = "phase"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """One applied change set: it raised the directory version to `version` at `at` (UTC).

    `digest` is the SHA-256 of the file it came from, `sequence` the number that the file carried.
    """

    version: int
    at: datetime
    by: str
    source: str
    digest: str | None = None
    sequence: int | None = None


# The three relations are tuples, not dataclasses: a city has 2.8 million of them in memory.


class Installation(NamedTuple):
    """Meter at usage point from `valid_from` until before `valid_to` (UTC; None is open)."""

    meter: str
    usage_point: str
    role: Role
    multiplier: Decimal
    valid_from: datetime
    valid_to: datetime | None
    recorded: ChangeSet
    superseded: ChangeSet | None = None
    row: int | None = None

    @property
    def known_from(self) -> datetime:
        """When the directory learned this."""
        return self.recorded.at

    @property
    def known_to(self) -> datetime | None:
        """When the directory learned better; None while it holds."""
        return self.superseded.at if self.superseded else None


class Holding(NamedTuple):
    """Usage point held by an account from `valid_from` until before `valid_to` (UTC; None is open)."""

    usage_point: str
    account_id: str
    payment_mode: PaymentMode | None
    valid_from: datetime
    valid_to: datetime | None
    recorded: ChangeSet
    superseded: ChangeSet | None = None
    row: int | None = None

    @property
    def known_from(self) -> datetime:
        """When the directory learned this."""
        return self.recorded.at

    @property
    def known_to(self) -> datetime | None:
        """When the directory learned better; None while it holds."""
        return self.superseded.at if self.superseded else None


class Naming(NamedTuple):
    """Account named by a number of one kind; an open `valid_to` is its present name."""

    account_id: str
    kind: NumberKind
    number: str
    valid_from: datetime
    valid_to: datetime | None
    recorded: ChangeSet
    superseded: ChangeSet | None = None
    row: int | None = None

    @property
    def known_from(self) -> datetime:
        """When the directory learned this."""
        return self.recorded.at

    @property
    def known_to(self) -> datetime | None:
        """When the directory learned better; None while it holds."""
        return self.superseded.at if self.superseded else None


class Attribute(NamedTuple):
    """What one attribute of a usage point is from `valid_from` until before `valid_to` (UTC; None is open).

    `value` is text as written: a name, kilowatts of sanctioned load (`2.5`), or the phase.
    """

    usage_point: str
    kind: AttributeKind
    value: str
    valid_from: datetime
    valid_to: datetime | None
    recorded: ChangeSet
    superseded: ChangeSet | None = None
    row: int | None = None


DirectoryRow = Installation | Holding | Naming | Attribute
"""A row of any of the four relations."""
RowT = TypeVar("RowT", Installation, Holding, Naming, Attribute)
"""A row of one of them, whichever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountNames:
    """An account and its present names."""

    account_id: str
    account_number: str | None
    legacy_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryCounts:
    """How many rows hold now."""

    meters: int
    usage_points: int
    accounts: int
    account_numbers: int
    legacy_numbers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionSpan:
    """Between `start` and `end` (None: open) a meter's energy belongs to `new`, and belonged to `old` before.

    Each is the holder, or why there is none. A capture is touched when its interval or instant meets the span,
    both ends included: at an end the roles `final`, `opening` and `partial` may change.
    """

    meter: str
    start: datetime
    end: datetime | None
    old: Holder | Unattributed
    new: Holder | Unattributed
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingChange:
    """An account's present number of one kind changed from `old` to `new` (None: had or has none)."""

    account_id: str
    kind: NumberKind
    old: str | None
    new: str | None
    version: int
