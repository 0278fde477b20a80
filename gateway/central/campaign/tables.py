"""The campaign's tables as the newest version has them. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

META: Final = MetaData()


def _text(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False)


def _whole(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=nullable)


place: Final = Table(
    "campaign_place",
    META,
    Column("usage_point", Text, primary_key=True),
    _text("route"),
    Column("stop", Integer),
    Column("name", Text),
)
"""Where a reader finds a usage point: route, and which stop of it; a name only where settings allow."""
slip: Final = Table(
    "campaign_slip",
    META,
    Column("id", Integer, primary_key=True, autoincrement=True),
    *(_text(name) for name in ("account_id", "number", "legacy", "usage_point", "meter", "route")),
    Column("stop", Integer),
    _text("token"),
    _whole("made_at", nullable=True),
    Column("verdict", Text),
    _whole("ticked_at", nullable=True),
    _whole("seen"),
    _whole("ended_at", nullable=True),
    UniqueConstraint("account_id", "number", "usage_point", name="campaign_slip_once"),
    Index("campaign_slip_token", "token", unique=True),
    Index("campaign_slip_route", "route", "made_at", "id"),
)
"""One slip for an account's new number at one usage point; `ended_at` when the directory says otherwise by then."""
tick: Final = Table(
    "campaign_tick",
    META,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("slip", Integer, ForeignKey("campaign_slip.id"), nullable=False),
    _text("verdict"),
    _whole("at"),
    _whole("told_at"),
    *(_text(name) for name in ("by", "source", "note")),
    UniqueConstraint("slip", "at", "verdict", name="campaign_tick_once"),
)
"""What a reader said of a slip, each word of it for ever."""
plan: Final = Table(
    "campaign_plan",
    META,
    Column("name", Text, primary_key=True),
    _text("state"),
    _text("by"),
    _whole("at"),
    _whole("version"),
    _whole("settled"),
)
"""A campaign: `version` of the directory that it follows, and up to when the ends of its messages are settled."""
target: Final = Table(
    "campaign_target",
    META,
    Column("id", Integer, primary_key=True, autoincrement=True),
    *(_text(name) for name in ("campaign", "account_id", "number", "legacy", "route")),
    Column("stop", Integer),
    *(_text(name) for name in ("way", "state", "reason")),
    Column("tries", Integer, nullable=False),
    Column("told_how", Text),
    _whole("told_at", nullable=True),
    UniqueConstraint("campaign", "account_id", "number", name="campaign_target_once"),
    Index("campaign_target_next", "campaign", "state", "way", "route"),
    Index("campaign_target_account", "account_id", "number"),
)
"""One account that is to be told one number."""
