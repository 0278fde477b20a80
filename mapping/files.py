"""CSV files from outside: read with suspicion, written so that no spreadsheet runs them."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mapping.errors import FileRefused

MAX_FILE = 256 * 1024 * 1024
"""Bytes of one file: seven times a city's."""
MAX_LINE = 4096
"""Characters of one line; a lawful one has under 200."""
MAX_ROWS = 5_000_000
"""Rows of one file."""
_EXCEL_DIGITS = 15
_EXCEL_MIN_ROWS = 3

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE_LIKE = re.compile(
    rf"\d{{1,2}}-(?:{_MONTHS})(?:-\d{{2,4}})?|(?:{_MONTHS})-\d{{2,4}}|\d{{1,2}}/\d{{1,2}}/\d{{2,4}}",
    re.IGNORECASE | re.ASCII,
)
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvRow(NamedTuple):
    """One data row: its line in the file (from 1) and its cells in the order asked for."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A file that can be trusted as a file. `ragged` lines have too few or too many cells."""

    name: str
    digest: str
    header: tuple[str, ...]
    rows: list[CsvRow]
    ragged: list[CsvRow]


def read_table(path: Path | str, required: Sequence[str], optional: Sequence[str] = ()) -> CsvTable:
    """Read a comma-separated UTF-8 file; cells come in the order required + optional, absent ones empty.

    Raises FileRefused with a code: UNREADABLE, TOO_LARGE, EMPTY, UTF16, NUL, ENCODING, LINE_TOO_LONG,
    SEPARATOR, HEADER, MALFORMED, TOO_MANY_ROWS.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        raise FileRefused("UNREADABLE", f"{path.name} cannot be read: {error.strerror}") from error
    return parse_table(octets, path.name, required, optional)


def parse_table(octets: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()) -> CsvTable:
    """Do the same for octets at hand."""
    text = _decoded(octets, name)
    reader = csv.reader(_lines(text, name), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise FileRefused("EMPTY", f"{name} is empty")
        order = _order(header, name, required, optional)
        rows, ragged = _rows(reader, name, order, len(header))
    except csv.Error as error:
        raise FileRefused("MALFORMED", f"{name}, line {reader.line_num}: not CSV: {error}") from error
    digest = hashlib.sha256(octets).hexdigest()
    return CsvTable(name, digest, tuple(h.strip() for h in header), rows, ragged)


def _decoded(octets: bytes, name: str) -> str:
    if len(octets) > MAX_FILE:
        raise FileRefused("TOO_LARGE", f"{name} has more than {MAX_FILE} bytes")
    if not octets.strip(b"\xef\xbb\xbf \t\r\n"):
        raise FileRefused("EMPTY", f"{name} is empty")
    if octets[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FileRefused("UTF16", f"{name} is UTF-16: save it as CSV UTF-8")
    nul = octets.find(b"\0")
    if nul >= 0:
        raise FileRefused(
            "NUL", f"{name}, line {_line_of(octets, nul)}: a NUL byte: not a text file (or UTF-16)"
        )
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileRefused(
            "ENCODING",
            f"{name}, line {_line_of(octets, error.start)}: not UTF-8 (Windows-1252?): save it as CSV UTF-8",
        ) from error


def _line_of(octets: bytes, position: int) -> int:
    return octets.count(b"\n", 0, position) + 1


def _lines(text: str, name: str) -> Iterable[str]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > MAX_LINE:
            raise FileRefused("LINE_TOO_LONG", f"{name}, line {number}: more than {MAX_LINE} characters")
        yield line


def _order(
    header: list[str], name: str, required: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    names = [h.strip() for h in header]
    want = ",".join(required)
    if len(names) == 1 and any(s in names[0] for s in ";\t|"):
        raise FileRefused("SEPARATOR", f"{name}, line 1: separated by another sign than a comma: {want}")
    for given in names:
        if given not in (*required, *optional):
            raise FileRefused(
                "HEADER", f"{name}, line 1: unknown column {given[:40]!r}; the header is {want}"
            )
        if names.count(given) > 1:
            raise FileRefused("HEADER", f"{name}, line 1: column {given} stands twice")
    for needed in required:
        if needed not in names:
            raise FileRefused("HEADER", f"{name}, line 1: column {needed} is missing; the header is {want}")
    return [names.index(c) if c in names else None for c in (*required, *optional)]


def _rows(
    reader: Iterable[list[str]], name: str, order: list[int | None], width: int
) -> tuple[list[CsvRow], list[CsvRow]]:
    rows: list[CsvRow] = []
    ragged: list[CsvRow] = []
    line = 1
    for cells in reader:
        line = getattr(reader, "line_num", line + 1)
        if not any(cells):
            continue
        if len(rows) >= MAX_ROWS:
            raise FileRefused("TOO_MANY_ROWS", f"{name} has more than {MAX_ROWS} rows")
        if any("\n" in cell for cell in cells):
            raise FileRefused("MALFORMED", f"{name}, line {line}: a quoted cell runs over several lines")
        if len(cells) != width:
            ragged.append(CsvRow(line, tuple(cells)))
        else:
            rows.append(CsvRow(line, tuple("" if i is None else cells[i] for i in order)))
    return rows, ragged


def refuse_coerced_numbers(table: CsvTable, column: int, label: str) -> None:
    """Refuse a file in whose number column a spreadsheet made dates (row 16) or rounded digits (row 9)."""
    long = rounded = 0
    example = 0
    for line, cells in table.rows:
        cell = cells[column].strip()
        if _DATE_LIKE.fullmatch(cell):
            raise FileRefused(
                "DATE_COERCED",
                f"{table.name}, line {line}: {cell!r} in {label} is a date made by a spreadsheet: "
                "export the column as text",
            )
        if len(cell) > _EXCEL_DIGITS and cell.isascii() and cell.isdigit():
            long += 1
            if not cell[_EXCEL_DIGITS:].strip("0"):
                rounded += 1
                example = example or line
    if rounded >= _EXCEL_MIN_ROWS and rounded * 2 >= long:
        raise FileRefused(
            "EXCEL_15_DIGITS",
            f"{table.name}, line {example}: {rounded} of {long} long numbers in {label} end in zeros after "
            "15 digits: a spreadsheet rounded them; export the column as text",
        )


def parse_times(table: CsvTable, column: int, label: str) -> list[datetime | None]:
    """Read a column of ISO 8601 times with offset to UTC (empty: None); one other cell refuses the file."""
    known: dict[str, datetime | None] = {"": None}
    found = []
    for line, cells in table.rows:
        cell = cells[column].strip()
        if cell not in known:
            known[cell] = _time(cell, f"{table.name}, line {line}: {label}")
        found.append(known[cell])
    return found


def _time(cell: str, where: str) -> datetime:
    if _ISO.fullmatch(cell) is None:
        raise FileRefused(
            "DATE_AMBIGUOUS",
            f"{where} {cell[:40]!r} may mean several instants: write 2026-04-01T00:00:00+05:30",
        )
    try:
        return datetime.fromisoformat(cell).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FileRefused("DATE_INVALID", f"{where} {cell!r} is no date: {error}") from error


def write_table(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write UTF-8 CSV (0600) in one step; cells that a spreadsheet would run get a leading apostrophe."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows([escaped(cell) for cell in row] for row in rows)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileRefused("UNWRITABLE", f"{path.name} cannot be written: {error.strerror}") from error


def escaped(cell: str) -> str:
    """Prefix what a spreadsheet would take for a formula (row 75); reading strips the apostrophe again."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
