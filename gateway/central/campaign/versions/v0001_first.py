"""The first tables: where meter readers walk, the slips that they carry, and what they ticked off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaign_place",
        sa.Column("usage_point", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("stop", sa.Integer),
        sa.Column("name", sa.Text),
    )
    op.create_table(
        "campaign_slip",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("account_id", "number", "legacy", "usage_point", "meter", "route")),
        sa.Column("stop", sa.Integer),
        _text("token"),
        _whole("made_at", nullable=True),
        sa.Column("verdict", sa.Text),
        _whole("ticked_at", nullable=True),
        _whole("seen"),
        _whole("ended_at", nullable=True),
        sa.UniqueConstraint("account_id", "number", "usage_point", name="campaign_slip_once"),
    )
    op.create_index("campaign_slip_token", "campaign_slip", ["token"], unique=True)
    op.create_index("campaign_slip_route", "campaign_slip", ["route", "made_at", "id"])
    op.create_table(
        "campaign_tick",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("slip", sa.Integer, sa.ForeignKey("campaign_slip.id"), nullable=False),
        _text("verdict"),
        _whole("at"),
        _whole("told_at"),
        *(_text(name) for name in ("by", "source", "note")),
        sa.UniqueConstraint("slip", "at", "verdict", name="campaign_tick_once"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)
