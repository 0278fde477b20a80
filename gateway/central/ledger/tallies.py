"""Numbers of rows, kept where rows come and go: nobody counts them to know how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import Connection, Dialect, column, func, insert, select, table

from gateway.central.ledger.state_tables import tallies


def tally(connection: Connection, changes: Mapping[str, int], share: str = "") -> None:
    """Add to numbers by name, inside the transaction that makes them true; `share` is whose part of each it is."""
    told = [(name, share, change) for name, change in sorted(changes.items()) if change]
    if told:
        connection.exec_driver_sql(_addition(connection.dialect), told)


def tallied(connection: Connection) -> dict[str, int]:
    """Return every number that was ever added to, by name."""
    c = tallies.c
    query = select(c.name, func.sum(c.value)).group_by(c.name)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


@lru_cache(maxsize=4)
def _addition(dialect: Dialect) -> str:
    plain = table(tallies.name, column("name"), column("share"), column("value"))
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    added = "ON CONFLICT (name, share) DO UPDATE SET value = tallies.value + excluded.value"
    return f"{insert(plain).compile(dialect=dialect)} {added}"
