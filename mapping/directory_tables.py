"""The directory's SQLite tables, and rows to and from them. Times are microseconds since 1970 UTC."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from mapping.directory import (
    ChangeSet,
    DirectoryRow,
    Holding,
    Installation,
    Naming,
    NumberKind,
    PaymentMode,
    Role,
)
from mapping.errors import DirectoryFault
from mapping.instants import instant, micros
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_json import grouped
from mapping.store_life import StoreLife

FORMAT = 2

# The partial unique indexes hold the directory's rules even against a fault in our own code.
SCHEMA = """
CREATE TABLE change_set (version INTEGER PRIMARY KEY, at INTEGER NOT NULL, by TEXT NOT NULL,
    source TEXT NOT NULL, digest TEXT, sequence INTEGER) STRICT;
CREATE TABLE installation (meter TEXT NOT NULL, usage_point TEXT NOT NULL, role TEXT NOT NULL,
    multiplier TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER,
    recorded INTEGER NOT NULL REFERENCES change_set, superseded INTEGER REFERENCES change_set,
    row INTEGER) STRICT;
CREATE UNIQUE INDEX installation_now ON installation (meter, valid_from) WHERE superseded IS NULL;
CREATE TABLE holding (usage_point TEXT NOT NULL, account_id TEXT NOT NULL, payment_mode TEXT,
    valid_from INTEGER NOT NULL, valid_to INTEGER,
    recorded INTEGER NOT NULL REFERENCES change_set, superseded INTEGER REFERENCES change_set,
    row INTEGER) STRICT;
CREATE UNIQUE INDEX holding_now ON holding (usage_point, valid_from) WHERE superseded IS NULL;
CREATE TABLE naming (account_id TEXT NOT NULL, kind TEXT NOT NULL, number TEXT NOT NULL,
    valid_from INTEGER NOT NULL, valid_to INTEGER,
    recorded INTEGER NOT NULL REFERENCES change_set, superseded INTEGER REFERENCES change_set,
    row INTEGER) STRICT;
CREATE UNIQUE INDEX naming_now ON naming (account_id, kind, valid_from) WHERE superseded IS NULL;
CREATE UNIQUE INDEX naming_open ON naming (number, kind) WHERE superseded IS NULL AND valid_to IS NULL;
"""
# Who the store is and which life of it this is (`store_life`); new in format 2.
LIFE = "CREATE TABLE life (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"


def write(
    db: sqlite3.Connection, change: ChangeSet, gone: list[DirectoryRow], new: list[DirectoryRow]
) -> None:
    """Record one change set inside the caller's transaction: first what is superseded, then what is new."""
    db.execute(
        "INSERT INTO change_set VALUES (?, ?, ?, ?, ?, ?)",
        (change.version, micros(change.at), change.by, change.source, change.digest, change.sequence),
    )
    _write_gone(db, change.version, gone)
    _write_new(db, new)


def _write_gone(db: sqlite3.Connection, version: int, rows: list[DirectoryRow]) -> None:
    db.executemany(
        "UPDATE installation SET superseded = ? WHERE meter = ? AND valid_from = ? AND superseded IS NULL",
        ((version, r.meter, micros(r.valid_from)) for r in rows if isinstance(r, Installation)),
    )
    db.executemany(
        "UPDATE holding SET superseded = ? WHERE usage_point = ? AND valid_from = ? AND superseded IS NULL",
        ((version, r.usage_point, micros(r.valid_from)) for r in rows if isinstance(r, Holding)),
    )
    db.executemany(
        "UPDATE naming SET superseded = ? WHERE account_id = ? AND kind = ? AND valid_from = ?"
        " AND superseded IS NULL",
        ((version, r.account_id, r.kind, micros(r.valid_from)) for r in rows if isinstance(r, Naming)),
    )


def _write_new(db: sqlite3.Connection, rows: list[DirectoryRow]) -> None:
    db.executemany(
        "INSERT INTO installation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (r.meter, r.usage_point, r.role, str(r.multiplier), *_life(r))
            for r in rows
            if isinstance(r, Installation)
        ),
    )
    db.executemany(
        "INSERT INTO holding VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((r.usage_point, r.account_id, r.payment_mode, *_life(r)) for r in rows if isinstance(r, Holding)),
    )
    db.executemany(
        "INSERT INTO naming VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((r.account_id, r.kind, r.number, *_life(r)) for r in rows if isinstance(r, Naming)),
    )


def _life(row: DirectoryRow) -> tuple[int, int | None, int, None, int | None]:
    end = None if row.valid_to is None else micros(row.valid_to)
    return micros(row.valid_from), end, row.recorded.version, None, row.row


def read_life(db: sqlite3.Connection) -> StoreLife | None:
    """Return who the store is, None where that was not kept yet."""
    held = dict(db.execute("SELECT name, value FROM life"))
    return StoreLife.of(held) if held else None


def write_life(db: sqlite3.Connection, life: StoreLife) -> None:
    """Keep who the store is, inside the caller's transaction."""
    db.executemany("INSERT OR REPLACE INTO life VALUES (?, ?)", life.items().items())


def read(db: sqlite3.Connection) -> DirectorySnapshot:
    """Read the whole directory; DirectoryFault when a row cannot be what this program wrote."""
    try:
        return _RowReader(db).snapshot()
    except (ValueError, KeyError, ArithmeticError, TypeError, OverflowError) as error:
        raise DirectoryFault(f"the directory store holds a row that cannot be right: {error!r}") from error


class _RowReader:
    """Shares equal times, multipliers and strings: a city's rows have few different ones."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.at = lru_cache(maxsize=100_000)(instant)
        self.factor = lru_cache(maxsize=1_000)(Decimal)
        self.same = _Interned()
        self.lines = _Lines()
        self.roles = {str(r): r for r in Role}
        self.modes: dict[str | None, PaymentMode | None] = {None: None, **{str(m): m for m in PaymentMode}}
        self.kinds = {str(k): k for k in NumberKind}
        self.changes: dict[int | None, ChangeSet] = {
            version: ChangeSet(
                version=version, at=instant(at), by=by, source=source, digest=digest, sequence=sequence
            )
            for version, at, by, source, digest, sequence in db.execute(
                "SELECT version, at, by, source, digest, sequence FROM change_set ORDER BY version"
            )
        }

    def snapshot(self) -> DirectorySnapshot:
        return DirectorySnapshot(
            tuple(self.changes.values()),
            grouped(self.installations(), lambda r: r[0]),
            grouped(self.holdings(), lambda r: r[0]),
            grouped(self.namings(), lambda r: r[0]),
        )

    def installations(self) -> Iterator[Installation]:
        at, changes, same, line = self.at, self.changes, self.same, self.lines
        for meter, point, role, factor, start, end, known, better, row in self.db.execute(
            "SELECT meter, usage_point, role, multiplier, valid_from, valid_to, recorded, superseded, row"
            " FROM installation"
        ):
            yield Installation(
                meter,
                same[point],
                self.roles[role],
                self.factor(factor),
                at(start),
                None if end is None else at(end),
                changes[known],
                None if better is None else changes[better],
                None if row is None else line[row],
            )

    def holdings(self) -> Iterator[Holding]:
        at, changes, same, line = self.at, self.changes, self.same, self.lines
        for point, account, mode, start, end, known, better, row in self.db.execute(
            "SELECT usage_point, account_id, payment_mode, valid_from, valid_to, recorded, superseded, row"
            " FROM holding"
        ):
            yield Holding(
                same[point],
                same[account],
                self.modes[mode],
                at(start),
                None if end is None else at(end),
                changes[known],
                None if better is None else changes[better],
                None if row is None else line[row],
            )

    def namings(self) -> Iterator[Naming]:
        at, changes, same, line = self.at, self.changes, self.same, self.lines
        for account, kind, number, start, end, known, better, row in self.db.execute(
            "SELECT account_id, kind, number, valid_from, valid_to, recorded, superseded, row FROM naming"
        ):
            yield Naming(
                same[account],
                self.kinds[kind],
                number,
                at(start),
                None if end is None else at(end),
                changes[known],
                None if better is None else changes[better],
                None if row is None else line[row],
            )


class _Lines(dict[int, int]):
    def __missing__(self, line: int) -> int:
        self[line] = line
        return line


class _Interned(dict[str, str]):
    def __missing__(self, text: str) -> str:
        self[text] = text
        return text
