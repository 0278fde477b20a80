"""The commands `directory swap …`: a contractor's file of replaced meters, judged, applied by fingerprint, undone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.moved_energy import last_register
from gateway.central.office.actors import Right
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.given import ByOption, approve_above, opened_ledger
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_json, print_line, print_table
from gateway.errors import UsageError
from mapping.files import write_table
from mapping.proposals import Proposals, asked_swap
from mapping.rekey_texts import LANGUAGES, Language
from mapping.row_verdicts import LEFT
from mapping.sheets import Dress
from mapping.standing import count_touched
from mapping.store import DirectoryStore
from mapping.swap_texts import swap_text
from mapping.swaps import Jobs, SwapPlan, SwapRow, plan_swap

swap_group = typer.Typer(help="Replaced meters by a contractor's file.", no_args_is_help=True)


@swap_group.command("plan")
def plan_file(
    file: Annotated[Path, typer.Argument(help="CSV file or Excel workbook (.xlsx).")],
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    sheet: Annotated[str | None, typer.Option("--sheet", help="Which sheet of a workbook.")] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Where it is not UTF-8 or UTF-16.")
    ] = None,
    reported: Annotated[
        Path | None,
        typer.Option("--report", help="Write every row with its verdict, in both languages, as CSV."),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Of what is said: en or hi.")] = "en",
    shown: Annotated[int, typer.Option("--rows-shown", min=0, help="How many refused rows to print.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Judge a file of replaced meters: a verdict for every row. Nothing changes; `swap apply` applies exactly this.

    Columns: old_meter, new_meter, at, final (or no_final: why), opening; usage_point, multiplier, seals, photos.

    Example: meter-gateway directory swap plan swaps.xlsx --report review.csv --data DIR
    """
    spoken = _language(language)
    files, now = find_files(data, config), datetime.now(UTC)
    with (
        DirectoryStore(files.directory) as store,
        opened_ledger(files) as ledger,
        acting(files, Right.CHANGE) as actor,
    ):
        plan = plan_swap(
            store.snapshot(),
            file,
            at=now,
            dress=Dress(encoding, None, sheet),
            used_seals=Jobs(store.database).used_seals,
            last_reading=lambda meter, at: None if ledger is None else last_register(ledger, meter, at),
        )
        result: dict[str, Any] = {"file": plan.name, "directory_version": plan.version, **plan.counts}
        if plan.changes:
            who, source = actor.called(by), f"swap {plan.name}"
            after = store.preview(plan.changes, by=who, source=source, at=now, sure=knows_the_time())
            meters, accounts = count_touched(after, plan.version, after.version)
            held = Proposals(store).keep(
                asked_swap(plan), by=who, at=now, source=source, version=plan.version, meters=meters, accounts=accounts
            )  # fmt: skip
            result |= {"meters": meters, "accounts": accounts, "fingerprint": held.fingerprint}
    if reported is not None:
        write_table(reported, _heading(plan), _reported(plan))
    rows = [_row(row, spoken) for row in plan.left]
    if as_json:
        print_json({**result, "rows": rows})
    else:
        print_fields(result, as_json=False)
        if rows[:shown]:
            print_table(rows[:shown], as_json=False, title=_WORDS["left"][LANGUAGES.index(spoken)])
        if "fingerprint" in result:
            print_line(f"{_WORDS['apply'][LANGUAGES.index(spoken)]}: {_APPLY} {result['fingerprint']}")
    if rows:
        raise typer.Exit(Exit.FAILED)


_APPLY = "meter-gateway directory swap apply"
_WORDS = {
    "left": ("will not be applied", "लागू नहीं होगा"),
    "apply": ("to apply exactly this", "ठीक यही लागू करने के लिए"),
}


@swap_group.command("apply")
def apply_file(
    fingerprint: Annotated[str, typer.Argument(help="Of the plan, at least 8 digits of it.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply exactly what was judged, in one change set; a large one needs somebody else than who planned it.

    Rows that are left go into the queue of conflicts.

    Example: meter-gateway directory swap apply 9f2c01ab --data DIR
    """
    files, now, most = find_files(data, config), datetime.now(UTC), approve_above(config)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE, Right.APPROVE) as actor:
        proposals, before, who = Proposals(store), store.version, actor.called(by)
        held = proposals.find(fingerprint)
        if held.by != who:
            actor.actor.need(Right.APPROVE)
        version = proposals.approve(held.fingerprint, by=who, at=now, sure=knows_the_time(), alone_up_to=most)
        actor.note_directory(version, before, held.source)
    undo = f"meter-gateway directory undo {version}"
    print_fields(
        {"result": "applied", "what": held.source, "directory_version": version, "undo": undo},
        as_json=as_json,
    )


@swap_group.command("jobs")
def list_jobs(
    meter: Annotated[str, typer.Argument(help="A meter that was fitted or taken away.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Show what contractors' files said of a meter: readings, seals, names of photos, and the change set.

    Example: meter-gateway directory swap jobs GEN:10000101 --data DIR
    """
    files = find_files(data, config)
    with DirectoryStore(files.directory) as store, acting(files, Right.SEE):
        rows = Jobs(store.database).of_meter(meter)
    print_table(rows, as_json=as_json, empty=f"no file tells of {meter}")


def _row(row: SwapRow, language: Language) -> dict[str, Any]:
    what, to_do = swap_text(row.code, row.other, language)
    return {"line": row.line, "verdict": row.verdict.value, "code": row.code, "what": what, "to_do": to_do}


def _heading(plan: SwapPlan) -> tuple[str, ...]:
    return (*plan.header, "in_line", "verdict", "code", "what", "to_do", "क्या_मिला", "क्या_करें")


def _reported(plan: SwapPlan) -> Iterator[tuple[str, ...]]:
    width = len(plan.header)
    for row in plan.rows:
        cells = (*row.cells, *[""] * width)[:width]
        told = (
            [swap_text(row.code, row.other, language) for language in LANGUAGES]
            if row.verdict in LEFT
            else []
        )
        yield (*cells, str(row.line), row.verdict.value, row.code, *(text for pair in told for text in pair))


def _language(given: str) -> Language:
    for language in LANGUAGES:
        if given == language:
            return language
    raise UsageError(f"--language {given}: write one of {', '.join(LANGUAGES)}")
