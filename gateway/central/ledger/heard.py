"""When each meter was heard last: kept at ingest, so that nobody looks through captures to know who is silent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

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
            return {meter: at for meter, at in connection.execute(query)}


def note_heard(connection: Connection, heard: Mapping[str, datetime], received: datetime) -> None:
    """Note the newest capture of each meter, inside the transaction that stores it.

    What is dated after its arrival counts as of its arrival: a reading of 2099 must not keep a meter heard.
    """
    c = meters_heard.c
    for names in in_chunks(list(heard)):
        held = dict(
            connection.execute(select(c.meter, c.heard_at).where(c.meter.in_(names))).tuples().all()
        )
        rows = []
        for meter in names:
            at = min(heard[meter], received)
            if meter not in held or held[meter] < at:
                rows.append({"meter": meter, "heard_at": at})
        if rows:
            connection.execute(delete(meters_heard).where(c.meter.in_([row["meter"] for row in rows])))
            connection.execute(insert(meters_heard), rows)
