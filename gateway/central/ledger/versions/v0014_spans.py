"""Captures under no account are kept in spans by meter, profile and reason; numbers of rows are kept, not counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_LASTING = "('identity_mismatch', 'untrusted_time')"


def upgrade() -> None:
    """Make spans of the rows, one for each meter, profile and reason; what a directory can judge is judged anew."""
    op.execute(
        "CREATE TABLE unattributed_spans AS"
        " SELECT meter, profile, reason, min(coalesce(start, at)) AS start, min(at) AS first, max(at) AS last,"
        " CASE WHEN reason = 'pending' THEN 0 ELSE count(*) END AS captures, min(ingested_at) AS ingested_at,"
        f" CASE WHEN reason IN {_LASTING} THEN 0 ELSE 1 END AS stale"
        " FROM unattributed GROUP BY meter, profile, reason"
    )
    op.drop_table("unattributed")
    op.create_table(
        "unattributed",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("meter", "profile", "reason")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("start", "first", "last", "captures", "ingested_at", "stale")
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    columns = "meter, profile, reason, start, first, last, captures, ingested_at, stale"
    op.execute(f"INSERT INTO unattributed ({columns}) SELECT {columns} FROM unattributed_spans")
    op.drop_table("unattributed_spans")
    op.create_index("unattributed_meter", "unattributed", ["meter", "profile"])
    op.create_index("unattributed_reason", "unattributed", ["reason", "meter", "first"])
    op.create_index("unattributed_stale", "unattributed", ["stale", "id"])
    op.create_table(
        "tallies",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("share", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "share"),
    )
    op.execute(
        "INSERT INTO tallies (name, share, value) SELECT 'unattributed/' || reason, '', sum(captures)"
        " FROM unattributed GROUP BY reason"
    )
