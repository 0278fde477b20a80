"""The commands `directory install`, `remove`, `replace`, `move-in`, `move-out`, `name` and what a place has.

Each is one change set by whoever gives it. Nothing is deleted: what was believed before can still be asked for, and
`undo` is a change set of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from gateway.cli.office.files import ConfigChoice, DataOption
from gateway.cli.office.given import ByOption, DryRunOption, Given, give
from gateway.cli.options import JsonOption, parse_time
from gateway.errors import UsageError
from gateway.roles.did_you_mean import did_you_mean
from mapping.change_sets import changes_of, read_forms
from mapping.changes import Change
from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role
from mapping.errors import ChangeRefused
from mapping.kinds import parsed_number
from mapping.snapshot import DirectorySnapshot

AtOption = Annotated[str, typer.Option("--at", help="From when on: 2026-11-23 or 2026-11-23T10:00:00+05:30.")]
UntilOption = Annotated[
    str | None, typer.Option("--until", help="Until when, where it ends before what is recorded next.")
]
MeterArgument = Annotated[str, typer.Argument(help="The meter, for example GEN:10000101.")]
UsagePointArgument = Annotated[str, typer.Argument(help="Usage point, for example UP-0101.")]
MultiplierOption = Annotated[
    str | None,
    typer.Option("--multiplier", help="External multiplier (CT and PT); else the place's own holds on."),
]
AccountOption = Annotated[str | None, typer.Option("--account", help="The account by its id.")]
AccountNumberOption = Annotated[
    str | None, typer.Option("--account-number", help="Or by its 10-digit number.")
]
LegacyNumberOption = Annotated[str | None, typer.Option("--legacy-number", help="Or by its old number.")]


def install(
    meter: MeterArgument,
    usage_point: UsagePointArgument,
    at: AtOption,
    role: Annotated[Role, typer.Option("--role", help="What it is fitted for.")] = Role.CONSUMER,
    multiplier: MultiplierOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a meter at a usage point, by paper; `commission` does it with proof.

    Example: meter-gateway directory install GEN:10000101 UP-0101 --at 2026-11-23 --data DIR
    """
    form = {
        "kind": "install",
        "meter": meter,
        "usage_point": usage_point,
        "role": role,
        "valid_from": parse_time(at, option="--at"),
        "multiplier": _multiplier(multiplier),
    }
    _give(form, "directory install", Given(data, config, dry_run, as_json, by))


def remove(
    meter: Annotated[str, typer.Argument(help="The meter that was taken away, for example GEN:10000101.")],
    at: AtOption,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a meter away from its usage point; readings after that are no account's.

    Example: meter-gateway directory remove GEN:10000101 --at 2026-11-23T10:00:00+05:30 --data DIR
    """
    form = {"kind": "remove", "meter": meter, "at": parse_time(at, option="--at")}
    _give(form, "directory remove", Given(data, config, dry_run, as_json, by), meters=[meter])


def replace(
    old: Annotated[str, typer.Argument(help="The meter that was taken away.")],
    new: Annotated[str, typer.Argument(help="The meter that was fitted.")],
    at: AtOption,
    usage_point: Annotated[str | None, typer.Option("--usage-point", help="Where: checked.")] = None,
    multiplier: MultiplierOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a meter in the place of another, by paper; the command `replace` does it with proof.

    Example: meter-gateway directory replace GEN:10000101 SEC:20000007 --at 2026-11-23T10:00:00+05:30 --data DIR
    """
    form = {
        "kind": "replace",
        "old": old,
        "new": new,
        "at": parse_time(at, option="--at"),
        "usage_point": usage_point,
        "multiplier": _multiplier(multiplier),
    }
    _give(form, "directory replace", Given(data, config, dry_run, as_json, by), meters=[old])


def multiplier(
    meter: MeterArgument,
    factor: Annotated[str, typer.Argument(metavar="MULTIPLIER", help="For example 10, or 0.5.")],
    at: AtOption,
    until: UntilOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Declare the external multiplier (CT and PT) of a fitted meter.

    Example: meter-gateway directory multiplier GEN:10000101 10 --at 2026-11-23 --data DIR
    """
    form = {"kind": "multiplier", "meter": meter, "multiplier": _multiplier(factor), **_dates(at, until)}
    _give(form, "directory multiplier", Given(data, config, dry_run, as_json, by), meters=[meter])


def move_out(
    usage_point: UsagePointArgument,
    at: AtOption,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """End the holding of a usage point: it is vacant from then on.

    Example: meter-gateway directory move-out UP-0101 --at 2026-11-23 --data DIR
    """
    form = {"kind": "move_out", "usage_point": usage_point, "at": parse_time(at, option="--at")}
    _give(form, "directory move-out", Given(data, config, dry_run, as_json, by), points=[usage_point])


def move_in(
    usage_point: UsagePointArgument,
    at: AtOption,
    account: AccountOption = None,
    account_number: AccountNumberOption = None,
    legacy_number: LegacyNumberOption = None,
    new: Annotated[
        bool, typer.Option("--new", help="The account is new: make it, with that number.")
    ] = False,
    payment: Annotated[PaymentMode | None, typer.Option("--payment", help="How it pays.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let an account hold a usage point, also a second one; a former holder must have moved out.

    Example: meter-gateway directory move-in UP-0101 --account-number 0012345678 --at 2026-11-23 --data DIR
    """
    when = parse_time(at, option="--at")
    who = _account(account, account_number, legacy_number)
    if new and account is not None:
        raise UsageError("--new: name the account by a number that it shall have")
    form = {"kind": "move_in", "usage_point": usage_point, "valid_from": when, "payment_mode": payment, **who}

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        _check(snapshot, points=[usage_point])
        number = next(iter(who.values()))
        if account is None:
            kind = NumberKind.ACCOUNT if account_number is not None else NumberKind.LEGACY
            owner = snapshot.account_by_number(kind, parsed := parsed_number(kind, number))
            if new and owner is not None:
                raise UsageError(f"{kind} `{parsed}` is account {owner} already: leave out --new")
            if not new and owner is None:
                known = did_you_mean(parsed, set(snapshot.numbers(kind)))
                raise UsageError(f"no account has the {kind} `{parsed}`.{known} For a new account add --new")
        return _changes({**form, "new": new}, snapshot)

    give(plan, "directory move-in", Given(data, config, dry_run, as_json, by))


def name(
    kind: Annotated[NumberKind, typer.Argument(help="legacy_number or account_number.")],
    number: Annotated[str | None, typer.Argument(help="The number; left out: taken away.")] = None,
    account: AccountOption = None,
    account_number: AccountNumberOption = None,
    legacy_number: LegacyNumberOption = None,
    new: Annotated[bool, typer.Option("--new", help="Make an account that holds nothing yet.")] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give an account a number of one kind, or take it away; `directory rekey` does so for many by a file.

    Example: meter-gateway directory name account_number 0012345678 --legacy-number KE0000001 --data DIR
    """
    who = {} if new else _account(account, account_number, legacy_number)
    form = {"kind": "name", "number_kind": kind, "number": number, "new": new, **who}
    _give(form, "directory name", Given(data, config, dry_run, as_json, by))


def payment(
    usage_point: UsagePointArgument,
    mode: Annotated[PaymentMode, typer.Argument(help="prepaid or postpaid.")],
    at: AtOption,
    until: UntilOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say how the holder of a usage point pays from a day on.

    Example: meter-gateway directory payment UP-0101 prepaid --at 2026-11-23 --data DIR
    """
    form = {"kind": "payment_mode", "usage_point": usage_point, "payment_mode": mode, **_dates(at, until)}
    _give(form, "directory payment", Given(data, config, dry_run, as_json, by), points=[usage_point])


def attributes(
    usage_point: UsagePointArgument,
    at: AtOption,
    transformer: Annotated[str | None, typer.Option("--transformer", help="Its code.")] = None,
    feeder: Annotated[str | None, typer.Option("--feeder", help="Its code.")] = None,
    route: Annotated[str | None, typer.Option("--route", help="Of the meter reader.")] = None,
    sanctioned_load: Annotated[str | None, typer.Option("--sanctioned-load", help="Kilowatts.")] = None,
    phase: Annotated[
        str | None, typer.Option("--phase", help="R, Y, B, RYB; 1 or 3 where not known which.")
    ] = None,
    forget: Annotated[
        list[AttributeKind] | None, typer.Option("--forget", help="An attribute that is not known any more.")
    ] = None,
    until: UntilOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what transformer, feeder, route, sanctioned load or phase a usage point has from a day on.

    Example: meter-gateway directory attributes UP-0101 --feeder F-07 --route R-12 --at 2026-11-23 --data DIR
    """
    given = {
        AttributeKind.TRANSFORMER: transformer,
        AttributeKind.FEEDER: feeder,
        AttributeKind.ROUTE: route,
        AttributeKind.SANCTIONED_LOAD: sanctioned_load,
        AttributeKind.PHASE: phase,
    }
    said: dict[AttributeKind, str | None] = {
        kind: value for kind, value in given.items() if value is not None
    }
    said |= dict.fromkeys(forget or ())
    if not said:
        raise UsageError(
            "say at least one: --transformer, --feeder, --route, --sanctioned-load, --phase, --forget"
        )
    form = {"kind": "attributes", "usage_point": usage_point, "values": said, **_dates(at, until)}
    _give(form, "directory attributes", Given(data, config, dry_run, as_json, by))


def _give(
    form: dict[str, Any], source: str, how: Given, meters: Sequence[str] = (), points: Sequence[str] = ()
) -> None:
    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        _check(snapshot, meters, points)
        return _changes(form, snapshot)

    give(plan, source, how)


def _changes(form: dict[str, Any], snapshot: DirectorySnapshot) -> list[Change]:
    """Return the changes of one form; what is wrong with it is told without its place, since it is the only one."""
    try:
        return changes_of(read_forms([form]), snapshot)
    except ChangeRefused as error:
        raise ChangeRefused(error.code, str(error).removeprefix("change 1: ")) from error


def _check(snapshot: DirectorySnapshot, meters: Sequence[str] = (), points: Sequence[str] = ()) -> None:
    """Refuse meters and usage points that were never heard of, with the nearest that were."""
    for meter in meters:
        if not snapshot.installations(meter):
            raise UsageError(
                f"the directory has no meter `{meter}`.{did_you_mean(meter, set(snapshot.meters()))}"
            )
    for point in points:
        if not snapshot.has_usage_point(point):
            known = set(snapshot.usage_points())
            raise UsageError(f"the directory has no usage point `{point}`.{did_you_mean(point, known)}")


def _account(account: str | None, account_number: str | None, legacy_number: str | None) -> dict[str, str]:
    """Return the one member of a form that names the account."""
    given = {"account_id": account, "account_number": account_number, "legacy_number": legacy_number}
    said = {member: value for member, value in given.items() if value is not None}
    if len(said) != 1:
        raise UsageError(
            "name the account by one of --account, --account-number, --legacy-number (--new: a number)"
        )
    return said


def _dates(at: str, until: str | None) -> dict[str, datetime | None]:
    return {
        "valid_from": parse_time(at, option="--at"),
        "valid_to": None if until is None else parse_time(until, option="--until"),
    }


def _multiplier(given: str | None) -> Decimal | None:
    try:
        return None if given is None else Decimal(given)
    except InvalidOperation:
        raise UsageError(f"{given} is no multiplier: give a number above 0, for example 10") from None
