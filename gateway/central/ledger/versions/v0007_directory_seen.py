"""What the ledger saw of the directory: by it a directory that was set back is recognised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table; the set-backs that are noted already are the ledger's own."""
    op.create_table(
        "directory_seen",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("uuid", "generation")),
        sa.Column("version", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("mark", "told")),
        sa.PrimaryKeyConstraint("uuid"),
    )
    op.add_column("set_backs", sa.Column("store", sa.Text, nullable=False, server_default="ledger"))
