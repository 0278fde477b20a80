"""Which allocations were told to billing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Tell all of them once: billing has heard of none."""
    op.add_column("allocations", sa.Column("told", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("allocations_told", "allocations", ["told"])
