"""The list of captures under no account, kept right as the directory learns and corrects itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update

from gateway.central.ledger.bulk import write
from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database, in_chunks, records
from gateway.central.ledger.records import LASTING_REASONS, UnattributedCause, UnattributedGroup
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import captures, directory_seen, unattributed
from gateway.contract.messages.generation import NO_GENERATION, Generation

SWEEP: Final = 2_000
"""Captures judged in one transaction: readings wait no longer than that takes."""
PENDING: Final = "pending"
"""Reason of a capture that waits to be judged: it is counted by nobody until then."""
WAITING_REASONS: Final = ("no_account", *sorted(LASTING_REASONS))
"""Reasons that somebody must do something about."""
COUNTED_REASONS: Final = (*WAITING_REASONS, "not_a_consumer")
"""Every reason but `pending`."""
JUDGED_BY: Final = "directory_version"
"""Cursor: every capture on the list was judged by this directory version or a later one."""
NEVER_JUDGED: Final = 2**62
"""Version by which a row counts as judged whose reason no directory can lift: it is not looked at again."""
_COPIED: Final = ("capture_id", "meter", "profile", "at", "start", "ingested_at")

Asked = tuple[str, datetime | None, datetime]
"""A capture as the directory is asked about it: meter, start or None, at."""
Judge = Callable[[Sequence[Asked]], list[str | None]]
"""Says of each why it stands under no account by the directory, None where it does."""


class UnattributedCaptures:
    """Captures under no account, and those whose stamp an older directory gave: they wait to be judged."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self) -> list[UnattributedGroup]:
        """Return the captures under no account, counted by meter, profile and reason."""
        c = unattributed.c
        query = (
            select(
                c.meter,
                c.profile,
                c.reason,
                func.count().label("count"),
                func.min(c.at).label("first_at"),
                func.max(c.at).label("last_at"),
                func.min(c.ingested_at).label("oldest_ingested"),
            )
            .where(c.reason != PENDING)
            .group_by(c.meter, c.profile, c.reason)
            .order_by(c.meter, c.profile, c.reason)
        )
        with self._database.reading("listing unattributed captures") as connection:
            return records(connection, UnattributedGroup, query)

    def causes(self) -> list[UnattributedCause]:
        """Return the meters of which captures of a consumer stand under no account, by reason.

        Seeks once for each reason and meter; no capture is looked at.
        """
        with self._database.reading("listing unattributed meters") as connection:
            return [cause for reason in WAITING_REASONS if (cause := _cause(connection, reason)).meters]

    def recheck(self, spans: Iterable[tuple[str, datetime | None, datetime | None]]) -> int:
        """Mark the captures of meters and spans (open ends: None) to be judged again; return how many."""
        with self._database.writing("marking captures") as connection:
            return sum(_mark(connection, *span) for span in spans)

    def sweep(self, judge: Judge, version: int) -> int:
        """Judge, by directory version `version`, what an older one judged last; return how many captures."""
        total = 0
        while True:
            with self._database.writing("judging unattributed captures") as connection:
                judged = _judge_some(connection, judge, version)
                if judged == 0 and (read_cursor(connection, JUDGED_BY) or 0) < version:
                    # Only now, and in the transaction that found nothing left: what arrives stamped with an
                    # older version after this goes on the list. One more look, for what came in between.
                    write_cursor(connection, JUDGED_BY, version)
                    continue
            if judged == 0:
                return total
            total += judged


def _cause(connection: Connection, reason: str) -> UnattributedCause:
    c = unattributed.c
    of_reason = select(func.min(c.meter).label("meter")).where(c.reason == reason)
    found = of_reason.cte("meters_found", recursive=True)
    following = select(func.min(c.meter)).where(c.reason == reason, c.meter > found.c.meter)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.meter.is_not(None)))
    oldest = select(func.min(c.at)).where(c.reason == reason, c.meter == found.c.meter).scalar_subquery()
    query = select(found.c.meter, oldest.label("first_at")).where(found.c.meter.is_not(None))
    rows = connection.execute(query).all()
    return UnattributedCause(
        reason=reason,
        meters=tuple(row.meter for row in rows),
        first_at=min((row.first_at for row in rows), default=None),
    )


# Made once, as every transaction asks it.
_LIFE: Final = select(directory_seen.c.generation)


def note(
    connection: Connection,
    new: Iterable[CaptureRow],
    changed: Mapping[str, CaptureRow],
    judged_by: int,
) -> None:
    """Put fresh capture rows on the list where they stand under no account; `changed` rows come anew.

    A row that its edge attributed by a directory older than `judged_by`, or by another life of it, waits there to
    be judged.
    """
    life: str | None = connection.execute(_LIFE).scalar()
    for ids in in_chunks(list(changed)):
        connection.execute(delete(unattributed).where(unattributed.c.capture_id.in_(ids)))
    rows = []
    ours: dict[str, bool] = {}
    for row in (*new, *changed.values()):
        if (stamp := row.directory_generation) not in ours:
            ours[stamp] = _is_of_this_life(stamp, life)
        stamped = row.directory_version if ours[stamp] else -1
        if row.reason is None and stamped >= judged_by:
            continue
        lasting = row.reason in LASTING_REASONS
        # An edge cannot know more than we do; a stamp that says so must still be looked at.
        checked = NEVER_JUDGED if lasting else min(stamped, judged_by)
        copied = (row.capture_id, row.meter, row.profile, row.at, row.start, row.ingested_at)
        rows.append((*copied, row.reason or PENDING, checked))
    write(connection, unattributed, (*_COPIED, "reason", "checked_version"), rows)


def _mark(connection: Connection, meter: str, start: datetime | None, end: datetime | None) -> int:
    c = captures.c
    span = [c.meter == meter]
    if start is not None:
        span.append(c.at >= start)
    if end is not None:
        span.append(func.coalesce(c.start, c.at) <= end)
    # First those on the list, then the rest of the span: a correction may take attributed captures away.
    listed = select(unattributed.c.capture_id).where(unattributed.c.meter == meter)
    again = connection.execute(
        update(unattributed)
        .where(
            unattributed.c.meter == meter,
            unattributed.c.reason.not_in(LASTING_REASONS),
            unattributed.c.capture_id.in_(select(c.capture_id).where(*span)),
        )
        .values(checked_version=-1)
    ).rowcount
    fresh = connection.execute(
        insert(unattributed).from_select(
            [*_COPIED, "reason", "checked_version"],
            select(*(c[name] for name in _COPIED), literal(PENDING), literal(-1)).where(
                *span, c.capture_id.not_in(listed)
            ),
        )
    ).rowcount
    return again + fresh


def _judge_some(connection: Connection, judge: Judge, version: int) -> int:
    c = unattributed.c
    rows = connection.execute(
        select(c.capture_id, c.meter, c.start, c.at).where(c.checked_version < version).limit(SWEEP)
    ).all()
    attributed: list[str] = []
    still: list[dict[str, object]] = []
    for row, reason in zip(rows, judge([(row.meter, row.start, row.at) for row in rows]), strict=True):
        if reason is None:
            attributed.append(row.capture_id)
        else:
            still.append({"b_id": row.capture_id, "b_reason": reason})
    for ids in in_chunks(attributed):
        connection.execute(delete(unattributed).where(c.capture_id.in_(ids)))
    if still:
        connection.execute(
            update(unattributed)
            .where(c.capture_id == bindparam("b_id"))
            .values(reason=bindparam("b_reason"), checked_version=version),
            still,
        )
    return len(rows)


def _is_of_this_life(stamped: str, life: str | None) -> bool:
    """Say whether a stamp is of the directory's present life: one of a life before says nothing of this one.

    Edges of version 1 name no generation; the first life of a directory is theirs.
    """
    if life is None or stamped == life:
        return True
    return stamped == str(NO_GENERATION) and Generation.parse(life).counter == 1
