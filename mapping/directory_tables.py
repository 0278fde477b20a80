"""The directory's tables, in SQLite or PostgreSQL, and rows to and from them. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateIndex

from mapping.characters import SEPARATORS
from mapping.directory import (
    Attribute,
    AttributeKind,
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
from mapping.rows import in_batches
from mapping.store_life import StoreLife

FORMAT: Final = 8
"""1: the four tables. 2: `life`. 3: indexes for all questions, and the format in `life`, as PostgreSQL needs it.
4: `attribute`; rows of no length beside one that begins at the same instant. 5: legacy numbers by what remains of them
without separators. 6: `proposal`. 7: `conflict`. 8: `fitted_job`, `seal_used`."""
NEVER: Final = 2**62
"""Stands for an open end where one is compared: later than any instant."""
AT_ONCE: Final = 500
"""Keys in one statement, and rows written by one."""

Whole = BigInteger().with_variant(Integer(), "sqlite")
META = MetaData()


def _row_columns() -> list[Column[Any]]:
    """Return the columns that every relation ends with: when it holds, who said it, who said better, which line."""
    return [
        Column("valid_from", Whole, nullable=False),
        Column("valid_to", Whole),
        Column("recorded", Integer, ForeignKey("change_set.version"), nullable=False),
        Column("superseded", Integer, ForeignKey("change_set.version")),
        Column("row", Whole),
    ]


change_set = Table(
    "change_set",
    META,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Whole, nullable=False),
    Column("by", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", Text),
    Column("sequence", Whole),
    sqlite_strict=True,
)
installation = Table(
    "installation",
    META,
    Column("meter", Text, nullable=False),
    Column("usage_point", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("multiplier", Text, nullable=False),
    *_row_columns(),
    sqlite_strict=True,
)
holding = Table(
    "holding",
    META,
    Column("usage_point", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("payment_mode", Text),
    *_row_columns(),
    sqlite_strict=True,
)
naming = Table(
    "naming",
    META,
    Column("account_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("number", Text, nullable=False),
    *_row_columns(),
    sqlite_strict=True,
)
attribute = Table(
    "attribute",
    META,
    Column("usage_point", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    *_row_columns(),
    sqlite_strict=True,
)
# Who the store is and which life of it this is (`store_life`); new in format 2.
life = Table(
    "life",
    META,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
)
FOLDED: Final[ColumnElement[str]] = literal_column(
    reduce(lambda inner, sign: f"replace({inner}, '{sign}', '')", SEPARATORS, "number"), Text()
)
"""`mapping.characters.folded` of a naming's number: written out, since SQLite uses an index for the same words only."""


# Change sets that wait for a second person (`mapping.proposals`).
proposal = Table(
    "proposal",
    META,
    Column("fingerprint", Text, primary_key=True),
    Column("by", Text, nullable=False),
    Column("at", Whole, nullable=False),
    Column("source", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("meters", Integer, nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_strict=True,
)


# What files and other doors left undone, until somebody settles it (`mapping.conflicts`).
conflict = Table(
    "conflict",
    META,
    Column("id", Integer, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("line", Whole, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cells", Text, nullable=False),
    Column("noted_at", Whole, nullable=False),
    Column("noted_by", Text, nullable=False),
    Column("owner", Text),
    Column("taken_at", Whole),
    Column("settled_at", Whole),
    Column("settled_by", Text),
    Column("how", Text),
    sqlite_strict=True,
)
# What a contractor's file says of a replaced meter beside the change itself (`mapping.swaps`).
fitted_job = Table(
    "fitted_job",
    META,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, ForeignKey("change_set.version"), nullable=False),
    Column("line", Whole, nullable=False),
    Column("usage_point", Text, nullable=False),
    Column("old_meter", Text, nullable=False),
    Column("new_meter", Text, nullable=False),
    Column("at", Whole, nullable=False),
    Column("final", Text),
    Column("no_final", Text),
    Column("opening", Text, nullable=False),
    Column("seals", Text, nullable=False),
    Column("photos", Text, nullable=False),
    sqlite_strict=True,
)
seal_used = Table(
    "seal_used",
    META,
    Column("seal", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("line", Whole, nullable=False),
    sqlite_strict=True,
)


def _where(condition: Any) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


def _make_indexes() -> None:
    # The unique ones hold the directory's rules even against a fault in our own code.
    for table, keys in (
        (installation, (installation.c.meter,)),
        (holding, (holding.c.usage_point,)),
        (naming, (naming.c.account_id, naming.c.kind)),
        (attribute, (attribute.c.usage_point, attribute.c.kind)),
    ):
        now = table.c.superseded.is_(None)
        # A row of no length (a meter replaced at the instant at which it was fitted) may stand beside the next one.
        lasting = or_(table.c.valid_to.is_(None), table.c.valid_to > table.c.valid_from)
        Index(f"{table.name}_at", *keys, table.c.valid_from, unique=True, **_where(and_(now, lasting)))
        Index(f"{table.name}_key", keys[0])
        # What a change set did: asked for at every publication.
        Index(f"{table.name}_recorded", table.c.recorded)
        Index(f"{table.name}_superseded", table.c.superseded, **_where(table.c.superseded.is_not(None)))
    is_open = and_(naming.c.superseded.is_(None), naming.c.valid_to.is_(None))
    Index("naming_open", naming.c.number, naming.c.kind, unique=True, **_where(is_open))
    Index("naming_number", naming.c.number, **_where(naming.c.valid_to.is_(None)))
    legacy = and_(naming.c.kind == str(NumberKind.LEGACY), naming.c.valid_to.is_(None))
    Index("naming_folded", FOLDED, _table=naming, **_where(legacy))
    Index("installation_point", installation.c.usage_point)
    Index("holding_account", holding.c.account_id)
    # A file that is sent in again finds its rows here, and is noted once.
    Index("conflict_row", conflict.c.digest, conflict.c.line, unique=True)
    Index("conflict_open", conflict.c.noted_at, **_where(conflict.c.settled_at.is_(None)))
    Index("conflict_subject", conflict.c.subject, **_where(conflict.c.settled_at.is_(None)))
    Index("fitted_job_old", fitted_job.c.old_meter)
    Index("fitted_job_new", fitted_job.c.new_meter)
    Index("seal_used_seal", seal_used.c.seal)
    of_now = attribute.c.superseded.is_(None)
    Index("attribute_value", attribute.c.kind, attribute.c.value, **_where(of_now))


_make_indexes()


def prepare(db: Connection, where: str) -> None:
    """Make the tables, or bring those of an older format up to date; DirectoryFault where they are of a newer one."""
    found = _format(db)
    if found == FORMAT:
        return
    if found is None or not 0 <= found <= FORMAT:
        raise DirectoryFault(
            f"{where} is not a directory store of format {FORMAT} (it says {'nothing' if found is None else found})"
        )
    META.create_all(db, checkfirst=True)
    for name in ("installation_now", "holding_now", "naming_now"):  # of formats before 4
        db.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
    for table in META.tables.values():  # `create_all` makes no index of a table that was there
        for index in sorted(table.indexes, key=lambda i: str(i.name)):
            db.execute(CreateIndex(index, if_not_exists=True))
    if db.dialect.name == "sqlite":
        db.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
    _put_life(db, {"format": str(FORMAT)})


def _format(db: Connection) -> int | None:
    """Return the format of the tables that are there: 0 for none, None for those of another program."""
    if db.dialect.name == "sqlite":
        found = int(db.exec_driver_sql("PRAGMA user_version").scalar_one())
        empty = not db.execute(text("SELECT 1 FROM sqlite_master")).first()
        return None if found == 0 and not empty else found
    if not inspect(db).has_table(change_set.name):
        return 0
    held = db.execute(select(life.c.value).where(life.c.name == "format")).scalar()
    return None if held is None else int(held)


# --- writing --------------------------------------------------------------------------------------------------


def write(
    db: Connection, change: ChangeSet, gone: Sequence[DirectoryRow], new: Sequence[DirectoryRow]
) -> None:
    """Record one change set inside the caller's transaction: first what is superseded, then what is new."""
    db.execute(
        insert(change_set).values(
            version=change.version,
            at=micros(change.at),
            by=change.by,
            source=change.source,
            digest=change.digest,
            sequence=change.sequence,
        )
    )
    for table, kind, keys in (
        (installation, Installation, ("meter", "usage_point")),
        (holding, Holding, ("usage_point",)),
        (naming, Naming, ("account_id", "kind")),
        (attribute, Attribute, ("usage_point", "kind")),
    ):
        ended = (row for row in gone if isinstance(row, kind))
        statement = update(table).where(
            *(table.c[key] == bindparam(f"of_{key}") for key in keys),
            table.c.valid_from == bindparam("of_valid_from"),
            func.coalesce(table.c.valid_to, NEVER) == bindparam("of_valid_to"),
            table.c.superseded.is_(None),
        )
        for some in in_batches(ended, AT_ONCE):
            db.execute(
                statement.values(superseded=change.version),
                [
                    {
                        **{f"of_{k}": str(getattr(r, k)) for k in keys},
                        "of_valid_from": micros(r.valid_from),
                        "of_valid_to": NEVER if r.valid_to is None else micros(r.valid_to),
                    }
                    for r in some
                ],
            )
        recorded = (row for row in new if isinstance(row, kind))
        for more in in_batches(recorded, AT_ONCE):
            db.execute(insert(table), [_values(row) for row in more])


def _values(row: DirectoryRow) -> dict[str, Any]:
    own: dict[str, Any]
    match row:
        case Installation():
            own = {
                "meter": row.meter,
                "usage_point": row.usage_point,
                "role": str(row.role),
                "multiplier": str(row.multiplier),
            }
        case Holding():
            mode = None if row.payment_mode is None else str(row.payment_mode)
            own = {"usage_point": row.usage_point, "account_id": row.account_id, "payment_mode": mode}
        case Naming():
            own = {"account_id": row.account_id, "kind": str(row.kind), "number": row.number}
        case Attribute():
            own = {"usage_point": row.usage_point, "kind": str(row.kind), "value": row.value}
    end = None if row.valid_to is None else micros(row.valid_to)
    return {
        **own,
        "valid_from": micros(row.valid_from),
        "valid_to": end,
        "recorded": row.recorded.version,
        "superseded": None,
        "row": row.row,
    }


def read_life(db: Connection) -> StoreLife | None:
    """Return who the store is, None where that was not kept yet."""
    held = {row.name: row.value for row in db.execute(select(life))}
    return StoreLife.of(held) if "uuid" in held else None


def write_life(db: Connection, held: StoreLife) -> None:
    """Keep who the store is, inside the caller's transaction."""
    _put_life(db, held.items())


def _put_life(db: Connection, items: Mapping[str, str]) -> None:
    db.execute(delete(life).where(life.c.name.in_(items)))
    db.execute(insert(life), [{"name": name, "value": value} for name, value in items.items()])


# --- reading --------------------------------------------------------------------------------------------------


def read_changes(db: Connection, after: int) -> list[ChangeSet]:
    """Return the change sets after a version, rising."""
    found = db.execute(select(change_set).where(change_set.c.version > after).order_by(change_set.c.version))
    return [
        ChangeSet(
            version=row.version,
            at=instant(row.at),
            by=row.by,
            source=row.source,
            digest=row.digest,
            sequence=row.sequence,
        )
        for row in found
    ]


Known = Callable[[int], ChangeSet]
"""Returns a change set by its version."""


class RowReader:
    """Makes rows of what the database returns; shares equal times and multipliers, of which a city has few."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._at = lru_cache(maxsize=100_000)(instant)
        self._factor = lru_cache(maxsize=1_000)(Decimal)

    def installation(self, row: Sequence[Any]) -> Installation:
        """Make one row; DirectoryFault where it cannot be what this program wrote."""
        meter, point, role, factor, *rest = row
        try:
            return Installation(meter, point, Role(role), self._factor(factor), *self._life(rest))
        except (ValueError, ArithmeticError, OverflowError) as error:
            raise _damaged(row, error) from error

    def holding(self, row: Sequence[Any]) -> Holding:
        """Make one row; DirectoryFault where it cannot be what this program wrote."""
        point, account, mode, *rest = row
        try:
            return Holding(point, account, None if mode is None else PaymentMode(mode), *self._life(rest))
        except (ValueError, OverflowError) as error:
            raise _damaged(row, error) from error

    def naming(self, row: Sequence[Any]) -> Naming:
        """Make one row; DirectoryFault where it cannot be what this program wrote."""
        account, kind, number, *rest = row
        try:
            return Naming(account, NumberKind(kind), number, *self._life(rest))
        except (ValueError, OverflowError) as error:
            raise _damaged(row, error) from error

    def attribute(self, row: Sequence[Any]) -> Attribute:
        """Make one row; DirectoryFault where it cannot be what this program wrote."""
        point, kind, value, *rest = row
        try:
            return Attribute(point, AttributeKind(kind), value, *self._life(rest))
        except (ValueError, OverflowError) as error:
            raise _damaged(row, error) from error

    def _life(self, rest: Sequence[Any]) -> tuple[Any, Any, ChangeSet, ChangeSet | None, int | None]:
        start, end, recorded, superseded, line = rest
        return (
            self._at(start),
            None if end is None else self._at(end),
            self._known(recorded),
            None if superseded is None else self._known(superseded),
            line,
        )


def _damaged(row: Sequence[Any], error: Exception) -> DirectoryFault:
    return DirectoryFault(
        f"the directory store holds a row that cannot be right: {tuple(row)!r}: {error!r}"[:500]
    )
