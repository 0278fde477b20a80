"""What central keeps of an edge for the day that its box dies: counters; and how far its meters are in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import ColumnElement, Connection, exists, func, not_, select

from gateway.central.ledger.database import Database, put
from gateway.central.ledger.rereads import STORED
from gateway.central.ledger.schema import edge_counters, gaps, journals
from gateway.central.ledger.standing import Standing, standing
from mapping.instants import instant

MAX_KEYS: Final = 30_000
"""Counters kept of one gateway: three for each of ten thousand meters."""
log = structlog.get_logger("gateway.central.ledger")


class Carried:
    """Counters by gateway and key, which only rise, and watermarks by meter and profile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, gateway: str, counters: Mapping[str, int]) -> None:
        """Keep counters that an edge has reserved; beyond MAX_KEYS of one gateway new ones are not kept."""
        c = edge_counters.c
        with self._database.writing("keeping an edge's counters") as connection:
            held = _counters(connection, gateway)
            left_out = len(counters.keys() - held.keys()) - (MAX_KEYS - len(held))
            if left_out > 0:
                log.error("counters_not_kept", gateway=gateway, count=left_out, kept=MAX_KEYS)
            for key, reserved in counters.items():
                if reserved > held.get(key, -1) and (key in held or len(held) < MAX_KEYS):
                    where = {c.gateway.name: gateway, c.key.name: key}
                    put(connection, edge_counters, where, {"reserved": reserved})
                    held[key] = reserved

    def counters(self, gateway: str) -> dict[str, int]:
        """Return the counters that a gateway has reserved."""
        with self._database.reading("reading an edge's counters") as connection:
            return _counters(connection, gateway)

    def marks(self, meters: Sequence[str]) -> list[tuple[str, str, datetime]]:
        """Return meter, profile and the instant up to which the ledger has all of it, of profiles that meters keep.

        What came behind a hole of its journal does not count: what was in the hole may be older, and is read again.
        """
        found = []
        g = gaps.c

        def before_a_hole(c: Standing) -> ColumnElement[bool]:
            return not_(exists().where(journals.c.journal == c.journal, c.seq > journals.c.contiguous))

        with self._database.reading("reading watermarks") as connection:
            for meter in meters:
                for profile in STORED:
                    newest = standing(connection, meter, profile, before_a_hole, newest_first=True, limit=1)
                    if not newest:
                        continue
                    gap = select(func.min(g.after)).where(
                        g.meter == meter, g.profile == profile, g.state == "open"
                    )
                    after: datetime | None = connection.execute(gap).scalar()
                    at = instant(newest[0].at)
                    found.append((meter, profile, at if after is None else min(at, after)))
        return found


def _counters(connection: Connection, gateway: str) -> dict[str, int]:
    c = edge_counters.c
    rows = connection.execute(select(c.key, c.reserved).where(c.gateway == gateway))
    return {row.key: row.reserved for row in rows}
