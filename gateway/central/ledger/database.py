"""The ledger's connections, to its SQLite file or PostgreSQL, and what its tables are asked and told with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Column, Connection, Select, Table, event, insert, update
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, StatementError

from gateway.errors import GatewayError
from mapping import database

R = TypeVar("R")
K = TypeVar("K", str, int)


class LedgerError(GatewayError):
    """The ledger cannot be read or written: the operator of central (disk, file, database)."""

    exit_code = 5


class NoLedger(LedgerError):
    """There is no ledger: no central has run here."""


class Database(database.Database):
    """The ledger's connections. Threads share it; writers take turns. Failures are LedgerError."""

    def __init__(self, where: Path | str, *, read_only: bool) -> None:
        """Take the path of the file, or a URL (`postgresql://…`); nothing is opened yet."""
        super().__init__(where, store="ledger", fault=LedgerError, read_only=read_only)
        # What a connection has at hand of an undone transaction was never there.
        for undone in ("rollback", "rollback_savepoint"):
            event.listen(self._writer, undone, lambda connection, *_: connection.info.clear())
        # A commit that fails is undone too, and no rollback is told of.
        event.listen(self._writer, "handle_error", _forget)


def _forget(failure: ExceptionContext) -> None:
    if failure.connection is not None and not failure.connection.invalidated:
        failure.connection.info.clear()


def is_of_the_values(error: BaseException | None) -> bool:
    """Say whether the database refused the values themselves: to try again is of no use."""
    if isinstance(error, DBAPIError):
        # Classes 22 and 23 are of data and of constraints.
        state = _state(error)
        return state[:2] in ("22", "23") if state else isinstance(error, _OF_VALUES)
    return type(error) is StatementError


def was_in_the_way(error: BaseException | None) -> bool:
    """Say whether the database gave a transaction up because another was in its way."""
    return isinstance(error, DBAPIError) and _state(error)[:2] == "40"


_OF_VALUES: Final = (DataError, IntegrityError, InterfaceError)


def _state(error: DBAPIError) -> str:
    """Return the SQLSTATE of a server's refusal, which pg8000 gives as a dict; nothing where there is none."""
    told = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return str(told.get("C", "")) if isinstance(told, dict) else ""


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
