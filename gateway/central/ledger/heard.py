"""When each meter was heard last: kept at ingest, so that nobody looks through captures to know who is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from gateway.central.ledger.database import Database, in_chunks
from gateway.central.ledger.schema import meters_heard


class MetersHeard:
    """The instant of the newest capture of every meter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, datetime]:
        """Return when each meter that has a capture was heard last."""
        query = select(meters_heard.c.meter, meters_heard.c.heard_at)
        with self._database.reading("listing meters") as connection:
            return {row.meter: row.heard_at for row in connection.execute(query)}


def note_heard(connection: Connection, rows: Sequence[Mapping[str, Any]], received: datetime) -> None:
    """Note the newest of capture rows for each meter, inside the transaction that stores them.

    What is dated after its arrival counts as of its arrival: a reading of 2099 must not keep a meter heard.
    """
    heard: dict[str, datetime] = {}
    for row in rows:
        meter, at = row["meter"], row["at"]
        if meter not in heard or heard[meter] < at:
            heard[meter] = at
    c = meters_heard.c
    for names in in_chunks(list(heard)):
        query = select(c.meter, c.heard_at).where(c.meter.in_(names))
        held = {row.meter: row.heard_at for row in connection.execute(query)}
        newest = {meter: min(heard[meter], received) for meter in names}
        later = {meter: at for meter, at in newest.items() if meter not in held or held[meter] < at}
        if later:
            connection.execute(delete(meters_heard).where(c.meter.in_(list(later))))
            connection.execute(
                insert(meters_heard), [{"meter": meter, "heard_at": at} for meter, at in later.items()]
            )
