"""The contacts of the first release: one mobile for each account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the one table that `contacts.db` had before versions were kept."""
    op.create_table(
        "contacts",
        sa.Column("account_id", sa.Text, primary_key=True, nullable=False),
        sa.Column("mobile", sa.Text, nullable=False),
        sa.Column("verified_at", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("contacts_by_mobile", "contacts", ["mobile"])
