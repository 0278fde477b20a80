"""CSV files from outside: read with suspicion, written so that no spreadsheet runs them."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from mapping.errors import FileRefused
from mapping.sheets import Sheet, open_sheet, read_sheet

_EXCEL_DIGITS = 15
_EXCEL_MIN_ROWS = 3

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
DATE_LIKE = re.compile(
    rf"\d{{1,2}}-(?:{_MONTHS})(?:-\d{{2,4}})?|(?:{_MONTHS})-\d{{2,4}}|\d{{1,2}}/\d{{1,2}}/\d{{2,4}}",
    re.IGNORECASE | re.ASCII,
)
"""What a spreadsheet makes of a number that looks like a day to it (`3-12` becomes `12-Mar`)."""
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


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
    """Read a whole file with fixed columns; cells come in the order required + optional, absent ones empty.

    Raises FileRefused with a code: those of `open_sheet`, HEADER.
    """
    with open_sheet(path) as sheet:
        return _collected(sheet, required, optional)


def parse_table(octets: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()) -> CsvTable:
    """Do the same for octets at hand."""
    return _collected(read_sheet(io.BytesIO(octets), name), required, optional)


def _collected(sheet: Sheet, required: Sequence[str], optional: Sequence[str]) -> CsvTable:
    order = _order(sheet, required, optional)
    rows: list[CsvRow] = []
    ragged: list[CsvRow] = []
    width = len(sheet.heading)
    for line, cells in sheet.rows:
        if not any(cells):
            continue
        if sheet.form == "xlsx" and len(cells) < width:
            cells = (*cells, *[""] * (width - len(cells)))
        if len(cells) != width:
            ragged.append(CsvRow(line, cells))
        else:
            rows.append(CsvRow(line, tuple("" if i is None else cells[i] for i in order)))
    return CsvTable(sheet.name, sheet.digest, sheet.heading, rows, ragged)


def _order(sheet: Sheet, required: Sequence[str], optional: Sequence[str]) -> list[int | None]:
    name, names = sheet.name, sheet.heading
    want = ",".join(required)
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


def refuse_coerced_numbers(table: CsvTable, column: int, label: str) -> None:
    """Refuse a file in whose number column a spreadsheet made dates (row 16) or rounded digits (row 9)."""
    long = rounded = 0
    example = 0
    for line, cells in table.rows:
        cell = cells[column].strip()
        if DATE_LIKE.fullmatch(cell):
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


def has_zone(cell: str) -> bool:
    """Tell whether a cell is an ISO 8601 time with its offset: one instant, whoever reads it."""
    return _ISO.fullmatch(cell) is not None


def _time(cell: str, where: str) -> datetime:
    if not has_zone(cell):
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
    with written(Path(path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([escaped(cell) for cell in header])
        writer.writerows([escaped(cell) for cell in row] for row in rows)


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 file (0600) in one step."""
    with written(path) as file:
        file.write(text)


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file (0600) that takes its name when the block ends well, and else never was.

    Raises FileRefused (`UNWRITABLE`).
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                yield file
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
