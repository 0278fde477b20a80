"""Every kind of meter in the simulated neighbourhood passes one conformance suite through one door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.meters.open import Layouts, open_session
from protocols.reading import ProfileName
from protocols.session import SessionContext
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import MeterKind
from tests.support.conformance import SessionUnderTest, check_meter_session
from tests.support.fakes import Counters, ManualClock, plan_secrets

pytestmark = pytest.mark.virtual_time

STORED = frozenset({ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS})


@pytest.mark.parametrize(
    ("kind", "layouts"), [*((kind, None) for kind in MeterKind), (MeterKind.DLMS_TCP, {})]
)
async def test_conforms(kind: MeterKind, layouts: Layouts | None) -> None:
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5))
    area = await Neighbourhood.start(seed=3, clock=clock)
    keys, counters = plan_secrets(area.plan), Counters()
    meter = next(
        m for m in area.plan.meters if m.kind is kind and m.role == "consumer" and "ABB" not in m.meter
    )
    plan = next(line for line in area.plan.lines if line.name == meter.line)
    dlms = meter.spec.dlms is not None

    @asynccontextmanager
    async def factory() -> AsyncIterator[SessionUnderTest]:
        line: Line = TcpLine(plan.name, plan.host or "127.0.0.1", plan.port or 0)
        if plan.device is not None:
            line = SerialLine(plan.name, plan.device, baud=plan.baud, parity=plan.parity)
        supported = frozenset(ProfileName) if dlms else frozenset(meter.profiles) | {ProfileName.NAMEPLATE}
        yield SessionUnderTest(
            line=line,
            open=lambda: open_session(
                line,
                meter.spec,
                SessionContext(secrets=keys, counters=counters, clock=clock),
                layouts=layouts,
            ),
            meter=meter.meter,
            now=clock.now,
            supported=supported,
            stored=STORED & supported,
            sparse=frozenset({ProfileName.BILLING, ProfileName.EVENTS}),
            has_clock=dlms,
            may_switch=True,
        )

    try:
        await check_meter_session(factory)
    finally:
        await area.stop()
