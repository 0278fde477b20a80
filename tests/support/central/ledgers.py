"""Empty ledgers for tests: files of their own, or one PostgreSQL whose tables are emptied in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import Engine, create_engine, make_url, select, update

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.schema import captures
from mapping.database import POSTGRESQL
from tests.support.postgres import PostgreSQL

FreshLedger = Callable[[], Path | str]
"""Says where an empty ledger may be opened."""


class LedgerDatabase:
    """The ledger of one server, made once: to empty its tables takes a fraction of making them."""

    def __init__(self, server: PostgreSQL) -> None:
        self.url = server.database()
        Ledger(self.url).close()
        self._engine: Engine = create_engine(make_url(self.url).set(drivername=POSTGRESQL))

    def emptied(self) -> str:
        """Return its URL after removing every row but the version."""
        with self._engine.begin() as connection:
            tables = connection.exec_driver_sql(
                "SELECT relname FROM pg_class WHERE relnamespace = 'ledger'::regnamespace AND relkind IN ('r', 'p')"
                " AND NOT relispartition AND relname <> 'ledger_version'"
            ).scalars()
            names = ", ".join(f"ledger.{name}" for name in tables)
            connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")
        return self.url

    def close(self) -> None:
        """Release the connection."""
        self._engine.dispose()


def alter_values(ledger: Ledger, mantissa: int, other: int) -> None:
    """Write another mantissa in the place of one, wherever it stands, past everything that would notice."""
    with ledger.database.writing("altering") as connection:
        for at, packed in connection.execute(select(captures.c.at, captures.c.packed)).all():
            items = [other if item == mantissa else item for item in msgspec.msgpack.decode(packed)]
            changed = update(captures).where(captures.c.at == at)
            connection.execute(changed.values(packed=msgspec.msgpack.encode(items)))


@contextmanager
def ledger_database() -> Iterator[LedgerDatabase]:
    """Run a PostgreSQL with a ledger for the time of a block."""
    with PostgreSQL() as server:
        made = LedgerDatabase(server)
        try:
            yield made
        finally:
            made.close()
