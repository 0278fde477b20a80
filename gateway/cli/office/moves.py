"""The commands `directory remove`, `move-out`, `move-in` and `undo`: one change set each, by whoever gives it.

Nothing is deleted: what was believed before can still be asked for, and `undo` is a change set of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption, parse_time, user
from gateway.cli.output import print_fields, print_json, print_line, print_table
from gateway.errors import UsageError
from gateway.roles.did_you_mean import did_you_mean
from mapping.account import AccountNumber, LegacyNumber, new_account_id
from mapping.changes import Change, MoveIn, MoveOut, Name, Remove
from mapping.differences import differences
from mapping.directory import Holder, NumberKind, PaymentMode, Unattributed
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.undo import undo

AtOption = Annotated[str, typer.Option("--at", help="From when on: 2026-11-23 or 2026-11-23T10:00:00+05:30.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]
UsagePointArgument = Annotated[str, typer.Argument(help="Usage point, for example UP-0101.")]
MAX_SHOWN = 50
"""Changes printed unless more are asked for: a re-key of a city has 700,000."""
Plan = Callable[[DirectorySnapshot], Sequence[Change]]


def remove(
    meter: Annotated[str, typer.Argument(help="The meter that was taken away, for example GEN:10000101.")],
    at: AtOption,
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a meter away from its usage point; readings after that are no account's.

    Example: meter-gateway directory remove GEN:10000101 --at 2026-11-23T10:00:00+05:30 --data DIR
    """
    when = parse_time(at, option="--at")

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        if not snapshot.installations(meter):
            raise UsageError(
                f"the directory has no meter `{meter}`.{did_you_mean(meter, set(snapshot.meters()))}"
            )
        return [Remove(meter, when)]

    _give(plan, "directory remove", data, config, dry_run=dry_run, as_json=as_json)


def move_out(
    usage_point: UsagePointArgument,
    at: AtOption,
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """End the holding of a usage point: it is vacant from then on.

    Example: meter-gateway directory move-out UP-0101 --at 2026-11-23 --data DIR
    """
    when = parse_time(at, option="--at")

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        _check_usage_point(snapshot, usage_point)
        return [MoveOut(usage_point, when)]

    _give(plan, "directory move-out", data, config, dry_run=dry_run, as_json=as_json)


def move_in(
    usage_point: UsagePointArgument,
    at: AtOption,
    account: Annotated[str | None, typer.Option("--account", help="The account by its id.")] = None,
    account_number: Annotated[
        str | None, typer.Option("--account-number", help="Or by its 10-digit number.")
    ] = None,
    legacy_number: Annotated[
        str | None, typer.Option("--legacy-number", help="Or by its old number.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="The account is new: make it, with that number.")
    ] = False,
    payment: Annotated[PaymentMode | None, typer.Option("--payment", help="How it pays.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let an account hold a usage point; a former holder must have moved out.

    Example: meter-gateway directory move-in UP-0101 --account-number 0012345678 --at 2026-11-23 --data DIR
    """
    when = parse_time(at, option="--at")
    given = [one for one in (account, account_number, legacy_number) if one is not None]
    if len(given) != 1 or (new and account is not None):
        raise UsageError(
            "name the account by one of --account, --account-number, --legacy-number (--new: a number)"
        )

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        _check_usage_point(snapshot, usage_point)
        if account is not None:
            return [MoveIn(usage_point, _known_id(snapshot, account), when, payment)]
        kind, number = _number(account_number, legacy_number)
        owner = snapshot.account_by_number(kind, number)
        if new and owner is not None:
            raise UsageError(f"{kind} `{number}` is account {owner} already: leave out --new")
        if owner is not None:
            return [MoveIn(usage_point, owner, when, payment)]
        if not new:
            known = did_you_mean(number, set(snapshot.numbers(kind)))
            raise UsageError(f"no account has the {kind} `{number}`.{known} For a new account add --new")
        made = new_account_id()
        return [MoveIn(usage_point, made, when, payment), Name(made, kind, number)]

    _give(plan, "directory move-in", data, config, dry_run=dry_run, as_json=as_json)


def undo_change_set(
    version: Annotated[int, typer.Argument(min=1, help="The directory version that the change set made.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: DryRunOption = False,
    shown: Annotated[int, typer.Option("--rows-shown", min=0, help="How many changes to print.")] = MAX_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Undo a change set by a later one: what it changed is stated again as it was before.

    Refused where a later change set changed the same meter, usage point or account: undo that one first.

    Example: meter-gateway directory undo 57 --data DIR
    """
    _give(
        lambda snapshot: undo(snapshot, version),
        f"directory undo {version}",
        data,
        config,
        dry_run=dry_run,
        as_json=as_json,
        shown=shown,
    )


def _give(
    plan: Plan,
    source: str,
    data: Path | None,
    config: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
    shown: int = MAX_SHOWN,
) -> None:
    """Apply what `plan` makes of the directory, or only look at it, and print whom it concerns."""
    now = datetime.now(UTC)
    with DirectoryStore(find_files(data, config).directory) as store:
        before = store.snapshot()
        changes = plan(before)
        sure = knows_the_time()
        if dry_run:
            after = store.preview(changes, by=user(), source=source, at=now, sure=sure)
        else:
            store.apply(changes, by=user(), source=source, at=now, based_on=before.version, sure=sure)
            after = store.snapshot()
        rows = _concerned(before, after)
    words = "nothing new: the directory says so already"
    if after.version != before.version:
        words = "dry run, nothing changed" if dry_run else "applied"
    result = {"result": words, "directory_version": before.version if dry_run else after.version}
    if as_json:
        print_json({**result, "applied": not dry_run, "changes": rows})
        return
    print_fields(result, as_json=False)
    if rows[:shown]:
        print_table(rows[:shown], as_json=False, title="would change hands" if dry_run else "changed hands")
    if len(rows) > shown:
        print_line(f"… and {len(rows) - shown} more changes (--rows-shown, --json)")


def _concerned(before: DirectorySnapshot, after: DirectorySnapshot) -> list[dict[str, Any]]:
    """Return each span of a meter that changes hands, and each account that changes its number."""
    spans, names = differences(after, before.version, after.version)
    rows: list[dict[str, Any]] = [
        {
            "what": span.meter,
            "from": span.start,
            "to": span.end,
            "old": _called(before, span.old),
            "new": _called(after, span.new),
        }
        for span in spans
    ]
    return rows + [
        {"what": f"{one.account_id} {one.kind}", "from": None, "to": None, "old": one.old, "new": one.new}
        for one in names
    ]


def _called(snapshot: DirectorySnapshot, who: Holder | Unattributed) -> str:
    if not isinstance(who, Holder):
        return who.value
    names = snapshot.names(who.account_id)
    return f"{names.account_number or names.legacy_number or who.account_id} at {who.usage_point}"


def _check_usage_point(snapshot: DirectorySnapshot, given: str) -> None:
    if not snapshot.has_usage_point(given):
        known = set(snapshot.usage_points())
        raise UsageError(f"the directory has no usage point `{given}`.{did_you_mean(given, known)}")


def _known_id(snapshot: DirectorySnapshot, account: str) -> str:
    if not snapshot.namings(account) and not snapshot.usage_points_of(account):
        raise UsageError(f"no account has the id `{account}`: give its number, or --new with one")
    return account


def _number(account_number: str | None, legacy_number: str | None) -> tuple[NumberKind, str]:
    """Return which number was given, as the directory spells it; NumberRefused says what is wrong with it."""
    if account_number is not None:
        return NumberKind.ACCOUNT, AccountNumber.parse(account_number).number.text
    return NumberKind.LEGACY, LegacyNumber.parse(legacy_number or "").number.text
