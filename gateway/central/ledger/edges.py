"""What central remembers of each edge: the part of the directory that it was last sent."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from sqlalchemy import select, update

from gateway.central.ledger.database import Database, put
from gateway.central.ledger.schema import edge_parts
from gateway.contract.topics import TopicVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPart:
    """The part of an edge: its number, whether the broker has taken it whole, and what it said.

    `contract` is the version of the contract that the edge speaks, `key` names the key that signed the part.
    """

    number: int
    contract: TopicVersion
    key: str
    sent: bool
    body: str = field(repr=False)


class EdgeRegister:
    """Durable: an edge that is silent still gets its part when the directory changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def gateways(self) -> list[str]:
        """Return every edge that was ever sent a part."""
        with self._database.reading("listing edges") as connection:
            return list(
                connection.execute(select(edge_parts.c.gateway).order_by(edge_parts.c.gateway)).scalars()
            )

    def part(self, gateway: str) -> SentPart | None:
        """Return the part that was last sent to an edge, None before the first."""
        with self._database.reading("reading an edge's part") as connection:
            row = connection.execute(select(edge_parts).where(edge_parts.c.gateway == gateway)).one_or_none()
        if row is None:
            return None
        body = zlib.decompress(row.body).decode()
        contract: TopicVersion = 1 if row.contract == 1 else 2
        return SentPart(number=row.number, contract=contract, key=row.key, sent=row.sent, body=body)

    def set_part(self, gateway: str, part: SentPart) -> None:
        """Remember what an edge is sent."""
        values = {
            "number": part.number,
            "contract": part.contract,
            "key": part.key,
            "sent": part.sent,
            "body": zlib.compress(part.body.encode()),
        }
        with self._database.writing("remembering an edge's part") as connection:
            put(connection, edge_parts, {"gateway": gateway}, values)

    def set_sent(self, gateway: str, number: int) -> None:
        """Remember that the broker has taken the part of this number whole."""
        c = edge_parts.c
        with self._database.writing("remembering an edge's part") as connection:
            connection.execute(
                update(edge_parts).where(c.gateway == gateway, c.number == number).values(sent=True)
            )
