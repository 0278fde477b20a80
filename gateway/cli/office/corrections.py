"""The commands that put the directory right: corrections of dates and periods, crossed pairs, undo, and approval."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from gateway.cli.office.files import ConfigChoice, DataOption
from gateway.cli.office.given import MAX_SHOWN, ByOption, DryRunOption, Given, give
from gateway.cli.office.moves import MeterArgument, UntilOption, UsagePointArgument
from gateway.cli.options import JsonOption, parse_time
from gateway.cli.output import print_line
from gateway.errors import UsageError
from mapping.change_sets import changes_of, read_forms
from mapping.changes import (
    UNSAID,
    Change,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    InstallationSpan,
)
from mapping.corrections import chosen_holdings, chosen_installations, moved_date
from mapping.directory import Role
from mapping.errors import ChangeRefused
from mapping.proposals import asked_undo
from mapping.snapshot import DirectorySnapshot
from mapping.undo import Undo

FromOption = Annotated[
    str, typer.Option("--from", help="From when: 2026-11-23 or 2026-11-23T10:00:00+05:30.")
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="The spans are the whole history: nothing beside them stays.")
]
RowsOption = Annotated[int, typer.Option("--rows-shown", min=0, help="How many changes to print.")]


def correct_installations(
    meter: MeterArgument,
    spans: Annotated[
        list[str],
        typer.Option(
            "--span", help="USAGE-POINT@FROM..TO[,ROLE][,xMULTIPLIER]; TO left out: until now and on."
        ),
    ],
    whole: WholeOption = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """State anew where a meter was in the periods that are named; what lies beside them stays.

    Example: meter-gateway directory correct-installations GEN:10000101 --span UP-0102@2026-01-05..2026-01-16 --data DIR
    """
    stated = [_installation(given) for given in spans]

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        if whole:
            return [CorrectInstallations(meter, tuple(stated))]
        return chosen_installations(snapshot, meter, stated)

    give(plan, "directory correct-installations", Given(data, config, dry_run, as_json, by))


def correct_holdings(
    usage_point: UsagePointArgument,
    spans: Annotated[
        list[str],
        typer.Option(
            "--span", help="NUMBER@FROM..TO; of an account that is there, by number, or id:ACCOUNT."
        ),
    ],
    whole: WholeOption = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """State anew who held a usage point in the periods that are named; what lies beside them stays.

    Example: meter-gateway directory correct-holdings UP-0101 --span KE0000009@2026-03-15.. --data DIR
    """

    def plan(snapshot: DirectorySnapshot) -> Sequence[Change]:
        stated = [_holding(snapshot, given) for given in spans]
        if whole:
            return [CorrectHoldings(usage_point, tuple(stated))]
        return chosen_holdings(snapshot, usage_point, stated)

    give(plan, "directory correct-holdings", Given(data, config, dry_run, as_json, by))


def correct_date(
    usage_point: UsagePointArgument,
    was: Annotated[str, typer.Option("--was", help="The instant as it is recorded.")],
    at: Annotated[str, typer.Option("--at", help="When it was in truth.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Correct one date at a usage point: of a meter fitted or taken away, of a holder that moved in or out.

    Example: meter-gateway directory correct-date UP-0101 --was 2026-03-01 --at 2026-03-15 --data DIR
    """
    recorded, truly = parse_time(was, option="--was"), parse_time(at, option="--at")
    give(
        lambda snapshot: moved_date(snapshot, usage_point, was=recorded, now=truly),
        "directory correct-date",
        Given(data, config, dry_run, as_json, by),
    )


def cross_meters(
    meters: Annotated[
        list[str],
        typer.Argument(help="Each stood where the next one was recorded, the last where the first was."),
    ],
    since: FromOption,
    until: UntilOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Correct meters that were recorded crosswise: a pair, or a cycle of any length, over the time that is said.

    Example: meter-gateway directory cross-meters GEN:10000101 GEN:10000102 --from 2026-01-05 --data DIR
    """
    _crossed("cross_meters", "meters", meters, since, until, Given(data, config, dry_run, as_json, by))


def cross_holdings(
    usage_points: Annotated[
        list[str],
        typer.Argument(help="Each was held by whom the next one had recorded, the last by the first's."),
    ],
    since: FromOption,
    until: UntilOption = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Correct holders that were recorded crosswise: a pair of usage points, or a cycle of any length.

    Example: meter-gateway directory cross-holdings UP-0101 UP-0102 --from 2026-01-05 --data DIR
    """
    _crossed(
        "cross_holdings",
        "usage_points",
        usage_points,
        since,
        until,
        Given(data, config, dry_run, as_json, by),
    )


def _crossed(kind: str, member: str, keys: list[str], since: str, until: str | None, how: Given) -> None:
    form = {
        "kind": kind,
        member: keys,
        "valid_from": parse_time(since, option="--from"),
        "valid_to": None if until is None else parse_time(until, option="--until"),
    }
    give(
        lambda snapshot: changes_of(read_forms([form]), snapshot), f"directory {kind.replace('_', '-')}", how
    )


def undo_change_set(
    version: Annotated[int, typer.Argument(min=1, help="The directory version that the change set made.")],
    rest_alone: Annotated[
        bool,
        typer.Option("--rest-alone", help="Undo what nobody changed since; name the rest, and leave it."),
    ] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    shown: RowsOption = MAX_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Undo a change set by a later one: what it changed is stated again as it was before.

    What a later change set changed again is named, and nothing is undone unless --rest-alone says so.

    Example: meter-gateway directory undo 57 --data DIR
    """

    def plan(snapshot: DirectorySnapshot) -> str:
        if rest_alone and not as_json:
            for one in Undo(snapshot, version).conflicts():
                print_line(f"stays: {one}")
        return asked_undo(version, rest_alone=rest_alone)

    give(plan, f"directory undo {version}", Given(data, config, dry_run, as_json, by, shown))


def _installation(given: str) -> InstallationSpan:
    point, start, end, words = _span(given)
    role, factor = Role.CONSUMER, None
    for word in words:
        if word in list(Role):
            role = Role(word)
        elif word.startswith("x"):
            try:
                factor = Decimal(word[1:])
            except InvalidOperation:
                raise UsageError(f"--span {given}: {word} is no multiplier; write x10") from None
        else:
            raise UsageError(
                f"--span {given}: `{word}` is neither a role ({', '.join(Role)}) nor a multiplier (x10)"
            )
    return InstallationSpan(point, role, start, end, factor)


def _holding(snapshot: DirectorySnapshot, given: str) -> HoldingSpan:
    who, start, end, words = _span(given)
    if words:
        raise UsageError(f"--span {given}: nothing follows the dates")
    if who.startswith("id:"):
        return HoldingSpan(who[3:], start, end, UNSAID)
    found = set(snapshot.candidates(who).values())
    if len(found) != 1:
        how = "no account has" if not found else "two accounts have"
        raise ChangeRefused("ACCOUNT", f"{how} the number {who!r}: name it by id:ACCOUNT")
    return HoldingSpan(found.pop(), start, end, UNSAID)


def _span(given: str) -> tuple[str, datetime, datetime | None, list[str]]:
    who, at, rest = given.partition("@")
    dates, *words = rest.split(",")
    start, dots, end = dates.partition("..")
    if not (who and at and start and dots):
        raise UsageError(f"--span {given}: write WHAT@FROM..TO, for example UP-0101@2026-01-05..2026-01-16")
    return (
        who,
        parse_time(start, option="--span"),
        parse_time(end, option="--span") if end else None,
        words,
    )
