"""Meters behind one socket, by wPort and by prefix: each is read as itself, and a dark one is silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.session import open_dlms
from protocols.errors import IdentityMismatch, MeterSilent
from protocols.lines.tcp import TcpLine
from protocols.session import Auth, SessionContext
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import CONCENTRATOR
from tests.support.fakes import Counters, HandClock, plan_secrets

pytestmark = pytest.mark.virtual_time
NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def test_each_meter_behind_the_concentrator_is_read_as_itself() -> None:
    area = await Neighbourhood.start(seed=1, clock=HandClock(NOW), concentrator=True)
    [line] = [line for line in area.plan.lines if line.name == CONCENTRATOR]
    tcp = TcpLine(line.name, line.host or "", line.port or 0)
    context = SessionContext(secrets=plan_secrets(area.plan), counters=Counters(), clock=HandClock(NOW))
    pool = AssociationPool()
    meters = area.plan.on_line(CONCENTRATOR)
    try:
        for _ in range(2):  # the second time in associations that stayed open on the same socket
            for meter in meters:
                assert meter.spec.dlms is not None
                spec = replace(meter.spec, dlms=replace(meter.spec.dlms, keep_open=60))
                async with open_dlms(tcp, spec, context, pool=pool) as session:
                    assert (await session.identify()).meter_id == meter.meter
        assert tcp.statistics().connects == 1
        one, other = [m.spec for m in meters if m.spec.dlms and m.spec.dlms.gateway_address][:2]
        assert one.dlms is not None
        assert other.dlms is not None
        wrong = replace(one, dlms=replace(one.dlms, gateway_address="nobody", timeout=0.5))
        with pytest.raises(MeterSilent):
            async with open_dlms(tcp, wrong, context):
                pass
        public = replace(one, dlms=replace(other.dlms, client=16, auth=Auth.NONE, ciphered=False))
        with pytest.raises(IdentityMismatch):
            async with open_dlms(tcp, public, context):
                pass
    finally:
        await tcp.close()
        await area.stop()
