"""The ledger's tables, in SQLAlchemy Core's portable types, for SQLite and PostgreSQL.

A change here needs a step in `versions/` that makes it in the ledgers that are out there (see CONTRIBUTING).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    literal_column,
)

from mapping.instants import instant, micros

# SQLite numbers rows only in a column it calls INTEGER; PostgreSQL needs 64 bits there.
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


class UtcInstant(TypeDecorator[datetime]):
    """An instant, kept as whole microseconds since 1970: exact, sortable and the same in every database.

    A datetime without a zone is refused (ValueError): nobody could say which instant it is.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        """Return what the column holds of an instant."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value} has no zone")
        return micros(value)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        return None if value is None else instant(value)


def _capture_columns() -> tuple[Column[Any], ...]:
    """Return the columns of a capture (`packing.PackedRow`): of those in force, or of superseded revisions."""
    return (
        Column("seq", BigInteger, nullable=False),
        Column("ingested_at", UtcInstant, nullable=False),
        # Where a verdict on its time moved it; its stamped instant stays in the key.
        Column("moved_to", UtcInstant),
        Column("form", Integer, nullable=False),
        Column("stamp", Integer, nullable=False),
        Column("packed", LargeBinary, nullable=False),
        Column("checksum", LargeBinary),
        Column("reason", Text),
        Column("clock", Text),
        Column("extra", LargeBinary),
        Column("raw", LargeBinary),
    )


# The key comes first and nothing else finds a capture: SQLite keeps the rows themselves in its order.
captures = Table(
    "captures",
    metadata,
    Column("meter", Integer, primary_key=True, autoincrement=False),
    Column("profile", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcInstant, primary_key=True, autoincrement=False),
    Column("occurrence", BigInteger, primary_key=True, autoincrement=False),
    *_capture_columns(),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (at)",
)
_MOVED: Final = captures.c.moved_to.is_not(None)
Index(
    "captures_moved",
    captures.c.meter,
    captures.c.profile,
    captures.c.moved_to,
    sqlite_where=_MOVED,
    postgresql_where=_MOVED,
)
_ODD: Final = captures.c.occurrence < literal_column("0")
Index("captures_odd", captures.c.occurrence, sqlite_where=_ODD, postgresql_where=_ODD)

superseded = Table(
    "superseded",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("meter", Integer, nullable=False),
    Column("profile", Integer, nullable=False),
    Column("at", UtcInstant, nullable=False),
    Column("occurrence", BigInteger, nullable=False),
    *_capture_columns(),
)
Index("superseded_place", superseded.c.meter, superseded.c.profile, superseded.c.at, superseded.c.occurrence)

# What many captures share, under numbers.
meters = Table(
    "meters",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
)

profiles = Table(
    "profiles",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
)

forms = Table(
    "forms",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("layout", Text),
    Column("digits", Text),
    Column("span", BigInteger),
    Column("quality", Text, nullable=False),
    Column("stamp", Text),
)

stamps = Table(
    "stamps",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("gateway", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("generation", Text, nullable=False),
    Column("holders", Text),
)

layouts = Table(
    "layouts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),
)

holder_lists = Table(
    "holder_lists",
    metadata,
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),
)


gaps = Table(
    "gaps",
    metadata,
    Column("gap_id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("after", UtcInstant, nullable=False),
    Column("until", UtcInstant, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noticed_at", UtcInstant, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("ingested_at", UtcInstant, nullable=False),
)
Index("gaps_meter", gaps.c.meter, gaps.c.profile)
Index("gaps_state", gaps.c.state, gaps.c.profile, gaps.c.reason, gaps.c.meter, gaps.c.after)

journals = Table(
    "journals",
    metadata,
    Column("journal", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("contiguous", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("repeated", BigInteger, nullable=False),
    Column("revised", BigInteger, nullable=False),
    Column("first_seen", UtcInstant, nullable=False),
    Column("last_seen", UtcInstant, nullable=False),
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
    Column("declared_at", UtcInstant, nullable=False),
    Column("reason", Text, nullable=False),
)

statuses = Table(
    "statuses",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("received_at", UtcInstant, nullable=False),
    Column("run", Text),
    Column("status_seq", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

health_lists = Table(
    "health_lists",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("listing", Text, nullable=False),
    Column("next_part", BigInteger, nullable=False),
)

line_health = Table(
    "line_health",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("line", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", UtcInstant),
    Column("detail", Text),
    Column("listing", Text, nullable=False),
)

Index("line_health_state", line_health.c.state, line_health.c.gateway, line_health.c.line)

meter_health = Table(
    "meter_health",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("line", Text),
    Column("health", Text, nullable=False),
    Column("since", UtcInstant),
    Column("last_reading_at", UtcInstant),
    Column("detail", Text),
    Column("listing", Text, nullable=False),
)
Index("meter_health_meter", meter_health.c.meter)

central_health = Table(
    "central_health",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", UtcInstant, nullable=False),
    Column("heard_broker_at", UtcInstant),
    Column("fault", Text),
)

balances = Table(
    "balances",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("as_of", UtcInstant, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
    Column("body", Text, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("first_seen", UtcInstant, nullable=False),
    Column("last_seen", UtcInstant, nullable=False),
    Column("times_seen", BigInteger, nullable=False),
)
Index("dead_letters_last_seen", dead_letters.c.last_seen)

edge_parts = Table(
    "edge_parts",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("contract", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("sent", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

store_life = Table(
    "store_life",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

set_backs = Table(
    "set_backs",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("begun_at", UtcInstant, nullable=False),
    Column("why", Text, nullable=False),
    Column("store", Text, nullable=False, server_default="ledger"),
)

read_again = Table(
    "read_again",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("profile", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("since", UtcInstant),
    Column("until", UtcInstant, nullable=False),
    Column("ordered_at", UtcInstant, nullable=False),
    Column("answered_at", UtcInstant),
    Column("refused", Text),
)

edge_counters = Table(
    "edge_counters",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("reserved", BigInteger, nullable=False),
)

directory_seen = Table(
    "directory_seen",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("generation", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
    Column("told", Text, nullable=False),
)
allocations = Table(
    "allocations",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("since", UtcInstant, nullable=False),
    Column("until", UtcInstant),
    Column("origin", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("known_at", UtcInstant, nullable=False),
    Column("told", BigInteger, nullable=False, server_default="0"),
)
Index("allocations_told", allocations.c.told)
Index("allocations_gateway", allocations.c.gateway, allocations.c.until)
Index(
    "allocations_origin",
    allocations.c.origin,
    allocations.c.until,
    allocations.c.gateway,
    allocations.c.since,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("journal", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
)
Index("quarantine_meter", quarantine.c.meter)
Index("quarantine_size", quarantine.c.gateway, quarantine.c.size)

doubted = Table(
    "doubted",
    metadata,
    Column("capture_id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", UtcInstant, nullable=False),
    Column("start", UtcInstant),
    Column("received_at", UtcInstant, nullable=False),
    Column("boot", Text),
    # Spans, in microseconds.
    Column("steady", BigInteger),
    Column("drift", BigInteger),
    Column("held", BigInteger),
    Column("former", BigInteger),
    Column("flagged", BigInteger, nullable=False),
    Column("ahead", BigInteger, nullable=False),
    Column("verdict", BigInteger),
    Column("shift", BigInteger),
)
Index("doubted_meter", doubted.c.meter, doubted.c.journal)
Index("doubted_verdict", doubted.c.verdict)
Index("doubted_ahead", doubted.c.ahead, doubted.c.shift)

machine_runs = Table(
    "machine_runs",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("boot", Text, primary_key=True),
    Column("began", UtcInstant, nullable=False),
    Column("told_at", UtcInstant, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("verdict_id", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("profile", Text),
    Column("trust", Text, nullable=False),
    Column("shift", BigInteger),
    Column("evidence", Text, nullable=False),
    Column("at", UtcInstant, nullable=False),
)
Index("verdicts_meter", verdicts.c.meter, verdicts.c.journal)

edge_clocks = Table(
    "edge_clocks",
    metadata,
    Column("gateway", Text, primary_key=True),
    # Microseconds by which the gateway's clock was ahead of central's.
    Column("ahead", BigInteger, nullable=False),
    Column("trusted", BigInteger, nullable=False),
    Column("central_trusted", BigInteger, nullable=False),
    Column("at", UtcInstant, nullable=False),
)
