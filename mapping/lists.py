"""Lists of what is missing: accounts without a meter or a number, meters without a holder; asked in the database.

Rows come in pages by key, so that a city's list needs no memory; by route or feeder where that is kept of the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, FromClause, and_, null, or_, select, tuple_

from mapping.database import Database
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.directory_tables import attribute, change_set, holding, installation, naming
from mapping.instants import instant, micros

PAGE: Final = 1_000
"""Rows of one statement."""


class Missing(StrEnum):
    """What is missing of a place or an account."""

    METER = "meter"
    NUMBER = "number"
    HOLDER = "holder"


class Place(NamedTuple):
    """A usage point, who holds it and by which meter, as far as that is known; of an account without one, only it."""

    usage_point: str | None
    account_id: str | None
    legacy_number: str | None
    account_number: str | None
    meter: str | None
    route: str | None
    feeder: str | None


def places_without(
    database: Database, missing: Missing, *, at: datetime, route: str | None = None, feeder: str | None = None
) -> Iterator[Place]:
    """Yield the places of which something is missing at an instant, by usage point, then accounts that hold none.

    `meter`: held, and no consumer's meter stands there; `number`: held by an account without a 10-digit number;
    `holder`: a consumer's meter stands there and nobody holds the place. Of a route or feeder, where one is given.
    """
    asked = _Places(at, by_meter=missing is Missing.HOLDER)
    lacks = {
        Missing.METER: asked.meter.c.meter.is_(None),
        Missing.NUMBER: asked.number.c.number.is_(None),
        Missing.HOLDER: asked.holding.c.account_id.is_(None),
    }[missing]
    yield from _pages(database, asked, [lacks, *asked.along(route, feeder)])
    if missing is not Missing.HOLDER and route is None and feeder is None:
        yield from _without_place(database, at, numbered=missing is Missing.METER)


def metered_places(
    database: Database, *, at: datetime, route: str | None = None, feeder: str | None = None
) -> Iterator[Place]:
    """Yield the places that are held and have a consumer's meter at an instant: whose readings should come."""
    asked = _Places(at, by_meter=False)
    return _pages(database, asked, [asked.meter.c.meter.is_not(None), *asked.along(route, feeder)])


class Bound(NamedTuple):
    """A consumer's meter as it is bound: where, from when on, and by which change set of whom."""

    meter: str
    usage_point: str
    valid_from: datetime
    version: int
    by: str
    route: str | None
    feeder: str | None


def bound_meters(
    database: Database, *, at: datetime, route: str | None = None, feeder: str | None = None
) -> Iterator[Bound]:
    """Yield the consumers' meters that are fitted at an instant, by meter."""
    fitted, routes, feeders = installation.alias("i"), attribute.alias("route"), attribute.alias("feeder")
    tables = fitted.join(change_set, change_set.c.version == fitted.c.recorded)
    wanted = [_now(fitted, at), fitted.c.role == str(Role.CONSUMER)]
    for one, kind, given in (
        (routes, AttributeKind.ROUTE, route),
        (feeders, AttributeKind.FEEDER, feeder),
    ):
        kept = and_(one.c.usage_point == fitted.c.usage_point, one.c.kind == str(kind), _now(one, at))
        tables = tables.outerjoin(one, kept)
        wanted += [] if given is None else [one.c.value == given]
    columns = (
        fitted.c.meter,
        fitted.c.usage_point,
        fitted.c.valid_from,
        change_set.c.version,
        change_set.c.by,
    )
    query = select(*columns, routes.c.value, feeders.c.value).select_from(tables).where(*wanted)
    last = ""
    while True:
        page = query.where(fitted.c.meter > last).order_by(fitted.c.meter).limit(PAGE)
        with database.reading("listing meters") as db:
            found = db.execute(page).all()
        yield from (Bound(row[0], row[1], instant(row[2]), *row[3:]) for row in found)
        if len(found) < PAGE:
            return
        last = found[-1][0]


class _Places:
    """The joined tables: a place by its holding or by its meter, with what else is known of it."""

    def __init__(self, at: datetime, *, by_meter: bool) -> None:
        self.holding = holding.alias("h")
        self.meter = installation.alias("i")
        self.legacy = naming.alias("legacy")
        self.number = naming.alias("number")
        self.route = attribute.alias("route")
        self.feeder = attribute.alias("feeder")
        fitted = and_(_now(self.meter, at), self.meter.c.role == str(Role.CONSUMER))
        held = _now(self.holding, at)
        same = self.meter.c.usage_point == self.holding.c.usage_point
        first, second = (self.meter, self.holding) if by_meter else (self.holding, self.meter)
        self.point = first.c.usage_point
        joined: FromClause = first.outerjoin(second, and_(same, held if by_meter else fitted))
        for table, kind in ((self.legacy, NumberKind.LEGACY), (self.number, NumberKind.ACCOUNT)):
            named = table.c.account_id == self.holding.c.account_id
            joined = joined.outerjoin(table, and_(named, _named(table, kind)))
        for one, what in ((self.route, AttributeKind.ROUTE), (self.feeder, AttributeKind.FEEDER)):
            kept = and_(one.c.usage_point == self.point, one.c.kind == str(what), _now(one, at))
            joined = joined.outerjoin(one, kept)
        self.tables = joined
        self.held = fitted if by_meter else held
        self.key = (self.point, first.c.meter if by_meter else first.c.account_id)

    def along(self, route: str | None, feeder: str | None) -> list[ColumnElement[bool]]:
        wanted = []
        if route is not None:
            wanted.append(self.route.c.value == route)
        if feeder is not None:
            wanted.append(self.feeder.c.value == feeder)
        return wanted

    def columns(self) -> list[Any]:
        return [
            self.point,
            self.holding.c.account_id,
            self.legacy.c.number,
            self.number.c.number,
            self.meter.c.meter,
            self.route.c.value,
            self.feeder.c.value,
        ]


def _pages(database: Database, asked: _Places, wanted: list[ColumnElement[bool]]) -> Iterator[Place]:
    last: tuple[str, str] | None = None
    while True:
        query = select(*asked.columns(), asked.key[1]).select_from(asked.tables).where(asked.held, *wanted)
        if last is not None:
            query = query.where(tuple_(*asked.key) > last)
        with database.reading("listing places") as db:
            found = db.execute(query.order_by(*asked.key).limit(PAGE)).all()
        yield from (Place(*row[:7]) for row in found)
        if len(found) < PAGE:
            return
        last = (found[-1][0], found[-1][7])


def _without_place(database: Database, at: datetime, *, numbered: bool) -> Iterator[Place]:
    """Yield the named accounts that hold no usage point; those without a 10-digit number only, unless `numbered`."""
    legacy, number, held = naming.alias("legacy"), naming.alias("number"), holding.alias("h")
    every = naming.alias("every")
    last = ""
    while True:
        query = (
            select(every.c.account_id, legacy.c.number, number.c.number)
            .distinct()
            .select_from(
                every.outerjoin(
                    legacy, and_(legacy.c.account_id == every.c.account_id, _named(legacy, NumberKind.LEGACY))
                )
                .outerjoin(
                    number,
                    and_(number.c.account_id == every.c.account_id, _named(number, NumberKind.ACCOUNT)),
                )
                .outerjoin(held, and_(held.c.account_id == every.c.account_id, _now(held, at)))
            )
            .where(
                every.c.superseded.is_(None),
                every.c.valid_to.is_(None),
                held.c.account_id.is_(None),
                every.c.account_id > last,
                *([] if numbered else [number.c.number.is_(null())]),
            )
            .order_by(every.c.account_id)
            .limit(PAGE)
        )
        with database.reading("listing accounts without a place") as db:
            found = db.execute(query).all()
        yield from (Place(None, account, old, new, None, None, None) for account, old, new in found)
        if len(found) < PAGE:
            return
        last = found[-1][0]


def _now(table: FromClause, at: datetime) -> ColumnElement[bool]:
    when = micros(at)
    return and_(
        table.c.superseded.is_(None),
        table.c.valid_from <= when,
        or_(table.c.valid_to.is_(None), table.c.valid_to > when),
    )


def _named(table: FromClause, kind: NumberKind) -> ColumnElement[bool]:
    return and_(table.c.kind == str(kind), table.c.superseded.is_(None), table.c.valid_to.is_(None))
