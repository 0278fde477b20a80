"""Captures of contract version 2: their rows as they came, and the layouts and holders that they name, once each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add what captures of version 2 have; those of version 1 stay as they are."""
    for name in ("captures", "superseded"):
        op.add_column(
            name, sa.Column("directory_generation", sa.Text, nullable=False, server_default="0.00000000")
        )
        for column in ("layout", "holders", "clock", "checksum"):
            op.add_column(name, sa.Column(column, sa.Text))
    for name in ("layouts", "holder_lists"):
        op.create_table(
            name,
            sa.Column("key", sa.Text, nullable=False),
            sa.Column("text", sa.Text, nullable=False),
            sa.PrimaryKeyConstraint("key"),
        )
