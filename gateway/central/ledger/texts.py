"""The layouts and holders that captures of version 2 name by key: kept once, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Table, select

from gateway.central.ledger.database import in_chunks
from gateway.central.ledger.records import ReceivedBatch
from gateway.central.ledger.rows import CaptureRow, write
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

    def _keep(self, table: Table, texts: Mapping[str, str], named: set[str | None]) -> None:
        wanted = sorted(key for key in named if key is not None)
        held = {
            key
            for some in in_chunks(wanted)
            for key in self._connection.execute(select(table.c.key).where(table.c.key.in_(some))).scalars()
        }
        write(self._connection, table, ("key", "text"), [(k, texts[k]) for k in wanted if k not in held])
