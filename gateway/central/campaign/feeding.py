"""Carries a campaign out: feeds the queue of messages a little at a time, and settles what came of them.

All that it knows is in the database: killed at any moment it goes on with the next look, and tells nobody twice,
since the queue takes a telling's key once for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Connection, Row, select, update

from gateway.central.campaign.reaching import Messages
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import plan, target
from gateway.central.campaign.targets import (
    NUMBER_CHANGED,
    Campaign,
    PlanState,
    Targets,
    TargetState,
    Told,
    Way,
    message_key,
    next_by_sms,
    set_rows,
)
from gateway.central.telling.messages import State
from gateway.errors import GatewayError
from gateway.threads import in_thread
from mapping.errors import MappingError
from mapping.instants import instant, micros
from mapping.snapshot import DirectorySnapshot
from protocols.session import Clock

WINDOW: Final = 300
"""Messages of a campaign that wait in the queue at once: what a change of number or a pause must take back."""
SETTLED_AT_ONCE: Final = 500
EVERY: Final = 5.0
"""Seconds between two looks."""
IS_PAUSED: Final = "the campaign is paused"
_TOLD: Final = (State.DELIVERED, State.ACCEPTED)
"""Delivered; or taken by a provider that reports nothing later."""
log = structlog.get_logger("gateway.central.campaign")


class Directory(Protocol):
    """The directory, as it stands now."""

    def snapshot(self) -> DirectorySnapshot:
        """Return the present directory."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What one look did: messages queued, tellings settled as told, and those left to slips."""

    queued: int
    told: int
    to_slips: int


class Feeder:
    """Looks after every campaign of a store. `step` blocks; `run` calls it in a thread, again and again."""

    def __init__(self, store: CampaignStore, directory: Directory, messages: Messages, clock: Clock) -> None:
        self._db = store.db
        self._targets = Targets(store)
        self._directory = directory
        self._messages = messages
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled; a failure is told, and the next look tries again."""
        while True:
            try:
                await in_thread(self.step)
            except (GatewayError, MappingError) as error:
                log.error("campaign_not_fed", error=str(error))
            await asyncio.sleep(EVERY)

    def step(self) -> Fed:
        """Look once at each campaign: follow the directory, settle, and feed or take back."""
        now = self._clock.now()
        queued = told = to_slips = 0
        for campaign in self._targets.every():
            if campaign.state is PlanState.PLANNED:
                continue
            self._targets.follow(
                campaign, self._directory.snapshot(), self._messages.reaching, self._messages.withdraw, now
            )
            good, bad = self._settle(campaign)
            told, to_slips = told + good + self._targets.settle_slips(campaign.name), to_slips + bad
            if campaign.state is PlanState.RUNNING:
                queued += self._feed(campaign, now)
            else:
                self._take_back(campaign, now)
        return Fed(queued, told, to_slips)

    def _settle(self, campaign: Campaign) -> tuple[int, int]:
        """Take note of messages that ended since the last look."""
        told = lost = 0
        since = campaign.settled
        while ended := self._messages.ended(campaign.name, instant(since), SETTLED_AT_ONCE):
            keys = {one.key: one for one in ended}
            with self._db.writing("settling a campaign") as db:
                rows = self._of_keys(db, campaign.name, list(keys), TargetState.QUEUED, TargetState.WAITING)
                changes = []
                for row in rows:
                    one = keys[message_key(row.account_id, row.number, row.tries)]
                    if one.state in _TOLD and one.whole:
                        told += 1
                        by_sms = {"told_how": str(Told.SMS), "told_at": micros(one.at)}
                        changes.append(changed(row, TargetState.TOLD) | by_sms)
                    elif one.state is State.REFUSED and one.reason in (IS_PAUSED, NUMBER_CHANGED):
                        # Taken back, and a crash came before it was noted here.
                        changes.append(changed(row, TargetState.WAITING, tries=row.tries + 1))
                    elif row.state == TargetState.QUEUED:
                        lost += 1
                        masked = "the mobile was no longer verified: it was sent no number"
                        why = masked if one.state in _TOLD else one.reason or f"the SMS was {one.state}"
                        changes.append(changed(row, TargetState.WAITING, way=Way.SLIP, reason=why))
                set_rows(db, changes)
                latest = max(micros(one.at) for one in ended)
                if len(ended) == SETTLED_AT_ONCE and latest == since:
                    latest += (
                        1  # more ended at one instant than fit into one look: never for ever the same ones
                    )
                db.execute(update(plan).where(plan.c.name == campaign.name).values(settled=latest))
            if latest == since:
                break
            since = latest
        return told, lost

    def _of_keys(
        self, db: Connection, name: str, keys: Sequence[str], *states: TargetState
    ) -> list[Row[Any]]:
        accounts = {key.split(" ")[1] for key in keys}
        query = select(target).where(
            target.c.campaign == name,
            target.c.account_id.in_(accounts),
            target.c.state.in_([state.value for state in states]),
        )
        wanted = set(keys)
        return [
            row for row in db.execute(query) if message_key(row.account_id, row.number, row.tries) in wanted
        ]

    def _feed(self, campaign: Campaign, now: datetime) -> int:
        room = WINDOW - self._messages.waiting(campaign.name)
        if room <= 0:
            return 0
        with self._db.reading("finding whom to tell") as db:
            rows = next_by_sms(db, campaign.name, room)
        reach = self._messages.reaching([row.account_id for row in rows], now).contacts
        lost = [row for row in rows if row.account_id not in reach]
        sent = [row for row in rows if row.account_id in reach]
        self._messages.put(
            campaign.name,
            [
                (
                    message_key(row.account_id, row.number, row.tries),
                    reach[row.account_id],
                    row.number,
                    row.legacy,
                )
                for row in sent
            ],
            now,
        )
        # After the queue has them: what a crash leaves unmarked is put again under the same key, which changes nothing.
        with self._db.writing("noting whom the queue will tell") as db:
            set_rows(db, [changed(row, TargetState.QUEUED) for row in sent])
            why = "no mobile that was verified in the last 12 months"
            set_rows(db, [changed(row, TargetState.WAITING, way=Way.SLIP, reason=why) for row in lost])
        return len(sent)

    def _take_back(self, campaign: Campaign, now: datetime) -> None:
        """Let no message of a paused campaign wait: its telling waits here, under its next key."""
        keys = self._messages.waiting_keys(campaign.name, WINDOW)
        gone = self._messages.withdraw(keys, IS_PAUSED, now) if keys else set()
        if not gone:
            return
        with self._db.writing("holding a campaign") as db:
            rows = self._of_keys(db, campaign.name, list(gone), TargetState.QUEUED)
            set_rows(db, [changed(row, TargetState.WAITING, tries=row.tries + 1) for row in rows])


def changed(
    row: Row[Any],
    state: TargetState,
    *,
    way: Way | None = None,
    reason: str = "",
    tries: int | None = None,
) -> dict[str, Any]:
    """Return a target's new values, for `set_rows`."""
    return {
        "of": row.id,
        "state": str(state),
        "way": row.way if way is None else str(way),
        "reason": reason[:200],
        "tries": row.tries if tries is None else tries,
        "told_how": None,
        "told_at": None,
    }
