"""Campaigns: who is to be told which number by which way, and how far that is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaign_plan",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("settled", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "campaign_target",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("campaign", "account_id", "number", "legacy", "route")),
        sa.Column("stop", sa.Integer),
        *(_text(name) for name in ("way", "state", "reason")),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("told_how", sa.Text),
        sa.Column("told_at", sa.BigInteger),
        sa.UniqueConstraint("campaign", "account_id", "number", name="campaign_target_once"),
    )
    op.create_index("campaign_target_next", "campaign_target", ["campaign", "state", "way", "route"])
    op.create_index("campaign_target_account", "campaign_target", ["account_id", "number"])


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)
