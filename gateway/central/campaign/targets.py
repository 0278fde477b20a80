"""Whom a campaign tells: planned from the directory, some accounts at a time, and kept to it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from gateway.central.campaign.places import upsert
from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import plan, slip, target
from gateway.central.campaign.ticks import Ticked
from gateway.errors import UsageError
from mapping.directory import NumberKind
from mapping.instants import micros
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot

NUMBER_CHANGED: Final = "the number changed"
AT_ONCE: Final = 500
"""Accounts planned in one transaction."""


class Way(StrEnum):
    """How a consumer is to be told: by SMS, by a slip or sticker, or by nothing that we have."""

    SMS = "sms"
    SLIP = "slip"
    NONE = "none"


class TargetState(StrEnum):
    """Where one telling is. `cancelled`: the number is no longer the account's."""

    WAITING = "waiting"
    QUEUED = "queued"
    TOLD = "told"
    CANCELLED = "cancelled"


class PlanState(StrEnum):
    """Whether a campaign goes on."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"


class Told(StrEnum):
    """How somebody came to know the number."""

    SMS = "sms"
    SLIP = "slip"
    METER = "meter"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which of some accounts an SMS with the whole number may go to now: contact ids by account."""

    contacts: Mapping[str, str] = field(default_factory=dict)


Reaching = Callable[[Sequence[str], datetime], Reach]
"""Asks the contacts which accounts have a mobile that may be told the number."""
Withdrawing = Callable[[Sequence[str], str, datetime], set[str]]
"""Takes back messages by their keys, where they were not handed over: returns the keys that never will be."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning did: targets new and changed, those cancelled, and messages taken back."""

    new: int
    changed: int
    cancelled: int
    withdrawn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign as it is kept."""

    name: str
    state: PlanState
    by: str
    at: int
    version: int
    settled: int


def message_key(account_id: str, number: str, tries: int) -> str:
    """Return the key by which the queue knows a message: the same for the same telling, whatever crashed."""
    return f"number {account_id} {number}" + (f" {tries}" if tries else "")


class Targets:
    """The targets of campaigns in a store; every method may raise CampaignFault."""

    def __init__(self, store: CampaignStore) -> None:
        self.store = store
        self._db = store.db
        self._slips = Slips(store)

    def find(self, name: str) -> Campaign | None:
        """Return a campaign, None where there is none of that name."""
        with self._db.reading("finding a campaign") as db:
            row = db.execute(select(plan).where(plan.c.name == name)).first()
        return None if row is None else _campaign(row)

    def every(self) -> list[Campaign]:
        """Return all campaigns, by name."""
        with self._db.reading("finding campaigns") as db:
            return [_campaign(row) for row in db.execute(select(plan).order_by(plan.c.name))]

    def set_state(self, name: str, state: PlanState) -> None:
        """Let a campaign go on, or hold it; UsageError where there is none."""
        with self._db.writing("changing a campaign") as db:
            done = db.execute(update(plan).where(plan.c.name == name).values(state=state.value))
        if done.rowcount != 1:
            raise UsageError(f"there is no campaign {name}: `campaign plan` makes one")

    def plan(
        self,
        name: str,
        directory: DirectorySnapshot,
        reaching: Reaching,
        withdrawing: Withdrawing,
        *,
        by: str,
        now: datetime,
    ) -> Planned:
        """Plan a campaign, or bring it to what the directory says now; a run that broke off is begun anew.

        Slips are brought to it with the same look. Whoever was told this number, by whatever way and campaign, is not
        told again.
        """
        with self._db.writing("planning a campaign") as db:
            held = db.execute(select(plan.c.name).where(plan.c.name == name)).first()
            if held is None:
                row = {
                    "name": name,
                    "state": PlanState.PLANNED.value,
                    "by": by,
                    "at": micros(now),
                    "settled": 0,
                }
                db.execute(insert(plan), [row | {"version": directory.version}])
        done = Planned(0, 0, 0, 0)
        for some in in_batches(directory.accounts(), AT_ONCE):
            done = _sum(done, self._some(name, directory, some, reaching, withdrawing, now))
        with self._db.writing("planning a campaign") as db:
            db.execute(update(plan).where(plan.c.name == name).values(version=directory.version))
        return done

    def follow(
        self,
        of: Campaign,
        directory: DirectorySnapshot,
        reaching: Reaching,
        withdrawing: Withdrawing,
        now: datetime,
    ) -> Planned:
        """Bring a campaign to a newer directory; what is queued of a number that changed is taken back."""
        done = Planned(0, 0, 0, 0)
        if directory.version <= of.version:
            return done
        for some in in_batches(_touched(directory, of.version), AT_ONCE):
            done = _sum(done, self._some(of.name, directory, some, reaching, withdrawing, now))
        with self._db.writing("following the directory") as db:
            db.execute(update(plan).where(plan.c.name == of.name).values(version=directory.version))
        return done

    def settle_slips(self, name: str) -> int:
        """Take note of what readers ticked off; return how many more were told."""
        said = (slip.c.account_id == target.c.account_id) & (slip.c.number == target.c.number)
        query = (
            select(target.c.id, slip.c.verdict, slip.c.ticked_at)
            .join(slip, said)
            .where(
                target.c.campaign == name,
                target.c.state == TargetState.WAITING.value,
                slip.c.verdict.in_([one.value for one in Ticked if one.told]),
            )
            .limit(AT_ONCE)
        )
        count = 0
        while True:
            with self._db.writing("settling slips") as db:
                found = {row.id: row for row in db.execute(query)}
                set_rows(
                    db,
                    [
                        {
                            "of": of,
                            "state": str(TargetState.TOLD),
                            "told_how": _told_by(row),
                            "told_at": row.ticked_at,
                        }
                        for of, row in found.items()
                    ],
                )
            count += len(found)
            if len(found) < AT_ONCE:
                return count

    def _some(
        self,
        name: str,
        directory: DirectorySnapshot,
        accounts: list[str],
        reaching: Reaching,
        withdrawing: Withdrawing,
        now: datetime,
    ) -> Planned:
        self._slips.refresh_some(directory, accounts, now)
        numbers = {a: n for a in accounts if (n := directory.name(a, NumberKind.ACCOUNT)) is not None}
        reach = reaching(list(numbers), now).contacts
        with self._db.writing("planning a campaign") as db:
            held = db.execute(
                select(target).where(target.c.campaign == name, target.c.account_id.in_(accounts))
            ).all()
            old = [row for row in held if numbers.get(row.account_id) != row.number]
            stopped = [row for row in old if row.state in (TargetState.WAITING, TargetState.QUEUED)]
            _cancel(db, stopped)
            new, changed = self._wanted(db, name, directory, numbers, reach, held)
        # Of all old numbers, also those cancelled before and those not marked as queued: a crash may have come between.
        keys = [message_key(row.account_id, row.number, row.tries) for row in old]
        withdrawn = withdrawing(keys, NUMBER_CHANGED, now) if keys else set()
        return Planned(new, changed, len(stopped), len(withdrawn))

    def _wanted(
        self,
        db: Connection,
        name: str,
        directory: DirectorySnapshot,
        numbers: Mapping[str, str],
        reach: Mapping[str, str],
        held: Sequence[Row[Any]],
    ) -> tuple[int, int]:
        if not numbers:
            return 0, 0
        slips: dict[str, Row[Any]] = {}
        for row in db.execute(
            select(slip).where(slip.c.account_id.in_(numbers), slip.c.ended_at.is_(None)).order_by(slip.c.id)
        ):
            if numbers[row.account_id] == row.number:
                before = slips.get(row.account_id)
                slips[row.account_id] = row if before is None or _told_by(before) is None else before
        told = {
            (row.account_id, row.number): row
            for row in db.execute(
                select(target).where(target.c.account_id.in_(numbers), target.c.told_at.is_not(None))
            )
        }
        mine = {(row.account_id, row.number): row for row in held}
        rows: list[dict[str, Any]] = []
        new = changed = 0
        for account, number in numbers.items():
            paper = slips.get(account)
            wanted: dict[str, Any] = {
                "campaign": name,
                "account_id": account,
                "number": number,
                "legacy": directory.name(account, NumberKind.LEGACY) or "",
                "route": "" if paper is None else paper.route,
                "stop": None if paper is None else paper.stop,
                "way": str(Way.SMS if account in reach else Way.NONE if paper is None else Way.SLIP),
                "state": str(TargetState.WAITING),
                "reason": "",
                "tries": 0,
                "told_how": None,
                "told_at": None,
            }
            was = mine.get((account, number))
            if was is not None:
                wanted |= _kept(was)
            wanted |= _already(told.get((account, number)), paper)
            rows.append(wanted)
            new += was is None
            changed += was is not None and (was.way, was.state) != (wanted["way"], wanted["state"])
        upsert(db, target, rows, ("campaign", "account_id", "number"))
        return new, changed


def next_by_sms(db: Connection, name: str, most: int) -> list[Row[Any]]:
    """Return the next targets to tell by SMS, a route after the other."""
    query = (
        select(target)
        .where(
            target.c.campaign == name,
            target.c.state == TargetState.WAITING.value,
            target.c.way == Way.SMS.value,
        )
        .order_by(target.c.route, target.c.stop.is_(None), target.c.stop, target.c.id)
        .limit(most)
    )
    return list(db.execute(query))


def set_rows(db: Connection, changes: Iterable[dict[str, Any]]) -> None:
    """Change targets by their id: each has `of` and the columns' new values."""
    for some in in_batches(changes, AT_ONCE):
        names = [name for name in some[0] if name != "of"]
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
        given = [{"of": row["of"]} | {f"new_{name}": row[name] for name in names} for row in some]
        db.execute(update(target).where(target.c.id == bindparam("of")).values(**values), given)


def _cancel(db: Connection, rows: Sequence[Row[Any]]) -> None:
    set_rows(
        db,
        [{"of": row.id, "state": str(TargetState.CANCELLED), "reason": NUMBER_CHANGED} for row in rows],
    )


def _kept(was: Row[Any]) -> dict[str, Any]:
    """Return what stays of a target that is planned again: what was told or queued, and a way that failed."""
    if (
        was.state == TargetState.CANCELLED
    ):  # the number is the account's again: a key of its own, as the old may be spent
        return {"tries": was.tries + 1}
    kept = {name: getattr(was, name) for name in ("state", "reason", "tries", "told_how", "told_at")}
    if was.state != TargetState.WAITING or (was.way == Way.SLIP and was.reason):
        kept["way"] = was.way
    return kept


def _already(told: Row[Any] | None, paper: Row[Any] | None) -> dict[str, Any]:
    """Return that somebody knows the number: by another campaign, or by what a reader ticked off."""
    if told is not None:
        return {"state": str(TargetState.TOLD), "told_how": told.told_how, "told_at": told.told_at}
    how = None if paper is None else _told_by(paper)
    if paper is None or how is None:
        return {}
    return {"state": str(TargetState.TOLD), "told_how": how, "told_at": paper.ticked_at}


def _told_by(paper: Any) -> str | None:
    if paper.verdict is None or not Ticked(paper.verdict).told:
        return None
    return str(Told.METER if paper.verdict == Ticked.AT_METER else Told.SLIP)


def _touched(directory: DirectorySnapshot, since: int) -> list[str]:
    """Return the accounts whose number, place or meter changed after a version."""
    touched = directory.touched(since, directory.version)
    points = set(touched.usage_points)
    points |= {row.usage_point for meter in touched.meters for row in directory.installations(meter)}
    held = {row.account_id for point in points for row in directory.rows.holdings(point)}
    return sorted(held | set(touched.accounts))


def _sum(one: Planned, other: Planned) -> Planned:
    return Planned(
        one.new + other.new,
        one.changed + other.changed,
        one.cancelled + other.cancelled,
        one.withdrawn + other.withdrawn,
    )


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(
        name=row.name,
        state=PlanState(row.state),
        by=row.by,
        at=row.at,
        version=row.version,
        settled=row.settled,
    )
