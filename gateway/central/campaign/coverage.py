"""How far a campaign is: who was told by which way, what is under way, and who is left, by route and by day."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import and_, exists, func, select

from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import slip, target
from gateway.central.campaign.targets import PlanState, Targets, TargetState, Told, Way
from mapping.instants import EPOCH

INDIA_US: Final = 19_800 * 1_000_000
"""India's days, which have had no other offset since 1945: microseconds ahead of UTC."""
DAY_US: Final = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Accounts of one route (or all): told, by which way; under way; left."""

    accounts: int = 0
    told_sms: int = 0
    told_slip: int = 0
    told_meter: int = 0
    sms_waiting: int = 0
    sms_sent: int = 0
    slip_to_make: int = 0
    slip_out: int = 0
    unreachable: int = 0

    @property
    def left(self) -> int:
        """Accounts that were not told yet."""
        return self.accounts - self.told_sms - self.told_slip - self.told_meter

    def plus(self, other: Coverage) -> Coverage:
        """Return both together."""
        return Coverage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How many were told on one day (of India), by which way, and how many were left after it."""

    day: date
    sms: int
    slip: int
    meter: int
    left: int


def by_route(store: CampaignStore, campaign: str) -> dict[str, Coverage]:
    """Return each route's coverage; accounts without a route stand under the empty name."""
    on_paper = exists().where(
        and_(
            slip.c.account_id == target.c.account_id,
            slip.c.number == target.c.number,
            slip.c.ended_at.is_(None),
            slip.c.made_at.is_not(None),
        )
    )
    columns = (target.c.route, target.c.way, target.c.state, target.c.told_how)
    inner = (
        select(*columns, on_paper.label("on_paper"))
        .where(target.c.campaign == campaign, target.c.state != TargetState.CANCELLED.value)
        .subquery()
    )
    grouped = (inner.c.route, inner.c.way, inner.c.state, inner.c.told_how, inner.c.on_paper)
    found: dict[str, Coverage] = {}
    with store.db.reading("counting a campaign") as db:
        for route, way, state, told_how, made, count in db.execute(
            select(*grouped, func.count()).group_by(*grouped).order_by(inner.c.route)
        ):
            column = _column(way, state, told_how, made)
            found[route] = found.get(route, Coverage()).plus(Coverage(**{"accounts": count, column: count}))
    return found


def by_day(store: CampaignStore, campaign: str) -> list[Day]:
    """Return the burn-down: each day on which somebody was told, and who was left after it."""
    day = (target.c.told_at + INDIA_US) // DAY_US
    alive = (target.c.campaign == campaign, target.c.state != TargetState.CANCELLED.value)
    with store.db.reading("counting a campaign") as db:
        left: int = db.execute(select(func.count()).select_from(target).where(*alive)).scalar_one()
        rows = db.execute(
            select(day.label("day"), target.c.told_how, func.count())
            .where(*alive, target.c.state == TargetState.TOLD.value)
            .group_by("day", target.c.told_how)
            .order_by("day")
        ).all()
    days: dict[int, dict[str, int]] = {}
    for on, how, count in rows:
        days.setdefault(int(on), {})[how] = count
    found = []
    for on, told in days.items():
        left -= sum(told.values())
        found.append(
            Day(
                day=(EPOCH + timedelta(days=on)).date(),
                sms=told.get(Told.SMS, 0),
                slip=told.get(Told.SLIP, 0),
                meter=told.get(Told.METER, 0),
                left=left,
            )
        )
    return found


def total(routes: dict[str, Coverage]) -> Coverage:
    """Return all routes together."""
    done = Coverage()
    for one in routes.values():
        done = done.plus(one)
    return done


def _column(way: str, state: str, told_how: str | None, made: Any) -> str:
    if state == TargetState.TOLD:
        return f"told_{told_how}"
    if state == TargetState.QUEUED:
        return "sms_sent"
    if way == Way.SMS:
        return "sms_waiting"
    if way == Way.SLIP:
        return "slip_out" if made else "slip_to_make"
    return "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A campaign as a page shows it."""

    name: str
    state: PlanState
    whole: Coverage
    routes: dict[str, Coverage]
    days: list[Day]


def standings(store: CampaignStore) -> list[Standing]:
    """Return every campaign with how far it is, by name."""
    targets = Targets(store)
    found = []
    for one in targets.every():
        targets.settle_slips(one.name)
        routes = by_route(store, one.name)
        days = by_day(store, one.name)
        found.append(Standing(name=one.name, state=one.state, whole=total(routes), routes=routes, days=days))
    return found
