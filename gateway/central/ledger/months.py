"""Captures lie in partitions by month in PostgreSQL: made as they come; what is dated far off has its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection

from mapping.instants import instant, micros

PAST: Final = 36
"""Months before its arrival up to which a capture has its month's partition: a meter keeps far fewer."""
AHEAD: Final = 1
"""Months after it: what is dated further ahead was dated by a wrong clock."""
MADE: Final = "months"
"""Under this name a connection has the months whose partitions it knows; forgotten where a transaction is undone."""
_LOCK: Final = 0x6D6F6E74


def make_months(connection: Connection, dated: Iterable[tuple[int, int]]) -> None:
    """Make the partitions that captures need, by instant and arrival in microseconds. In SQLite there are none."""
    if connection.dialect.name != "postgresql":
        return
    made: set[int] = connection.info.setdefault(MADE, set())
    for month in sorted({_month(at) for at, came in dated if _is_near(at, came)} - made):
        _make(connection, month)
        made.add(month)


def _is_near(at: int, came: int) -> bool:
    return -PAST <= _month(at) - _month(came) <= AHEAD


def _month(at: int) -> int:
    """Return the number of an instant's month in UTC, from the year 0."""
    return _month_of_day(at // 86_400_000_000)


@lru_cache(maxsize=4_096)
def _month_of_day(day: int) -> int:
    found = instant(day * 86_400_000_000)
    return found.year * 12 + found.month - 1


def _begin(month: int) -> int:
    return micros(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))


def _make(connection: Connection, month: int) -> None:
    name = f"captures_{month // 12:04}_{month % 12 + 1:02}"
    there = f"SELECT to_regclass('{name}')"
    if connection.exec_driver_sql(there).scalar() is not None:
        return
    # Of two processes one makes it.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    if connection.exec_driver_sql(there).scalar() is not None:
        return
    begin, end = _begin(month), _begin(month + 1)
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE captures INCLUDING DEFAULTS)")
    # What was dated ahead of its month waited in the other partition.
    connection.exec_driver_sql(
        f"WITH gone AS (DELETE FROM captures_other WHERE at >= {begin} AND at < {end} RETURNING *)"
        f" INSERT INTO {name} SELECT * FROM gone"
    )
    connection.exec_driver_sql(
        f"ALTER TABLE captures ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})"
    )
