"""The tables of the people store, in SQLite or PostgreSQL. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

META: Final = MetaData()
_WHOLE: Final = BigInteger().with_variant(Integer(), "sqlite")


def _key() -> Column[Any]:
    return Column("id", _WHOLE, primary_key=True)


def _text(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False)


def _whole(name: str) -> Column[Any]:
    return Column(name, _WHOLE, nullable=False)


contact = Table(
    "contact",
    META,
    Column("id", Text, primary_key=True),
    _text("account_id"),
    _text("mobile"),
    Column("language", Text),
    _text("source"),
    _whole("added_at"),
    _text("added_by"),
    Column("verified_at", _WHOLE),
    Column("verified_how", Text),
    Column("removed_at", _WHOLE),
    Index("contact_by_account", "account_id"),
    Index("contact_by_mobile", "mobile"),
    sqlite_strict=True,
)
contact_event = Table(
    "contact_event",
    META,
    _key(),
    _text("contact_id"),
    _text("account_id"),
    _whole("at"),
    _text("by"),
    _text("what"),
    _text("detail"),
    Index("contact_event_by_account", "account_id"),
    sqlite_strict=True,
)
opt_out = Table(
    "opt_out",
    META,
    Column("mobile", Text, primary_key=True),
    _whole("at"),
    _text("source"),
    sqlite_strict=True,
)
message = Table(
    "message",
    META,
    Column("id", Text, primary_key=True),
    Column("dedupe_key", Text, nullable=False, unique=True),
    _text("batch"),
    _text("template"),
    _whole("urgent"),
    _text("contact_id"),
    _text("account_id"),
    Column("given", Text),  # the values as JSON; none once they are no longer needed
    _text("state"),
    _text("reason"),
    _whole("queued_at"),
    _whole("next_at"),
    _whole("expires_at"),
    _whole("attempt"),
    _whole("tries"),
    Column("handed_at", _WHOLE),
    Column("ended_at", _WHOLE),
    Column("provider_id", Text),
    _whole("segments"),
    Index("message_due", "state", "urgent", "next_at"),
    Index("message_handed", "handed_at"),
    Index("message_by_account", "account_id"),
    Index("message_by_batch", "batch", "state"),
    Index("message_by_provider", "provider_id"),
    sqlite_strict=True,
)
report = Table(
    "report",
    META,
    _key(),
    Column("provider_id", Text),
    Column("message_id", Text),
    _text("state"),
    _text("reason"),
    _whole("at"),
    Index("report_by_provider", "provider_id"),
    sqlite_strict=True,
)
erasure = Table(
    "erasure",
    META,
    _key(),
    _whole("at"),
    _text("by"),
    _text("account_id"),
    _text("reason"),
    _text("counts"),
    Index("erasure_by_account", "account_id"),
    sqlite_strict=True,
)
retention = Table(
    "retention",
    META,
    _key(),
    _whole("at"),
    _text("kind"),
    _whole("until"),
    _whole("removed"),
    sqlite_strict=True,
)
