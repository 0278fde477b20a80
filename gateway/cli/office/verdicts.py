"""What became of each row of a file of meters or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from gateway.cli.exits import Exit
from gateway.cli.output import print_fields, print_json, print_line, print_table
from mapping.row_verdicts import RowVerdict, Verdict

MAX_JSON_ROWS = 10_000
"""Rows of a file above which JSON has the refused ones only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """A file's verdicts and counts, and the directory's version afterwards; `applied` unless it was a dry run."""

    verdicts: tuple[RowVerdict, ...]
    counts: Mapping[str, int]
    version: int
    applied: bool
    corrections: Path | None
    """Where rows to correct were written, if anywhere."""


def report(result: FileResult, *, rows: int, as_json: bool) -> None:
    """Print what became of a file, at most `rows` refused rows of it; exit with 1 when one was refused."""
    refused = [v for v in result.verdicts if v.verdict in (Verdict.CONFLICT, Verdict.REJECTED)]
    if as_json:
        listed = result.verdicts if len(result.verdicts) <= MAX_JSON_ROWS else refused
        print_json(
            {
                "applied": result.applied,
                "directory_version": result.version,
                "counts": dict(result.counts),
                "rows": [verdict._asdict() for verdict in listed],
            }
        )
    else:
        words = "applied" if result.applied else "dry run, nothing changed"
        print_fields({"result": words, "directory_version": result.version, **result.counts}, as_json=False)
        if refused:
            print_table([verdict._asdict() for verdict in refused[:rows]], as_json=False, title="not applied")
            if len(refused) > rows:
                print_line(f"… and {len(refused) - rows} more (--rows, --corrections FILE)")
        if result.corrections:
            print_line(f"rows to correct are in {result.corrections}")
    if refused:
        raise typer.Exit(Exit.FAILED)
