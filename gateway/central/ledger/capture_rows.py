"""Captures in their tables: written many at once, found by their place, replaced and changed; typed rows inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Column, Connection, Dialect, Table

from gateway.central.ledger.bulk import marks, write
from gateway.central.ledger.database import in_chunks
from gateway.central.ledger.months import make_months
from gateway.central.ledger.numbers import FORMS, METERS, PROFILES, STAMPS
from gateway.central.ledger.packing import PackedRow, Packer, Place, named_place, odd_occurrence, unpack
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import captures

PLACE: Final = ("meter", "profile", "at", "occurrence")
"""The columns that name a capture."""
NAMES: Final = (
    *PLACE,
    *("seq", "ingested_at", "moved_to", "form", "stamp", "packed"),
    *("checksum", "reason", "clock", "extra", "raw"),
)
Key = tuple[int, int, int, int]
"""Meter and profile by number, instant and occurrence: what a capture_id names."""
Stored = tuple[Any, ...]
"""A row of NAMES as the database has it."""


def packed_rows(connection: Connection, rows: Iterable[CaptureRow]) -> list[Stored]:
    """Return the rows as the tables hold them, in the given order; what they share gets its numbers."""
    packer: Packer = connection.info.setdefault("packer", Packer())
    packed = [packer.pack(row) for row in rows]
    return numbered(connection, packed)


def numbered(connection: Connection, packed: Sequence[PackedRow]) -> list[Stored]:
    """Return packed rows with numbers in the place of what many of them share."""
    meters = METERS.numbers(connection, {row[0] for row in packed})
    profiles = PROFILES.numbers(connection, {row[1] for row in packed})
    forms = FORMS.numbers(connection, {row[6] for row in packed})
    stamps = STAMPS.numbers(connection, {row[7] for row in packed})
    return [
        (meters[meter], profiles[profile], *place, seq, came, moved, forms[form], stamps[stamp], *rest)
        for meter, profile, place, seq, came, moved, form, stamp, *rest in packed
    ]


def insert_captures(connection: Connection, stored: Sequence[Stored], *, unless_there: bool = False) -> int:
    """Insert rows of captures in force; with `unless_there` none whose capture is there. Return how many."""
    make_months(connection, ((row[2], row[5]) for row in stored))
    return write(connection, captures, NAMES, stored, unless=", ".join(PLACE) if unless_there else "")


def held_rows(connection: Connection, of: Table, ids: Sequence[str]) -> list[CaptureRow]:
    """Return the rows of captures."""
    return [row for some in in_chunks(ids) for row in _held(connection, of, some)]


def _held(connection: Connection, of: Table, ids: Sequence[str]) -> list[CaptureRow]:
    keys = keys_of(connection, ids)
    if not keys:
        return []
    statement = _selection(of.name, len(keys), connection.dialect)
    values = tuple(value for key in keys.values() for value in key)
    return unpacked(connection, connection.exec_driver_sql(statement, values).all())


@lru_cache(maxsize=1_024)
def _selection(name: str, count: int, dialect: Dialect) -> str:
    # PostgreSQL takes what stands in a list of values for text unless it is told.
    whole = f"CAST({marks(dialect)} AS BIGINT)"
    one = f"({', '.join([whole] * len(PLACE))})"
    wanted = f"WITH wanted(m, p, a, o) AS (VALUES {', '.join([one] * count)})"
    columns = ", ".join(f"c.{quoted}" for quoted in map(dialect.identifier_preparer.quote, NAMES))
    same = "c.meter = w.m AND c.profile = w.p AND c.at = w.a AND c.occurrence = w.o"
    return f"{wanted} SELECT {columns} FROM wanted w JOIN {name} c ON {same}"


def unpacked(connection: Connection, stored: Sequence[Any]) -> list[CaptureRow]:
    """Return rows of NAMES as captures; DamagedRow where one cannot be any."""
    meters = METERS.things(connection, {row[0] for row in stored})
    profiles = PROFILES.things(connection, {row[1] for row in stored})
    forms = FORMS.things(connection, {row[7] for row in stored})
    stamps = STAMPS.things(connection, {row[8] for row in stored})
    return [
        unpack(
            PackedRow(
                meters[meter],
                profiles[profile],
                Place(at, occurrence),
                seq,
                came,
                moved,
                forms[form],
                stamps[stamp],
                *rest,
            )
        )
        for meter, profile, at, occurrence, seq, came, moved, form, stamp, *rest in stored
    ]


def keys_of(connection: Connection, capture_ids: Sequence[str]) -> dict[str, Key]:
    """Return the key of each capture_id; of those that no stored capture can have there is none."""
    places: dict[str, tuple[str, str, Place]] = {}
    odd: list[str] = []
    for capture_id in capture_ids:
        meter, profile, *_ = *capture_id.rsplit("/", 3), "", ""
        place = named_place(meter, profile, capture_id)
        if place is None:
            odd.append(capture_id)
        else:
            places[capture_id] = meter, profile, place
    meters = METERS.known(connection, {meter for meter, _, _ in places.values()})
    profiles = PROFILES.known(connection, {profile for _, profile, _ in places.values()})
    keys: dict[str, Key] = {
        capture_id: (meters[meter], profiles[profile], *place)
        for capture_id, (meter, profile, place) in places.items()
        if meter in meters and profile in profiles
    }
    return keys | dict(_odd_keys(connection, odd))


def _odd_keys(connection: Connection, capture_ids: Sequence[str]) -> Iterator[tuple[str, Key]]:
    """Find the keys of capture_ids that do not say their place, by what stands for them."""
    for capture_id in capture_ids:
        statement = _odd_selection(connection.dialect)
        for key in connection.exec_driver_sql(statement, (odd_occurrence(capture_id),)):
            yield capture_id, (key[0], key[1], key[2], key[3])


@lru_cache(maxsize=4)
def _odd_selection(dialect: Dialect) -> str:
    # The second condition names the index.
    return f"SELECT {', '.join(PLACE)} FROM captures WHERE occurrence = {marks(dialect)} AND occurrence < 0"


def rewrite(connection: Connection, rows: Sequence[CaptureRow]) -> None:
    """Put rows in the place of those in force of the same captures."""
    stored = packed_rows(connection, rows)
    connection.exec_driver_sql(_removal(connection.dialect), [row[: len(PLACE)] for row in stored])
    insert_captures(connection, stored)


@lru_cache(maxsize=4)
def _removal(dialect: Dialect) -> str:
    return f"DELETE FROM captures WHERE {_same_place(dialect)}"


def settle(connection: Connection, told: Sequence[tuple[str, int | None, str | None]]) -> None:
    """Let captures stand where a verdict puts them: capture_id, instant (None: as stamped), reason or None."""
    keys = keys_of(connection, [capture_id for capture_id, _, _ in told])
    changes = [
        (None if at == keys[capture_id][2] else at, reason, *keys[capture_id])
        for capture_id, at, reason in told
        if capture_id in keys
    ]
    if changes:
        connection.exec_driver_sql(_settlement(connection.dialect), changes)


@lru_cache(maxsize=4)
def _settlement(dialect: Dialect) -> str:
    mark = marks(dialect)
    return f"UPDATE captures SET moved_to = {mark}, reason = {mark} WHERE {_same_place(dialect)}"


def _same_place(dialect: Dialect) -> str:
    return " AND ".join(f"{name} = {marks(dialect)}" for name in PLACE)


def columns(table: Table) -> list[Column[Any]]:
    """Return the columns of NAMES of a table of captures."""
    return [table.c[name] for name in NAMES]
