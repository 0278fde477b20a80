"""What can be done to the directory: the changes that a change set is made of.

`mapping.kinds` has the table of them with their form as JSON. Where a change says nothing of a multiplier or a way of
paying, what was declared before holds on: nothing that was declared is lost by not being said again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final

from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role


class _Unsaid(Enum):
    UNSAID = "unsaid"


UNSAID: Final = _Unsaid.UNSAID
"""Of a span's way of paying: as it was recorded for that account there; None says that it is not known."""


@dataclass(frozen=True, slots=True)
class Install:
    """Fit a meter at a usage point from `valid_from` on.

    A meter that is in stock (or otherwise nobody's) leaves there; a consumer's meter must be removed first. Without
    a `multiplier` that of the usage point's last meter of the same role holds on, as its transformers stay; without
    one, the meter's own in stock; else 1.
    """

    meter: str
    usage_point: str
    role: Role
    valid_from: datetime
    multiplier: Decimal | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a meter away at `at`; one that was fitted at that very instant stays recorded with no length.

    Refused (METER_NOT_FITTED) when it is fitted nowhere then. `row` is the line of the file that says so.
    """

    meter: str
    at: datetime
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Replace:
    """Put meter `new` in the place of `old` at `at`: same usage point, role and multiplier, unless another is said.

    Refused (METER_NOT_FITTED) when `old` is fitted nowhere then, and (OTHER_USAGE_POINT) when it is fitted elsewhere
    than at `usage_point`, where that is said.
    """

    old: str
    new: str
    at: datetime
    usage_point: str | None = None
    multiplier: Decimal | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class SetMultiplier:
    """Declare the external multiplier (CT and PT) of a fitted meter from `valid_from` on.

    Until `valid_to`, else until what is recorded next of this meter. Refused (METER_NOT_FITTED) when it is not
    fitted throughout.
    """

    meter: str
    multiplier: Decimal
    valid_from: datetime
    valid_to: datetime | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class MoveIn:
    """Let an account hold a usage point from `valid_from` on; a former holder must have moved out.

    Refused (HELD) otherwise. The same account with another payment mode goes on under that mode. `row` is the
    line of the file that says so.
    """

    usage_point: str
    account_id: str
    valid_from: datetime
    payment_mode: PaymentMode | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class MoveOut:
    """End the holding of a usage point at `at`: it is vacant from then on.

    Refused (NOT_HELD) when nobody holds it then. `row` is the line of the file that says so.
    """

    usage_point: str
    at: datetime
    row: int | None = None


@dataclass(frozen=True, slots=True)
class SetPaymentMode:
    """Say how a usage point's holder pays from `valid_from` on (None: not known).

    Until `valid_to`, else until what is recorded next of this usage point. Refused (NOT_HELD) when nobody holds it
    throughout.
    """

    usage_point: str
    payment_mode: PaymentMode | None
    valid_from: datetime
    valid_to: datetime | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """Give an account its number of one kind (None: take it away); the re-key is a set of these.

    Refused (NUMBER_TAKEN) when another account would keep that number after the whole change set; numbers may
    be swapped within one. `row` is the line of the file that says so.
    """

    account_id: str
    kind: NumberKind
    number: str | None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class InstallationSpan:
    """One stretch of a corrected installation history.

    Without a `multiplier` the usage point's own of that time holds on, as `Install` finds it.
    """

    usage_point: str
    role: Role
    valid_from: datetime
    valid_to: datetime | None
    multiplier: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CorrectInstallations:
    """State a meter's whole history anew: crossed meters, wrong dates, a correction of a correction."""

    meter: str
    spans: tuple[InstallationSpan, ...]
    row: int | None = None


@dataclass(frozen=True, slots=True)
class HoldingSpan:
    """One stretch of a corrected holding history."""

    account_id: str
    valid_from: datetime
    valid_to: datetime | None
    payment_mode: PaymentMode | _Unsaid | None = None


@dataclass(frozen=True, slots=True)
class CorrectHoldings:
    """State a usage point's whole history of holders anew."""

    usage_point: str
    spans: tuple[HoldingSpan, ...]
    row: int | None = None


@dataclass(frozen=True, slots=True)
class CrossMeters:
    """Correct meters that were recorded crosswise: each stood, in truth, where the next one was recorded.

    The last one stood where the first was: a pair, or a cycle of any length (users.md §6 rows 34 to 36). It holds from
    `valid_from` until `valid_to` (None: until now and on). Role and multiplier belong to the place. No reading is
    touched. Refused (NOT_CROSSED) where one of them is recorded nowhere in that time.
    """

    meters: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class CrossHoldings:
    """Correct usage points whose holders were recorded crosswise: each was held by whom the next one had recorded."""

    usage_points: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Say what attributes of a usage point are from `valid_from` on (None: not known any more).

    Each until `valid_to`, else until what is recorded next of it; attributes that are not named stay as they are.
    """

    usage_point: str
    values: Mapping[AttributeKind, str | None]
    valid_from: datetime
    valid_to: datetime | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class AttributeSpan:
    """One stretch of a corrected attribute."""

    value: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class CorrectAttributes:
    """State the whole history of one attribute of a usage point anew."""

    usage_point: str
    attribute: AttributeKind
    spans: tuple[AttributeSpan, ...]
    row: int | None = None


Change = (
    Install
    | Remove
    | Replace
    | SetMultiplier
    | MoveIn
    | MoveOut
    | SetPaymentMode
    | Name
    | CorrectInstallations
    | CorrectHoldings
    | CrossMeters
    | CrossHoldings
    | SetAttributes
    | CorrectAttributes
)
