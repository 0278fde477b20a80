"""Runs a neighbourhood as a program does: from the past to now, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from protocols.clock import SimulatedClock
from protocols.errors import MeterConfigError
from protocols.simulator.cosem.meter import STORED
from protocols.simulator.faults.script import FaultFile
from protocols.simulator.neighbourhood.files import read_plan, write_files
from protocols.simulator.neighbourhood.neighbourhood import CALM, Neighbourhood, counter_start
from protocols.simulator.neighbourhood.plan import Plan
from protocols.simulator.neighbourhood.pushes import Pushes, PushTo

FREEZE_EVERY = 1.0
"""Seconds after which what was worked out meanwhile counts as kept for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """What to simulate.

    `meters` and `seed` make the neighbourhood; simulated time begins `behind` before the machine's present and
    runs `speed` times as fast until it is there. Plan, keys and configuration are written into `folder`; the
    first `unnamed` consumers have no account number yet (None: nobody has one). With `cuts` power fails now
    and then while simulated time runs, until an hour before the machine's present; without, only in the
    history. Meters on TCP push to `push_to`; `faults` says what goes wrong. `suite` is the security suite of the
    DLMS meters that cipher; with a `concentrator` those on TCP are behind one. With `hdlc_tcp` HDLC buses are behind
    converters on TCP ports instead of ptys.
    """

    meters: int = 26
    seed: int = 1
    speed: float = 1.0
    behind: timedelta = timedelta(hours=2)
    folder: Path
    unnamed: int | None = None
    cuts: bool = True
    push_to: PushTo | None = None
    faults: FaultFile | None = None
    suite: int = 0
    hdlc_tcp: bool = False
    concentrator: bool = False


async def run_simulator(
    settings: SimulatorSettings,
    *,
    ready: Callable[[Neighbourhood], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve a neighbourhood until `stop`, SIGINT or SIGTERM; `ready` is called once its files are written.

    A folder of the same seed and size keeps its beginning and its cuts, so registers go on after a restart.
    Raises what `Neighbourhood.start` raises.
    """
    clock = SimulatedClock.ending_now(behind=settings.behind, speed=settings.speed)
    before = _earlier(settings, clock.now())
    calm = (clock.anchor if settings.cuts else clock.start) - CALM
    done = stop or asyncio.Event()
    with _stopped_by_signals(done):
        running = await Neighbourhood.start(
            seed=settings.seed,
            clock=clock,
            meters=settings.meters,
            history_from=before.history_from if before else None,
            cuts_until=before.cuts_until if before else calm,
            faults=settings.faults,
            suite=settings.suite,
            converters=settings.hdlc_tcp,
            concentrator=settings.concentrator,
        )
        try:
            async with running_pushes(running, settings.push_to):
                write_files(
                    running.plan,
                    settings.folder,
                    time=clock,
                    unnamed=settings.unnamed,
                    push_to=settings.push_to,
                )
                if ready is not None:
                    ready(running)
                await _serve_until(done)
        finally:
            await running.stop()


async def _serve_until(done: asyncio.Event) -> None:
    """Wait, and keep what the meters remember out of the garbage collector's way.

    A collection that looks through the histories of 2,000 meters takes a second, in which none of them answers.
    """
    while not done.is_set():
        gc.freeze()
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), FREEZE_EVERY)


@asynccontextmanager
async def running_pushes(running: Neighbourhood, push_to: PushTo | None) -> AsyncIterator[None]:
    """Let the meters of a neighbourhood push while the block runs, where there is somewhere to push to."""
    if push_to is None:
        yield
        return
    pushes = Pushes(
        running.plan,
        running.models,
        running.clock,
        push_to,
        counter_start=counter_start(),
        faults=running.faults,
    )
    task = asyncio.create_task(pushes.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _stopped_by_signals(done: asyncio.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `done`; in a thread, where that is not possible, only `done` counts."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, done.set)
    try:
        yield
    finally:
        for number in numbers:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)


def _earlier(settings: SimulatorSettings, now: datetime) -> Plan | None:
    """Find the plan of an earlier run that reaches far enough back to go on with."""
    try:
        plan = read_plan(settings.folder)
    except MeterConfigError:
        return None
    same = (plan.seed, plan.suite, plan.concentrator, len(plan.meters)) == (
        settings.seed,
        settings.suite,
        settings.concentrator,
        settings.meters,
    )
    return plan if same and plan.history_from <= now - STORED else None
