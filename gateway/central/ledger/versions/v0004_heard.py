"""When each meter was heard last is kept at ingest; lists by cause read an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table and fill it from the captures, once."""
    op.create_table(
        "meters_heard",
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("heard_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("meter"),
    )
    op.execute(
        "INSERT INTO meters_heard (meter, heard_at) SELECT meter, max(at) FROM captures WHERE at <= ingested_at "
        "GROUP BY meter"
    )
    op.create_index("unattributed_reason", "unattributed", ["reason", "meter", "at"])
    op.create_index("gaps_state", "gaps", ["state", "profile", "reason", "meter", "after"])
