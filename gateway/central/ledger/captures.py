"""What is asked of the stored captures: the newest, those of a span, one with its revisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Table,
    TableClause,
    and_,
    column,
    exists,
    func,
    null,
    or_,
    select,
    table,
    true,
    tuple_,
    union_all,
    values,
)

from gateway.central.ledger.capture_rows import NAMES, PLACE, held_rows, unpacked
from gateway.central.ledger.database import Database, in_chunks
from gateway.central.ledger.numbers import METERS, PROFILES
from gateway.central.ledger.records import StoredCapture
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import captures, holder_lists, layouts, meters, superseded
from gateway.central.ledger.standing import COLUMNS, Standing, each_way, numbers_of, of_numbers
from mapping.instants import instant, micros

TEXTS_AT_HAND = 20_000
"""Layouts and lists of holders that are kept at hand for a connection."""


class Captures:
    """Captures of every meter for ever: the revision in force of each, and beside it those superseded."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, capture_id: str) -> StoredCapture | None:
        """Return the revision of a capture that is in force, or None."""
        with self._database.reading("reading a capture") as connection:
            rows = held_rows(connection, captures, [capture_id])
            return next(iter(stored_captures(connection, rows)), None)

    def revisions(self, capture_id: str) -> list[StoredCapture]:
        """Return every revision kept of a capture, lowest first; the last is the one in force."""
        with self._database.reading("reading revisions") as connection:
            rows = [row for of in (superseded, captures) for row in held_rows(connection, of, [capture_id])]
            return stored_captures(connection, sorted(rows, key=lambda row: row.rank))

    def latest(
        self, meters: Sequence[str], profiles: Sequence[str], *, until: datetime | None = None
    ) -> dict[str, dict[str, StoredCapture]]:
        """Return the newest capture of each meter and profile: by meter, then by profile.

        Newest is the highest instant of its own, up to `until`; of two with one instant, the higher occurrence. One
        statement for 500 meters, which seeks once in the index for each pair and reads no other row.
        """
        found: dict[str, dict[str, StoredCapture]] = {meter: {} for meter in meters}
        limit = None if until is None else micros(until)
        with self._database.reading("reading the latest captures") as connection:
            known = PROFILES.known(connection, profiles)
            wanted_profiles = [known[profile] for profile in profiles if profile in known]
            for some in in_chunks(meters):
                numbers = METERS.known(connection, some)
                wanted = [numbers[meter] for meter in some if meter in numbers]
                if not wanted or not wanted_profiles:
                    continue
                query = newest_of_each(wanted, wanted_profiles, limit)
                rows = sorted(connection.execute(query).all(), key=lambda row: (row[0], row[4]))
                for one in stored_captures(connection, unpacked(connection, [row[1:] for row in rows])):
                    found[one.meter][one.profile] = one
        return found

    def between(
        self,
        meter: str | None = None,
        profile: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        known_at: datetime | None = None,
        limit: int | None = None,
    ) -> list[StoredCapture]:
        """Return captures by meter, instant, profile; None of a filter takes all.

        Intervals: start < at <= end; snapshots and events: start <= at <= end (a register read at midnight
        closes one day and opens the next). With `known_at`: what stood in the ledger then. `limit` keeps
        the newest.
        """
        span = _Span(*(None if at is None else micros(at) for at in (start, end, known_at)))
        with self._database.reading("reading captures") as connection:
            numbers = numbers_of(connection, meter, profile)
            if numbers is None:
                return []
            query = each_way(COLUMNS, span.has, *of_numbers(*numbers))
            if limit is not None and known_at is None:
                query = query.order_by(column("stands").desc(), column("occurrence").desc()).limit(limit)
            rows = unpacked(connection, [row[1:] for row in connection.execute(query)])
            if known_at is not None:
                # Either table may hold what was in force then: a revision that came later moved it aside.
                rows = _highest_of_each([*rows, *_older(connection, numbers, span)])
            rows = [row for row in rows if span.first is None or row.at > span.first or row.start is None]
            rows.sort(key=lambda row: (row.meter, row.at, row.profile, row.capture_id))
            if limit is not None and len(rows) > limit:
                rows = sorted(rows, key=lambda row: row.at)[-limit:]
            return stored_captures(connection, rows)

    def each(self, chunk: int = 2_000) -> Iterator[StoredCapture]:
        """Yield every capture, also superseded ones, some at a time, so that writers go on."""
        for of, key in ((captures, PLACE), (superseded, ("id",))):
            c = _plain(of).c
            own = [c[name] for name in key]
            some = select(*own, *(c[name] for name in NAMES)).order_by(*own).limit(chunk)
            last: tuple[Any, ...] | None = None
            while True:
                query = some if last is None else some.where(tuple_(*own) > last)
                with self._database.reading("reading captures") as connection:
                    rows = connection.execute(query).all()
                    found = stored_captures(
                        connection, unpacked(connection, [row[len(key) :] for row in rows])
                    )
                if not rows:
                    break
                last = tuple(rows[-1][: len(key)])
                yield from found

    def meters(self) -> list[str]:
        """Return every meter that has a capture."""
        # A seek for each meter; DISTINCT would read an entry for every capture.
        there = exists().where(captures.c.meter == meters.c.number)
        query = select(meters.c.key).where(there).order_by(meters.c.key)
        with self._database.reading("listing meters") as connection:
            return list(connection.execute(query).scalars())


class _Span:
    """A span of time (open ends: None), and when what is asked for was known; in microseconds."""

    def __init__(self, first: int | None, last: int | None, known: int | None) -> None:
        self.first, self.last, self.known = first, last, known

    def has(self, c: Standing) -> ColumnElement[bool]:
        return and_(
            true() if self.first is None else c.at >= self.first,
            # An interval that ends where the span begins lies before it; left out here, so that a limit counts none.
            true() if self.first is None else or_(c.at > self.first, c.start.is_(None)),
            true() if self.last is None else c.at <= self.last,
            true() if self.known is None else c.ingested_at <= self.known,
        )


def _plain(of: Table) -> TableClause:
    """Return a table of captures without its types: instants stay whole microseconds."""
    return table(of.name, column("id"), *map(column, NAMES))


def newest_of_each(
    of_meters: Sequence[int], of_profiles: Sequence[int], until: int | None = None
) -> CompoundSelect[Any]:
    """Return the query of the newest captures of meters and profiles, by their numbers, up to an instant."""
    wanted, kinds = _listed("wanted_meters", of_meters), _listed("wanted_profiles", of_profiles)
    ways = []
    for name in ("at", "moved_to"):
        c, other = _plain(captures).alias("own").c, _plain(captures).alias("other").c
        its_way = [
            one.moved_to.is_not(None) if name == "moved_to" else one.moved_to.is_(None) for one in (c, other)
        ]
        # A window function would read every capture of these meters; a seek for each pair reads one row.
        newest = (
            select(other[name])
            .where(other.meter == wanted.c.number, other.profile == kinds.c.number, its_way[1])
            .where(true() if until is None else other[name] <= until)
            .order_by(other[name].desc())
            .limit(1)
            .correlate(wanted, kinds)
            .scalar_subquery()
        )
        ways.append(
            select(c[name].label("stands"), *(c[own] for own in NAMES)).where(
                c.meter == wanted.c.number, c.profile == kinds.c.number, c[name] == newest, its_way[0]
            )
        )
    return union_all(*ways)


def _listed(name: str, numbers: Iterable[int]) -> Any:
    return values(column("number", Integer), name=name).data([(number,) for number in numbers]).cte(name)


def _older(connection: Connection, numbers: tuple[int | None, int | None], span: _Span) -> list[CaptureRow]:
    """Return the superseded revisions of a span that were there then."""
    c = _plain(superseded).c
    at = func.coalesce(c.moved_to, c.at)
    query = select(*(c[name] for name in NAMES)).where(
        span.has(Standing(at, null(), c.reason, c.ingested_at))
    )
    for name, number in zip(("meter", "profile"), numbers, strict=True):
        if number is not None:
            query = query.where(c[name] == number)
    return unpacked(connection, connection.execute(query).all())


def stored_captures(connection: Connection, rows: Sequence[CaptureRow]) -> list[StoredCapture]:
    """Return rows with the texts that their layouts and holders name."""
    layout_texts = _texts(connection, layouts, {row.layout for row in rows})
    holder_texts = _texts(connection, holder_lists, {row.holders for row in rows})
    return [
        StoredCapture(
            **row._asdict()
            | {
                "at": instant(row.at),
                "start": None if row.start is None else instant(row.start),
                "received_at": instant(row.received_at),
                "ingested_at": instant(row.ingested_at),
                "layout_text": None if row.layout is None else layout_texts.get(row.layout),
                "holders_text": None if row.holders is None else holder_texts.get(row.holders),
            }
        )
        for row in rows
    ]


def _texts(connection: Connection, of: Table, keys: set[str | None]) -> dict[str, str]:
    """Return texts by key, which is the hash of each: they never change."""
    held: dict[str, str] = connection.info.setdefault(of.name, {})
    if len(held) > TEXTS_AT_HAND:
        held.clear()
    missing = sorted(key for key in keys if key is not None and key not in held)
    for some in in_chunks(missing):
        query = select(of.c.key, of.c.text).where(of.c.key.in_(some))
        held.update((row.key, row.text) for row in connection.execute(query))
    return held


def _highest_of_each(rows: Iterable[CaptureRow]) -> list[CaptureRow]:
    best: dict[str, CaptureRow] = {}
    for row in rows:
        held = best.get(row.capture_id)
        if held is None or row.rank > held.rank:
            best[row.capture_id] = row
    return list(best.values())
