"""Central removes each day what is kept longer than the settings say, and tells how much it was."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from gateway.central.people.database import PeopleFault, PeopleStore
from gateway.central.people.retention import Kept, keep_to, last_runs
from gateway.central.telling.pace import IST
from gateway.central.telling.queue import SmsQueue
from gateway.config.privacy import PrivacySection
from gateway.threads import in_thread
from protocols.session import Clock

EVERY = 900.0
"""Seconds between looks at whether today's run is due."""

log = structlog.get_logger("gateway.roles")


def kept_of(section: PrivacySection) -> Kept:
    """Return how long each kind is kept by the settings."""
    return Kept(
        messages=timedelta(days=section.messages_days),
        removed_contacts=timedelta(days=section.removed_contacts_days),
        unverified_contacts=timedelta(days=section.unverified_contacts_days),
    )


async def keep_retention(
    store: PeopleStore, queue: SmsQueue, kept: Kept, clock: Clock, every: float = EVERY
) -> None:
    """Run once each Indian day until cancelled; a fault is logged and the next look tries again."""
    while True:
        try:
            await in_thread(_today, store, queue, kept, clock)
        except PeopleFault as error:
            log.error("retention_failed", error=str(error))
        await asyncio.sleep(every)


def _today(store: PeopleStore, queue: SmsQueue, kept: Kept, clock: Clock) -> None:
    now = clock.now()
    before = last_runs(store)
    if before and before[0].at.astimezone(IST).date() >= now.astimezone(IST).date():
        return
    unreported = queue.close_unreported(now)
    removed = {one.kind: one.count for one in keep_to(store, kept, now=now)}
    log.info("retention_done", unreported=unreported, **removed)
