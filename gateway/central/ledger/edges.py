"""What central remembers of each edge: the meters it polls and the part of the directory it was last sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from sqlalchemy import Connection, delete, insert, select, update

from gateway.central.ledger.schema import edge_meters, edge_parts

Transaction = Callable[[str], AbstractContextManager[Connection]]


class EdgeRegister:
    """Durable: an edge that is silent still gets its part when the directory changes."""

    def __init__(self, reading: Transaction, writing: Transaction) -> None:
        self._reading = reading
        self._writing = writing

    def set_meters(self, gateway: str, meters: Iterable[str]) -> bool:
        """Remember which meters an edge polls; False when that is known already."""
        wanted = set(meters)
        c = edge_meters.c
        with self._writing("remembering an edge's meters") as connection:
            held = set(connection.execute(select(c.meter).where(c.gateway == gateway)).scalars())
            if gone := held - wanted:
                for meter in gone:
                    connection.execute(delete(edge_meters).where(c.gateway == gateway, c.meter == meter))
            if new := wanted - held:
                connection.execute(
                    insert(edge_meters), [{"gateway": gateway, "meter": m} for m in sorted(new)]
                )
            return held != wanted

    def meters(self, gateway: str) -> frozenset[str]:
        """The meters an edge polls."""
        with self._reading("reading an edge's meters") as connection:
            return frozenset(
                connection.execute(
                    select(edge_meters.c.meter).where(edge_meters.c.gateway == gateway)
                ).scalars()
            )

    def gateways(self) -> list[str]:
        """Every edge that ever named its meters."""
        with self._reading("listing edges") as connection:
            return list(
                connection.execute(
                    select(edge_meters.c.gateway).distinct().order_by(edge_meters.c.gateway)
                ).scalars()
            )

    def part(self, gateway: str) -> tuple[int, str] | None:
        """Version and digest of the part that was last published to an edge."""
        with self._reading("reading an edge's part") as connection:
            row = connection.execute(select(edge_parts).where(edge_parts.c.gateway == gateway)).one_or_none()
            return None if row is None else (row.version, row.digest)

    def set_part(self, gateway: str, version: int, digest: str) -> None:
        """Remember what was published to an edge."""
        with self._writing("remembering an edge's part") as connection:
            held = connection.execute(
                update(edge_parts)
                .where(edge_parts.c.gateway == gateway)
                .values(version=version, digest=digest)
            ).rowcount
            if not held:
                connection.execute(insert(edge_parts).values(gateway=gateway, version=version, digest=digest))
