"""What every command shares: output as a table or JSON, opening what the configuration names, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from gateway.config import file as configuration
from gateway.errors import UsageError

IST = ZoneInfo("Asia/Kolkata")
console = Console(soft_wrap=True)
_ANY = 10_000
"""Columns of a terminal that is never too narrow."""
problems = Console(stderr=True, soft_wrap=True, highlight=False)


class Exit(IntEnum):
    """Exit codes of every command."""

    GOOD = 0
    FAILED = 1
    """The command ran and found something wrong (it says what)."""
    USAGE = 2
    """Wrong use of the command, or a file or number that was refused."""
    CONFIG = 3
    """The configuration or a secret is wrong."""
    PEER = 4
    """A meter, line, broker or server did not do its part."""
    JOURNAL = 5
    """The journal or a store cannot be used."""


ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The gateway's TOML file.", envvar="METER_GATEWAY_CONFIG")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a head line.")]


def show(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "", empty: str = "nothing"
) -> None:
    """Print rows as a table, or as a JSON array."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    _wide().print(_table(rows, title))


def fits(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether `show` prints these rows without breaking a cell."""
    paper = _wide()
    return Measurement.get(paper, paper.options.update(max_width=_ANY), _table(rows)).maximum <= paper.width


def _wide() -> Console:
    return Console(width=None if console.is_terminal else 160)


def _table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(text(value) for value in row.values()))
    return table


def show_one(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing as `name: value` lines, or as a JSON object."""
    if as_json:
        print_json(dict(fields))
        return
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        console.print(f"{name.replace('_', ' '):<{width}}  {text(value)}", markup=False)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=text))


def text(value: Any) -> str:
    """Write a value for people: times in Indian time with offset, nothing as a dash."""
    match value:
        case None:
            return "—"
        case datetime():
            return value.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S %z")
        case bool():
            return "yes" if value else "no"
        case list() | tuple() | set() | frozenset():
            return ", ".join(text(v) for v in value)
        case _:
            return str(value)


def only_one_form(*, as_json: bool, as_csv: bool) -> None:
    """Refuse two forms of output at once."""
    if as_json and as_csv:
        raise UsageError("give either --json or --csv")


def load_config(path: Path) -> configuration.Config:
    """Read the configuration; ConfigError lists every mistake."""
    return configuration.load(path)


def parse_time(given: str | None, *, option: str) -> datetime | None:
    """Read an ISO 8601 time with offset (`2026-11-23T10:00:00+05:30`); a bare date is Indian midnight."""
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError as error:
        raise UsageError(
            f"{option}: `{given}` is not a time; write 2026-11-23 or 2026-11-23T10:00:00+05:30"
        ) from error
    if at.utcoffset() is None:
        at = at.replace(tzinfo=IST)
    return at.astimezone(UTC)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean …?` when something near exists."""
    import difflib

    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""
