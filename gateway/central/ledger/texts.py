"""The layouts and holders that captures of version 2 name by key: kept once, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Connection, Dialect, Table, column, insert, select, table

from gateway.central.ledger.records import ReceivedBatch
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import holder_lists, layouts


class Texts:
    """Those of some batches, in the transaction that stores the batches."""

    def __init__(self, connection: Connection, batches: Sequence[ReceivedBatch]) -> None:
        self._connection = connection
        self._layouts: dict[str, str] = {}
        self._holders: dict[str, str] = {}
        for one in batches:
            self._layouts |= one.layouts
            self._holders |= one.holders

    def keep(self, rows: Sequence[CaptureRow]) -> None:
        """Store what rows name and is not there yet."""
        self._keep(layouts, self._layouts, {row.layout for row in rows})
        self._keep(holder_lists, self._holders, {row.holders for row in rows})

    def layout(self, key: str) -> str:
        """Return the canonical JSON of a layout that came or is stored."""
        found = self._layouts.get(key)
        if found is None:
            query = select(layouts.c.text).where(layouts.c.key == key)
            found = self._layouts[key] = str(self._connection.execute(query).scalar_one())
        return found

    def _keep(self, into: Table, texts: Mapping[str, str], named: set[str | None]) -> None:
        wanted = [(key, texts[key]) for key in sorted(key for key in named if key is not None)]
        if wanted:
            self._connection.exec_driver_sql(_insertion_of_new(into.name, self._connection.dialect), wanted)


@lru_cache(maxsize=8)
def _insertion_of_new(name: str, dialect: Dialect) -> str:
    plain = table(name, column("key"), column("text"))
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    return f"{insert(plain).compile(dialect=dialect)} ON CONFLICT (key) DO NOTHING"
