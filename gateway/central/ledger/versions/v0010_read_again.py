"""Orders to read a meter's memory once more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "read_again",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("gateway", "meter", "profile")),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("until", "ordered_at")),
        sa.Column("answered_at", sa.BigInteger),
        sa.Column("refused", sa.Text),
        sa.PrimaryKeyConstraint("gateway", "meter", "profile"),
    )
