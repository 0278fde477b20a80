"""Invocation counters that edges have reserved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "edge_counters",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("gateway", "key")),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("gateway", "key"),
    )
