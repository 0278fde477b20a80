"""The ledger's tables: one schema for SQLite and PostgreSQL; instants are microseconds since 1970."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import GatewayError
from mapping.instants import instant as instant
from mapping.instants import micros as micros

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 30_000
# SQLite numbers rows only in a column it calls INTEGER; PostgreSQL needs 64 bits there.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


class LedgerError(GatewayError):
    """The ledger cannot be read or written: the operator of central (disk, file, database server)."""

    exit_code = 5


def _capture_columns() -> list[Column[object]]:
    return [
        Column("value_rev", BigInteger, nullable=False),
        Column("meter", Text, nullable=False),
        Column("profile", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("start", BigInteger),
        Column("received_at", BigInteger, nullable=False),
        Column("quality", Text, nullable=False),
        Column("reason", Text),
        Column("directory_version", BigInteger, nullable=False),
        Column("gateway", Text, nullable=False),
        Column("journal", Text, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("ingested_at", BigInteger, nullable=False),
        Column("body", Text, nullable=False),
        Column("raw", Text),
    ]


captures = Table(
    "captures",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("capture_id", Text, nullable=False),
    *_capture_columns(),
)
Index("captures_capture_id", captures.c.capture_id, unique=True)
Index("captures_meter", captures.c.meter, captures.c.profile, captures.c.at)

superseded = Table(
    "superseded",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("capture_id", Text, nullable=False),
    *_capture_columns(),
)
Index("superseded_capture_id", superseded.c.capture_id, superseded.c.value_rev)
Index("superseded_meter", superseded.c.meter, superseded.c.at)

unattributed = Table(
    "unattributed",
    metadata,
    Column("capture_id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("start", BigInteger),
    Column("reason", Text, nullable=False),
    Column("ingested_at", BigInteger, nullable=False),
    Column("checked_version", BigInteger, nullable=False),
)
Index("unattributed_checked", unattributed.c.checked_version)
Index("unattributed_meter", unattributed.c.meter)

gaps = Table(
    "gaps",
    metadata,
    Column("gap_id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("after", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noticed_at", BigInteger, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("ingested_at", BigInteger, nullable=False),
)
Index("gaps_meter", gaps.c.meter, gaps.c.profile)

journals = Table(
    "journals",
    metadata,
    Column("journal", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("contiguous", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("repeated", BigInteger, nullable=False),
    Column("revised", BigInteger, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
)

journal_islands = Table(
    "journal_islands",
    metadata,
    Column("journal", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

journal_lost = Table(
    "journal_lost",
    metadata,
    Column("journal", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("declared_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

statuses = Table(
    "statuses",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

balances = Table(
    "balances",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("as_of", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("times_seen", BigInteger, nullable=False),
)
Index("dead_letters_last_seen", dead_letters.c.last_seen)

edge_meters = Table(
    "edge_meters",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
)

edge_parts = Table(
    "edge_parts",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def sqlite_engine(path: Path, *, writer: bool) -> Engine:
    """Open an engine on a SQLite file: WAL, fsync at each commit; a writer takes its lock when it begins."""
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
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn a database error into LedgerError, saying what was being done."""
    try:
        yield
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger failed while {doing}: {error.__class__.__name__}: {error}") from error
