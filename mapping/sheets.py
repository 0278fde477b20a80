"""Rows of a file from outside, one after another: CSV in any of the usual dresses, or a workbook."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mapping.errors import FileRefused
from mapping.workbooks import workbook_rows

MAX_FILE = 256 * 1024 * 1024
"""Octets of one file: several times a city's."""
MAX_LINE = 4096
"""Characters of one line; a lawful one has under 400."""
MAX_ROWS = 5_000_000
"""Rows of one file."""
ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "iso8859-1")
"""What a sender's files may be declared to be in; the first four are also told by the file itself."""
SEPARATORS = (",", ";", "\t", "|")
"""What may stand between two cells."""
_LOOKED_AT = 64 * 1024
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SAID = re.compile(r"sep=(.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dress:
    """What a sender declares of its files' form; None is found out from the file itself."""

    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None


DETECTED = Dress()
"""Nothing is declared."""


class SheetRow(NamedTuple):
    """One row: its line in the file (from 1), and its cells."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """An opened file: its heading is read, its rows come once, as they are asked for.

    `form` says what it is (`csv utf-8 ,`). `ends_whole` is False where the last octet is no line end: then the file
    may have been cut off. `digest` is the SHA-256 of all its octets.
    """

    name: str
    digest: str
    form: str
    heading: tuple[str, ...]
    ends_whole: bool
    rows: Iterator[SheetRow]


@contextmanager
def open_sheet(path: Path | str, dress: Dress = DETECTED) -> Iterator[Sheet]:
    """Open a CSV file or workbook and read its heading; close it when the block ends.

    Raises FileRefused with a code, here or while rows are taken: NOT_A_FILE, UNREADABLE, TOO_LARGE, EMPTY, OLD_EXCEL,
    SHEETS, NUL, ENCODING, LINE_TOO_LONG, SEPARATOR, MALFORMED, CUT_OFF, TOO_MANY_ROWS.
    """
    path = Path(path)
    try:
        # A device or pipe may have no end, or wait for ever; it is asked before it is opened.
        if not path.is_dir() and path.exists() and not path.is_file():
            raise FileRefused(
                "NOT_A_FILE", f"{path.name} is a device, pipe or socket: save its contents as a file first"
            )
        with path.open("rb") as file:
            yield read_sheet(file, path.name, dress)
    except OSError as error:
        raise FileRefused("UNREADABLE", f"{path.name} cannot be read: {error.strerror}") from error


def read_sheet(file: BinaryIO, name: str, dress: Dress = DETECTED) -> Sheet:
    """Do the same for an open file, which stays the caller's to close."""
    digest, last = _digested(file, name)
    file.seek(0)
    start = file.read(_LOOKED_AT)
    file.seek(0)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise FileRefused(
            "OLD_EXCEL",
            f"{name} is an old or locked Excel file: save it as .xlsx without a password, or as CSV",
        )
    if start.startswith(b"PK\x03\x04"):
        rows = _numbered(workbook_rows(file, name, dress.sheet), name)
        return Sheet(name, digest, "xlsx", _heading(rows, name), True, rows)
    encoding = _encoding(start, dress)
    separator, skip = dress.separator, 0
    text = io.TextIOWrapper(io.BufferedReader(_Kept(file)), encoding, newline="")
    lines = _lines(text, name, file)
    first = next(lines, "")
    if said := _SAID.fullmatch(first.strip()):
        separator, skip, first = said[1], 1, next(lines, "")
    if not first.strip("\ufeff \t\r\n"):
        raise FileRefused("EMPTY", f"{name} has no heading in its first line")
    separator = separator or _separator(first)
    rows = _csv_rows(_chained(first, lines), name, separator, skip)
    form = f"csv {encoding.removesuffix('-sig')} {'tab' if separator == chr(9) else separator}"
    return Sheet(name, digest, form, _heading(rows, name), last in b"\r\n\0", rows)


class _Kept(io.RawIOBase):
    """Reads of a file that is not ours to close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        octets = self._file.read(len(buffer))
        buffer[: len(octets)] = octets
        return len(octets)


def _digested(file: BinaryIO, name: str) -> tuple[str, bytes]:
    digest, size, last = hashlib.sha256(), 0, b""
    while part := file.read(1024 * 1024):
        digest.update(part)
        size += len(part)
        last = part[-1:]
        if size > MAX_FILE:
            raise FileRefused("TOO_LARGE", f"{name} has more than {MAX_FILE} octets")
    if size == 0:
        raise FileRefused("EMPTY", f"{name} is empty")
    return digest.hexdigest(), last


def _encoding(start: bytes, dress: Dress) -> str:
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding  # a mark proves it, whatever is declared
    if dress.encoding is not None:
        return dress.encoding
    # UTF-16 without a mark: in a heading of plain letters each second octet is zero.
    head = start[:200]
    if head[1::2].count(0) * 3 > len(head):
        return "utf-16-le"
    if head[::2].count(0) * 3 > len(head):
        return "utf-16-be"
    return "utf-8"


def _separator(heading: str) -> str:
    counts = {one: len(next(csv.reader([heading], delimiter=one), [])) for one in SEPARATORS}
    return max(SEPARATORS, key=counts.__getitem__)


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(text: io.TextIOWrapper[Any], name: str, file: BinaryIO) -> Iterator[str]:
    number = 0
    while True:
        try:
            line = text.readline(MAX_LINE + 1)
        except UnicodeDecodeError as error:
            if error.reason in ("unexpected end of data", "truncated data"):
                raise FileRefused(
                    "CUT_OFF", f"{name} ends inside a character: it was cut off; fetch it again"
                ) from error
            where = _undecodable(file, text.encoding) or number + 1
            raise FileRefused(
                "ENCODING",
                f"{name}, line {where}: not {text.encoding} (Windows-1252?): declare the sender's encoding, or save "
                "the file as CSV UTF-8",
            ) from error
        if not line:
            return
        number += 1
        if len(line) > MAX_LINE:
            raise FileRefused("LINE_TOO_LONG", f"{name}, line {number}: more than {MAX_LINE} characters")
        if "\0" in line:
            raise FileRefused("NUL", f"{name}, line {number}: a NUL character: not a text file")
        yield line


def _undecodable(file: BinaryIO, encoding: str) -> int | None:
    """Return the first line that is not in the encoding; of UTF-16 lines cannot be told before it is decoded."""
    if encoding.startswith("utf-16"):
        return None
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode(encoding)
        except UnicodeError:
            return number
    return None


def _csv_rows(lines: Iterator[str], name: str, separator: str, skipped: int) -> Iterator[SheetRow]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for cells in reader:
            line = reader.line_num + skipped
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise FileRefused("MALFORMED", f"{name}, line {line}: a quoted cell runs over several lines")
            yield _row(SheetRow(line, tuple(cells)), name)
    except csv.Error as error:
        line = reader.line_num + skipped
        if "unexpected end" in str(error):
            raise FileRefused(
                "CUT_OFF", f"{name} ends in line {line} inside a quoted cell: it was cut off; fetch it again"
            ) from error
        raise FileRefused("MALFORMED", f"{name}, line {line}: not CSV: {error}") from error


def _numbered(rows: Iterator[tuple[str, ...]], name: str) -> Iterator[SheetRow]:
    for line, cells in enumerate(rows, 1):
        yield _row(SheetRow(line, cells), name)


def _row(row: SheetRow, name: str) -> SheetRow:
    if row.line > MAX_ROWS + 1:
        raise FileRefused("TOO_MANY_ROWS", f"{name} has more than {MAX_ROWS} rows")
    return row


def _heading(rows: Iterator[SheetRow], name: str) -> tuple[str, ...]:
    for row in rows:
        if any(cell.strip() for cell in row.cells):
            return tuple(cell.strip("\ufeff \t\u00a0") for cell in row.cells)
    raise FileRefused("EMPTY", f"{name} is empty")
