"""Durable numbers by name: how far something has come."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, inspect, select

from gateway.central.ledger.database import Database, put
from gateway.central.ledger.schema import cursors


class Cursors:
    """Numbers that outlive the process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, unset: int = 0) -> int:
        """Return a number, `unset` when it was never set."""
        with self._database.reading("reading a cursor") as connection:
            value = read_cursor(connection, name)
        return unset if value is None else value

    def set(self, name: str, value: int) -> None:
        """Keep a number."""
        with self._database.writing("moving a cursor") as connection:
            write_cursor(connection, name, value)


# Made once, as every transaction asks it.
_VALUE: Final = select(cursors.c.value).where(cursors.c.name == bindparam("of"))


def read_cursor(connection: Connection, name: str) -> int | None:
    """Return a number inside the caller's transaction, None when it was never set."""
    value: int | None = connection.execute(_VALUE, {"of": name}).scalar()
    return value


def write_cursor(connection: Connection, name: str, value: int) -> None:
    """Set a number inside the caller's transaction."""
    put(connection, cursors, {"name": name}, {"value": value})


def unversioned(connection: Connection) -> str | None:
    """Return the version of a ledger from the time when a cursor kept it, None when the file is empty."""
    if not inspect(connection).has_table(cursors.name):
        return None
    return f"{read_cursor(connection, 'schema_version') or 1:04}"
