"""What central remembers of each edge: the meters it polls and the part of the directory it was last sent."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, insert, select

from gateway.central.ledger.database import Database, put
from gateway.central.ledger.schema import edge_meters, edge_parts


class EdgeRegister:
    """Durable: an edge that is silent still gets its part when the directory changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_meters(self, gateway: str, meters: Iterable[str]) -> bool:
        """Remember which meters an edge polls; False when that is known already."""
        wanted = set(meters)
        c = edge_meters.c
        with self._database.writing("remembering an edge's meters") as connection:
            held = set(connection.execute(select(c.meter).where(c.gateway == gateway)).scalars())
            for meter in held - wanted:
                connection.execute(delete(edge_meters).where(c.gateway == gateway, c.meter == meter))
            if new := wanted - held:
                connection.execute(
                    insert(edge_meters), [{"gateway": gateway, "meter": m} for m in sorted(new)]
                )
            return held != wanted

    def meters(self, gateway: str) -> frozenset[str]:
        """Return the meters an edge polls."""
        with self._database.reading("reading an edge's meters") as connection:
            return frozenset(
                connection.execute(
                    select(edge_meters.c.meter).where(edge_meters.c.gateway == gateway)
                ).scalars()
            )

    def gateways(self) -> list[str]:
        """Return every edge that ever named its meters."""
        with self._database.reading("listing edges") as connection:
            return list(
                connection.execute(
                    select(edge_meters.c.gateway).distinct().order_by(edge_meters.c.gateway)
                ).scalars()
            )

    def part(self, gateway: str) -> tuple[int, str] | None:
        """Return version and digest of the part that was last published to an edge, None before the first."""
        with self._database.reading("reading an edge's part") as connection:
            row = connection.execute(select(edge_parts).where(edge_parts.c.gateway == gateway)).one_or_none()
            return None if row is None else (row.version, row.digest)

    def set_part(self, gateway: str, version: int, digest: str) -> None:
        """Remember what was published to an edge."""
        with self._database.writing("remembering an edge's part") as connection:
            put(connection, edge_parts, {"gateway": gateway}, {"version": version, "digest": digest})
