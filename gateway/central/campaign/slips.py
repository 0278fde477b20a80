"""Slips: one for each account's new number at each of its meters, kept beside what the directory says."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, exists, func, insert, select, tuple_, update

from gateway.central.campaign.places import places_of
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import place, slip, target
from mapping.account import AccountNumber
from mapping.attribution import FOREVER
from mapping.checkchar import verhoeff
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.instants import micros
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot

AT_ONCE: Final = 500
"""Accounts looked at together."""
MAX_SHEET: Final = 300
"""Slips in one file: 100 pages, some days of a reader, and 160 MiB while it is made."""
NO_STOP: Final = 2**31 - 1
"""Where the route book says no order: after those that have one."""
_DIGITS: Final = 7
"""Digits of a slip's number before its check digit; more where there are more slips."""
TOKEN_OCTETS: Final = 10
"""80 random bits: nobody finds one by trying, and what it stands for is in our tables alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """What one slip says, and to whom it goes."""

    id: int
    account_id: str
    number: AccountNumber
    legacy: str
    usage_point: str
    meter: str
    route: str
    stop: int | None
    token: str
    name: str | None

    @property
    def slip_number(self) -> str:
        """What the reader ticks it off by."""
        return slip_number(self.id)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What the directory changed: slips new, changed before they were made, ended; and accounts without a place."""

    new: int
    changed: int
    ended: int
    nowhere: int

    def with_more(self, other: Refreshed) -> Refreshed:
        """Return both together."""
        return Refreshed(
            self.new + other.new,
            self.changed + other.changed,
            self.ended + other.ended,
            self.nowhere + other.nowhere,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCount:
    """One route's slips: how many there are, were made, and what the readers said of them."""

    route: str
    slips: int
    made: int
    verdicts: dict[str, int]


def slip_number(slip_id: int) -> str:
    """Return a slip's number as it is printed: digits and a check digit, in groups of four.

    >>> slip_number(42)
    '0000 0428'
    """
    digits = f"{slip_id:0{_DIGITS}}"
    checked = digits + verhoeff(digits)
    return f"{checked[:-4]} {checked[-4:]}"


def slip_id(text: str) -> int | None:
    """Return the slip of a number as a reader wrote it; None where a digit must be wrong.

    >>> slip_id("0000-0428"), slip_id("0000 0429")
    (42, None)
    """
    digits = "".join(c for c in text if c not in " -")
    if not (digits.isascii() and digits.isdigit() and _DIGITS < len(digits) < 16):
        return None
    return int(digits[:-1]) if verhoeff(digits[:-1]) == digits[-1] else None


class Slips:
    """The slips of a store; every method may raise CampaignFault."""

    def __init__(self, store: CampaignStore) -> None:
        self._db = store.db

    def refresh(self, directory: DirectorySnapshot, now: datetime) -> Refreshed:
        """Bring the slips to what the directory says, some accounts at a time; broken off, it is begun anew.

        A slip whose number is no longer its account's, or whose account left, ends: it is not made any more, and
        what a reader ticks on it says so. One that was made stays as it was printed, but for a number that changed.
        """
        done = Refreshed(0, 0, 0, 0)
        for some in in_batches(directory.accounts(), AT_ONCE):
            done = done.with_more(self.refresh_some(directory, some, now))
        return done

    def refresh_some(self, directory: DirectorySnapshot, accounts: list[str], now: datetime) -> Refreshed:
        """Do the same for some accounts, in one transaction."""
        mark = micros(now)
        wanted, nowhere = _wanted(directory, accounts, now)
        with self._db.writing("writing slips") as db:
            new, changed = self._put(db, wanted, mark)
            ended = db.execute(
                update(slip)
                .where(slip.c.account_id.in_(accounts), slip.c.seen < mark, slip.c.ended_at.is_(None))
                .values(ended_at=mark)
            ).rowcount
        return Refreshed(new, changed, ended, nowhere)

    def _put(self, db: Connection, wanted: list[dict[str, Any]], mark: int) -> tuple[int, int]:
        points = [row["usage_point"] for row in wanted]
        book: dict[str, Any] = {}
        held: dict[tuple[str, str, str], Row[Any]] = {}
        for some in in_batches(points, AT_ONCE):
            book |= places_of(db, some)
            found = db.execute(select(slip).where(slip.c.usage_point.in_(some)))
            held |= {(row.account_id, row.number, row.usage_point): row for row in found}
        added, seen, altered = [], [], []
        for row in wanted:
            if (of := book.get(row["usage_point"])) is not None:
                row |= {"route": of.route, "stop": of.stop}
            was = held.get((row["account_id"], row["number"], row["usage_point"]))
            if was is None:
                added.append(row | {"token": new_token(), "seen": mark})
            elif was.made_at is None and _differs(was, row):
                altered.append({"of": was.id, "mark": mark} | {f"new_{name}": row[name] for name in _LAID})
            else:
                seen.append({"of": was.id, "mark": mark})
        if added:
            added.sort(key=lambda row: (row["route"], _stop(row["stop"]), row["usage_point"]))
            db.execute(insert(slip), added)
        same = update(slip).where(slip.c.id == bindparam("of"))
        if seen:
            db.execute(same.values(seen=bindparam("mark"), ended_at=None), seen)
        if altered:
            values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _LAID}
            db.execute(same.values(seen=bindparam("mark"), ended_at=None, **values), altered)
        return len(added), len(altered)

    def sheets(
        self, *, routes: list[str] | None = None, again: bool = False, campaign: str | None = None
    ) -> Iterator[list[Slip]]:
        """Yield the slips to make, a file's worth at a time: one route, in the reader's order.

        Those that were made are left out, unless `again`. With `routes` only these; with `campaign` only of those
        whom it tells by slip, and who were not told yet.
        """
        for route in self._routes(routes):
            last: tuple[int, str, int] | None = None
            while some := self._of_route(route, again, campaign, last):
                last = _order(some[-1])
                yield some

    def _routes(self, routes: list[str] | None) -> list[str]:
        query = select(slip.c.route).where(slip.c.ended_at.is_(None)).distinct().order_by(slip.c.route)
        with self._db.reading("listing routes") as db:
            found = list(db.execute(query).scalars())
        return found if routes is None else [route for route in found if route in set(routes)]

    def _of_route(
        self, route: str, again: bool, campaign: str | None, after: tuple[int, str, int] | None
    ) -> list[Slip]:
        order = tuple_(func.coalesce(slip.c.stop, NO_STOP), slip.c.usage_point, slip.c.id)
        conditions = [slip.c.route == route, slip.c.ended_at.is_(None)]
        if not again:
            conditions.append(slip.c.made_at.is_(None))
        if after is not None:
            conditions.append(order > tuple_(*after))
        if campaign is not None:
            conditions.append(
                exists().where(
                    target.c.campaign == campaign,
                    target.c.account_id == slip.c.account_id,
                    target.c.number == slip.c.number,
                    target.c.way == "slip",
                    target.c.state == "waiting",
                )
            )
        with self._db.reading("reading slips") as db:
            found = db.execute(
                select(slip, place.c.name)
                .outerjoin(place, place.c.usage_point == slip.c.usage_point)
                .where(*conditions)
                .order_by(*order)
                .limit(MAX_SHEET)
            )
            return [_slip(row) for row in found]

    def mark_made(self, made: list[Slip], now: datetime) -> None:
        """Note that these are on paper: called when their file is whole."""
        with self._db.writing("noting slips that were made") as db:
            for some in in_batches([one.id for one in made], AT_ONCE):
                db.execute(update(slip).where(slip.c.id.in_(some)).values(made_at=micros(now)))

    def account_of(self, token: str) -> str | None:
        """Return the account of a slip's QR code; None for a code that is none, or whose number changed."""
        with self._db.reading("looking for a slip") as db:
            found = db.execute(
                select(slip.c.account_id).where(slip.c.token == token, slip.c.ended_at.is_(None))
            ).scalar()
        return None if found is None else str(found)

    def counts(self) -> list[RouteCount]:
        """Return each route's slips by what became of them."""
        live = slip.c.ended_at.is_(None)
        made = func.count(slip.c.made_at)
        query = (
            select(slip.c.route, slip.c.verdict, func.count(), made)
            .where(live)
            .group_by(slip.c.route, slip.c.verdict)
            .order_by(slip.c.route)
        )
        found: dict[str, RouteCount] = {}
        with self._db.reading("counting slips") as db:
            for route, verdict, slips, printed in db.execute(query):
                held = found.get(route) or RouteCount(route=route, slips=0, made=0, verdicts={})
                verdicts = held.verdicts if verdict is None else held.verdicts | {verdict: slips}
                found[route] = RouteCount(
                    route=route, slips=held.slips + slips, made=held.made + printed, verdicts=verdicts
                )
        return list(found.values())


_LAID: Final = ("legacy", "meter", "route", "stop")
"""What may still change of a slip that is not made."""


def _order(of: Slip) -> tuple[int, str, int]:
    return _stop(of.stop), of.usage_point, of.id


def _stop(stop: int | None) -> int:
    return NO_STOP if stop is None else stop


def new_token() -> str:
    """Return a fresh opaque token: 16 letters and digits that stand for nothing but a row of ours."""
    return base64.b32encode(secrets.token_bytes(TOKEN_OCTETS)).decode()


def _differs(was: Row[Any], row: dict[str, Any]) -> bool:
    return any(getattr(was, name) != row[name] for name in _LAID)


def _wanted(
    directory: DirectorySnapshot, accounts: list[str], now: datetime
) -> tuple[list[dict[str, Any]], int]:
    """Return the slips that some accounts should have, and how many accounts have a number but no meter's place."""
    rows = directory.rows
    rows.expect(accounts=accounts)
    points = {account: directory.usage_points_of(account) for account in accounts}
    every = [point for some in points.values() for point in some]
    rows.expect(usage_points=every)
    rows.expect(meters=[meter for point in every for meter in directory.meters_at(point)])
    wanted: list[dict[str, Any]] = []
    nowhere = 0
    for account in accounts:
        number = directory.name(account, NumberKind.ACCOUNT)
        if number is None:
            continue
        found = [
            {
                "account_id": account,
                "number": number,
                "legacy": directory.name(account, NumberKind.LEGACY) or "",
                "usage_point": point,
                "meter": meter,
                "route": directory.attribute(point, AttributeKind.ROUTE, now) or "",
                "stop": None,
            }
            for point in points[account]
            if _holds(directory, account, point, now)
            and (meter := _fitted(directory, point, now)) is not None
        ]
        nowhere += not found
        wanted += found
    return wanted, nowhere


def _holds(directory: DirectorySnapshot, account: str, point: str, now: datetime) -> bool:
    return any(
        row.account_id == account and row.valid_from <= now < (row.valid_to or FOREVER)
        for row in directory.holdings(point)
    )


def _fitted(directory: DirectorySnapshot, point: str, now: datetime) -> str | None:
    """Return the consumer's meter that stands there now."""
    for meter in directory.meters_at(point):
        for row in directory.installations(meter):
            if (
                row.usage_point == point
                and row.role is Role.CONSUMER
                and row.valid_from <= now < (row.valid_to or FOREVER)
            ):
                return meter
    return None


def _slip(row: Row[Any]) -> Slip:
    return Slip(
        id=row.id,
        account_id=row.account_id,
        number=AccountNumber(row.number),
        legacy=row.legacy,
        usage_point=row.usage_point,
        meter=row.meter,
        route=row.route,
        stop=row.stop,
        token=row.token,
        name=row.name,
    )
