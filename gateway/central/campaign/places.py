"""The route book of the meter readers: which usage point is on which route, and at which stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import place
from mapping.errors import FileRefused
from mapping.row_verdicts import RowVerdict, Verdict
from mapping.rows import in_batches
from mapping.sheets import Sheet, open_sheet

COLUMNS: Final = ("usage_point", "route")
OPTIONAL: Final = ("stop", "name")
AT_ONCE: Final = 500
"""Rows in one transaction: a book that breaks off is taken up again as a whole, and says nothing twice."""
MAX_CELL: Final = 80
"""Characters of a route or a name: what fits on a slip."""
PRINTED: Final = ((0x20, 0x7E), (0xA0, 0xFF), (0x900, 0x97F), (0x200C, 0x200D), (0x2010, 0x2015))
"""Characters that the fonts beside this have: Latin, Devanagari with its joiners, dashes."""
MAX_STOP: Final = 10**9
MAX_TOLD: Final = 10_000
"""Rows that were not taken and are told one by one; all are counted."""


@dataclass(frozen=True, slots=True)
class BookRead:
    """What became of a route book's rows; `told` are the first that were not taken."""

    applied: int
    rejected: int
    told: tuple[RowVerdict, ...]
    names_left_out: int


def read_book(store: CampaignStore, path: Path, *, names: bool) -> BookRead:
    """Take in a route book (CSV or XLSX, columns usage_point, route, stop, name); the last row of a place counts.

    Without `names` the column `name` is neither kept nor printed. Raises FileRefused for a file that is none.
    """
    applied = rejected = left_out = 0
    told: list[RowVerdict] = []
    with open_sheet(path) as sheet:
        for some in in_batches(_rows(sheet), AT_ONCE):
            taken: dict[str, dict[str, Any]] = {}
            for row in some:
                if isinstance(row, RowVerdict):
                    rejected += 1
                    told += [row] if len(told) < MAX_TOLD else []
                    continue
                if row["name"] is not None and not names:
                    row["name"] = None
                    left_out += 1
                taken[row["usage_point"]] = row
                applied += 1
            if taken:
                with store.db.writing("taking in a route book") as db:
                    upsert(db, place, list(taken.values()), ("usage_point",))
    return BookRead(applied, rejected, tuple(told), left_out)


def places_of(db: Connection, points: list[str]) -> dict[str, Any]:
    """Return what the book says of some usage points, by usage point."""
    found = db.execute(select(place).where(place.c.usage_point.in_(points)))
    return {row.usage_point: row for row in found}


def columns_of(sheet: Sheet, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, int]:
    """Return where each column stands; FileRefused (COLUMNS) names those that are not there."""
    heading = [cell.strip().lower() for cell in sheet.heading]
    missing = [name for name in required if name not in heading]
    if missing:
        said = ", ".join((*required, *optional))
        raise FileRefused("COLUMNS", f"{sheet.name} has no column {', '.join(missing)}; it may have: {said}")
    return {name: heading.index(name) for name in (*required, *optional) if name in heading}


def is_printed(text: str) -> bool:
    """Say whether the fonts of the slips have every character of a text."""
    return all(any(first <= ord(c) <= last for first, last in PRINTED) for c in text)


def upsert(db: Connection, table: Table, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    """Write rows, each in place of the one with the same keys."""
    insert: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    others = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys and c.name in rows[0]}
    db.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=others), rows)


def _rows(sheet: Sheet) -> Iterator[dict[str, Any] | RowVerdict]:
    at = columns_of(sheet, COLUMNS, OPTIONAL)
    for line, cells in sheet.rows:

        def cell(name: str, cells: tuple[str, ...] = cells) -> str:
            index = at.get(name)
            return "" if index is None or index >= len(cells) else cells[index].removeprefix("'").strip()

        usage_point, route, stop, name = (cell(one) for one in (*COLUMNS, *OPTIONAL))
        wrong = _wrong(usage_point, route, stop, name)
        if wrong is not None:
            yield RowVerdict(line, cells, Verdict.REJECTED, *wrong)
            continue
        yield {
            "usage_point": usage_point,
            "route": route,
            "stop": int(stop) if stop else None,
            "name": name or None,
        }


def _wrong(usage_point: str, route: str, stop: str, name: str) -> tuple[str, str] | None:
    if not usage_point or not route:
        return "EMPTY", "a row has a usage point and a route"
    if max(len(usage_point), len(route), len(name)) > MAX_CELL:
        return "TOO_LONG", f"a usage point, a route and a name have at most {MAX_CELL} characters"
    if not is_printed(route + name):
        return (
            "SCRIPT",
            "slips are printed in Latin and Devanagari letters only: write route and name in one of them",
        )
    if stop and not (stop.isascii() and stop.isdigit() and int(stop) <= MAX_STOP):
        return "STOP", "a stop is a whole number: the reader's order on the route"
    return None
