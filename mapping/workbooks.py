"""Rows of an Excel workbook as text, read one after another; openpyxl is imported when the first one is opened."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any, BinaryIO

from mapping.errors import FileRefused

MAX_UNPACKED = 1024 * 1024 * 1024
"""Octets of all parts of a workbook, unpacked: a city's sheet has a fifth."""
MAX_STRINGS = 128 * 1024 * 1024
"""Octets of its table of texts, the only part that is held in memory."""
MAX_COLUMNS = 200
"""Cells of a row; more is no list of consumers."""
_DAMAGE = (
    OSError, KeyError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError, EOFError, SyntaxError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What openpyxl raises on damaged files, which it does not translate (ElementTree's ParseError is a SyntaxError)."""


def workbook_rows(file: BinaryIO, name: str, sheet: str | None) -> Iterator[tuple[str, ...]]:
    """Yield each row of a sheet, empty ones too; None takes the only sheet that has rows.

    A formula is given as it is written, never worked out. Raises FileRefused: TOO_LARGE, SHEETS, MALFORMED.
    """
    from openpyxl import load_workbook

    try:
        _refuse_bombs(file, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and filters that we do not look at
            book: Any = load_workbook(file, read_only=True, data_only=False, keep_links=False)
        try:
            chosen = _chosen(book, name, sheet)
            chosen.reset_dimensions()  # what a writer claims of a sheet's size may be wrong
            for cells in chosen.iter_rows(values_only=True):
                if len(cells) > MAX_COLUMNS:
                    raise FileRefused("MALFORMED", f"{name}: a row has more than {MAX_COLUMNS} cells")
                yield _texts(cells)
        finally:
            book.close()
    except _DAMAGE as error:
        raise FileRefused(
            "MALFORMED",
            f"{name} is a damaged workbook ({type(error).__name__}): fetch it again, or save it as CSV",
        ) from error


def _refuse_bombs(file: BinaryIO, name: str) -> None:
    with zipfile.ZipFile(file) as packed:
        sizes = {part.filename: part.file_size for part in packed.infolist()}
    strings = sum(size for part, size in sizes.items() if "sharedstrings" in part.lower())
    if sum(sizes.values()) > MAX_UNPACKED or strings > MAX_STRINGS:
        raise FileRefused("TOO_LARGE", f"{name} unpacks to too much: save the sheet as CSV")


def _chosen(book: Any, name: str, sheet: str | None) -> Any:
    names: list[str] = [one.title for one in book.worksheets]
    if sheet is not None:
        if sheet not in names:
            raise FileRefused("SHEETS", f"{name} has no sheet {sheet!r}; it has {', '.join(names)[:200]}")
        return book[sheet]
    filled = [one for one in book.worksheets if next(_some(one), None) is not None]
    if len(filled) != 1:
        raise FileRefused(
            "SHEETS",
            f"{name} has {len(filled)} sheets with rows ({', '.join(names)[:200]}): say which, with --sheet",
        )
    return filled[0]


def _some(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()
    return (
        cells for cells in sheet.iter_rows(max_row=50, values_only=True) if any(c is not None for c in cells)
    )


def _texts(cells: Iterable[Any]) -> tuple[str, ...]:
    found = [_text(cell) for cell in cells]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _text(cell: Any) -> str:
    """Return a cell as its sheet shows it with no format: whole numbers without a point, dates in ISO 8601."""
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).upper()
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) < 1e18 else repr(cell)
        case datetime():
            return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
        case date():
            return cell.isoformat()
        case _:
            return str(cell)
