"""Captures that are held because they are dated in the future are found by an index."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the index."""
    op.create_index("doubted_ahead", "doubted", ["ahead", "shift"])
