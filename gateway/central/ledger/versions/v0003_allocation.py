"""Allocation of meters to gateways, the epoch of each capture, and quarantine."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables, and allocate each meter to the gateway that last delivered it."""
    for table in ("captures", "superseded"):
        op.add_column(table, sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "allocations",
        _text("meter"),
        _number("epoch"),
        _text("gateway"),
        _number("since"),
        sa.Column("until", sa.BigInteger),
        *map(_text, ("origin", "by", "note")),
        _number("known_at"),
        sa.PrimaryKeyConstraint("meter", "epoch"),
    )
    op.create_index("allocations_gateway", "allocations", ["gateway", "until"])
    op.create_table(
        "quarantine",
        *map(_text, ("gateway", "journal")),
        _number("seq"),
        *map(_text, ("meter", "reason", "detail", "topic")),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        *map(_number, ("size", "received_at")),
        sa.PrimaryKeyConstraint("gateway", "journal", "seq"),
    )
    op.create_index("quarantine_meter", "quarantine", ["meter"])
    op.create_index("quarantine_size", "quarantine", ["gateway", "size"])
    _allocate()
    # The last program that kept no versions looks here, and must not write into a ledger that it does not know.
    op.execute("UPDATE cursors SET value = 2 WHERE name = 'schema_version'")


def _allocate() -> None:
    last = sa.text(
        "SELECT meter, gateway, first_at FROM (SELECT meter, gateway,"
        " row_number() OVER (PARTITION BY meter ORDER BY ingested_at DESC, id DESC) AS place,"
        " min(ingested_at) OVER (PARTITION BY meter, gateway) AS first_at FROM captures) AS ranked WHERE place = 1"
    )
    now = round(datetime.now(UTC).timestamp() * 1_000_000)
    connection = op.get_bind()
    rows = [
        {
            "meter": row.meter,
            "epoch": 1,
            # What a field visit delivered belongs to the gateway that the engineer visited.
            "gateway": row.gateway.removesuffix("-field"),
            "since": row.first_at,
            "until": None,
            "origin": "migrated",
            "by": "central",
            "note": "the gateway that last delivered it before allocations were kept",
            "known_at": now,
        }
        for row in connection.execute(last)
    ]
    if rows:
        columns: list[sa.ColumnClause[object]] = [sa.column(name) for name in rows[0]]
        connection.execute(sa.insert(sa.table("allocations", *columns)), rows)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)
