"""When each meter was heard last: kept at ingest, so that nobody looks through captures to know who is silent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, Dialect, column, insert, select, table

from gateway.central.ledger.database import Database
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import meters_heard
from mapping.instants import micros


class MetersHeard:
    """The instant of the newest capture of every meter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, datetime]:
        """Return when each meter that has a capture was heard last."""
        query = select(meters_heard.c.meter, meters_heard.c.heard_at)
        with self._database.reading("listing meters") as connection:
            return {row.meter: row.heard_at for row in connection.execute(query)}


def note_heard(connection: Connection, rows: Sequence[CaptureRow], received: datetime) -> None:
    """Note the newest of capture rows for each meter, inside the transaction that stores them.

    What is dated after its arrival counts as of its arrival: a reading of 2099 must not keep a meter heard.
    """
    newest_at: dict[str, int] = {}
    for row in rows:
        if newest_at.get(row.meter, row.at - 1) < row.at:
            newest_at[row.meter] = row.at
    limit = micros(received)
    # In one order: two processes that note the same meters never wait for each other.
    told = [(meter, min(at, limit)) for meter, at in sorted(newest_at.items())]
    if told:
        connection.exec_driver_sql(_upsert(connection.dialect), told)


@lru_cache(maxsize=4)
def _upsert(dialect: Dialect) -> str:
    plain = table("meters_heard", column("meter"), column("heard_at"))
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    later = "ON CONFLICT (meter) DO UPDATE SET heard_at = excluded.heard_at"
    return f"{insert(plain).compile(dialect=dialect)} {later} WHERE excluded.heard_at > meters_heard.heard_at"
