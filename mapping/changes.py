"""What can be done to the directory: the changes that a change set is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from mapping.directory import NumberKind, PaymentMode, Role


@dataclass(frozen=True, slots=True)
class Install:
    """Fit a meter at a usage point from `valid_from` on.

    A meter that is in stock (or otherwise nobody's) leaves there; a consumer's meter must be removed first.
    """

    meter: str
    usage_point: str
    role: Role
    valid_from: datetime
    multiplier: Decimal = Decimal(1)
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a meter away at `at`.

    Refused (METER_NOT_FITTED) when it is fitted nowhere then. `row` is the line of the file that says so.
    """

    meter: str
    at: datetime
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
    """One stretch of a corrected installation history."""

    usage_point: str
    role: Role
    valid_from: datetime
    valid_to: datetime | None
    multiplier: Decimal = Decimal(1)


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
    payment_mode: PaymentMode | None = None


@dataclass(frozen=True, slots=True)
class CorrectHoldings:
    """State a usage point's whole history of holders anew."""

    usage_point: str
    spans: tuple[HoldingSpan, ...]
    row: int | None = None


Change = Install | Remove | MoveIn | MoveOut | Name | CorrectInstallations | CorrectHoldings
