"""Serves a planned neighbourhood on real sockets and ptys, and knows what its meters truly recorded."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from protocols.dlms.model import AssociationPolicy
from protocols.errors import LineUnavailable, LocalError, MeterConfigError
from protocols.session import Auth
from protocols.simulator.cosem import PUBLIC, READER, UTILITY, HouseholdModel
from protocols.simulator.cosem_meter import STORED, NowSource
from protocols.simulator.dlms_ports import HdlcPort, WrapperPort
from protocols.simulator.household import BillingRow, Household
from protocols.simulator.modbus_server import ModbusMeter, serve_rtu, serve_rtu_tcp, serve_tcp
from protocols.simulator.neighbourhood import LinePlan, MeterKind, MeterPlan, Plan, plan_neighbourhood
from protocols.simulator.plan_files import read_plan, write_files
from protocols.simulator.push_schedule import Pushes, PushTo
from protocols.simulator.simulated_time import SimulatedTime
from protocols.simulator.state import BlockRow, DailyRow, EventRow

HISTORY = timedelta(days=36)
"""How long before its start a neighbourhood began to record."""
_CALM = timedelta(hours=1)
_MAKERS_THAT_NUMBER_EVENTS = ("GEN", "HPL")
_COUNTER_EPOCH = 1_577_836_800  # 2020-01-01: counters of a restarted process go on above the old ones


class _Port(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a meter truly recorded: stored rows and events, stamped in UTC; empty for a Modbus meter."""

    meter: str
    blocks: tuple[BlockRow, ...] = ()
    daily: tuple[DailyRow, ...] = ()
    billing: tuple[BillingRow, ...] = ()
    events: tuple[EventRow, ...] = ()


class Neighbourhood:
    """A running neighbourhood; `plan` holds every address. Use `start`, then `stop`."""

    def __init__(self, plan: Plan, clock: NowSource) -> None:
        self.plan = plan
        self.clock = clock
        self.households = {meter.meter: household_of(plan, meter) for meter in plan.meters}
        self.models: dict[str, HouseholdModel] = {}
        self._ports: list[_Port] = []
        self._descriptors: list[int] = []
        self._counter_start = max(0, int(time.time()) - _COUNTER_EPOCH)

    @classmethod
    async def start(
        cls,
        *,
        seed: int,
        clock: NowSource,
        meters: int = 26,
        history_from: datetime | None = None,
        cuts_until: datetime | None = None,
        folder: Path | None = None,
        time: SimulatedTime | None = None,
        unnamed: int | None = None,
    ) -> Neighbourhood:
        """Plan and serve; writes the files into `folder` when given.

        `history_from` defaults to 36 days before the clock's present, `cuts_until` to one hour before it:
        cuts lie in the history, and every meter answers from now on. Raises
        MeterConfigError for a wrong number of meters, LineUnavailable when a port or pty cannot be had.
        """
        plan = plan_neighbourhood(
            seed=seed,
            meters=meters,
            history_from=history_from or clock.now() - HISTORY,
            cuts_until=cuts_until or clock.now() - _CALM,
        )
        served = cls(plan, clock)
        try:
            await served.open()
        except OSError as error:
            await served.stop()
            raise LineUnavailable(f"the simulator cannot open a port or pty: {error}") from error
        if folder is not None:
            write_files(served.plan, folder, time=time, unnamed=unnamed)
        return served

    async def open(self) -> None:
        """Serve every line and note its address in the plan."""
        for line in self.plan.lines:
            self.plan = self.plan.with_line(await self._serve(line))

    async def stop(self) -> None:
        """Close every port and pty. Idempotent."""
        while self._ports:
            await self._ports.pop().close()
        while self._descriptors:
            with suppress(OSError):
                os.close(self._descriptors.pop())

    def recorded(self, meter: str, since: datetime, until: datetime) -> Recorded:
        """Give what a meter recorded with since < stamp <= until, relay and clock orders included."""
        return recorded_by(self.households[meter], self.plan.meter(meter), since, until)

    async def _serve(self, line: LinePlan) -> LinePlan:
        meters = self.plan.on_line(line.name)
        host = line.host or "127.0.0.1"
        match line.serves:
            case MeterKind.DLMS_TCP:
                wrapper = WrapperPort(self._dlms(meters[0]), self._counter_start)
                self._ports.append(wrapper)
                return replace(line, port=await wrapper.start(host))
            case MeterKind.DLMS_HDLC:
                master, device = self._pty()
                models = {_physical(meter): self._dlms(meter) for meter in meters}
                bus = HdlcPort(models, master, self._counter_start)
                self._ports.append(bus)
                bus.start()
                return replace(line, device=device)
            case MeterKind.MODBUS_RTU:
                master, device = self._pty()
                self._ports.append(await serve_rtu(self._modbus(meters), master))
                return replace(line, device=device)
            case MeterKind.MODBUS_TCP | MeterKind.MODBUS_RTU_TCP:
                serve = serve_tcp if line.serves is MeterKind.MODBUS_TCP else serve_rtu_tcp
                server = await serve(self._modbus(meters), host)
                self._ports.append(server)
                return replace(line, port=server.port)

    def _dlms(self, meter: MeterPlan) -> HouseholdModel:
        hdlc = meter.kind is MeterKind.DLMS_HDLC
        model = HouseholdModel(
            self.households[meter.meter],
            self.clock,
            policies_of(meter),
            older_prepayment=hdlc,
            firmware="SIM-H-1.2.0" if hdlc else "SIM-W-1.4.2",
            numbered_events=meter.manufacturer in _MAKERS_THAT_NUMBER_EVENTS,
        )
        self.models[meter.meter] = model
        return model

    def _modbus(self, meters: tuple[MeterPlan, ...]) -> list[ModbusMeter]:
        return [
            ModbusMeter(self.households[m.meter], m.spec.modbus.model, m.spec.modbus.unit, self.clock)
            for m in meters
            if m.spec.modbus is not None
        ]

    def _pty(self) -> tuple[int, str]:
        """Open a pty in raw mode; our hold on its far side keeps it alive between clients."""
        master, slave = os.openpty()
        self._descriptors += [master, slave]
        tty.setraw(slave)
        return master, os.ttyname(slave)


def household_of(plan: Plan, meter: MeterPlan) -> Household:
    """Give the household behind a planned meter: the same in every process."""
    return Household(
        plan.seed,
        meter.manufacturer,
        meter.serial,
        plan.history_from,
        area=meter.locality,
        load_percent=meter.load_percent,
        prepaid=meter.role == "consumer",
        cuts_until=plan.cuts_until,
    )


def recorded_by(household: Household, meter: MeterPlan, since: datetime, until: datetime) -> Recorded:
    """Give what a household's meter recorded with since < stamp <= until."""
    if meter.spec.dlms is None:
        return Recorded(meter=meter.meter)
    return Recorded(
        meter=meter.meter,
        blocks=tuple(household.block_rows(since, until)),
        daily=tuple(household.daily_rows(since, until)),
        billing=tuple(household.billing_rows(since, until)),
        events=tuple(household.event_rows(since, until)),
    )


def policies_of(meter: MeterPlan) -> dict[int, AssociationPolicy]:
    """Say what a DLMS meter asks of each client: public nothing, reader a password, utility HLS."""
    dlms, secrets = meter.spec.dlms, meter.secrets
    if dlms is None or secrets is None:
        raise LocalError(f"{meter.meter} is not a DLMS meter")
    gmac = dlms.auth is Auth.HLS_GMAC
    return {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        READER: AssociationPolicy(auth=Auth.LLS, secret=secrets.password),
        UTILITY: AssociationPolicy(
            auth=Auth.HLS_GMAC if gmac else Auth.HLS2,
            ciphered=True,
            secret=None if gmac else secrets.hls_key,
            encryption_key=secrets.encryption_key,
            authentication_key=secrets.authentication_key,
            may_write=True,
        ),
    }


async def run_simulator(
    *,
    meters: int,
    seed: int,
    speed: float,
    behind: timedelta,
    folder: Path,
    unnamed: int | None = None,
    cuts: bool = True,
    push_to: PushTo | None = None,
    ready: Callable[[Plan], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve a neighbourhood until `stop`, SIGINT or SIGTERM; files go to `folder`, then `ready` is called.

    With `cuts` power fails now and then while simulated time runs, until an hour before the machine's
    present; without, only in the history. A folder of the same seed and size keeps its beginning and its
    cuts, so registers go on after a restart. Its meters on TCP push to `push_to`, too. Errors as `Neighbourhood.start`.
    """
    clock = SimulatedTime.ending_now(behind=behind, speed=speed)
    before = _earlier(folder, seed, meters, clock.now())
    calm = (clock.anchor if cuts else clock.start) - _CALM
    done = stop or asyncio.Event()
    with _stopped_by_signals(done):
        running = await Neighbourhood.start(
            seed=seed,
            clock=clock,
            meters=meters,
            history_from=before.history_from if before else None,
            cuts_until=before.cuts_until if before else calm,
            folder=folder,
            time=clock,
            unnamed=unnamed,
        )
        try:
            async with pushed(running, clock, push_to):
                if push_to is not None:
                    write_files(running.plan, folder, time=clock, unnamed=unnamed, push_to=push_to)
                if ready is not None:
                    ready(running.plan)
                await done.wait()
        finally:
            await running.stop()


@asynccontextmanager
async def pushed(running: Neighbourhood, clock: NowSource, push_to: PushTo | None) -> AsyncIterator[None]:
    """Let the meters of a neighbourhood push while the block runs, where there is somewhere to push to."""
    if push_to is None:
        yield
        return
    start = max(0, int(time.time()) - _COUNTER_EPOCH)
    pushes = Pushes(running.plan, running.models, clock, push_to, counter_start=start)
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


def _earlier(folder: Path, seed: int, meters: int, now: datetime) -> Plan | None:
    """Find the plan of an earlier run that reaches far enough back to go on with."""
    try:
        plan = read_plan(folder)
    except MeterConfigError:
        return None
    same = plan.seed == seed and len(plan.meters) == meters
    return plan if same and plan.history_from <= now - STORED else None


def _physical(meter: MeterPlan) -> int:
    if meter.spec.dlms is None or meter.spec.dlms.physical is None:
        raise LocalError(f"{meter.meter} has no physical address")
    return meter.spec.dlms.physical
