"""What commands print: tables, lines and JSON on standard output, problems on standard error.

Tables are rich's, which is imported when the first one is printed.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

IST = timezone(timedelta(hours=5, minutes=30), "IST")
"""Indian time, which has had no other offset since 1945."""
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
_FILE_WIDTH = 160
"""Columns of a table in a file or a pipe."""
_WIDEST = 10_000
"""Columns of a terminal that is never too narrow."""


@functools.cache
def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=True)


def print_line(line: str) -> None:
    """Print one line; a terminal shows its numbers in colour."""
    _console().print(_by_line(line), markup=False)


def print_problem(text: str) -> None:
    """Print what is wrong on standard error."""
    typer.echo(_by_line(text), err=True)


def _by_line(text: str) -> str:
    """Return our own text, its lines and tabs as they are, and harmless what it quotes."""
    if text.isascii() and text.isprintable():
        return text
    return "\n".join("\t".join(map(harmless, line.split("\t"))) for line in text.split("\n"))


def print_json(document: Any) -> None:
    """Print one JSON document."""
    import json

    written = json.dumps(document, ensure_ascii=False, indent=2, default=text)
    if not (written.isascii() or written.isprintable()):
        # As JSON's own escapes, which say the same: only within texts can such a sign stand.
        seen = (
            c if c == "\n" or unicodedata.category(c) not in _UNSEEN else json.dumps(c)[1:-1] for c in written
        )
        written = "".join(seen)
    typer.echo(written)


def print_table(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "", empty: str = "nothing"
) -> None:
    """Print rows as a table whose columns are the first row's keys, or as a JSON array."""
    if as_json:
        print_json(list(rows))
    elif rows:
        _paper().print(_table(rows, title))
    else:
        print_line(empty)


def fits(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether `print_table` prints these rows without breaking a cell."""
    from rich.measure import Measurement

    paper = _paper()
    return (
        Measurement.get(paper, paper.options.update(max_width=_WIDEST), _table(rows)).maximum <= paper.width
    )


def print_fields(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing as `name  value` lines, or as a JSON object."""
    if as_json:
        print_json(dict(fields))
        return
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        print_line(f"{name.replace('_', ' '):<{width}}  {text(value)}")


def text(value: Any) -> str:
    """Return a value as people read it: times in Indian time with offset, None as a dash."""
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
            return harmless(str(value))


def harmless(given: str) -> str:
    r"""Return what somebody else wrote so that a terminal only shows it: no control, invisible or direction signs.

    Each stands as its number, `\u202e`: what a file says can neither move the cursor nor turn a number round.
    """
    if given.isascii() and given.isprintable():
        return given
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in given)


def milliseconds(seconds: float | None) -> str | None:
    """Return a latency as people read it, None where there is none."""
    return None if seconds is None else f"{1000 * seconds:.0f} ms"


def _paper() -> Console:
    from rich.console import Console

    return Console(width=None if _console().is_terminal else _FILE_WIDTH)


def _table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        # As text, not as rich's mark-up: a cell of a file may well say `[/]`.
        table.add_row(*(Text(text(value)) for value in row.values()))
    return table
