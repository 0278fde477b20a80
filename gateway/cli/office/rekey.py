"""The commands `directory rekey …`: check a file, read the verdicts, apply exactly what was reviewed, or discard it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.office.actors import Right
from gateway.central.office.approvals import Approvals
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.cli.exits import Exit
from gateway.cli.office.acting import Acting, acting
from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.rekey_shown import shown_plan
from gateway.cli.options import JsonOption, parse_time
from gateway.cli.output import print_fields, print_line, print_table
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.errors import FileRefused
from mapping.instants import instant
from mapping.rekey import apply_rekey, check_approval, plan_rekey
from mapping.rekey_control import Control
from mapping.rekey_due import DuePlan, apply_due, schedule
from mapping.rekey_plan import RekeyPlan, find_plan, kept_plans, open_plan
from mapping.rekey_texts import LANGUAGES, Language
from mapping.senders import ANYBODY, Limits, Sender, load_senders
from mapping.store import DirectoryStore

RekeyFile = Annotated[Path, typer.Argument(help="CSV file or Excel workbook (.xlsx).")]
Fingerprint = Annotated[str, typer.Argument(help="Of the plan, at least 8 digits of it.")]
RowsOption = Annotated[int, typer.Option("--rows-shown", min=0, help="How many refused rows to print.")]
LanguageOption = Annotated[str, typer.Option("--language", help="Of what is said: en or hi.")]
CorrectionsOption = Annotated[
    Path | None,
    typer.Option(
        "--corrections", help="Write the rows that will not be applied to this file, to be put right."
    ),
]
ReportOption = Annotated[
    list[Path] | None, typer.Option("--report", help="Write a report: a name ending in .html, .xlsx or .csv.")
]
ByOption = Annotated[str | None, typer.Option("--by", help="Who applies it; else whoever is logged in.")]

rekey_group = typer.Typer(
    help="Give accounts their 10-digit numbers: check a file, review it, apply it.", no_args_is_help=True
)


@rekey_group.command("plan")
def plan_file(
    file: RekeyFile,
    data: DataOption = None,
    config: ConfigChoice = None,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Whose profile says how it is written.")
    ] = None,
    control: Annotated[
        Path | None, typer.Option("--control", help="List of a second source, with new numbers or names.")
    ] = None,
    control_sender: Annotated[
        str | None, typer.Option("--control-sender", help="Whose profile says how that list is written.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="How many rows the sender sent.")] = None,
    total: Annotated[
        int | None, typer.Option("--total", min=0, help="Sum of all new numbers, by the sender.")
    ] = None,
    part: Annotated[bool, typer.Option("--part", help="One of several files; needs --rows.")] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Let rows change a number given before.")
    ] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="Another limit, as refused=30: refused, changed, disagreeing, missing."),
    ] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", help="Which sheet of a workbook.")] = None,
    corrections: CorrectionsOption = None,
    reports: ReportOption = None,
    language: LanguageOption = "en",
    shown: RowsOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Check a re-key file: a verdict for every row, and whether the file as a whole can be trusted. Nothing changes.

    The plan is kept under its fingerprint; `directory rekey apply` applies exactly that.

    Example: meter-gateway directory rekey plan numbers.csv --control billing.csv --data DIR
    """
    spoken = _language(language)
    if part and rows is None:
        raise UsageError("--part: say how many rows this part has, with --rows")
    files = find_files(data, config)
    whose = _sender(files, sender)
    if sheet is not None:
        whose = Sender(**{**_members(whose), "sheet": sheet})
    second = Control(rows=rows, total=total, path=control, sender=_sender(files, control_sender or sender))
    limits = Limits.of(_limits(limit or []), whose.limits)
    with DirectoryStore(files.directory) as store:
        snapshot = store.snapshot()
    with (
        _mobiles(files) as mobile_of,
        plan_rekey(
            snapshot,
            file,
            at=datetime.now(UTC),
            sender=whose,
            control=second,
            correct=correct,
            part=part,
            limits=limits,
            folder=files.rekey,
            mobile_of=mobile_of,
        ) as plan,
    ):
        shown_plan(plan, spoken, shown=shown, as_json=as_json, corrections=corrections, reports=reports)
        if plan.causes or any(plan.counts[v] for v in ("conflict", "rejected")):
            raise typer.Exit(Exit.FAILED)


@rekey_group.command("show")
def show_plan(
    fingerprint: Fingerprint,
    data: DataOption = None,
    config: ConfigChoice = None,
    corrections: CorrectionsOption = None,
    reports: ReportOption = None,
    language: LanguageOption = "en",
    shown: RowsOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show a kept plan again, and write its report or the rows to put right.

    Example: meter-gateway directory rekey show 1f0c8a44 --report review.html --language hi --data DIR
    """
    spoken = _language(language)
    with find_plan(find_files(data, config).rekey, fingerprint) as plan:
        shown_plan(plan, spoken, shown=shown, as_json=as_json, corrections=corrections, reports=reports)


@rekey_group.command("list")
def list_plans(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the kept plans, the newest first: what waits, what was applied.

    Example: meter-gateway directory rekey list --data DIR
    """
    rows = [_listed(path) for path in kept_plans(find_files(data, config).rekey)]
    print_table(rows, as_json=as_json, empty="no plan is kept")


@rekey_group.command("apply")
def apply_plan(
    fingerprint: Fingerprint,
    data: DataOption = None,
    config: ConfigChoice = None,
    without_control: Annotated[
        bool,
        typer.Option("--without-control", help="No second source has the new numbers; needs --approver."),
    ] = False,
    approver: Annotated[
        str | None, typer.Option("--approver", help="Who approves it: somebody else.")
    ] = None,
    by: ByOption = None,
    effective: Annotated[
        str | None,
        typer.Option("--effective", help="Apply it then: 2026-12-01 or 2026-12-01T06:00:00+05:30."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Apply exactly what was reviewed, in one change set; refused where the directory has moved on since.

    A file that holds from a later day, and one with --effective, is kept until then: `directory rekey due` applies it.

    Example: meter-gateway directory rekey apply 1f0c8a44 --data DIR
    """
    files, now = find_files(data, config), datetime.now(UTC)
    with (
        find_plan(files.rekey, fingerprint) as plan,
        DirectoryStore(files.directory) as store,
        acting(files, Right.CHANGE) as actor,
    ):
        who = actor.called(by)
        approver = _approver(actor, plan, who, approver)
        if without_control and approver is None:
            raise UsageError("--without-control: say who approves it, with --approver NAME")
        if plan.noted("applied") is not None and store.version >= int(plan.noted("applied") or 0):
            raise UsageError(f"{plan.name} was applied already, as directory version {plan.noted('applied')}")
        vouching = approver if without_control or plan.facts.vouched else None
        check_approval(plan, by=who, approver=vouching)
        at = _due(plan, effective, now)
        if at is not None:
            schedule(plan, at=at, by=who, approver=vouching)
            actor.note("plan.scheduled", f"plan:{plan.fingerprint}", {"due": at.isoformat()})
            result: dict[str, Any] = {"result": "scheduled", "due": at, "fingerprint": plan.fingerprint}
        else:
            version = apply_rekey(store, plan, by=who, approver=vouching, at=now, sure=knows_the_time())
            actor.note_directory(version, plan.version, f"directory rekey apply {plan.fingerprint}")
            result = {"result": "applied", "directory_version": version, "file": plan.name, **plan.counts}
            if version != plan.version:
                result["undo"] = f"meter-gateway directory undo {version}"
    print_fields(result, as_json=as_json)


@rekey_group.command("approve")
def approve_plan(fingerprint: Fingerprint, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Approve a plan that you have looked at, as somebody else than who applies it: with a login and that role.

    Example: meter-gateway directory rekey approve 1f0c8a44 --data DIR
    """
    files = find_files(data, config)
    with find_plan(files.rekey, fingerprint) as plan, acting(files, Right.APPROVE) as actor:
        if not actor.named:
            raise UsageError(
                "there are no staff accounts here: name who approves, with `rekey apply --approver NAME`"
            )
        Approvals(actor.office).give(actor.actor, plan.fingerprint, at=datetime.now(UTC))
        words = f"{actor.name} approves {plan.fingerprint} ({plan.name})"
    print_line(words)


@rekey_group.command("due")
def apply_due_plans(
    data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Apply the scheduled plans whose time has come, as a running central does each minute.

    Where the directory has moved on meanwhile the file is judged again, and applied if every row ends as reviewed.

    Example: meter-gateway directory rekey due --data DIR
    """
    files = find_files(data, config)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE) as actor:
        before = store.version
        done = apply_due(store, files.rekey, at=datetime.now(UTC), sure=knows_the_time())
        for one in done:
            if one.version is not None:
                actor.note_directory(one.version, before, f"directory rekey due {one.fingerprint}")
    print_table([_told(one) for one in done], as_json=as_json, empty="nothing is due")
    if any(one.version is None for one in done):
        raise typer.Exit(Exit.FAILED)


@rekey_group.command("discard")
def discard_plan(fingerprint: Fingerprint, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Throw a kept plan away; what was applied of it stays (`directory undo` takes it back).

    Example: meter-gateway directory rekey discard 1f0c8a44 --data DIR
    """
    with find_plan(find_files(data, config).rekey, fingerprint) as plan:
        words = f"the plan {plan.fingerprint} of {plan.name} is gone"
        assert plan.path is not None
        plan.path.unlink()
    print_line(words)


def _approver(actor: Acting, plan: RekeyPlan, who: str, named: str | None) -> str | None:
    """Return who approves a plan: with staff accounts somebody who did so himself."""
    if not actor.named:
        return named
    approvals = Approvals(actor.office)
    if named is not None and named != who and named not in approvals.of(plan.fingerprint):
        raise UsageError(
            f"{named} has not approved {plan.fingerprint}: `directory rekey approve {plan.fingerprint}` does, logged in"
        )
    return named or approvals.second(plan.fingerprint, who)


def _due(plan: RekeyPlan, effective: str | None, now: datetime) -> datetime | None:
    """Return when the plan is to be applied, None for now; UsageError where the file holds only from later."""
    wanted = plan.facts.effective if effective is None else parse_time(effective, option="--effective")
    if effective is not None and plan.facts.effective is not None and wanted is not None:
        wanted = max(wanted, plan.facts.effective)
    return wanted if wanted is not None and wanted > now else None


def _listed(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("fingerprint", "file", "directory_version", "applied_rows", "refused_rows", "state", "due")
    )
    row["fingerprint"] = path.stem
    try:
        with open_plan(path) as plan:
            counts, due = plan.counts, plan.noted("due")
            row |= {
                "file": plan.name,
                "directory_version": plan.version,
                "applied_rows": counts["applied"] + counts["repaired"],
                "refused_rows": counts["conflict"] + counts["rejected"],
                "state": _state(plan),
                "due": None if due is None else instant(int(due)),
            }
    except FileRefused as error:
        row["state"] = str(error)
    return row


def _told(one: DuePlan) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint,
        "file": one.name,
        "result": "applied" if one.version is not None else "not applied",
        "directory_version": one.version,
        "reason": one.reason,
    }


def _state(plan: RekeyPlan) -> str:
    if (version := plan.noted("applied")) is not None:
        return f"applied as version {version}"
    if plan.noted("due") is not None:
        return "scheduled"
    if plan.causes:
        return f"refused: {plan.causes[0].code}"
    return "waits" if plan.facts.vouched else "waits for approval"


@contextmanager
def _mobiles(files: CentralFiles) -> Iterator[Callable[[str], str | None] | None]:
    """Give what finds an account's registered mobile; None where no mobiles are kept."""
    if isinstance(files.people, Path) and not files.people.exists():
        yield None
        return
    people = PeopleStore(files.people)
    contacts = ContactStore(people)

    def mobile_of(account: str) -> str | None:
        found = contacts.get(account)
        return None if found is None else found.mobile

    try:
        yield mobile_of
    finally:
        people.close()


def _sender(files: CentralFiles, name: str | None) -> Sender:
    if name is None:
        return ANYBODY
    senders = load_senders(files.senders)
    if name not in senders:
        raise UsageError(f"no sender is called `{name}`: `directory senders save {name} …` keeps one")
    return senders[name]


def _members(sender: Sender) -> dict[str, Any]:
    return {name: getattr(sender, name) for name in Sender.__slots__}


def _limits(given: list[str]) -> dict[str, int]:
    found = {}
    for one in given:
        name, sign, percent = one.partition("=")
        if not sign or not percent.isascii() or not percent.isdigit():
            raise UsageError(f"--limit {one}: write NAME=PERCENT, for example refused=30")
        found[name] = int(percent)
    return found


def _language(given: str) -> Language:
    for language in LANGUAGES:
        if given == language:
            return language
    raise UsageError(f"--language {given}: write one of {', '.join(LANGUAGES)}")
