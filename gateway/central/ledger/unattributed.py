"""The list of captures under no account, kept right as the directory learns and corrects itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update

from gateway.central.ledger.records import UnattributedGroup
from gateway.central.ledger.schema import captures, instant, micros
from gateway.central.ledger.schema import unattributed as listed_table
from gateway.central.ledger.store import LASTING_REASONS, PENDING, in_chunks

SWEEP = 2_000


def groups(connection: Connection) -> list[UnattributedGroup]:
    """Count the captures under no account by meter, profile and reason."""
    c = listed_table.c
    rows = connection.execute(
        select(
            c.meter,
            c.profile,
            c.reason,
            func.count().label("number"),
            func.min(c.at).label("first"),
            func.max(c.at).label("last"),
            func.min(c.ingested_at).label("oldest"),
        )
        .where(c.reason != PENDING)
        .group_by(c.meter, c.profile, c.reason)
        .order_by(c.meter, c.profile, c.reason)
    )
    return [
        UnattributedGroup(
            meter=row.meter,
            profile=row.profile,
            reason=row.reason,
            count=row.number,
            first_at=instant(row.first),
            last_at=instant(row.last),
            oldest_ingested=instant(row.oldest),
        )
        for row in rows
    ]


def mark(connection: Connection, meter: str, start: datetime | None, end: datetime | None) -> int:
    """Put the captures of a meter that touch start..end on the list to be judged again."""
    span = [captures.c.meter == meter]
    if start is not None:
        span.append(captures.c.at >= micros(start))
    if end is not None:
        span.append(func.coalesce(captures.c.start, captures.c.at) <= micros(end))
    listed = select(listed_table.c.capture_id).where(listed_table.c.meter == meter)
    again = connection.execute(
        update(listed_table)
        .where(
            listed_table.c.meter == meter,
            listed_table.c.reason.not_in(LASTING_REASONS),
            listed_table.c.capture_id.in_(select(captures.c.capture_id).where(*span)),
        )
        .values(checked_version=-1)
    ).rowcount
    c = captures.c
    fresh = connection.execute(
        insert(listed_table).from_select(
            ["capture_id", "meter", "profile", "at", "start", "reason", "ingested_at", "checked_version"],
            select(
                c.capture_id,
                c.meter,
                c.profile,
                c.at,
                c.start,
                literal(PENDING),
                c.ingested_at,
                literal(-1),
            ).where(*span, c.capture_id.not_in(listed)),
        )
    ).rowcount
    return again + fresh


def sweep(
    connection: Connection, reason_of: Callable[[str, datetime | None, datetime], str | None], version: int
) -> int:
    """Judge up to SWEEP captures that an older directory judged last; give how many."""
    c = listed_table.c
    rows = connection.execute(
        select(c.capture_id, c.meter, c.start, c.at).where(c.checked_version < version).limit(SWEEP)
    ).all()
    known: list[str] = []
    still: list[dict[str, object]] = []
    for row in rows:
        start = None if row.start is None else instant(row.start)
        reason = reason_of(row.meter, start, instant(row.at))
        if reason is None:
            known.append(row.capture_id)
        else:
            still.append({"b_id": row.capture_id, "b_reason": reason})
    for ids in in_chunks(known):
        connection.execute(delete(listed_table).where(c.capture_id.in_(ids)))
    if still:
        connection.execute(
            update(listed_table)
            .where(c.capture_id == bindparam("b_id"))
            .values(reason=bindparam("b_reason"), checked_version=version),
            still,
        )
    return len(rows)
