"""Where captures stand in time and whether they are believed: what the lists that follow captures ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, column, func, or_, select, table

from gateway.central.ledger.database import in_chunks
from gateway.central.ledger.records import LASTING_REASONS
from gateway.central.ledger.rows import CaptureRow

LONGEST: Final = 31 * 86_400 * 1_000_000
"""Microseconds of the longest interval that a meter records."""
# Without the types of `schema`: instants stay whole microseconds.
_CAPTURES: Final = table(
    "captures",
    *map(column, ("capture_id", "meter", "profile", "at", "start", "reason", "ingested_at")),
)
_C: Final = _CAPTURES.c


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


_PLACED: Final = tuple(_C[name] for name in Placed._fields)


def placed_row(row: CaptureRow) -> Placed:
    """Return where a row of the table of captures stands."""
    return Placed(row.meter, row.profile, row.at, row.start, row.reason, row.ingested_at)


def placed_by_id(connection: Connection, capture_ids: Sequence[str]) -> dict[str, Placed]:
    """Return where captures in force stand now, by capture_id."""
    found = {}
    for some in in_chunks(capture_ids):
        query = select(_C.capture_id, *_PLACED).where(_C.capture_id.in_(some))
        found.update({row[0]: Placed._make(row[1:]) for row in connection.execute(query)})
    return found


def placed_between(
    connection: Connection, meter: str, profile: str, first: int, last: int, limit: int | None = None
) -> list[Placed]:
    """Return the captures with first <= at <= last whose place the directory decides, by instant.

    At most `limit` of them, and all that share the last one's instant.
    """
    mine = and_(_of(meter, profile), _C.at.between(first, last), _is_believed())
    query = select(*_PLACED).where(mine).order_by(_C.at)
    if limit is None:
        return _read(connection, query)
    found = _read(connection, query.limit(limit))
    if len(found) < limit:
        return found
    end = found[-1].at
    same = select(*_PLACED).where(_of(meter, profile), _C.at == end, _is_believed())
    return [one for one in found if one.at < end] + _read(connection, same)


def extent(
    connection: Connection, meter: str, profile: str, start: int | None, end: int | None
) -> Placed | None:
    """Return the box around the captures of a span (open ends: None) as `at` and `start`; None where there are none.

    In it are those that lie in start..end or reach into it. Its `at` is the last instant; its `ingested_at` the first.
    """
    mine = [_of(meter, profile)]
    if start is not None:
        mine.append(_C.at >= start)
    inside = mine if end is None else [*mine, _C.at <= end]
    first = _read(connection, select(*_PLACED).where(*mine).order_by(_C.at).limit(1))
    if not first or (end is not None and first[0].begin > end):
        return None
    last = connection.execute(select(func.max(_C.at)).where(*inside)).scalar()
    if end is not None:
        reaching = (_C.at > end, _C.at <= end + LONGEST, _C.start <= end)
        beyond = connection.execute(select(func.max(_C.at)).where(*mine, *reaching)).scalar()
        last = max((at for at in (last, beyond) if at is not None), default=None)
    return None if last is None else first[0]._replace(at=last, start=first[0].begin, ingested_at=first[0].at)


def lasting_captures(
    connection: Connection, meter: str, profile: str, reason: str, first: int, last: int
) -> tuple[int, int, int, int, int] | None:
    """Return of what stands in first..last for a lasting reason: first beginning, first and last instant, number.

    Last comes when the first of them was stored. None where there are none.
    """
    begin = func.min(func.coalesce(_C.start, _C.at))
    query = select(begin, func.min(_C.at), func.max(_C.at), func.count(), func.min(_C.ingested_at)).where(
        _of(meter, profile), _C.at.between(first, last), _C.reason == reason
    )
    found = connection.execute(query).one()
    return None if not found[3] else (found[0], found[1], found[2], found[3], found[4])


def profiles_of(connection: Connection, meter: str) -> list[str]:
    """Return the profiles of which a meter has captures."""
    # Each step seeks the next one in the index; DISTINCT would read an entry for every capture.
    mine = _C.meter == meter
    first = select(func.min(_C.profile).label("profile")).where(mine).cte("profiles_found", recursive=True)
    following = select(func.min(_C.profile)).where(mine, _C.profile > first.c.profile)
    found = first.union_all(select(following.scalar_subquery()).where(first.c.profile.is_not(None)))
    query = select(found.c.profile).where(found.c.profile.is_not(None))
    return list(connection.execute(query).scalars())


def _of(meter: str, profile: str) -> ColumnElement[bool]:
    return and_(_C.meter == meter, _C.profile == profile)


def _is_believed() -> ColumnElement[bool]:
    return or_(_C.reason.is_(None), _C.reason.not_in(sorted(LASTING_REASONS)))


def _read(connection: Connection, query: Select[Any]) -> list[Placed]:
    return [Placed._make(row) for row in connection.execute(query)]
