"""Readings on the terminal: a column for each quantity, or a line for each row where columns differ; JSON."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from gateway.cli.output import IST, fits, print_fields, print_table, text
from gateway.cli.value_text import value_text
from protocols.dlms.companion import Companion
from protocols.reading import (
    Instant,
    Missing,
    Number,
    ProfileName,
    Quantity,
    ReadingSet,
    Text,
    name_of,
)

EVENT_CODE = (0, 96, 11)
"""A, C and D of `0-0:96.11.x`: the code of the event in log x (IS 15959)."""


def print_rows(rows: Sequence[ReadingSet], known: Companion) -> None:
    """Print one row as lines, rows of the same columns as a table where it fits, any others in words.

    `known` names codes of events and bits of status words.
    """
    if not rows:
        print_table([], as_json=False, empty="no rows")
    elif rows[0].profile is ProfileName.EVENTS:
        print_table([_event(row, known) for row in rows], as_json=False)
    elif len(rows) == 1:
        print_fields({"at": rows[0].at, "quality": rows[0].quality, **values(rows[0], known)}, as_json=False)
    else:
        alike = all([q for q, _ in row] == [q for q, _ in rows[0]] for row in rows)
        table = [{"at": row.at, **values(row, known)} for row in rows]
        if not alike or not fits(table):
            table = [{"at": row.at, "values": in_words(values(row, known))} for row in rows]
        print_table(table, as_json=False)


def as_document(row: ReadingSet, known: Companion) -> dict[str, Any]:
    """Return a row as JSON: values are strings keyed by quantity; an event has its companion's name too."""
    document: dict[str, Any] = {
        "profile": row.profile,
        "at": row.at.isoformat(),
        "start": row.start.isoformat() if row.start else None,
        "meter_time": asdict(row.meter_time) if row.meter_time else None,
        "quality": row.quality,
        "values": {str(quantity): value_text(value) for quantity, value in row},
    }
    if row.suspect:
        document["suspect"] = [str(quantity) for quantity in row.suspect]
    if (code := event_code(row)) is not None:
        document["event"], document["event_name"] = code, known.event_name(code)
    return document


def print_csv(rows: Sequence[ReadingSet], known: Companion) -> None:
    """Print one line for each row, a column for each quantity; the head names quantities and units.

    What is missing is empty. Times are Indian time with offset.
    """
    units: dict[str, str] = {}
    for row in rows:
        for quantity, value in row:
            unit = units.setdefault(_column(quantity), "")
            if isinstance(value, Number) and not unit:
                units[_column(quantity)] = value.unit
    events = any(row.profile is ProfileName.EVENTS for row in rows)
    head = ["at", "start", "quality", *(["event", "event_name"] if events else [])]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*head, *(f"{name} [{unit}]" if unit else name for name, unit in units.items())])
    for row in rows:
        cells = {_column(quantity): _cell(value) for quantity, value in row}
        code = event_code(row)
        named = [] if not events else ["", ""] if code is None else [str(code), known.event_name(code)]
        fixed = [_time(row.at), _time(row.start), row.quality.value, *named]
        writer.writerow([*fixed, *(cells.get(name, "") for name in units)])


def _column(quantity: Quantity) -> str:
    return f"{name_of(quantity)} {quantity}" if name_of(quantity) != str(quantity) else str(quantity)


def _time(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(IST).isoformat()


def _cell(value: object) -> str:
    match value:
        case Number():
            return value.text()
        case Missing():
            return ""
        case Instant():
            return _time(value.at)
        case Text() if value.text[:1] in ("=", "+", "-", "@", "\t"):
            return f"'{value.text}"  # a spreadsheet would take it for a formula
    return value_text(value)


def values(row: ReadingSet, known: Companion) -> dict[str, str]:
    """Return names and values as people read them; what is not believed says so."""
    return {
        _name(quantity, known): _read(quantity, value, known)
        + (" (suspect)" if quantity in row.suspect else "")
        for quantity, value in row
    }


def _name(quantity: Quantity, known: Companion) -> str:
    return "status" if quantity.obis in known.status else name_of(quantity)


def _read(quantity: Quantity, value: object, known: Companion) -> str:
    match value:
        case Instant():
            return text(value.at)
        case Number() if bits := known.status_text(quantity.obis, int(value.decimal())):
            return f"{value.text()} ({bits})"
    return value_text(value)


def in_words(named: dict[str, str]) -> str:
    """Return values in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in named.items())


def event_code(row: ReadingSet) -> int | None:
    """Return the code of an event's row, or None when the row has none."""
    for quantity, value in row:
        obis = quantity.obis
        if (obis.a, obis.c, obis.d) == EVENT_CODE and isinstance(value, Number):
            return int(value.decimal())
    return None


def _event(row: ReadingSet, known: Companion) -> dict[str, Any]:
    code = event_code(row)
    rest = {
        name_of(quantity): value_text(value)
        for quantity, value in row
        if (quantity.obis.a, quantity.obis.c, quantity.obis.d) != EVENT_CODE
    }
    return {
        "at": row.at,
        "code": code,
        "event": None if code is None else known.event_name(code),
        "values": in_words(rest),
    }
