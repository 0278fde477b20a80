"""Central applies the re-key plans whose day has come; what cannot be applied is told once, and tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from mapping.errors import MappingError
from mapping.rekey_due import apply_due
from mapping.store import DirectoryStore
from protocols.session import Clock

EVERY = 60.0
"""Seconds between looks at the plans."""

log = structlog.get_logger("gateway.roles")


async def apply_due_plans(
    directory: DirectoryStore, folder: Path, clock: Clock, every: float = EVERY
) -> None:
    """Apply plans of `folder` when they are due, until cancelled; a fault is logged and the next look tries again."""
    told: set[tuple[str, str]] = set()
    while True:
        try:
            done = await asyncio.to_thread(apply_due, directory, folder, at=clock.now())
        except (MappingError, OSError) as error:
            log.error("due_plans_failed", error=str(error))
            done = []
        for one in done:
            if one.version is not None:
                log.info("rekey_applied", file=one.name, plan=one.fingerprint, directory_version=one.version)
            elif (one.fingerprint, one.reason) not in told:
                log.error("rekey_not_applied", file=one.name, plan=one.fingerprint, reason=one.reason)
        told = {(one.fingerprint, one.reason) for one in done if one.version is None}
        await asyncio.sleep(every)
