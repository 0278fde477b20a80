"""A neighbourhood that pushes: readings every quarter of an hour, blocks as they close, alerts as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.clock import NowSource
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import SendCounter
from protocols.reading import ProfileName
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.cosem.push import BIT_OF_CODE
from protocols.simulator.dlms.push_client import DialIn, PushClient, push_tcp
from protocols.simulator.dlms.push_makes import FRAMING, MakePushes
from protocols.simulator.faults.script import FaultFile, FaultPlayer
from protocols.simulator.neighbourhood.plan import MeterKind, MeterPlan, Plan

EVERY = timedelta(minutes=15)
BLOCK = timedelta(minutes=30)
REDIAL = 2.0
"""Seconds until a meter whose connection ended dials again."""
LOOK = 0.5
"""Seconds between looks at the simulated clock."""
ALERTED_CODES = (7, 9, 51, 67, 69, 101, 102, 201, 203, 251, 301, 302)
"""Event codes that a meter pushes at once, as a bit of the event status word."""
_COUNTER_SHARE = 1 << 31
"""Counters of pushes begin here, those of answers at nothing: one key never sees a counter twice."""


@dataclass(frozen=True, slots=True)
class PushTo:
    """Where a neighbourhood pushes to; with `dial_in` its meters open the connection and are polled on it.

    `make` names another make whose form the readings have (`MAKES`); alerts and blocks are pushed by IS 15959 only.
    """

    host: str
    port: int
    dial_in: bool = False
    make: str | None = None


def pushes_ciphered(meter: MeterPlan) -> bool:
    """Say whether a meter's pushes are ciphered: those whose keys the reader has."""
    return meter.spec.dlms is not None and meter.spec.dlms.encryption_key_ref is not None


def push_senders(plan: Plan) -> tuple[MeterPlan, ...]:
    """Return the meters that push: those on TCP."""
    return tuple(meter for meter in plan.meters if meter.kind is MeterKind.DLMS_TCP)


class Pushes:
    """The pushes of a neighbourhood; `run` goes on until it is cancelled. What a far end misses is lost."""

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, HouseholdModel],
        clock: NowSource,
        to: PushTo,
        *,
        counter_start: int = 0,
        faults: FaultFile | None = None,
    ) -> None:
        self._clock = clock
        self._to = to
        self._since = clock.now()
        self._models = models
        self._dialled = {
            m.meter: DialIn(models[m.meter], counter_start) for m in push_senders(plan) if to.dial_in
        }
        self._makes = {
            meter.meter: MakePushes(models[meter.meter], clock, to.make)
            for meter in push_senders(plan)
            if to.make is not None
        }
        start = _COUNTER_SHARE + counter_start % _COUNTER_SHARE
        self._clients = {
            meter.meter: PushClient(
                models[meter.meter],
                clock,
                keys=_keys(meter),
                counter=SendCounter(start),
                faults=None if faults is None else FaultPlayer(faults.script(meter.meter), meter.meter),
            )
            for meter in push_senders(plan)
        }

    async def run(self) -> None:
        """Push what is due, and keep dialling in, for ever."""
        async with asyncio.TaskGroup() as group:
            for meter in self._dialled.values():
                group.create_task(self._dial(meter))
            group.create_task(self._push())

    async def _dial(self, meter: DialIn) -> None:
        while True:
            with suppress(OSError):
                await meter.open(self._to.host, self._to.port)
                await meter.run()
            await asyncio.sleep(REDIAL)

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            now = self._clock.now()
            if now > self._since:
                await self.between(self._since, now)
                self._since = now

    async def between(self, since: datetime, until: datetime) -> None:
        """Push what became due with since < instant <= until, meter by meter."""
        for meter, client in self._clients.items():
            model = self._models[meter]
            make = self._makes.get(meter)
            apdus = _due(model, client, since, until) if make is None else _made(make, client, since, until)
            if apdus and model.powered:
                with suppress(OSError):
                    await self._send(meter, apdus)

    async def _send(self, meter: str, apdus: list[bytes]) -> None:
        dialled = self._dialled.get(meter)
        if dialled is None:
            framing = "wrapper" if self._to.make is None else FRAMING[self._to.make]
            await push_tcp(self._to.host, self._to.port, *apdus, framing=framing)
            return
        for apdu in apdus:
            await dialled.push(apdu)


def _due(model: HouseholdModel, client: PushClient, since: datetime, until: datetime) -> list[bytes]:
    apdus = []
    events = model.household.event_rows(since, until)
    if bits := {BIT_OF_CODE[event.code] for event in events if event.code in ALERTED_CODES}:
        apdus.append(client.alert(bits))
    if _crossed(since, until, EVERY):
        apdus.append(client.instantaneous())
    if _crossed(since, until, BLOCK) and model.household.block_rows(since, until):
        apdus.append(client.stored(ProfileName.BLOCK_LOAD, max(since, until - timedelta(days=1)), until))
    return apdus


def _made(make: MakePushes, client: PushClient, since: datetime, until: datetime) -> list[bytes]:
    return [client.ciphered(make.readings())] if _crossed(since, until, EVERY) else []


def _crossed(since: datetime, until: datetime, period: timedelta) -> bool:
    return since.timestamp() // period.total_seconds() != until.timestamp() // period.total_seconds()


def _keys(meter: MeterPlan) -> Keys | None:
    if not pushes_ciphered(meter) or meter.secrets is None:
        return None
    return Keys(
        encryption=meter.secrets.encryption_key,
        authentication=meter.secrets.authentication_key,
        suite=meter.spec.dlms.suite if meter.spec.dlms else 0,
    )
