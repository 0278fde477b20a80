"""The list of captures under no account, in spans, kept right as the directory learns and corrects itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, Protocol

from sqlalchemy import Connection, func, select

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database
from gateway.central.ledger.placed import Placed, extent, placed_between, placed_row, profiles_of
from gateway.central.ledger.records import LASTING_REASONS, UnattributedCause, UnattributedGroup
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import directory_seen
from gateway.central.ledger.spans import (
    PENDING,
    Span,
    add_exactly,
    add_spans,
    make_stale,
    overlapping,
    recount_lasting,
    remove_spans,
    rename_span,
    span_of,
    stale_spans,
)
from gateway.central.ledger.state_tables import unattributed
from gateway.contract.messages.generation import NO_GENERATION, Generation
from mapping.instants import instant, micros

SWEEP: Final = 2_000
"""Captures judged in one transaction: readings wait no longer than that takes."""
SPANS: Final = 200
"""Spans judged in one transaction."""
WAITING_REASONS: Final = ("no_account", *sorted(LASTING_REASONS))
"""Reasons that somebody must do something about."""
COUNTED_REASONS: Final = (*WAITING_REASONS, "not_a_consumer")
"""Every reason but `pending`."""
JUDGED_BY: Final = "directory_version"
"""Cursor: what an older directory version than this stamped is judged again when it comes."""

Asked = tuple[str, datetime | None, datetime]
"""A capture as the directory is asked about it: meter, start or None, at."""


class Mixed:
    """Says that captures of a span do not all stand alike."""


MIXED: Final = Mixed()


class Judge(Protocol):
    """Says why captures stand under no account by one version of the directory, None where they stand under one."""

    @property
    def version(self) -> int:
        """The version of the directory that it judges by."""

    def expect(self, meters: Iterable[str]) -> None:
        """Let what is known of these meters be fetched together."""

    def each(self, captures: Sequence[Asked]) -> list[str | None]:
        """Return the reason of each capture."""

    def all_within(self, meter: str, start: datetime, last: datetime) -> str | Mixed | None:
        """Return the one reason of all captures that a span may hold: they begin at `start` or later, to `last`."""


class UnattributedCaptures:
    """Captures under no account, and those whose stamp an older directory gave: they wait to be judged."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self, meters: Sequence[str] | None = None) -> list[UnattributedGroup]:
        """Return the captures under no account, counted by meter, profile and reason; None takes all meters."""
        c = unattributed.c
        query = (
            select(
                c.meter,
                c.profile,
                c.reason,
                func.sum(c.captures).label("count"),
                func.min(c.first).label("first_at"),
                func.max(c.last).label("last_at"),
                func.min(c.ingested_at).label("oldest_ingested"),
            )
            .where(c.reason != PENDING)
            .group_by(c.meter, c.profile, c.reason)
            .order_by(c.meter, c.profile, c.reason)
        )
        if meters is not None:
            query = query.where(c.meter.in_(meters))
        with self._database.reading("listing unattributed captures") as connection:
            return [
                UnattributedGroup(**{**row, "count": int(row["count"])})
                for row in connection.execute(query).mappings()
            ]

    def causes(self, named: int, told: Callable[[], Collection[str]] = frozenset) -> list[UnattributedCause]:
        """Return why captures of a consumer stand under no account, with the first `named` of the meters of each.

        Meters that are `told` are left out where their own fault is the reason. No capture is looked at.
        """
        with self._database.reading("listing unattributed meters") as connection:
            found = (_cause(connection, reason, named, told) for reason in WAITING_REASONS)
            return [cause for cause in found if cause.meters]

    def recheck(self, spans: Iterable[tuple[str, datetime | None, datetime | None]]) -> int:
        """Mark the captures of meters and spans (open ends: None) to be judged again; return in how many boxes."""
        with self._database.writing("marking captures") as connection:
            boxes = [box for span in spans for box in _boxes(connection, *span)]
            add_spans(connection, boxes)
        return len(boxes)

    def follow(self, version: int, concerned: Callable[[int], Sequence[str] | None]) -> None:
        """Have the list judged by another version of the directory, and what an older one stamps from now on.

        `concerned` returns the meters of which something changed since a version, None where they are many.
        """
        with self._database.reading("reading a cursor") as connection:
            done = read_cursor(connection, JUDGED_BY) or 0
        if version <= done:
            return
        meters = concerned(done)
        with self._database.writing("following the directory") as connection:
            if (read_cursor(connection, JUDGED_BY) or 0) >= version:
                return
            # In one transaction: what an older version stamped either lies on the list now, or comes after.
            write_cursor(connection, JUDGED_BY, version)
            make_stale(connection, meters)

    def sweep(self, judge: Judge) -> int:
        """Judge what waits for it by a version of the directory; return how many spans were looked at.

        Where another process follows a newer version already, what waits is left to that one.
        """
        total = 0
        while True:
            with self._database.writing("judging unattributed captures") as connection:
                is_behind = judge.version < (read_cursor(connection, JUDGED_BY) or 0)
                judged = 0 if is_behind else _judge_some(connection, judge)
            if judged == 0:
                return total
            total += judged


def _cause(
    connection: Connection, reason: str, named: int, told: Callable[[], Collection[str]]
) -> UnattributedCause:
    c = unattributed.c
    if reason in LASTING_REASONS:
        each = (
            select(c.meter, func.min(c.first)).where(c.reason == reason).group_by(c.meter).order_by(c.meter)
        )
        rows = connection.execute(each).all()
        left_out = told() if rows else ()
        firsts = {meter: first for meter, first in rows if meter not in left_out}
        return UnattributedCause(
            reason=reason,
            meters=tuple(firsts)[:named],
            touched=len(firsts),
            first_at=min(firsts.values(), default=None),
        )
    names = select(c.meter).where(c.reason == reason).distinct().order_by(c.meter).limit(named)
    total = select(func.count(c.meter.distinct()), func.min(c.first)).where(c.reason == reason)
    count, first = connection.execute(total).one()
    meters = tuple(connection.execute(names).scalars())
    return UnattributedCause(reason=reason, meters=meters, touched=count, first_at=first)


# Made once, as every transaction asks it.
_LIFE: Final = select(directory_seen.c.generation)


def note(
    connection: Connection,
    fresh: Sequence[CaptureRow],
    redated: Mapping[str, Placed],
    replaced: Iterable[Placed],
    judged_by: int,
) -> None:
    """Put fresh captures on the list where they stand under no account; take off it what they `replaced`.

    `redated` says, by capture_id, where those stand of which the time was judged as they came. What its edge attributed
    by a directory older than `judged_by`, or by another life of it, waits there to be judged.
    """
    life: str | None = connection.execute(_LIFE).scalar()
    ours: dict[str, bool] = {}
    spans = []
    for row in fresh:
        if (stamp := row.directory_generation) not in ours:
            ours[stamp] = _is_of_this_life(stamp, life)
        is_judged = ours[stamp] and row.directory_version >= judged_by
        if row.capture_id in redated:
            spans.append(_unjudged(redated[row.capture_id]))
        elif row.reason in LASTING_REASONS:
            spans.append(_unjudged(placed_row(row)))
        elif row.reason is not None or not is_judged:
            spans.append(span_of(placed_row(row), row.reason or PENDING, stale=not is_judged))
    share = fresh[0].gateway if fresh else ""
    _enter(connection, spans, replaced, share)


def moved(connection: Connection, before: Iterable[Placed], after: Iterable[Placed]) -> None:
    """Let the list say of captures what a verdict on their times made of them."""
    _enter(connection, map(_unjudged, after), before, "")


def _enter(connection: Connection, spans: Iterable[Span], gone: Iterable[Placed], share: str) -> None:
    """Put spans on the list and take captures off it that stood so; what a directory can judge there waits for it."""
    left = list(gone)
    judged = (span_of(one, PENDING, stale=True) for one in left if not one.is_lasting)
    add_spans(connection, [*spans, *judged], share)
    recount_lasting(connection, (one for one in left if one.is_lasting), share)


def _unjudged(one: Placed) -> Span:
    if one.reason is not None and one.is_lasting:
        return span_of(one, one.reason, stale=False)
    return span_of(one, PENDING, stale=True)


def _boxes(
    connection: Connection, meter: str, start: datetime | None, end: datetime | None
) -> Iterable[Span]:
    ends = (None if start is None else micros(start), None if end is None else micros(end))
    for profile in profiles_of(connection, meter):
        found = extent(connection, meter, profile, *ends)
        if found is not None:
            box = span_of(found, PENDING, stale=True)
            yield box._replace(first=found.ingested_at)


def _judge_some(connection: Connection, judge: Judge) -> int:
    waiting = stale_spans(connection, SPANS)
    judge.expect({one.meter for one in waiting})
    gone: set[int] = set()
    judged = looked_at = 0
    for span in waiting:
        if judged >= SWEEP:
            break
        looked_at += 1
        if span.id not in gone:
            judged += _judge(connection, judge, span, gone)
    return looked_at


def _judge(connection: Connection, judge: Judge, span: Span, gone: set[int]) -> int:
    """Judge one span, and note which it took away; return how many captures were judged."""
    if span.reason != PENDING:
        reason = judge.all_within(span.meter, instant(span.start), instant(span.last))
        if not isinstance(reason, Mixed):
            if reason is None:
                remove_spans(connection, [span])
            else:
                rename_span(connection, span, reason)
            return 1
    taken, box = [span], span
    for one in overlapping(connection, span):
        taken.append(one)
        box = box.around(one)
    remove_spans(connection, taken)
    gone.update(one.id for one in taken)
    if judge.all_within(box.meter, instant(box.start), instant(box.last)) is None:
        return 1
    return _judge_each(connection, judge, box)


def _judge_each(connection: Connection, judge: Judge, box: Span) -> int:
    """Judge the captures in a box by themselves; what is more than SWEEP of them waits for another transaction."""
    captures = placed_between(connection, box.meter, box.profile, box.first, box.last, SWEEP)
    asked = [
        (one.meter, None if one.start is None else instant(one.start), instant(one.at)) for one in captures
    ]
    spans = []
    for reason, run in groupby(zip(judge.each(asked), captures, strict=True), key=lambda pair: pair[0]):
        if reason is not None:
            whole, *others = [span_of(one, reason, stale=False) for _, one in run]
            for one in others:
                whole = whole.around(one)
            spans.append(whole)
    if len(captures) >= SWEEP and captures[-1].at < box.last:
        spans.append(box._replace(id=0, reason=PENDING, first=captures[-1].at + 1, captures=0, stale=1))
    add_exactly(connection, spans)
    return max(1, len(captures))


def _is_of_this_life(stamped: str, life: str | None) -> bool:
    """Say whether a stamp is of the directory's present life: one of a life before says nothing of this one.

    Edges of version 1 name no generation; the first life of a directory is theirs.
    """
    if life is None or stamped == life:
        return True
    return stamped == str(NO_GENERATION) and Generation.parse(life).counter == 1
