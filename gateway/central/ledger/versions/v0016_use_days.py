"""Use by account and day is kept; central reckons what is there already when it follows the directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "use_days",
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("day", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("kwh", sa.Text, nullable=False),
        sa.Column("covered", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("meter", "day", "account_id"),
    )
    op.create_index("use_days_account", "use_days", ["account_id", "day"])
    op.create_table(
        "use_stale",
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("marks", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("meter"),
    )
    op.create_index("use_stale_since", "use_stale", ["since"])
