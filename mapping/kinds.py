"""The one table of kinds of change, each with its form as JSON: every door takes and shows changes by it.

A form names things as people and other systems do (an account by its number, too); `change` makes changes of it with
the directory at hand. Numbers are strings in JSON, times RFC 3339 with their offset. `mapping.change_sets` reads and
writes whole sets of forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic import AwareDatetime as AnyAwareDatetime

from mapping import changes
from mapping.account import AccountNumber, LegacyNumber, MeterId
from mapping.changes import UNSAID, Change
from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role
from mapping.errors import ChangeRefused
from mapping.snapshot_json import MAX_NAME

MAX_SPANS: Final = 1_000
"""Stretches of one history, and meters of one cycle."""


def _exact(given: object) -> object:
    if isinstance(given, float | bool | int):
        raise ValueError('write the number as a string, for example "10"')  # noqa: TRY004 - pydantic takes no other
    return given


def _dated(given: object) -> object:
    if isinstance(given, float | int):  # a number may be seconds or milliseconds, and of which day one begins
        raise ValueError("write the time with its offset, for example 2026-11-23T10:00:00+05:30")  # noqa: TRY004
    return given


def _meter(text: str) -> str:
    return str(MeterId.parse(text))


Meter = Annotated[str, StringConstraints(max_length=64), AfterValidator(_meter)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
Given = Annotated[str, StringConstraints(max_length=64)]
AwareDatetime = Annotated[AnyAwareDatetime, BeforeValidator(_dated)]
Exact = Annotated[Decimal, BeforeValidator(_exact)]


class Resolve(Protocol):
    """Finds accounts by what a form says of them."""

    def account(self, given: OfAccount) -> str:
        """Return the id of an account that is there; ChangeRefused (ACCOUNT) says why there is none."""
        ...

    def new_account(self) -> str:
        """Return the id of an account to be made."""
        ...


class Part(BaseModel):
    """Anything of a form: what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OfAccount(Part):
    """Names an account by its id or by one of its numbers."""

    account_id: Id | None = None
    account_number: Given | None = None
    legacy_number: Given | None = None


class Form(Part):
    """What every kind has; `row` is the line of the file that says so."""

    makes: ClassVar[Callable[..., Change]]
    """The change that it stands for."""
    row: Annotated[int, Field(ge=1)] | None = None

    def change(self, resolve: Resolve) -> Sequence[Change]:  # noqa: ARG002 - of those that name accounts
        """Return the changes that it stands for; ChangeRefused says what of it cannot be."""
        return [self.makes(**self.members())]

    def members(self) -> dict[str, Any]:
        """Return the members of its change; those have the same names."""
        return {one.name: getattr(self, one.name) for one in fields(self.makes)}  # type: ignore[arg-type]

    @classmethod
    def of(cls, change: Change) -> dict[str, Any]:
        """Return the members of the form that stands for a change."""
        return {one.name: getattr(change, one.name) for one in fields(change)}


class Install(Form):
    """Fit a meter at a usage point; without a multiplier the usage point's own holds on."""

    makes = changes.Install
    kind: Literal["install"] = "install"
    meter: Meter
    usage_point: Id
    role: Role = Role.CONSUMER
    valid_from: AwareDatetime
    multiplier: Exact | None = None


class Remove(Form):
    """Take a meter away from where it is fitted."""

    makes = changes.Remove
    kind: Literal["remove"] = "remove"
    meter: Meter
    at: AwareDatetime


class Replace(Form):
    """Put a meter in the place of another, whose multiplier holds on unless another is said."""

    makes = changes.Replace
    kind: Literal["replace"] = "replace"
    old: Meter
    new: Meter
    at: AwareDatetime
    usage_point: Id | None = None
    multiplier: Exact | None = None


class Multiplier(Form):
    """Declare the external multiplier (CT and PT) of a fitted meter."""

    makes = changes.SetMultiplier
    kind: Literal["multiplier"] = "multiplier"
    meter: Meter
    multiplier: Exact
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class MoveIn(OfAccount, Form):
    """Let an account hold a usage point; `new` makes the account, with the number that is given."""

    makes = changes.MoveIn
    kind: Literal["move_in"] = "move_in"
    usage_point: Id
    valid_from: AwareDatetime
    payment_mode: PaymentMode | None = None
    new: bool = False

    def change(self, resolve: Resolve) -> Sequence[Change]:
        """Return the change, and for a new account its naming."""
        account = resolve.new_account() if self.new else resolve.account(self)
        held = changes.MoveIn(self.usage_point, account, self.valid_from, self.payment_mode, self.row)
        if not self.new:
            return [held]
        numbers = numbers_of(self)
        if not numbers or self.account_id is not None:
            raise ChangeRefused("FORM", "a new account needs a number: account_number, legacy_number or both")
        return [held, *(changes.Name(account, kind, number, self.row) for kind, number in numbers.items())]


class MoveOut(Form):
    """End the holding of a usage point."""

    makes = changes.MoveOut
    kind: Literal["move_out"] = "move_out"
    usage_point: Id
    at: AwareDatetime


class SetPaymentMode(Form):
    """Say how a usage point's holder pays; null where it is not known."""

    makes = changes.SetPaymentMode
    kind: Literal["payment_mode"] = "payment_mode"
    usage_point: Id
    payment_mode: PaymentMode | None
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class Name(OfAccount, Form):
    """Give an account a number, or take it away (null); `new` makes an account that holds nothing yet."""

    makes = changes.Name
    kind: Literal["name"] = "name"
    number_kind: NumberKind
    number: Given | None
    new: bool = False

    def change(self, resolve: Resolve) -> Sequence[Change]:
        """Return the naming."""
        number = None if self.number is None else parsed_number(self.number_kind, self.number)
        if self.new and (number is None or self.account_id is not None or numbers_of(self)):
            raise ChangeRefused("FORM", "a new account is named by `number` alone")
        account = resolve.new_account() if self.new else resolve.account(self)
        return [changes.Name(account, self.number_kind, number, self.row)]

    @classmethod
    def of(cls, change: Change) -> dict[str, Any]:
        """Return the members of the form: a change calls `kind` what is `number_kind` here."""
        members = Form.of(change)
        return {**members, "kind": "name", "number_kind": members["kind"]}


class InstallationSpan(Part):
    """One stretch of a corrected installation history; without a multiplier the usage point's own holds on."""

    usage_point: Id
    role: Role = Role.CONSUMER
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None
    multiplier: Exact | None = None


class CorrectInstallations(Form):
    """State anew where a meter was, from when to when."""

    makes = changes.CorrectInstallations
    kind: Literal["correct_installations"] = "correct_installations"
    meter: Meter
    spans: Annotated[tuple[InstallationSpan, ...], Field(max_length=MAX_SPANS)]

    def members(self) -> dict[str, Any]:
        """Return the members of its change."""
        spans = tuple(changes.InstallationSpan(**dict(span)) for span in self.spans)
        return {**super().members(), "spans": spans}

    @classmethod
    def of(cls, change: Change) -> dict[str, Any]:
        """Return the members of the form."""
        assert isinstance(change, changes.CorrectInstallations)
        return {**Form.of(change), "spans": [_members(span) for span in change.spans]}


class HoldingSpan(OfAccount):
    """One stretch of a corrected holding history; without `payment_mode` the account pays as was recorded there."""

    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None
    payment_mode: PaymentMode | None = None


class CorrectHoldings(Form):
    """State anew who held a usage point, from when to when."""

    makes = changes.CorrectHoldings
    kind: Literal["correct_holdings"] = "correct_holdings"
    usage_point: Id
    spans: Annotated[tuple[HoldingSpan, ...], Field(max_length=MAX_SPANS)]

    def change(self, resolve: Resolve) -> Sequence[Change]:
        """Return the change."""
        spans = tuple(
            changes.HoldingSpan(
                resolve.account(one),
                one.valid_from,
                one.valid_to,
                one.payment_mode if "payment_mode" in one.model_fields_set else UNSAID,
            )
            for one in self.spans
        )
        return [changes.CorrectHoldings(self.usage_point, spans, self.row)]

    @classmethod
    def of(cls, change: Change) -> dict[str, Any]:
        """Return the members of the form: what is not said of paying is left out."""
        assert isinstance(change, changes.CorrectHoldings)
        spans = [{k: v for k, v in _members(span).items() if v is not UNSAID} for span in change.spans]
        return {**Form.of(change), "spans": spans}


class CrossMeters(Form):
    """Correct meters recorded crosswise: each stood where the next one was recorded, the last where the first was."""

    makes = changes.CrossMeters
    kind: Literal["cross_meters"] = "cross_meters"
    meters: Annotated[tuple[Meter, ...], Field(min_length=2, max_length=MAX_SPANS)]
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class CrossHoldings(Form):
    """Correct holders recorded crosswise: each usage point was held by whom the next one had recorded."""

    makes = changes.CrossHoldings
    kind: Literal["cross_holdings"] = "cross_holdings"
    usage_points: Annotated[tuple[Id, ...], Field(min_length=2, max_length=MAX_SPANS)]
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class SetAttributes(Form):
    """Say what transformer, feeder, route, sanctioned load (kW) or phase a usage point has; null: not known."""

    makes = changes.SetAttributes
    kind: Literal["attributes"] = "attributes"
    usage_point: Id
    values: Annotated[dict[AttributeKind, Given | None], Field(min_length=1)]
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class AttributeSpan(Part):
    """One stretch of a corrected attribute."""

    value: Given
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class CorrectAttributes(Form):
    """State anew what one attribute of a usage point was, from when to when."""

    makes = changes.CorrectAttributes
    kind: Literal["correct_attributes"] = "correct_attributes"
    usage_point: Id
    attribute: AttributeKind
    spans: Annotated[tuple[AttributeSpan, ...], Field(max_length=MAX_SPANS)]

    def members(self) -> dict[str, Any]:
        """Return the members of its change."""
        spans = tuple(changes.AttributeSpan(**dict(span)) for span in self.spans)
        return {**super().members(), "spans": spans}

    @classmethod
    def of(cls, change: Change) -> dict[str, Any]:
        """Return the members of the form."""
        assert isinstance(change, changes.CorrectAttributes)
        return {**Form.of(change), "spans": [_members(span) for span in change.spans]}


AnyForm = Annotated[
    Install
    | Remove
    | Replace
    | Multiplier
    | MoveIn
    | MoveOut
    | SetPaymentMode
    | Name
    | CorrectInstallations
    | CorrectHoldings
    | CrossMeters
    | CrossHoldings
    | SetAttributes
    | CorrectAttributes,
    Field(discriminator="kind"),
]
"""Any kind of change, told by its `kind`."""
KINDS: Final[dict[str, type[Form]]] = {
    one.model_fields["kind"].default: one
    for one in (
        Install, Remove, Replace, Multiplier, MoveIn, MoveOut, SetPaymentMode, Name, CorrectInstallations,
        CorrectHoldings, CrossMeters, CrossHoldings, SetAttributes, CorrectAttributes,
    )
}  # fmt: skip
"""Every kind by its name in JSON; the first line of a form's docstring says what it does."""


def numbers_of(given: OfAccount) -> dict[NumberKind, str]:
    """Return the numbers by which a form names an account, as the directory spells them."""
    said = {NumberKind.ACCOUNT: given.account_number, NumberKind.LEGACY: given.legacy_number}
    return {kind: parsed_number(kind, text) for kind, text in said.items() if text is not None}


def parsed_number(kind: NumberKind, text: str) -> str:
    """Return a number as the directory spells it; NumberRefused says what is wrong with it."""
    parsed = AccountNumber.parse(text) if kind is NumberKind.ACCOUNT else LegacyNumber.parse(text)
    return parsed.number.text


def _members(span: Any) -> dict[str, Any]:
    return {one.name: getattr(span, one.name) for one in fields(span)}
