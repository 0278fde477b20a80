"""The commands `directory apply` and `kinds`: any set of changes by a file, or a signed request of a visit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.central.office.actors import Right
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.given import MAX_SHOWN, ByOption, DryRunOption, Given, give
from gateway.cli.options import JsonOption
from gateway.cli.output import print_table
from gateway.contract.field_request import FieldRequest, is_request, read_request
from gateway.errors import UsageError
from mapping.change_sets import changes_of, read_forms
from mapping.conflicts import ConflictRow, Conflicts, Noting
from mapping.errors import ChangeRefused
from mapping.kinds import KINDS
from mapping.row_verdicts import Verdict
from mapping.store import DirectoryStore

RowsOption = Annotated[int, typer.Option("--rows-shown", min=0, help="How many changes to print.")]


def apply_changes(
    file: Annotated[
        Path, typer.Argument(help="JSON file: a list of changes; or a signed request of a visit.")
    ],
    verify_key: Annotated[
        list[Path] | None, typer.Option("--verify-key", help="Key of the box that signed the request.")
    ] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    shown: RowsOption = MAX_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Apply a file of changes of any kind as one change set: all of them, or none.

    Of a signed request (`commission --request`) that the directory refuses, the conflict waits in the queue.

    Example: meter-gateway directory apply changes.json --dry-run --data DIR
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    how = Given(data, config, dry_run, as_json, by, shown)
    if not is_request(text):
        give(lambda snapshot: changes_of(read_forms(text), snapshot), f"directory apply {file.name}", how)
        return
    if not verify_key:
        raise UsageError(
            f"{file.name} is a signed request: say whose, with --verify-key FILE (field/request-verify)"
        )
    request = read_request(text, tuple(path.read_bytes() for path in verify_key))
    digest = hashlib.sha256(text).hexdigest()
    how = replace(how, digest=digest, rights=(Right.CHANGE, Right.FIT))
    source = f"{request.source} at {request.gateway} by {request.asked_by}"
    try:
        give(lambda snapshot: changes_of(request.changes, snapshot), source, how)
    except ChangeRefused as error:
        if not dry_run:
            _queue(request, source, digest, error, how)
        raise


def _queue(request: FieldRequest, source: str, digest: str, error: ChangeRefused, how: Given) -> None:
    """Let what the directory refuses of a visit wait for somebody."""
    files = find_files(how.data, how.config)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE, Right.FIT) as actor:
        noting = Noting(
            origin="field", source=source, digest=digest, by=actor.called(how.by), at=datetime.now(UTC)
        )
        subject = f"meter {request.readings[-1].meter}" if request.readings else source
        row = ConflictRow(1, Verdict.CONFLICT.value, error.code, subject, str(error))
        Conflicts(store.database).note(noting, [row])


def kinds(as_json: JsonOption = False) -> None:
    """List the kinds of change, with the members of each.

    Example: meter-gateway directory kinds
    """
    rows = []
    for kind, form in KINDS.items():
        members = [
            member if field.is_required() else f"[{member}]"
            for member, field in form.model_fields.items()
            if member not in ("kind", "row")
        ]
        rows.append(
            {"kind": kind, "what": (form.__doc__ or "").partition("\n")[0], "members": " ".join(members)}
        )
    print_table(rows, as_json=as_json)
