"""One process serves hundreds of meters on sockets and ptys, and a sample of all kinds is read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.reading import ProfileName
from protocols.session import SessionContext
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import LinePlan, MeterPlan
from tests.support.fakes import Counters, HandClock, plan_secrets

pytestmark = pytest.mark.virtual_time

NOW = datetime(2026, 11, 20, 6, 5, tzinfo=UTC)
METERS = 600


def line_of(plan: LinePlan) -> Line:
    if plan.device is not None:
        return SerialLine(plan.name, plan.device, baud=plan.baud, parity=plan.parity)
    return TcpLine(plan.name, plan.host or "", plan.port or 0)


async def test_hundreds_of_meters_answer_from_one_process() -> None:
    clock = HandClock(NOW)
    area = await Neighbourhood.start(seed=5, clock=clock, meters=METERS)
    try:
        assert len(area.plan.meters) == METERS
        sample = area.plan.meters[:: METERS // 40]
        assert len({meter.kind for meter in sample}) == 5
        lines = {plan.name: line_of(plan) for plan in area.plan.lines}
        counters, keys = Counters(), plan_secrets(area.plan)

        async def read(meter: MeterPlan) -> str:
            async with open_session(
                lines[meter.line], meter.spec, SessionContext(secrets=keys, counters=counters, clock=clock)
            ) as session:
                rows = [row async for row in session.read(ProfileName.INSTANTANEOUS)]
                assert rows
                return (await session.identify()).meter_id

        assert await asyncio.gather(*map(read, sample)) == [meter.meter for meter in sample]
        await asyncio.gather(*(line.close() for line in lines.values()))
    finally:
        await area.stop()
