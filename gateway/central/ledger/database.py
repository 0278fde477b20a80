"""One SQLite file and its transactions: a steady view to read in, durable turns to write in."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Engine, Select, Table, create_engine, event, insert, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import GatewayError

BUSY_TIMEOUT_MS = 30_000
"""How long one process waits for another's transaction."""

R = TypeVar("R")
K = TypeVar("K", str, int)


class LedgerError(GatewayError):
    """The ledger cannot be read or written: the operator of central (disk, file, database)."""

    exit_code = 5


class Database:
    """The file's connections. Threads share it; writers take turns. Failures are LedgerError."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.read_only = read_only
        self._turn = threading.Lock()
        self._reader = _engine(path, writer=False)
        self._writer = self._reader if read_only else _engine(path, writer=True)

    def close(self) -> None:
        """Release the file."""
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Yield one steady view of the ledger; `doing` says in errors what failed."""
        with _translated(doing), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Yield one transaction: durable (fsync) when the block ends, undone when it raises."""
        if self.read_only:
            raise LedgerError(f"the ledger was opened for reading only ({doing})")
        with self._turn, _translated(doing), self._writer.begin() as connection:
            yield connection


def _engine(path: Path, *, writer: bool) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    def connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # SQLAlchemy's own BEGIN (below) replaces the driver's, which begins too late for a steady read.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if writer:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that reads first and writes later may find itself outrun.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger failed while {doing}: {error.__class__.__name__}: {error}") from error


def columns(table: Table, record: type[Any]) -> list[Column[Any]]:
    """Return the columns of a table that a record (a dataclass with the same names) is made of."""
    return [table.c[one.name] for one in fields(record)]


def records(connection: Connection, record: type[R], query: Select[Any]) -> list[R]:
    """Run a query for `columns(…, record)` and return its rows as records."""
    return [record(**row) for row in connection.execute(query).mappings()]


def put(
    connection: Connection, table: Table, key: Mapping[str, object], values: Mapping[str, object]
) -> None:
    """Write a row in place of the one with this key, if there is one."""
    held = connection.execute(
        update(table).where(*(table.c[name] == value for name, value in key.items())).values(**values)
    ).rowcount
    if not held:
        connection.execute(insert(table).values(**key, **values))


def in_chunks(ids: Sequence[K], size: int = 500) -> Iterator[Sequence[K]]:
    """Yield ids in lists that fit one statement (SQLite binds at most 32,766 values)."""
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]
