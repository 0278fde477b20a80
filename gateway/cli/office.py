"""Commands of the office: directory, re-key, contacts, unattributed readings, explain."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.explain import explain as explain_it
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import readings as account_readings
from gateway.central.portal.contacts import ContactStore
from gateway.cli.common import (
    Exit,
    JsonOption,
    console,
    load_config,
    parse_time,
    print_json,
    show,
    show_one,
    text,
)
from gateway.cli.explained import print_explanation
from gateway.cli.printed import in_words
from gateway.contract.messages import CaptureValue
from gateway.errors import UsageError
from gateway.roles.central import CentralFiles, central_files, make_directory_keys
from mapping.directory import NumberKind, Unattributed
from mapping.imports import apply_import, plan_import, write_import_corrections
from mapping.rekey import apply_rekey, plan_rekey, write_corrections
from mapping.store import DirectoryStore
from mapping.verdicts import RowVerdict, Verdict

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder of the gateway that has the central role.")
]
ConfigChoice = Annotated[Path | None, typer.Option("--config", "-c", help="Or: its configuration.")]
ShowRows = Annotated[int, typer.Option("--rows", min=0, help="How many refused rows to print.")]
CorrectionsOption = Annotated[
    Path | None, typer.Option("--corrections", help="Write the rows that were not applied to this file.")
]
FileArgument = Annotated[Path, typer.Argument(help="CSV file, UTF-8.")]

directory_app = typer.Typer(help="Who holds which meter.", no_args_is_help=True)
contacts_app = typer.Typer(help="Registered mobiles of accounts.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(directory_app, name="directory")
    app.add_typer(contacts_app, name="contacts")
    app.command()(rekey)
    app.command()(unattributed)
    app.command()(explain)
    app.command()(readings)


def files(data: Path | None, config: Path | None) -> CentralFiles:
    """Find central's files; UsageError when neither option leads to them."""
    if data is None and config is None:
        raise UsageError("say where central keeps its data: --data FOLDER or --config FILE")
    folder = data if data is not None else load_config(config or Path()).gateway.data
    return central_files(folder)


@contextmanager
def _ledger(found: CentralFiles) -> Iterator[Ledger]:
    ledger = Ledger(found.ledger, read_only=True)
    try:
        yield ledger
    finally:
        ledger.close()


@directory_app.command("import")
def import_directory(
    file: FileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    corrections: CorrectionsOption = None,
    rows: ShowRows = 20,
    as_json: JsonOption = False,
) -> None:
    """Load meters, usage points, roles and numbers: a verdict for each row, acceptable rows in one go.

    Columns: meter,usage_point,role,legacy_number,account_number,valid_from.

    Example: meter-gateway directory import meters.csv --data /var/lib/meter-gateway/central-1
    """
    now = datetime.now(UTC)
    with DirectoryStore(files(data, config).made().directory) as store:
        plan = plan_import(store.snapshot(), file, at=now)
        version = store.version if dry_run else apply_import(store, plan, by=_who(), at=now)
    written = write_import_corrections(plan, corrections) if corrections else None
    _report(
        plan.rows,
        plan.counts,
        version,
        applied=not dry_run,
        rows=rows,
        as_json=as_json,
        corrections=corrections if written else None,
    )


@directory_app.command("show")
def show_directory(
    meter: Annotated[str | None, typer.Argument(help="One meter, for example GEN:10000101.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Show the directory's counts, or one meter's installations with dates.

    Example: meter-gateway directory show GEN:10000101 --data DIR
    """
    with DirectoryStore(files(data, config).directory) as store:
        snapshot = store.snapshot()
    if meter is None:
        show_one({"version": snapshot.version, **_plain(snapshot.counts())}, as_json=as_json)
        return
    lines: list[dict[str, Any]] = []
    for row in snapshot.installations(meter):
        for held in snapshot.holdings(row.usage_point) or (None,):
            names = snapshot.names(held.account_id) if held else None
            lines.append(
                {
                    "usage_point": row.usage_point,
                    "role": row.role,
                    "installed_from": row.valid_from,
                    "installed_to": row.valid_to,
                    "account": held.account_id if held else None,
                    "legacy_number": names.legacy_number if names else None,
                    "account_number": names.account_number if names else None,
                    "held_from": held.valid_from if held else None,
                    "held_to": held.valid_to if held else None,
                }
            )
    if not lines:
        raise UsageError(f"the directory has no meter `{meter}`")
    show(lines, as_json=as_json, title=meter)


@directory_app.command("keys")
def directory_keys(
    folder: Annotated[Path, typer.Argument(help="Secrets folder of central.")],
) -> None:
    """Make the keys of the directory: `directory-signing` for central, `directory-verify` for edges.

    Example: meter-gateway directory keys /etc/meter-gateway/central.keys
    """
    for path in make_directory_keys(folder):
        console.print(str(path), markup=False)


def rekey(
    file: FileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    apply: Annotated[bool, typer.Option("--apply", help="Apply it (else: dry run).")] = False,
    correct: Annotated[bool, typer.Option("--correct", help="Let rows change a number given.")] = False,
    corrections: CorrectionsOption = None,
    rows: ShowRows = 20,
    as_json: JsonOption = False,
) -> None:
    """Return accounts their 10-digit numbers: a dry run with a verdict for each row, then --apply.

    Columns: legacy_number,account_number. A file with a listed fault is refused as a whole; otherwise all
    acceptable rows are committed in one transaction and the rest come back in the corrections file.

    Example: meter-gateway rekey numbers.csv --data DIR --apply --corrections back.csv
    """
    now = datetime.now(UTC)
    with DirectoryStore(files(data, config).directory) as store:
        plan = plan_rekey(store.snapshot(), file, correct=correct)
        if not plan.rows:
            raise UsageError(f"{file} has a header but no rows: is it complete?")
        version = apply_rekey(store, plan, by=_who(), at=now) if apply else store.version
    written = write_corrections(plan, corrections) if corrections else None
    _report(
        plan.rows,
        plan.counts,
        version,
        applied=apply,
        rows=rows,
        as_json=as_json,
        corrections=corrections if written else None,
    )


@contacts_app.command("import")
def import_contacts(
    file: FileArgument, data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Load registered mobiles. Columns: legacy_number,mobile,verified_at.

    Example: meter-gateway contacts import mobiles.csv --data DIR
    """
    found = files(data, config).made()
    with DirectoryStore(found.directory) as store:
        snapshot = store.snapshot()
    contacts = ContactStore(found.contacts)
    try:
        text = file.read_text(encoding="utf-8-sig")
        result = contacts.import_csv(
            text, lambda number: snapshot.account_by_number(NumberKind.LEGACY, number)
        )
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    finally:
        contacts.close()
    counts = {"accepted": result.applied, "refused": len(result.refused)}
    refused = [asdict(r) for r in result.refused]
    show_one(counts | {"rows": refused} if as_json and refused else counts, as_json=as_json)
    if refused:
        if not as_json:
            show(refused, as_json=False, title="not applied")
        raise typer.Exit(Exit.FAILED)


def unattributed(
    data: DataOption = None,
    config: ConfigChoice = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Meters that are no consumer's too (feeder, stock).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List readings that stand under no account, by meter and reason.

    Example: meter-gateway unattributed --data DIR
    """
    with _ledger(files(data, config)) as ledger:
        groups = ledger.unattributed.groups()
    rows = [_plain(group) for group in groups if everything or group.reason != Unattributed.NOT_A_CONSUMER]
    show(rows, as_json=as_json, empty="every reading of a consumer stands under an account")


def explain(
    what: Annotated[str, typer.Argument(help="A capture id, an account or legacy number, or a meter.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a reading stands where it stands: relations, dates, file and row, version, delivery.

    Example: meter-gateway explain GEN:10000101 --data DIR
    """
    found = files(data, config)
    with _ledger(found) as ledger, DirectoryStore(found.directory) as store:
        answer = explain_it(ledger, store, what)
    if as_json:
        print_json(_plain(answer))
    else:
        print_explanation(answer)


def readings(
    account: Annotated[str, typer.Argument(help="10-digit account number, legacy number or account id.")],
    since: Annotated[str, typer.Option(help="From this time (ISO 8601; a bare date is Indian midnight).")],
    until: Annotated[str, typer.Option(help="Until this time.")],
    known_at: Annotated[str | None, typer.Option("--known-at", help="As it was known at this time.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List the readings of an account between two times, as known now or at an earlier time.

    Example: meter-gateway readings 1234567890 --since 2026-11-01 --until 2026-11-30 --data DIR
    """
    start, end = parse_time(since, option="--since"), parse_time(until, option="--until")
    assert start is not None
    assert end is not None
    if end <= start:
        raise UsageError(f"--until {until} is not later than --since {since}")
    found = files(data, config)
    with _ledger(found) as ledger, DirectoryStore(found.directory) as store:
        known = parse_time(known_at, option="--known-at")
        rows = account_readings(ledger, account, start, end, store, known_at=known)
    show(
        [
            {
                "at": row.capture.at,
                "profile": row.capture.profile,
                "meter": row.capture.meter,
                "role": row.role,
                "account": row.account_number or row.legacy_number or row.account_id,
                "values": values if as_json else in_words(values),
            }
            for row in rows
            for values in [{v.name: _said(v, unit=not as_json) for v in row.capture.message.values}]
        ],
        as_json=as_json,
        empty="no readings",
    )


def _said(value: CaptureValue, *, unit: bool) -> str:
    found = next((v for v in (value.value, value.text, value.bits, value.instant) if v is not None), None)
    if found is None:
        return f"missing: {value.missing}"
    return f"{text(found)} {value.unit}" if unit and value.unit else text(found)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _report(
    verdicts: tuple[RowVerdict, ...],
    counts: Mapping[str, int],
    version: int,
    *,
    applied: bool,
    rows: int,
    as_json: bool,
    corrections: Path | None,
) -> None:
    refused = [r for r in verdicts if r.verdict in (Verdict.CONFLICT, Verdict.REJECTED)]
    if as_json:
        listed = verdicts if len(verdicts) <= 10_000 else refused
        print_json(
            {
                "applied": applied,
                "directory_version": version,
                "counts": dict(counts),
                "rows": [r._asdict() for r in listed],
            }
        )
    else:
        words = "applied" if applied else "dry run, nothing changed"
        show_one({"result": words, "directory_version": version, **counts}, as_json=False)
        if refused:
            show([r._asdict() for r in refused[:rows]], as_json=False, title="not applied")
            if len(refused) > rows:
                console.print(f"… and {len(refused) - rows} more (--rows, --corrections FILE)", markup=False)
        if corrections:
            console.print(f"rows to correct are in {corrections}", markup=False)
    if refused:
        raise typer.Exit(Exit.FAILED)


def _plain(thing: Any) -> dict[str, Any]:
    fields: dict[str, Any] = thing._asdict() if hasattr(thing, "_asdict") else asdict(thing)
    return fields
