"""Statuses are small: the meters and lines of each gateway have rows of their own, kept by their changes."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Take the statuses of version 1 apart; the edges tell them anew within half a minute."""
    held = op.get_bind().execute(sa.text("SELECT gateway, received_at, body FROM statuses")).all()
    op.drop_table("statuses")
    statuses = op.create_table(
        "statuses",
        _text("gateway"),
        _number("received_at"),
        sa.Column("run", sa.Text),
        _number("status_seq"),
        _text("body"),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_table(
        "health_lists",
        _text("gateway"),
        _text("run"),
        _number("seq"),
        _text("listing"),
        _number("next_part"),
        sa.PrimaryKeyConstraint("gateway"),
    )
    lines = op.create_table(
        "line_health",
        *map(_text, ("gateway", "line", "state")),
        sa.Column("since", sa.BigInteger),
        sa.Column("detail", sa.Text),
        _text("listing"),
        sa.PrimaryKeyConstraint("gateway", "line"),
    )
    meters = op.create_table(
        "meter_health",
        *map(_text, ("gateway", "meter")),
        sa.Column("line", sa.Text),
        _text("health"),
        sa.Column("since", sa.BigInteger),
        sa.Column("last_reading_at", sa.BigInteger),
        sa.Column("detail", sa.Text),
        _text("listing"),
        sa.PrimaryKeyConstraint("gateway", "meter"),
    )
    op.create_index("meter_health_meter", "meter_health", ["meter"])
    op.create_table(
        "central_health",
        _text("name"),
        _number("at"),
        sa.Column("heard_broker_at", sa.BigInteger),
        sa.Column("fault", sa.Text),
        sa.PrimaryKeyConstraint("name"),
    )
    for gateway, received_at, body in held:
        _take_apart(gateway, received_at, body, statuses, lines, meters)


def _take_apart(
    gateway: str, received_at: int, body: str, statuses: sa.Table, lines: sa.Table, meters: sa.Table
) -> None:
    try:
        told = json.loads(body)
        found_lines = {one["name"]: one for one in told.pop("lines", None) or ()}
        found_meters = {one["meter"]: one for one in told.pop("meters", None) or ()}
        told |= {
            "lines": Counter(one["state"] for one in found_lines.values()),
            "meters": Counter(one["health"] for one in found_meters.values()),
            "role": "visit" if told.get("version") == "field" else "edge",
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # nobody could read it before either; the gateway tells it anew
    kept = {"gateway": gateway, "received_at": received_at, "status_seq": 0, "body": json.dumps(told)}
    op.bulk_insert(statuses, [kept])
    if found_lines:
        op.bulk_insert(lines, [_line(gateway, one) for one in found_lines.values()])
    if found_meters:
        op.bulk_insert(meters, [_meter(gateway, one) for one in found_meters.values()])


def _line(gateway: str, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "gateway": gateway,
        "line": told["name"],
        "state": told["state"],
        "since": _micros(told.get("since")),
        "detail": told.get("detail"),
        "listing": "",
    }


def _meter(gateway: str, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "gateway": gateway,
        "meter": told["meter"],
        "line": None,
        "health": told["health"],
        "since": None,
        "last_reading_at": _micros(told.get("last_reading_at")),
        "detail": told.get("detail"),
        "listing": "",
    }


def _micros(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)
