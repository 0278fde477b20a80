"""Several contacts of an account with their history; messages and reports; erasures and retention."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SOURCE = "contacts of before"
AT_ONCE = 5000


def upgrade() -> None:
    """Make the tables, and take over what the first release held."""
    op.create_table(
        "contact",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        _text("account_id"),
        _text("mobile"),
        sa.Column("language", sa.Text),
        _text("source"),
        _whole("added_at"),
        _text("added_by"),
        sa.Column("verified_at", _WHOLE),
        sa.Column("verified_how", sa.Text),
        sa.Column("removed_at", _WHOLE),
        sqlite_strict=True,
    )
    op.create_index("contact_by_account", "contact", ["account_id"])
    op.create_index("contact_by_mobile", "contact", ["mobile"])
    op.create_table(
        "contact_event",
        _key(),
        _text("contact_id"),
        _text("account_id"),
        _whole("at"),
        _text("by"),
        _text("what"),
        _text("detail"),
        sqlite_strict=True,
    )
    op.create_index("contact_event_by_account", "contact_event", ["account_id"])
    op.create_table(
        "opt_out",
        sa.Column("mobile", sa.Text, primary_key=True, nullable=False),
        _whole("at"),
        _text("source"),
        sqlite_strict=True,
    )
    _messages()
    _books()
    _take_over()
    op.drop_table("contacts")


_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _messages() -> None:
    op.create_table(
        "message",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("dedupe_key", sa.Text, nullable=False, unique=True),
        _text("batch"),
        _text("template"),
        _whole("urgent"),
        _text("contact_id"),
        _text("account_id"),
        sa.Column("given", sa.Text),
        _text("state"),
        _text("reason"),
        _whole("queued_at"),
        _whole("next_at"),
        _whole("expires_at"),
        _whole("attempt"),
        _whole("tries"),
        sa.Column("handed_at", _WHOLE),
        sa.Column("ended_at", _WHOLE),
        sa.Column("provider_id", sa.Text),
        _whole("segments"),
        sqlite_strict=True,
    )
    op.create_index("message_due", "message", ["state", "urgent", "next_at"])
    op.create_index("message_handed", "message", ["handed_at"])
    op.create_index("message_by_account", "message", ["account_id"])
    op.create_index("message_by_batch", "message", ["batch", "state"])
    op.create_index("message_by_provider", "message", ["provider_id"])
    op.create_table(
        "report",
        _key(),
        sa.Column("provider_id", sa.Text),
        sa.Column("message_id", sa.Text),
        _text("state"),
        _text("reason"),
        _whole("at"),
        sqlite_strict=True,
    )
    op.create_index("report_by_provider", "report", ["provider_id"])


def _books() -> None:
    op.create_table(
        "erasure",
        _key(),
        _whole("at"),
        _text("by"),
        _text("account_id"),
        _text("reason"),
        _text("counts"),
        sqlite_strict=True,
    )
    op.create_index("erasure_by_account", "erasure", ["account_id"])
    op.create_table(
        "retention",
        _key(),
        _whole("at"),
        _text("kind"),
        _whole("until"),
        _whole("removed"),
        sqlite_strict=True,
    )


def _take_over() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT account_id, mobile, verified_at FROM contacts")).fetchall()
    now = _micros(datetime.now(UTC))
    held = [dict(_contact(account, mobile, verified, now)) for account, mobile, verified in rows]
    for begin in range(0, len(held), AT_ONCE):
        part = held[begin : begin + AT_ONCE]
        connection.execute(
            sa.text(
                "INSERT INTO contact (id, account_id, mobile, source, added_at, added_by, verified_at, verified_how)"
                " VALUES (:id, :account_id, :mobile, :source, :at, 'upgrade', :verified_at, :how)"
            ),
            part,
        )
        connection.execute(
            sa.text(
                'INSERT INTO contact_event (contact_id, account_id, at, "by", what, detail)'
                " VALUES (:id, :account_id, :at, 'upgrade', 'added', :source)"
            ),
            part,
        )


def _contact(account: str, mobile: str, verified: str | None, now: int) -> Iterator[tuple[str, Any]]:
    yield "id", uuid.uuid4().hex
    yield "account_id", account
    yield "mobile", mobile
    yield "source", SOURCE
    yield "at", now
    yield "verified_at", _micros(datetime.fromisoformat(verified)) if verified else None
    yield "how", SOURCE if verified else None


def _micros(at: datetime) -> int:
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _key() -> sa.Column[Any]:
    return sa.Column("id", _WHOLE, primary_key=True, nullable=False)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def _whole(name: str) -> sa.Column[Any]:
    return sa.Column(name, _WHOLE, nullable=False)
