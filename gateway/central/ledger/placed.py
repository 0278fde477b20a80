"""Where captures stand in time and whether they are believed: what the lists that follow captures ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, true

from gateway.central.ledger.capture_rows import held_rows
from gateway.central.ledger.numbers import METERS
from gateway.central.ledger.records import LASTING_REASONS
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import captures, profiles
from gateway.central.ledger.standing import Condition, Standing, standing, standing_query

LONGEST: Final = 31 * 86_400 * 1_000_000
"""Microseconds of the longest interval that a meter records."""


class Placed(NamedTuple):
    """A capture by its meter, profile and settled times (microseconds), and why it stands under no account.

    `reason` is what its edge stamped, or what a verdict on its time made of it.
    """

    meter: str
    profile: str
    at: int
    start: int | None
    reason: str | None
    ingested_at: int

    @property
    def begin(self) -> int:
        """Where its interval begins, or its instant."""
        return self.at if self.start is None else self.start

    @property
    def is_lasting(self) -> bool:
        """Whether no directory can lift its reason."""
        return self.reason in LASTING_REASONS


def placed_row(row: CaptureRow) -> Placed:
    """Return where a row of the table of captures stands."""
    return Placed(row.meter, row.profile, row.at, row.start, row.reason, row.ingested_at)


def placed_by_id(connection: Connection, capture_ids: Sequence[str]) -> dict[str, Placed]:
    """Return where captures in force stand now, by capture_id."""
    return {row.capture_id: placed_row(row) for row in held_rows(connection, captures, capture_ids)}


def placed_between(
    connection: Connection, meter: str, profile: str, first: int, last: int, limit: int | None = None
) -> list[Placed]:
    """Return the captures with first <= at <= last whose place the directory decides, by instant.

    At most `limit` of them, and all that share the last one's instant.
    """
    found = _read(
        connection, meter, profile, lambda c: and_(c.at.between(first, last), _is_believed(c)), limit
    )
    if limit is None or len(found) < limit:
        return found
    end = found[-1].at
    same = _read(connection, meter, profile, lambda c: and_(c.at == end, _is_believed(c)))
    return [one for one in found if one.at < end] + same


def extent(
    connection: Connection, meter: str, profile: str, start: int | None, end: int | None
) -> Placed | None:
    """Return the box around the captures of a span (open ends: None) as `at` and `start`; None where there are none.

    In it are those that lie in start..end or reach into it. Its `at` is the last instant; its `ingested_at` the first.
    """

    def since(c: Standing) -> ColumnElement[bool]:
        return true() if start is None else c.at >= start

    def inside(c: Standing) -> ColumnElement[bool]:
        return since(c) if end is None else and_(since(c), c.at <= end)

    def reaching(c: Standing) -> ColumnElement[bool]:
        return and_(since(c), c.at > end, c.at <= (end or 0) + LONGEST, c.start <= end)

    first = _read(connection, meter, profile, since, 1)
    if not first or (end is not None and first[0].begin > end):
        return None
    ways = [inside] if end is None else [inside, reaching]
    last = [
        one.at
        for way in ways
        for one in standing(connection, meter, profile, way, newest_first=True, limit=1)
    ]
    if not last:
        return None
    return first[0]._replace(at=max(last), start=first[0].begin, ingested_at=first[0].at)


def lasting_captures(
    connection: Connection, meter: str, profile: str, reason: str, first: int, last: int
) -> tuple[int, int, int, int, int] | None:
    """Return of what stands in first..last for a lasting reason: first beginning, first and last instant, number.

    Last comes when the first of them was stored. None where there are none.
    """
    query = standing_query(
        connection, meter, profile, lambda c: and_(c.at.between(first, last), c.reason == reason)
    )
    if query is None:
        return None
    c = query.subquery("lasting").c
    begin = func.min(c.stands - func.coalesce(c.span, 0))
    every = select(begin, func.min(c.stands), func.max(c.stands), func.count(), func.min(c.ingested_at))
    found = connection.execute(every).one()
    return None if not found[3] else (found[0], found[1], found[2], found[3], found[4])


def profiles_of(connection: Connection, meter: str) -> list[str]:
    """Return the profiles of which a meter has captures."""
    number = METERS.known(connection, [meter]).get(meter)
    if number is None:
        return []
    # A seek for each profile; DISTINCT would read an entry for every capture.
    c = captures.c
    there = exists().where(c.meter == number, c.profile == profiles.c.number)
    return list(connection.execute(select(profiles.c.key).where(there).order_by(profiles.c.key)).scalars())


def _is_believed(c: Standing) -> ColumnElement[bool]:
    return or_(c.reason.is_(None), c.reason.not_in(sorted(LASTING_REASONS)))


def _read(
    connection: Connection, meter: str, profile: str, condition: Condition, limit: int | None = None
) -> list[Placed]:
    found = standing(connection, meter, profile, condition, limit=limit)
    return [Placed(meter, profile, *one) for one in found]
