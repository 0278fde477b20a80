"""One SQLite file, or a PostgreSQL by URL: steady views to read in, durable turns to write in."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS: Final = 30_000
"""How long one process waits for another's transaction."""
POSTGRESQL: Final = "postgresql+pg8000"
"""The driver: pure Python, and of a permissive licence."""


class Database:
    """The connections of one store. Threads share it; writers take turns. Failures are raised as `fault`."""

    def __init__(
        self,
        where: Path | str,
        *,
        store: str,
        fault: Callable[[str], Exception],
        read_only: bool = False,
        cache_kib: int | None = None,
    ) -> None:
        """Take a file's path or a URL (`postgresql://user@host/name`); nothing is opened yet.

        `store` names what is kept, to people and for the writers' lock; `cache_kib` is the writer's page cache in
        SQLite. Raises `fault` for a URL that is none, and where PostgreSQL's driver is not installed.
        """
        self.read_only = read_only
        self._fault = fault
        self._store = store
        self._turn = threading.Lock()
        self.where = _shown(where)
        try:
            self._reader = _engine(where, store, writer=False)
            self._writer = (
                self._reader if read_only else _engine(where, store, writer=True, cache_kib=cache_kib)
            )
        except ModuleNotFoundError as error:
            raise fault(
                f"{self.where} needs the package {error.name}: install meter-gateway[postgresql]"
            ) from error
        except SQLAlchemyError as error:
            raise fault(f"{self.where} is no database: {error}") from error

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which may be set back beside what else is kept in its folder."""
        return self._reader.dialect.name == "sqlite"

    def close(self) -> None:
        """Release the connections."""
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Yield one steady view of the store; `doing` says in errors what failed."""
        with self._translated(doing), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Yield one transaction: durable when the block ends, undone when it raises; all other writers wait."""
        if self.read_only:
            raise self._fault(f"the {self._store} was opened for reading only ({doing})")
        with self._turn, self._translated(doing), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def sharing(self, doing: str, parts: Iterable[str]) -> Iterator[Connection]:
        """Yield one transaction that only those wait for who write all, or share one of these parts.

        On a server, that is: writers of a file wait for each other whatever they write.
        """
        if self.read_only or self.is_file:
            with self.writing(doing) as connection:
                yield connection
            return
        engine = self._writer.execution_options(parts=tuple(sorted(set(parts))))
        with self._turn, self._translated(doing), engine.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            cause = error.__cause__ or error
            raise self._fault(
                f"the {self._store} failed while {doing}: {cause.__class__.__name__}: {cause} ({self.where})"
            ) from error


def _key(number: int) -> int:
    """Return 32 bits as PostgreSQL's signed integer."""
    return number - (1 << 32) if number >= 1 << 31 else number


def _shown(where: Path | str) -> str:
    """Return the place as people may see it: without the password."""
    if isinstance(where, Path):
        return str(where)
    try:
        return make_url(where).render_as_string(hide_password=True)
    except ArgumentError:
        return "the URL given"


def _engine(where: Path | str, store: str, *, writer: bool, cache_kib: int | None = None) -> Engine:
    if isinstance(where, Path) or "://" not in where:
        return _sqlite(Path(where), writer=writer, cache_kib=cache_kib)
    url = make_url(where)
    if url.get_backend_name() == "sqlite":
        return _sqlite(Path(url.database or ""), writer=writer, cache_kib=cache_kib)
    if url.get_backend_name() != "postgresql":
        raise ArgumentError(f"{url.get_backend_name()!r} is neither sqlite nor postgresql")
    return _postgresql(where, store, writer=writer)


def _sqlite(path: Path, *, writer: bool, cache_kib: int | None) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    def connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # SQLAlchemy's own BEGIN (below) replaces the driver's, which begins too late for a steady read.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if writer:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            if cache_kib is not None:
                cursor.execute(f"PRAGMA cache_size=-{cache_kib}")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that reads first and writes later may find itself outrun.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


def _postgresql(where: str, store: str, *, writer: bool) -> Engine:
    url = make_url(where).set(drivername=POSTGRESQL)
    # Each store has a schema of its own, so that one database serves all of them.
    schema = store.replace(" ", "_")
    # A connection that the server closed meanwhile is noticed before it is used.
    engine = create_engine(
        url,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED" if writer else "REPEATABLE READ",
        connect_args={"startup_params": {"search_path": f'"{schema}"'}},
    )
    turn = zlib.crc32(store.encode())

    def connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # Looked for first: who may not make schemas may still use one that an administrator made.
        cursor = connection.cursor()
        cursor.execute(f"SELECT pg_advisory_xact_lock({turn})")
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
        if cursor.fetchone() is None:
            cursor.execute(f'CREATE SCHEMA "{schema}"')
        cursor.close()
        connection.commit()

    def begin(connection: Connection) -> None:
        if not writer:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            return
        # One writer per store among all processes, as a SQLite file has it: versions count without a gap.
        connection.execute(text(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}"))
        parts: tuple[str, ...] | None = connection.get_execution_options().get("parts")
        if parts is None:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({turn})"))
            return
        connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({turn})"))
        # In one order, so that no two wait for each other.
        for part in sorted({zlib.crc32(one.encode()) for one in parts}):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_key(turn)}, {_key(part)})"))

    if writer:
        event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine
