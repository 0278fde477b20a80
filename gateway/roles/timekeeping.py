"""The clock of a running role: its evidence kept fresh, and told in the status."""

from __future__ import annotations

import asyncio

from gateway.contract.messages import ClockSource, ClockStatus
from gateway.timekeeping.clock import EvidenceClock
from gateway.timekeeping.evidence import DECLARED
from protocols.clock import SimulatedClock
from protocols.session import Clock

REFRESH = 10.0
"""Seconds between two looks at the host's own evidence."""
MAX_DETAIL = 300


async def keep_time(clock: Clock) -> None:
    """Gather evidence for a clock that is judged, until cancelled; another clock has none to gather."""
    while isinstance(clock, EvidenceClock):
        await asyncio.to_thread(clock.refresh)
        await asyncio.sleep(REFRESH)


def clock_status(clock: Clock) -> ClockStatus:
    """Tell whether a clock is trusted and by whose word."""
    if not isinstance(clock, EvidenceClock):
        detail = "simulated time" if isinstance(clock, SimulatedClock) else DECLARED.text
        trusted = clock.disciplined()
        state = "declared" if trusted else "unproven"
        return ClockStatus(disciplined=trusted, at=clock.now(), detail=detail, state=state)
    found, base = clock.judgement(), clock.base()
    return ClockStatus(
        disciplined=found.trusted,
        at=clock.now(),
        detail=found.text[:MAX_DETAIL],
        state=found.state.value,
        sources=tuple(
            ClockSource(source=o.source, offset=f"{o.offset:.3f}", error=f"{o.error:.3f}")
            for o in found.opinions
        ),
        boot=clock.boot,
        began=None if base is None else base.at,
    )
