"""Edges get the directory part of the meters allocated to them: what was sent is kept, what they asked for is not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Forget what was sent to edges: each gets its part anew, as a snapshot."""
    op.drop_table("edge_meters")
    op.drop_table("edge_parts")
    op.create_table(
        "edge_parts",
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("contract", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sent", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("gateway"),
    )
