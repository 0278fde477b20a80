"""Many rows at once: one statement for many of them in SQLite, COPY in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Table, column, insert, table
from sqlalchemy.exc import DBAPIError

MANY: Final = 20
"""Rows that one statement inserts where there are so many: it binds once what all of them share."""


def write(
    connection: Connection,
    into: Table,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    unless: str = "",
) -> int:
    """Insert rows of plain values, past all conversions: those cost more than the insert. Return how many.

    `unless` names a column that is unique: a row is left out whose value there is in the table already.

    PostgreSQL takes them as one COPY, into a table of the connection's own where some may be left out. In SQLite to
    bind a value costs nearly as much as to store it, and NULL is the dearest: what all rows share is bound once
    for MANY of them.
    """
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        return _copied(connection, into.name, names, rows, unless)
    many, written = len(rows) - len(rows) % MANY, 0
    if many:
        places = list(enumerate(zip(*rows[:many], strict=True)))
        shared = [
            place for place, values in places if values[0] == values[-1] and values.count(values[0]) == many
        ]
        # At least one of its own, so that there is something to go through.
        own = [place for place, _ in places if place not in shared] or [shared.pop()]
        own_rows = list(zip(*(places[place][1] for place in own), strict=True))
        beside = [rows[0][place] for place in shared]
        statement = _insertion_of_many(
            into.name,
            tuple(names[n] for n in shared),
            tuple(names[n] for n in own),
            unless,
            connection.dialect,
        )
        written += connection.exec_driver_sql(
            statement,
            [(*beside, *chain.from_iterable(own_rows[n : n + MANY])) for n in range(0, many, MANY)],
        ).rowcount
    if many < len(rows):
        statement = _insertion(into.name, tuple(names), unless, connection.dialect)
        written += connection.exec_driver_sql(statement, list(rows[many:])).rowcount
    return written


@lru_cache(maxsize=64)
def _insertion(name: str, names: tuple[str, ...], unless: str, dialect: Dialect) -> str:
    return str(insert(table(name, *map(column, names))).compile(dialect=dialect)) + _unless(unless)


@lru_cache(maxsize=256)
def _insertion_of_many(
    name: str, shared: tuple[str, ...], own: tuple[str, ...], unless: str, dialect: Dialect
) -> str:
    names = ", ".join(map(dialect.identifier_preparer.quote, (*shared, *own)))
    # Numbered ones stand for the same value in every row; SQLite numbers the others on from the highest.
    row = ", ".join([*(f"?{number}" for number in range(1, len(shared) + 1)), *("?" * len(own))])
    return f"INSERT INTO {name} ({names}) VALUES {', '.join([f'({row})'] * MANY)}{_unless(unless)}"


def marks(dialect: Dialect) -> str:
    """Return what stands for a value in the driver's own SQL."""
    return "?" if dialect.paramstyle == "qmark" else "%s"


def _unless(name: str) -> str:
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    return f" ON CONFLICT ({name}) DO NOTHING" if name else ""


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""What COPY's text cannot have as it stands (PostgreSQL 15, "COPY", File Formats, Text Format)."""


def _copied(
    connection: Connection, name: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]], unless: str
) -> int:
    quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
    into = f"fresh_{name}" if unless else name
    if unless:
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {into} (LIKE {name} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        )
        connection.exec_driver_sql(f"DELETE FROM {into}")
    lines = "\n".join(["\t".join(map(_as_copied, row)) for row in rows])
    dialect, statement = connection.dialect, f"COPY {into} ({quoted}) FROM STDIN"
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(statement, stream=BytesIO(lines.encode() + b"\n"))
    except dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            statement, None, error, dialect.loaded_dbapi.Error, dialect=dialect
        ) from error
    finally:
        cursor.close()
    if not unless:
        return len(rows)
    return connection.exec_driver_sql(
        f"INSERT INTO {name} ({quoted}) SELECT {quoted} FROM {into}{_unless(unless)}"
    ).rowcount


def _as_copied(value: Any) -> str:
    kind = type(value)
    if kind is int:
        return str(value)
    if value is None:
        return "\\N"
    if kind is bytes:
        return f"\\\\x{value.hex()}"
    text = str(value)
    return text if text.isalnum() else text.translate(_ESCAPES)
