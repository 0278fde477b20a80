"""What is read from the ledger: captures, revisions, gaps, statuses, totals."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, and_, func, or_, select

from gateway.central.ledger.records import LedgerCounts, StoredBalance, StoredCapture, StoredGap, StoredStatus
from gateway.central.ledger.schema import (
    balances,
    captures,
    dead_letters,
    gaps,
    instant,
    journal_islands,
    journal_lost,
    journals,
    micros,
    statuses,
    superseded,
    unattributed,
)
from gateway.central.ledger.store import PENDING, rank


def stored_capture(row: RowMapping | dict[str, Any]) -> StoredCapture:
    """Turn a table row into a record."""
    return StoredCapture(
        capture_id=row["capture_id"],
        value_rev=row["value_rev"],
        meter=row["meter"],
        profile=row["profile"],
        at=instant(row["at"]),
        start=None if row["start"] is None else instant(row["start"]),
        received_at=instant(row["received_at"]),
        quality=row["quality"],
        reason=row["reason"],
        directory_version=row["directory_version"],
        gateway=row["gateway"],
        journal=row["journal"],
        seq=row["seq"],
        ingested_at=instant(row["ingested_at"]),
        body=row["body"],
        raw=row["raw"],
    )


def latest(connection: Connection, meter: str, profile: str) -> StoredCapture | None:
    """The capture with the highest instant; of two with one instant the later stored."""
    c = captures.c
    found = connection.execute(
        select(captures)
        .where(c.meter == meter, c.profile == profile)
        .order_by(c.at.desc(), c.id.desc())
        .limit(1)
    ).mappings()
    return next((stored_capture(row) for row in found), None)


def captures_between(
    connection: Connection,
    meter: str | None,
    profile: str | None,
    start: datetime | None,
    end: datetime | None,
    *,
    known_at: datetime | None = None,
    limit: int | None = None,
) -> list[StoredCapture]:
    """Captures by meter, instant, profile.

    Intervals: start < at <= end; snapshots and events: start <= at <= end (a register read at midnight
    closes one day and opens the next). With `known_at`: what stood in the ledger then. `limit` keeps
    the newest.
    """
    where = _matching(captures, meter, profile, start, end)
    c = captures.c
    if known_at is None:
        if limit is not None:
            where = where.order_by(c.at.desc(), c.profile.desc(), c.id.desc()).limit(limit)
        rows: list[RowMapping] = list(connection.execute(where).mappings())
    else:
        rows = _as_known(connection, where, _matching(superseded, meter, profile, start, end), known_at)
    found = [stored_capture(row) for row in rows]
    found.sort(key=lambda r: (r.meter, r.at, r.profile, r.capture_id))
    if limit is not None and len(found) > limit:
        found = sorted(found, key=lambda r: r.at)[-limit:]
    return found


def _matching(
    table: Table, meter: str | None, profile: str | None, start: datetime | None, end: datetime | None
) -> Select[Any]:
    query = select(table)
    c = table.c
    if meter is not None:
        query = query.where(c.meter == meter)
    if profile is not None:
        query = query.where(c.profile == profile)
    if start is not None:
        begin = micros(start)
        query = query.where(or_(c.at > begin, and_(c.at == begin, c.start.is_(None))))
    if end is not None:
        query = query.where(c.at <= micros(end))
    return query


def _as_known(
    connection: Connection, current: Select[Any], older: Select[Any], known_at: datetime
) -> list[RowMapping]:
    known = micros(known_at)
    best: dict[str, RowMapping] = {}
    for query, table in ((current, captures), (older, superseded)):
        for row in connection.execute(query.where(table.c.ingested_at <= known)).mappings():
            held = best.get(row["capture_id"])
            if held is None or rank(dict(row)) > rank(dict(held)):
                best[row["capture_id"]] = row
    return list(best.values())


def capture(connection: Connection, capture_id: str) -> StoredCapture | None:
    """The capture in force under an id."""
    found = connection.execute(select(captures).where(captures.c.capture_id == capture_id)).mappings()
    return next((stored_capture(row) for row in found), None)


def revisions(connection: Connection, capture_id: str) -> list[StoredCapture]:
    """All revisions of a capture, lowest first."""
    rows = [
        dict(row)
        for table in (superseded, captures)
        for row in connection.execute(select(table).where(table.c.capture_id == capture_id)).mappings()
    ]
    return [stored_capture(row) for row in sorted(rows, key=rank)]


def journal_names(connection: Connection) -> list[str]:
    """Journals by gateway."""
    return list(
        connection.execute(
            select(journals.c.journal).order_by(journals.c.gateway, journals.c.journal)
        ).scalars()
    )


def lost_ranges(connection: Connection) -> list[tuple[str, int, int, str, datetime]]:
    """Ranges of journals that were given up."""
    rows = connection.execute(select(journal_lost).order_by(journal_lost.c.journal, journal_lost.c.first))
    return [(r.journal, r.first, r.last, r.reason, instant(r.declared_at)) for r in rows]


def status_list(connection: Connection) -> list[StoredStatus]:
    """The last status of each gateway."""
    rows = connection.execute(select(statuses).order_by(statuses.c.gateway))
    return [
        StoredStatus(gateway=row.gateway, received_at=instant(row.received_at), body=row.body) for row in rows
    ]


def balance(connection: Connection, account_id: str) -> StoredBalance | None:
    """The balance of one account."""
    row = connection.execute(select(balances).where(balances.c.account_id == account_id)).one_or_none()
    if row is None:
        return None
    return StoredBalance(
        account_id=row.account_id,
        as_of=instant(row.as_of),
        received_at=instant(row.received_at),
        body=row.body,
    )


def gap_list(connection: Connection, meter: str | None, state: str | None) -> list[StoredGap]:
    """Gaps, filtered."""
    query = select(gaps).order_by(gaps.c.meter, gaps.c.after, gaps.c.gap_id)
    if meter is not None:
        query = query.where(gaps.c.meter == meter)
    if state is not None:
        query = query.where(gaps.c.state == state)
    return [
        StoredGap(
            gap_id=row.gap_id,
            meter=row.meter,
            profile=row.profile,
            after=instant(row.after),
            until=instant(row.until),
            state=row.state,
            reason=row.reason,
            noticed_at=instant(row.noticed_at),
            gateway=row.gateway,
            ingested_at=instant(row.ingested_at),
        )
        for row in connection.execute(query)
    ]


def meters(connection: Connection) -> list[str]:
    """Meters with captures, by skipping along the index instead of reading every row."""
    found: list[str] = []
    at = connection.execute(select(func.min(captures.c.meter))).scalar()
    while at is not None:
        found.append(at)
        at = connection.execute(select(func.min(captures.c.meter)).where(captures.c.meter > at)).scalar()
    return found


def counts(connection: Connection) -> LedgerCounts:
    """Totals of the ledger."""

    def count(table: Table, *where: Any) -> int:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar() or 0

    return LedgerCounts(
        captures=count(captures),
        superseded=count(superseded),
        repeated=connection.execute(select(func.coalesce(func.sum(journals.c.repeated), 0))).scalar() or 0,
        unattributed=count(unattributed, unattributed.c.reason != PENDING),
        open_gaps=count(gaps, gaps.c.state == "open"),
        dead_letters=count(dead_letters),
        journals=count(journals),
        holes=count(journal_islands),
        meters=len(meters(connection)),
    )
