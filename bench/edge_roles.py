"""The processes of bench/edge.py: the whole edge, or our client alone making the same reads, against live meters.

`python bench/edge_roles.py edge|client CONFIG HALF_HOURS PATIENCE`: prints one JSON object of CPU seconds and counts.
After PATIENCE seconds the measurement begins, whether all meters were read once or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from gateway.config.file import Config, load
from gateway.edge.polling.health import PollerStatistics
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.memory import settle
from gateway.roles.edge import EdgeRole, edge_role, polled_meters, schedule
from gateway.roles.lines import make_line
from protocols.dlms.client.association_pool import AssociationPool
from protocols.errors import NotSupported, ProtocolError
from protocols.event_marks import EventMarks
from protocols.meters.counters import FileCounters
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.reading import ProfileName
from protocols.session import Auth, Clock, MeterSession, SessionContext, TellsEventNews, Visit

HALF_HOUR = timedelta(minutes=30)
AT_ONCE = 64
COUNTED = ("polls", "captures", "failures")
SETTLED = 3.0
"""Seconds after which an edge has told its status anew and delivered what it read."""
IDLE = 5.0
"""Seconds over which an edge without work is watched."""


def hls_meters(path: Path) -> Config:
    """Return the configuration with those meters only that speak DLMS with HLS over TCP."""
    config = load(path)
    meters = tuple(
        meter
        for meter in config.meters
        if meter.dlms is not None
        and meter.dlms.framing == "wrapper"
        and meter.dlms.auth in (Auth.HLS2, Auth.HLS_GMAC)
    )
    used = {meter.line for meter in meters}
    return config.model_copy(
        update={"meters": meters, "lines": tuple(line for line in config.lines if line.name in used)}
    )


def resident() -> int:
    """Return this process's resident octets."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


async def edge(config: Config, half_hours: int, patience: float) -> dict[str, float]:
    """Run the edge for some half hours of meter time, after every meter was read once, and then without work."""
    clock, before = config.clock(), resident()
    async with edge_role(config, clock) as role:
        running = asyncio.create_task(role.run())
        try:
            # A busy machine may never have a moment without a session: the wait has an end.
            await _until(lambda: _all_read(role.poller.statistics(), len(config.meters)), patience)
            settle()
            begun, spent = role.poller.statistics(), time.process_time()
            await clock.sleep_until(clock.now() + half_hours * HALF_HOUR)
            ended, spent = role.poller.statistics(), time.process_time() - spent
            memory = resident() - before
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        idle = await _idle(role)
    return {
        "cpu": spent,
        "idle": idle,
        "polls": ended.polls - begun.polls,
        "failures": ended.failures - begun.failures,
        "captures": ended.captures - begun.captures,
        "rss": memory,
    }


def _all_read(now: PollerStatistics, meters: int) -> bool:
    return now.polls >= meters and not now.sessions


async def _until(condition: Callable[[], bool], patience: float) -> None:
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.05)


class _Watched(Exception):
    """The watch is over."""


async def _idle(role: EdgeRole) -> float:
    """Return the CPU seconds that an edge uses in each second in which no meter is read."""
    spent = 0.0
    try:
        async with asyncio.TaskGroup() as group:
            role.deliver(group)
            await asyncio.sleep(SETTLED)
            spent = time.process_time()
            await asyncio.sleep(IDLE)
            spent = time.process_time() - spent
            raise _Watched
    except* _Watched:
        pass
    return spent / IDLE


@dataclass(slots=True)
class Work:
    """What all meters of the client share, and what it counted."""

    clock: Clock
    times: Schedule
    doors: asyncio.Semaphore
    counts: Counter[str]
    read_once: set[str]


async def client(config: Config, half_hours: int, patience: float) -> dict[str, float]:
    """Make the same reads at the same times with our client alone: nothing is stamped, stored or sent."""
    clock = config.clock()
    counters = FileCounters(config.gateway.data / "client.json")
    context = SessionContext(secrets=FileSecrets(config.secrets), counters=counters, clock=clock)
    lines = {line.name: make_line(line) for line in config.lines}
    opened = partial(open_session, layouts={}, pool=AssociationPool())
    work = Work(clock, schedule(config), asyncio.Semaphore(AT_ONCE), Counter(), set())
    tasks = [
        asyncio.create_task(_poll(meter, partial(opened, lines[meter.line], meter.spec, context), work))
        for meter in polled_meters(config)
    ]
    try:
        await _until(lambda: len(work.read_once) >= len(tasks), patience)
        settle()
        begun, spent = Counter(work.counts), time.process_time()
        await clock.sleep_until(clock.now() + half_hours * HALF_HOUR)
        spent = time.process_time() - spent
        return {"cpu": spent, **{name: work.counts[name] - begun[name] for name in COUNTED}}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in lines.values():
            await line.close()
        counters.close()


async def _poll(
    meter: PolledMeter, opened: Callable[..., AbstractAsyncContextManager[MeterSession]], work: Work
) -> None:
    """Read one meter for ever, as the poller does: who it is, its clock, then each profile from its last row."""
    clock = work.clock
    due = dict.fromkeys(meter.profiles, clock.now())
    seen: EventMarks | None = None
    newest = {profile: clock.now() - timedelta(hours=2) for profile in meter.profiles}
    while True:
        await clock.sleep_until(min(due.values()))
        wanted = [profile for profile, at in due.items() if at <= clock.now()]
        try:
            since = {ProfileName.BLOCK_LOAD: newest.get(ProfileName.BLOCK_LOAD, clock.now())}
            visit = Visit(profiles=tuple(wanted), since=since, seen=seen)
            async with work.doors, opened(visit=visit) as session:
                await session.identify()
                await session.clock()
                for profile in wanted:
                    work.counts["captures"] += await _read(session, profile, newest)
                if isinstance(session, TellsEventNews) and session.event_news is not None:
                    seen = session.event_news.marks
        except ProtocolError:
            work.counts["failures"] += 1
        work.counts["polls"] += 1
        work.read_once.add(meter.meter)
        for profile in wanted:
            due[profile] = work.times.next_due(profile, clock.now(), meter.spec.zone, meter.meter)


async def _read(session: MeterSession, profile: ProfileName, newest: dict[ProfileName, datetime]) -> int:
    count = 0
    with contextlib.suppress(NotSupported):
        async for row in session.read(profile, since=newest[profile]):
            newest[profile] = max(newest[profile], row.at)
            count += 1
    return count


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    role, path, half_hours, patience = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    config = hls_meters(path)
    with contextlib.suppress(asyncio.CancelledError):
        found = asyncio.run((edge if role == "edge" else client)(config, half_hours, patience))
    print(json.dumps({**found, "meters": len(config.meters)}), flush=True)


if __name__ == "__main__":
    main()
