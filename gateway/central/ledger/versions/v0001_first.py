"""The ledger of the first release (schema 1)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    for name in ("captures", "superseded"):
        op.create_table(
            name,
            _row_id(),
            _text("capture_id"),
            _number("value_rev"),
            _text("meter"),
            _text("profile"),
            _number("at"),
            sa.Column("start", sa.BigInteger),
            _number("received_at"),
            _text("quality"),
            sa.Column("reason", sa.Text),
            _number("directory_version"),
            _text("gateway"),
            _text("journal"),
            _number("seq"),
            _number("ingested_at"),
            _text("body"),
            sa.Column("raw", sa.Text),
            sa.PrimaryKeyConstraint("id"),
        )
    op.create_table(
        "unattributed",
        _text("capture_id"),
        _text("meter"),
        _text("profile"),
        _number("at"),
        sa.Column("start", sa.BigInteger),
        _text("reason"),
        _number("ingested_at"),
        _number("checked_version"),
        sa.PrimaryKeyConstraint("capture_id"),
    )
    op.create_table(
        "gaps",
        *map(_text, ("gap_id", "meter", "profile")),
        *map(_number, ("after", "until")),
        *map(_text, ("state", "reason")),
        _number("noticed_at"),
        *map(_text, ("gateway", "journal")),
        *map(_number, ("seq", "ingested_at")),
        sa.PrimaryKeyConstraint("gap_id"),
    )
    op.create_table(
        "journals",
        *map(_text, ("journal", "gateway")),
        *map(_number, ("contiguous", "stored", "repeated", "revised", "first_seen", "last_seen")),
        sa.PrimaryKeyConstraint("journal"),
    )
    op.create_table(
        "journal_islands",
        _text("journal"),
        *map(_number, ("first", "last")),
        sa.PrimaryKeyConstraint("journal", "first"),
    )
    op.create_table(
        "journal_lost",
        _text("journal"),
        *map(_number, ("first", "last", "declared_at")),
        _text("reason"),
        sa.PrimaryKeyConstraint("journal", "first"),
    )
    op.create_table(
        "statuses",
        _text("gateway"),
        _number("received_at"),
        _text("body"),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_table(
        "balances",
        _text("account_id"),
        *map(_number, ("as_of", "received_at")),
        _text("body"),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.create_table(
        "dead_letters",
        _row_id(),
        *map(_text, ("digest", "topic")),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        _number("size"),
        *map(_text, ("reason", "detail")),
        *map(_number, ("first_seen", "last_seen", "times_seen")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "edge_meters", *map(_text, ("gateway", "meter")), sa.PrimaryKeyConstraint("gateway", "meter")
    )
    op.create_table(
        "edge_parts",
        _text("gateway"),
        _number("version"),
        _text("digest"),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_table("cursors", _text("name"), _number("value"), sa.PrimaryKeyConstraint("name"))
    for name, table, columns, unique in (
        ("captures_capture_id", "captures", ["capture_id"], True),
        ("captures_meter", "captures", ["meter", "profile", "at"], False),
        ("superseded_capture_id", "superseded", ["capture_id", "value_rev"], False),
        ("superseded_meter", "superseded", ["meter", "at"], False),
        ("unattributed_checked", "unattributed", ["checked_version"], False),
        ("unattributed_meter", "unattributed", ["meter"], False),
        ("gaps_meter", "gaps", ["meter", "profile"], False),
        ("dead_letters_last_seen", "dead_letters", ["last_seen"], False),
    ):
        op.create_index(name, table, columns, unique=unique)


def _row_id() -> sa.Column[int]:
    # SQLite numbers rows only in a column it calls INTEGER; PostgreSQL needs 64 bits there.
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)
