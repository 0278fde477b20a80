"""How each meter stands, one row each: when it was heard, its gateway's word, its place in the directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from sqlalchemy import Connection, Dialect, column, insert, or_, select, table

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database, in_chunks
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import allocations, meter_health
from gateway.central.ledger.state_tables import meter_states
from mapping.instants import micros

PLACES: Final = "places_version"
"""Cursor: the directory version by which every meter's place is noted."""
ANEW: Final = -1
"""In place of a version: all places are to be noted again."""
WELL: Final = frozenset({"ok", "new"})
"""What a gateway says of a meter with which nothing is wrong."""
_TOLD: Final = ("meter", "gateway", "told", "line", "code", "unwell", "told_since", "detail")
_HEARD: Final = ("meter", "heard_at", "gateway", "told", "line", "code", "unwell")
_PLACED: Final = ("meter", "role", "role_until", "gateway", "told", "line", "code", "unwell")
_UNTOLD: Final = ("", 0, "", "ok", 0)


class Place(NamedTuple):
    """A meter's role in the directory now, or in what is to come, and until when; `role` is None where it has none.

    `until` is None for further notice, and where it never was installed; else the end of its last installation.
    """

    meter: str
    role: str | None
    until: datetime | None


class MeterStates:
    """What is kept of each meter for pages and metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def places_version(self) -> int:
        """Return the directory version by which places are noted; 0 before the first."""
        with self._database.reading("reading a cursor") as connection:
            return read_cursor(connection, PLACES) or 0

    def set_places_version(self, version: int) -> None:
        """Note by which version places are noted; ANEW has all of them noted again."""
        with self._database.writing("following the directory") as connection:
            write_cursor(connection, PLACES, version)

    def ended(self, now: datetime, limit: int) -> list[str]:
        """Return meters whose role was noted until an instant that is over."""
        c = meter_states.c
        query = select(c.meter).where(c.role_until <= now, c.role.is_not(None)).limit(limit)
        with self._database.reading("looking for installations that ended") as connection:
            return list(connection.execute(query).scalars())

    def placed(self, size: int = 1_000) -> Iterator[list[str]]:
        """Yield every meter that has or had a place, some at a time."""
        c, last = meter_states.c, ""
        has = or_(c.role.is_not(None), c.role_until.is_not(None))
        while True:
            query = select(c.meter).where(has, c.meter > last).order_by(c.meter).limit(size)
            with self._database.reading("listing meters") as connection:
                found = list(connection.execute(query).scalars())
            if not found:
                return
            yield found
            last = found[-1]

    def place(self, places: Sequence[Place]) -> None:
        """Note the places of meters."""
        rows = [
            (one.meter, one.role, None if one.until is None else micros(one.until), *_UNTOLD)
            for one in sorted(places)
        ]
        with self._database.writing("noting places") as connection:
            if rows:
                connection.exec_driver_sql(_upsert("role, role_until", _PLACED, connection.dialect), rows)


def note_heard(connection: Connection, rows: Sequence[CaptureRow], received: datetime) -> None:
    """Note the newest of capture rows for each meter, inside the transaction that stores them.

    What is dated after its arrival counts as of its arrival: a reading of 2099 must not keep a meter heard.
    """
    newest_at: dict[str, int] = {}
    for row in rows:
        if newest_at.get(row.meter, row.at - 1) < row.at:
            newest_at[row.meter] = row.at
    limit = micros(received)
    # By name: of two processes that have several meters both, none waits for the other in a circle.
    told = [(meter, min(at, limit), *_UNTOLD) for meter, at in sorted(newest_at.items())]
    if told:
        connection.exec_driver_sql(_upsert("heard_at", _HEARD, connection.dialect), told)


def note_words(connection: Connection, meters: Iterable[str]) -> None:
    """Note what gateways say of meters, and whose they are, after either has changed in the caller's transaction.

    Of two gateways that tell of a meter the one counts that it is allocated to, else the one that counted before.
    """
    h, a, s = meter_health.c, allocations.c, meter_states.c
    for some in in_chunks(sorted(set(meters))):
        owned = select(a.meter, a.gateway).where(a.meter.in_(some), a.until.is_(None))
        held = select(s.meter, s.gateway).where(s.meter.in_(some))
        owner = {row.meter: row.gateway for row in connection.execute(owned)}
        before = {row.meter: row.gateway for row in connection.execute(held)}
        rows: dict[str, tuple[object, ...]] = {
            meter: (meter, owner.get(meter, ""), 0, "", "ok", 0, None, None)
            for meter in some
            if meter in owner or meter in before
        }
        words = select(h.meter, h.gateway, h.line, h.health, h.since, h.detail).where(h.meter.in_(some))
        best: dict[str, tuple[bool, bool, str]] = {}
        for row in connection.execute(words):
            rank = (owner.get(row.meter) == row.gateway, before.get(row.meter) == row.gateway, row.gateway)
            if row.meter not in best or rank > best[row.meter]:
                best[row.meter] = rank
                since = None if row.since is None else micros(row.since)
                unwell = int(row.health not in WELL)
                rows[row.meter] = (
                    row.meter, row.gateway, 1, row.line or "", row.health, unwell, since, row.detail,
                )  # fmt: skip
        if rows:
            names = ", ".join(_TOLD[1:])
            told = [rows[meter] for meter in sorted(rows)]
            connection.exec_driver_sql(_upsert(names, _TOLD, connection.dialect), told)


@lru_cache(maxsize=16)
def _upsert(changed: str, names: tuple[str, ...], dialect: Dialect) -> str:
    """Return the statement that writes rows of these columns; of a meter that is there it changes only some."""
    plain = table(meter_states.name, *map(column, names))
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    settings = ", ".join(f"{name} = excluded.{name}" for name in changed.split(", "))
    later = (
        " WHERE meter_states.heard_at IS NULL OR excluded.heard_at > meter_states.heard_at"
        if changed == "heard_at"
        else ""
    )
    return f"{insert(plain).compile(dialect=dialect)} ON CONFLICT (meter) DO UPDATE SET {settings}{later}"
