"""Times that are not trusted, what speaks of them, and the verdicts on them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables, and enter what stands under no account for its time: it waits for a verdict, too."""
    op.create_table(
        "doubted",
        *map(_text, ("capture_id", "meter", "profile", "gateway", "journal")),
        *map(_number, ("seq", "at")),
        sa.Column("start", sa.BigInteger),
        _number("received_at"),
        sa.Column("boot", sa.Text),
        *(sa.Column(name, sa.BigInteger) for name in ("steady", "drift", "held", "former")),
        *map(_number, ("flagged", "ahead")),
        *(sa.Column(name, sa.BigInteger) for name in ("verdict", "shift")),
        sa.PrimaryKeyConstraint("capture_id"),
    )
    op.create_index("doubted_meter", "doubted", ["meter", "journal"])
    op.create_index("doubted_verdict", "doubted", ["verdict"])
    op.create_table(
        "machine_runs",
        *map(_text, ("gateway", "boot")),
        *map(_number, ("began", "told_at")),
        sa.PrimaryKeyConstraint("gateway", "boot"),
    )
    op.create_table(
        "verdicts",
        _number("version"),
        *map(_text, ("verdict_id", "meter", "journal")),
        *map(_number, ("first_seq", "last_seq")),
        sa.Column("profile", sa.Text),
        _text("trust"),
        sa.Column("shift", sa.BigInteger),
        _text("evidence"),
        _number("at"),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_index("verdicts_meter", "verdicts", ["meter", "journal"])
    op.create_table(
        "edge_clocks",
        _text("gateway"),
        *map(_number, ("ahead", "trusted", "central_trusted", "at")),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.execute(
        "INSERT INTO doubted (capture_id, meter, profile, gateway, journal, seq, at, start, received_at, flagged,"
        " ahead) SELECT capture_id, meter, profile, gateway, journal, seq, at, start, received_at, 1, 0"
        " FROM captures WHERE reason = 'untrusted_time'"
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)
