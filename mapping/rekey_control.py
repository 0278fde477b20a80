"""A second source beside a re-key file: totals, or a file of its own, against which numbers and rows are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mapping.account import AccountNumber, LegacyNumber, NumberSource
from mapping.errors import FileRefused, NumberRefused
from mapping.rekey_plan import RekeyPlan
from mapping.rekey_rows import plain, same_words
from mapping.senders import ANYBODY, Sender
from mapping.sheets import open_sheet

CONTROL_TABLE = """
CREATE TEMP TABLE control (old TEXT, new TEXT, meter TEXT, name TEXT, place TEXT);
"""
_INDEXES = """
CREATE INDEX temp.control_old ON control (old);
CREATE INDEX temp.control_new ON control (new);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What somebody else says of the file: its rows, the sum of its account numbers, or a list in a file of its own.

    Only a list that has account numbers vouches for them: a count and a sum do not see a column that slipped by a row.
    """

    rows: int | None = None
    total: int | None = None
    path: Path | None = None
    sender: Sender = ANYBODY


NO_CONTROL = Control()
"""Nobody says anything."""


class ControlFacts(NamedTuple):
    """What a control list holds: rows, whether it says whose each account number is, whether it has legacy numbers."""

    words: str
    rows: int = 0
    has_numbers: bool = False
    has_legacy: bool = False


class _Line(NamedTuple):
    old: str
    new: str
    meter: str
    name: str
    place: str


def read_control(plan: RekeyPlan, control: Control, digest: str) -> ControlFacts:
    """Put the control list beside the plan's rows, in a table that is gone when the plan is closed.

    Raises FileRefused as `open_sheet` does; HEADER when the list names no number at all; CONTROL when it is the very
    file that it shall control, whose SHA-256 is `digest`.
    """
    plan.db.executescript(CONTROL_TABLE)
    words = [] if control.rows is None else [f"{control.rows} rows"]
    words += [] if control.total is None else [f"sum {control.total}"]
    if control.path is None:
        plan.db.executescript(_INDEXES)
        return ControlFacts(", ".join(words))
    with open_sheet(control.path, control.sender.dress) as sheet:
        if sheet.digest == digest:
            raise FileRefused("CONTROL", f"{sheet.name} is the file itself: it cannot vouch for itself")
        places = control.sender.find(sheet.heading, sheet.name, ())
        if not places.keys() & {"legacy_number", "account_number"}:
            raise FileRefused("HEADER", f"{sheet.name}: a control list has legacy or account numbers")
        plan.db.execute("BEGIN")
        plan.db.executemany(
            "INSERT INTO temp.control VALUES (?, ?, ?, ?, ?)",
            _lines(((row.cells) for row in sheet.rows), places, control.sender),
        )
        plan.db.execute("COMMIT")
    plan.db.executescript(_INDEXES)
    rows, numbers, legacy = plan.db.execute(
        "SELECT count(*), total(new <> ''), total(old <> '') FROM temp.control"
    ).fetchone()
    words.insert(0, f"{sheet.name} ({rows} rows, {', '.join(c for c in places)})")
    whose = len(places.keys() & {"legacy_number", "meter", "name", "locality"}) > 0
    return ControlFacts(", ".join(words), rows, whose and numbers > 0, legacy > 0)


def _lines(rows: Iterator[tuple[str, ...]], places: dict[str, int], sender: Sender) -> Iterator[_Line]:
    """Yield what can be compared; a damaged number in the list vouches for nothing."""

    def cell(cells: tuple[str, ...], column: str) -> str:
        index = places.get(column, len(cells))
        return cells[index] if index < len(cells) else ""

    for cells in rows:
        if not any(cells):
            continue
        yield _Line(
            _legacy(cell(cells, "legacy_number")),
            _number(cell(cells, "account_number"), sender),
            plain(cell(cells, "meter")),
            same_words(cell(cells, "name")),
            same_words(cell(cells, "locality")),
        )


def _legacy(cell: str) -> str:
    try:
        return LegacyNumber.parse(cell, source=NumberSource.FILE).number.text
    except NumberRefused:
        return ""


def _number(cell: str, sender: Sender) -> str:
    try:
        return AccountNumber.parse(cell, source=NumberSource.FILE, prefixes=sender.prefixes).number.text
    except NumberRefused:
        return ""
