"""When each meter was heard last: kept at ingest, so that nobody looks through captures to know who is silent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from gateway.central.ledger.database import Database, in_chunks
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import meters_heard
from mapping.instants import instant, micros


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
    # Beyond all calendars is after the arrival, too.
    heard = {meter: instant(min(at, micros(received))) for meter, at in newest_at.items()}
    c = meters_heard.c
    for names in in_chunks(list(heard)):
        query = select(c.meter, c.heard_at).where(c.meter.in_(names))
        held = {row.meter: row.heard_at for row in connection.execute(query)}
        newest = {meter: heard[meter] for meter in names}
        later = {meter: at for meter, at in newest.items() if meter not in held or held[meter] < at}
        if later:
            connection.execute(delete(meters_heard).where(c.meter.in_(list(later))))
            connection.execute(
                insert(meters_heard), [{"meter": meter, "heard_at": at} for meter, at in later.items()]
            )
