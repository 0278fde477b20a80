"""Energy used by account and day, as reckoned from captures, and which times of which meters are to be reckoned anew.

A capture that comes, goes or moves marks its time in the transaction that does it; so does the directory. What is
marked is reckoned soon after, and asked of the captures themselves until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, Dialect, column, delete, func, insert, select, table, update

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database, in_chunks
from gateway.central.ledger.placed import Placed, extent
from gateway.central.ledger.schema import store_life
from gateway.central.ledger.state_tables import meter_states, use_days, use_stale
from mapping.instants import instant, micros

FOLLOWED: Final = "use_directory_version"
"""Cursor: the directory version by whose changes times were marked."""
ZONE: Final = "use_zone"
"""Name in `store_life` of the zone whose days are kept."""
METERED: Final = ("block_load", "instantaneous")
"""Profiles that tell of energy used."""
REACH: Final = 30 * 60 * 1_000_000
"""Microseconds from a day's end within which a register may be read that bounds it."""
ALWAYS: Final = (0, micros(datetime(9000, 1, 1, tzinfo=UTC)))
"""All time, in microseconds."""

Span = tuple[int, int]
"""From, to: microseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """What one meter adds to an account's use of one local day: exact kWh, and the spans that have data."""

    meter: str
    day: date
    account_id: str
    kwh: Decimal
    covered: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleTime:
    """A time of a meter that is to be reckoned anew; `marks` rises with each mark."""

    meter: str
    since: datetime
    until: datetime
    marks: int


class UseDays:
    """Use by meter, day and account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_account(self, account_id: str, first: date, last: date) -> list[DayUse]:
        """Return what is kept of an account's days first..last."""
        c = use_days.c
        query = select(use_days).where(
            c.account_id == account_id, c.day.between(first.toordinal(), last.toordinal())
        )
        with self._database.reading("reading use") as connection:
            return [
                DayUse(
                    meter=row.meter,
                    day=date.fromordinal(row.day),
                    account_id=row.account_id,
                    kwh=Decimal(row.kwh),
                    covered=_spans(row.covered),
                )
                for row in connection.execute(query)
            ]

    def stale(self, meters: Sequence[str]) -> dict[str, StaleTime]:
        """Return the times of meters that are to be reckoned anew, by meter."""
        found: dict[str, StaleTime] = {}
        with self._database.reading("reading use") as connection:
            for some in in_chunks(meters):
                query = select(use_stale).where(use_stale.c.meter.in_(some))
                found.update((row.meter, StaleTime(**row._mapping)) for row in connection.execute(query))  # noqa: SLF001  # SQLAlchemy's name for a row's columns
        return found

    def due(self, before: datetime, limit: int) -> list[StaleTime]:
        """Return times that are to be reckoned anew and begin before an instant, the oldest first."""
        c = use_stale.c
        query = select(use_stale).where(c.since < before).order_by(c.since, c.meter).limit(limit)
        with self._database.reading("looking for use to reckon") as connection:
            return [StaleTime(**row) for row in connection.execute(query).mappings()]

    def is_kept_by(self, version: int, zone: str) -> bool:
        """Say whether what is kept, and not marked, is by this directory version or a later one, in this zone."""
        with self._database.reading("reading use") as connection:
            kept = connection.execute(select(store_life.c.value).where(store_life.c.name == ZONE)).scalar()
            return kept == zone and (read_cursor(connection, FOLLOWED) or 0) >= version

    def followed(self) -> int:
        """Return the directory version by whose changes times were marked; 0 before the first."""
        with self._database.reading("reading a cursor") as connection:
            return read_cursor(connection, FOLLOWED) or 0

    def follow(self, version: int, zone: str, meters: Collection[str] | None) -> None:
        """Have the times of meters reckoned anew by another directory version or zone; None: of all meters."""
        with self._database.writing("marking use") as connection:
            kept = connection.execute(select(store_life.c.value).where(store_life.c.name == ZONE)).scalar()
            if kept != zone:
                connection.execute(delete(use_days))
                connection.execute(delete(store_life).where(store_life.c.name == ZONE))
                connection.execute(insert(store_life).values(name=ZONE, value=zone))
                meters = None
            if meters is None:
                heard = select(meter_states.c.meter).where(meter_states.c.heard_at.is_not(None))
                kept_of = select(use_days.c.meter).distinct()
                meters = set(connection.execute(heard.union(kept_of)).scalars())
            _mark(connection, dict.fromkeys(meters, ALWAYS))
            write_cursor(connection, FOLLOWED, version)

    def extent(self, meter: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant of which captures of a meter tell of energy; None where none does."""
        with self._database.reading("looking for captures") as connection:
            found = [box for profile in METERED if (box := extent(connection, meter, profile, None, None))]
        if not found:
            return None
        return instant(min(box.begin for box in found)), instant(max(box.at for box in found))

    def days_kept(self, meter: str) -> tuple[date, date] | None:
        """Return the first and last day of which use of a meter is kept; None where none is."""
        c = use_days.c
        query = select(func.min(c.day), func.max(c.day)).where(c.meter == meter)
        with self._database.reading("looking for days") as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (date.fromordinal(first), date.fromordinal(last))

    def keep(
        self,
        reckoned: StaleTime,
        days: Sequence[date],
        uses: Sequence[DayUse],
        rest: tuple[datetime, datetime] | None,
        *,
        version: int,
    ) -> bool:
        """Keep what was reckoned of days of a meter by a directory version; of what is marked the `rest` stays so.

        False, and nothing is kept, where the meter was marked again meanwhile, or another process follows a newer
        directory already: what it marked is not lifted by an older one.
        """
        c, s = use_days.c, use_stale.c
        mine = (s.meter == reckoned.meter, s.marks == reckoned.marks)
        with self._database.writing("keeping use") as connection:
            if (read_cursor(connection, FOLLOWED) or 0) > version:
                return False
            if rest is None:
                held = connection.execute(delete(use_stale).where(*mine)).rowcount
            else:
                left = {"since": rest[0], "until": rest[1]}
                held = connection.execute(update(use_stale).where(*mine).values(**left)).rowcount
            if not held:
                return False
            numbers = [day.toordinal() for day in days]
            for some in in_chunks(numbers):
                connection.execute(delete(use_days).where(c.meter == reckoned.meter, c.day.in_(some)))
            if uses:
                connection.execute(insert(use_days), [_row(one) for one in uses])
        return True


def mark_captures(connection: Connection, changed: Iterable[Placed]) -> None:
    """Mark the times of captures that came, went or moved, inside the transaction that does it."""
    spans: dict[str, tuple[int, int]] = {}
    for one in changed:
        if one.profile in METERED:
            since, until = one.begin - REACH, one.at + REACH
            held = spans.get(one.meter)
            spans[one.meter] = (since, until) if held is None else (min(held[0], since), max(held[1], until))
    _mark(connection, spans)


def _mark(connection: Connection, spans: Mapping[str, tuple[int, int]]) -> None:
    if spans:
        # By name: of two processes that mark several meters both, none waits for the other in a circle.
        rows = [(meter, *span, 1) for meter, span in sorted(spans.items())]
        connection.exec_driver_sql(_marking(connection.dialect), rows)


@lru_cache(maxsize=4)
def _marking(dialect: Dialect) -> str:
    plain = table(use_stale.name, *map(column, ("meter", "since", "until", "marks")))
    # The same words in SQLite and PostgreSQL, the only databases that a ledger may lie in.
    return (
        f"{insert(plain).compile(dialect=dialect)} ON CONFLICT (meter) DO UPDATE SET"
        " since = CASE WHEN excluded.since < use_stale.since THEN excluded.since ELSE use_stale.since END,"
        " until = CASE WHEN excluded.until > use_stale.until THEN excluded.until ELSE use_stale.until END,"
        " marks = use_stale.marks + 1"
    )


def _row(one: DayUse) -> dict[str, object]:
    return {
        "meter": one.meter,
        "day": one.day.toordinal(),
        "account_id": one.account_id,
        "kwh": format(one.kwh, "f"),
        "covered": ",".join(f"{begin}-{end}" for begin, end in one.covered),
    }


def _spans(text: str) -> tuple[Span, ...]:
    return tuple(_span(part) for part in text.split(",") if part)


def _span(text: str) -> Span:
    begin, _, end = text.partition("-")
    return int(begin), int(end)


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans in their order, those that touch or overlap as one."""
    reached: Span | None = None
    for begin, end in sorted(spans):
        if reached is not None and begin <= reached[1]:
            reached = (reached[0], max(reached[1], end))
            continue
        if reached is not None:
            yield reached
        reached = (begin, end)
    if reached is not None:
        yield reached
