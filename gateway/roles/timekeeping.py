"""The clock of a running role: its evidence kept fresh, and told in the status."""

from __future__ import annotations

import asyncio

from gateway.config.file import Config
from gateway.config.modbus import shows_clock
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


def time_warnings(config: Config) -> list[str]:
    """Return what of [time] leaves an edge's clock without the evidence that it could have."""
    section = config.time
    if config.simulation is not None:
        return []
    if section.trust == "host":
        return [
            '[time] trust = "host": this clock is believed though nobody was asked; a wrong one misdates readings'
        ]
    found = []
    if "central" in section.sources and not config.directory.verify_refs():
        found.append("[time] central cannot be heard: its answers are verified by [directory] verify_key_ref")
    with_clock = sum(shows_clock(meter, config.modbus.models) for meter in config.meters)
    if "meters" in section.sources and with_clock < section.quorum:
        found.append(
            f"[time] quorum = {section.quorum} needs as many meters with a clock, and {with_clock} are configured:"
            " the meters say nothing of this clock"
        )
    speak = set(section.sources)
    if not config.directory.verify_refs() or "central" in config.gateway.roles:
        speak.discard("central")  # central on this machine has the same clock
    if with_clock < section.quorum:
        speak.discard("meters")
    if not speak:
        found.append(
            "[time] nobody is left who could say that this clock is right: every reading would stand under no account;"
            " name `kernel`, `timesync` or `chrony` in `sources`"
        )
    return found
