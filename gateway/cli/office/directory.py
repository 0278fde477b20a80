"""The group `directory`, and its commands `import`, `show` and `keys`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.office.actors import Right
from gateway.cli.office import applying, corrections, moves, waiting
from gateway.cli.office.acting import acting
from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.conflicts import conflicts_group
from gateway.cli.office.files import ConfigChoice, DataOption, FileArgument, find_files
from gateway.cli.office.lists import list_missing
from gateway.cli.office.rekey import rekey_group
from gateway.cli.office.senders import senders_group
from gateway.cli.office.swaps import swap_group
from gateway.cli.office.verdicts import FileResult, report
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_line, print_table
from gateway.errors import UsageError
from gateway.roles.central_files import make_directory_keys
from gateway.roles.did_you_mean import did_you_mean
from mapping.imports import apply_import, plan_import
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

RowsOption = Annotated[int, typer.Option("--rows", min=0, help="How many refused rows to print.")]
CorrectionsOption = Annotated[
    Path | None, typer.Option("--corrections", help="Write the rows that were not applied to this file.")
]

NEXT_NAME = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
directory_group = typer.Typer(help="Who holds which meter.", no_args_is_help=True)
directory_group.add_typer(rekey_group, name="rekey")
directory_group.add_typer(senders_group, name="senders")
directory_group.add_typer(conflicts_group, name="conflicts")
directory_group.add_typer(swap_group, name="swap")
directory_group.command("list")(list_missing)
CHANGES: dict[str, Callable[..., None]] = {
    "install": moves.install,
    "remove": moves.remove,
    "replace": moves.replace,
    "multiplier": moves.multiplier,
    "move-in": moves.move_in,
    "move-out": moves.move_out,
    "name": moves.name,
    "payment": moves.payment,
    "attributes": moves.attributes,
    "correct-installations": corrections.correct_installations,
    "correct-holdings": corrections.correct_holdings,
    "correct-date": corrections.correct_date,
    "cross-meters": corrections.cross_meters,
    "cross-holdings": corrections.cross_holdings,
    "apply": applying.apply_changes,
    "kinds": applying.kinds,
    "undo": corrections.undo_change_set,
    "waiting": waiting.waiting,
    "approve": waiting.approve,
    "discard": waiting.discard,
}
for word, command in CHANGES.items():
    directory_group.command(word)(command)


@directory_group.command("import")
def import_directory(
    file: FileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    several: Annotated[
        bool, typer.Option("--several-points", help="An account may hold several usage points.")
    ] = False,
    corrections: CorrectionsOption = None,
    rows: RowsOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Load meters, usage points, roles and numbers: a verdict for each row, acceptable rows in one go.

    Columns: meter,usage_point,role,legacy_number,account_number,valid_from.

    Example: meter-gateway directory import meters.csv --data /var/lib/meter-gateway/central-1
    """
    now, files = datetime.now(UTC), find_files(data, config).made()
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE) as who:
        plan = plan_import(store.snapshot(), file, at=now, several=several)
        version = plan.version
        if not dry_run:
            version = apply_import(store, plan, by=who.name, at=now, sure=knows_the_time())
            who.note_directory(version, plan.version, f"directory import {plan.name}")
    written = corrections if corrections and plan.write_corrections(corrections) else None
    result = FileResult(
        verdicts=plan.rows, counts=plan.counts, version=version, applied=not dry_run, corrections=written
    )
    report(result, rows=rows, as_json=as_json)


@directory_group.command("show")
def show_directory(
    meter: Annotated[str | None, typer.Argument(help="One meter, for example GEN:10000101.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Show the directory's counts, or one meter's installations with dates.

    Example: meter-gateway directory show GEN:10000101 --data DIR
    """
    files = find_files(data, config)
    with DirectoryStore(files.directory) as store, acting(files, Right.SEE) as who:
        snapshot = store.snapshot()
        if meter is not None:
            who.note("meter.seen", f"meter:{meter[:64]}")
    if meter is None:
        print_fields({"version": snapshot.version, **asdict(snapshot.counts())}, as_json=as_json)
        return
    rows = _installations(snapshot, meter)
    if not rows:
        raise UsageError(
            f"the directory has no meter `{meter}`.{did_you_mean(meter, set(snapshot.meters()))}"
        )
    print_table(rows, as_json=as_json, title=meter)


def _installations(snapshot: DirectorySnapshot, meter: str) -> list[dict[str, Any]]:
    """Return each installation of a meter with each holding of its usage point."""
    rows: list[dict[str, Any]] = []
    for installation in snapshot.installations(meter):
        for holding in snapshot.holdings(installation.usage_point) or (None,):
            names = snapshot.names(holding.account_id) if holding else None
            rows.append(
                {
                    "usage_point": installation.usage_point,
                    "role": installation.role,
                    "installed_from": installation.valid_from,
                    "installed_to": installation.valid_to,
                    "account": holding.account_id if holding else None,
                    "legacy_number": names.legacy_number if names else None,
                    "account_number": names.account_number if names else None,
                    "held_from": holding.valid_from if holding else None,
                    "held_to": holding.valid_to if holding else None,
                }
            )
    return rows


@directory_group.command("keys")
def directory_keys(
    folder: Annotated[Path, typer.Argument(help="Secrets folder of central.")],
    next_name: Annotated[
        str,
        typer.Option("--next", help="Name of the next pair, to change keys: it lies beside the present one."),
    ] = "",
) -> None:
    """Make the keys of the directory: `directory-signing` for central, `directory-verify` for edges.

    With `--next 2027` they are `directory-signing-2027` and `directory-verify-2027`; docs/operator.md has the walk.

    Example: meter-gateway directory keys /etc/meter-gateway/central.keys
    """
    if next_name and not NEXT_NAME.fullmatch(next_name):
        raise UsageError(f"--next {next_name} cannot be part of a file's name: use letters and digits")
    for path in make_directory_keys(folder, f"-{next_name}" if next_name else ""):
        print_line(str(path))
