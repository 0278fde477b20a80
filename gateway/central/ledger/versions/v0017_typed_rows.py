"""Captures become typed rows under their own key: what many share is stored once, values are whole mantissas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from gateway.central.ledger.packing import Packer, shared_key
from gateway.central.ledger.rows import CaptureRow

revision = "0017"
down_revision = "0016"

_AT_ONCE = 2_000
_NUMBERED = {
    "meters": (),
    "profiles": (),
    "forms": ("layout", "digits", "span", "quality", "stamp"),
    "stamps": ("gateway", "journal", "epoch", "generation", "holders"),
}
_TEXTS = (
    *("capture_id", "value_rev", "meter", "profile", "at", "start", "received_at", "quality", "reason"),
    *("directory_version", "gateway", "journal", "seq", "ingested_at", "body", "raw", "epoch"),
    *("directory_generation", "layout", "holders", "clock", "checksum"),
)
_COLUMNS = (
    *("meter", "profile", "at", "occurrence", "seq", "ingested_at", "moved_to", "form", "stamp", "packed"),
    *("checksum", "reason", "clock", "extra", "raw"),
)


def upgrade() -> None:
    """Make the tables and move every capture, raw octets too; nothing is dropped that was not counted there again."""
    old = {"captures": "captures_of_texts", "superseded": "superseded_of_texts"}
    for index in ("captures_capture_id", "captures_meter", "superseded_capture_id", "superseded_meter"):
        op.drop_index(index, index.partition("_")[0])
    for name, former in old.items():
        op.rename_table(name, former)
    _make_tables()
    mover = _Mover(op.get_bind())
    for name, former in old.items():
        mover.move(former, name)
        op.drop_table(former)


def _make_tables() -> None:
    op.create_table(
        "captures",
        *(sa.Column(name, sa.Integer, autoincrement=False, nullable=False) for name in ("meter", "profile")),
        *(
            sa.Column(name, sa.BigInteger, autoincrement=False, nullable=False)
            for name in ("at", "occurrence")
        ),
        *_columns(),
        sa.PrimaryKeyConstraint("meter", "profile", "at", "occurrence", name="captures_place"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (at)",
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE captures_other PARTITION OF captures DEFAULT")
    moved, odd = sa.text("moved_to IS NOT NULL"), sa.text("occurrence < 0")
    op.create_index(
        "captures_moved",
        "captures",
        ["meter", "profile", "moved_to"],
        sqlite_where=moved,
        postgresql_where=moved,
    )
    op.create_index("captures_odd", "captures", ["occurrence"], sqlite_where=odd, postgresql_where=odd)
    op.create_table(
        "superseded",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("meter", "profile")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("at", "occurrence")),
        *_columns(),
        sa.PrimaryKeyConstraint("id", name="superseded_id"),
    )
    op.create_index("superseded_place", "superseded", ["meter", "profile", "at", "occurrence"])
    for name, columns in _NUMBERED.items():
        op.create_table(
            name,
            sa.Column("number", sa.Integer, nullable=False),
            sa.Column("key", sa.Text, nullable=False),
            *(_shared_column(column) for column in columns),
            sa.PrimaryKeyConstraint("number"),
            sa.UniqueConstraint("key"),
        )


def _columns() -> Iterator[sa.Column[Any]]:
    for name in ("seq", "ingested_at"):
        yield sa.Column(name, sa.BigInteger, nullable=False)
    yield sa.Column("moved_to", sa.BigInteger)
    for name in ("form", "stamp"):
        yield sa.Column(name, sa.Integer, nullable=False)
    yield sa.Column("packed", sa.LargeBinary, nullable=False)
    yield sa.Column("checksum", sa.LargeBinary)
    for name in ("reason", "clock"):
        yield sa.Column(name, sa.Text)
    for name in ("extra", "raw"):
        yield sa.Column(name, sa.LargeBinary)


def _shared_column(name: str) -> sa.Column[Any]:
    if name in ("span", "epoch"):
        return sa.Column(name, sa.BigInteger, nullable=name == "span")
    return sa.Column(name, sa.Text, nullable=name in ("layout", "digits", "stamp", "holders"))


class _Mover:
    """Moves rows of texts some at a time, and numbers what they share."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._packer = Packer()
        self._numbers: dict[str, dict[Any, int]] = {name: {} for name in _NUMBERED}

    def move(self, former: str, name: str) -> None:
        """Move a table's rows; raises RuntimeError where one was not there again."""
        old = sa.table(former, sa.column("id"), *map(sa.column, _TEXTS))
        doubted = sa.table("doubted", sa.column("capture_id"), sa.column("at"))
        new = sa.table(name, *map(sa.column, _COLUMNS))
        last, moved = 0, 0
        while True:
            some = (
                sa.select(old.c.id, doubted.c.at.label("stamped"), *(old.c[field] for field in _TEXTS))
                .select_from(old.outerjoin(doubted, doubted.c.capture_id == old.c.capture_id))
                .where(old.c.id > last)
                .order_by(old.c.id)
                .limit(_AT_ONCE)
            )
            rows = self._connection.execute(some).all()
            if not rows:
                break
            last = rows[-1][0]
            self._connection.execute(sa.insert(new), [self._typed(row[1], row[2:]) for row in rows])
            moved += len(rows)
        there = self._connection.execute(sa.select(sa.func.count()).select_from(new)).scalar()
        if there != moved:
            raise RuntimeError(f"{moved} rows of {former} became {there} of {name}")

    def _typed(self, stamped: int | None, texts: Sequence[Any]) -> dict[str, Any]:
        packed = self._packer.pack(CaptureRow(**dict(zip(_TEXTS, texts, strict=True))), stamped)
        shared = {
            "meters": packed.meter,
            "profiles": packed.profile,
            "forms": packed.form,
            "stamps": packed.stamp,
        }
        numbers = [self._number(table, one) for table, one in shared.items()]
        meter, profile, form, stamp = numbers
        values = (meter, profile, *packed.place, packed.seq, packed.ingested_at, packed.moved_to, form, stamp)
        return dict(zip(_COLUMNS, (*values, *packed[8:]), strict=True))

    def _number(self, table: str, one: Any) -> int:
        known = self._numbers[table]
        if one not in known:
            columns = _NUMBERED[table]
            values = dict(zip(columns, one, strict=True)) if columns else {}
            into = sa.table(table, *map(sa.column, ("key", *columns)))
            self._connection.execute(sa.insert(into).values(key=shared_key(one), **values))
            c = sa.table(table, sa.column("number"), sa.column("key")).c
            known[one] = int(
                self._connection.execute(sa.select(c.number).where(c.key == shared_key(one))).scalar_one()
            )
        return known[one]
