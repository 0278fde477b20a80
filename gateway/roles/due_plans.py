"""Central applies the re-key plans whose day has come; what cannot be applied is told once, and tried again."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import structlog

from gateway.central.office.actors import Actor, Proof
from gateway.central.office.trail import Trail
from gateway.errors import JournalError
from gateway.threads import in_thread
from mapping.errors import MappingError
from mapping.rekey_due import DuePlan, apply_due
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.session import Clock

EVERY = 60.0
"""Seconds between looks at the plans."""

log = structlog.get_logger("gateway.roles")


async def apply_due_plans(
    directory: DirectoryStore,
    folder: Path,
    clock: Clock,
    every: float = EVERY,
    trail: Trail | None = None,
) -> None:
    """Apply plans of `folder` when they are due, until cancelled; a fault is logged and the next look tries again.

    What was applied is noted in the audit `trail`, where there is one.
    """
    told: set[tuple[str, str]] = set()
    while True:
        try:
            done = await in_thread(apply_due, directory, folder, at=clock.now())
        except (MappingError, OSError) as error:
            log.error("due_plans_failed", error=str(error))
            done = []
        for one in done:
            if one.version is not None:
                if trail is not None:
                    await in_thread(_note, trail, one, SystemClock().now())
                log.info("rekey_applied", file=one.name, plan=one.fingerprint, directory_version=one.version)
            elif (one.fingerprint, one.reason) not in told:
                log.error("rekey_not_applied", file=one.name, plan=one.fingerprint, reason=one.reason)
        told = {(one.fingerprint, one.reason) for one in done if one.version is None}
        await asyncio.sleep(every)


def _note(trail: Trail, one: DuePlan, now: datetime) -> None:
    """Note what was applied on its day; who asked for it stands in the directory's history."""
    central = Actor(name="central", roles=frozenset(), proof=Proof.BOX, source="due plans")
    try:
        trail.record(
            central,
            "directory.applied",
            f"directory:{one.version}",
            at=now,
            detail={"source": f"directory rekey due {one.fingerprint}"},
        )
    except JournalError as error:
        log.error("audit_trail_failed", error=str(error))
