"""The gateway's own drivers read the whole neighbourhood, and get exactly what the meters recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from protocols.dlms.session import open_dlms
from protocols.errors import AssociationRefused, MeterRefused, MeterSilent, NotSupported
from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.meters.open import Layouts
from protocols.modbus.session.session import open_modbus
from protocols.reading import Number, ProfileName, ReadingSet, RelayState
from protocols.session import MeterSession, SessionContext
from protocols.simulator.household.events import TRANSACTION_LOG
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import LinePlan, MeterPlan
from tests.support.fakes import Counters, HandClock, plan_secrets

pytestmark = pytest.mark.virtual_time


class Reader:
    """Opens sessions with the meters of a neighbourhood."""

    def __init__(self, area: Neighbourhood, clock: HandClock) -> None:
        self.area = area
        self.clock = clock
        self.keys = plan_secrets(area.plan)
        self.counters = Counters()
        self.layouts: Layouts = {}
        self.lines: dict[str, Line] = {line.name: _line(line) for line in area.plan.lines}

    def open(self, meter: MeterPlan):  # type: ignore[no-untyped-def]
        context = SessionContext(secrets=self.keys, counters=self.counters, clock=self.clock)
        line = self.lines[meter.line]
        if meter.spec.dlms is not None:
            return open_dlms(line, meter.spec, context, layouts=self.layouts)
        return open_modbus(line, meter.spec, context)

    async def close(self) -> None:
        for line in self.lines.values():
            await line.close()


def _line(line: LinePlan) -> Line:
    if line.device is not None:
        return SerialLine(line.name, line.device, baud=line.baud, parity=line.parity)
    return TcpLine(line.name, line.host or "", line.port or 0)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    clock = HandClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5))
    area = await Neighbourhood.start(seed=1, clock=clock)
    reading = Reader(area, clock)
    yield reading
    await reading.close()
    await area.stop()


async def sets(
    session: MeterSession, profile: ProfileName, since: datetime | None = None
) -> list[ReadingSet]:
    return [s async for s in session.read(profile, since)]


def number(reading: ReadingSet, quantity: str) -> int:
    value = reading.value(quantity)
    assert isinstance(value, Number), value
    return value.mantissa * 10**value.scaler if value.scaler >= 0 else value.mantissa


async def test_every_meter_is_read_in_all_its_profiles(reader: Reader) -> None:
    async def one(meter: MeterPlan) -> None:
        state = reader.area.households[meter.meter].state(reader.clock.now())
        async with reader.open(meter) as session:
            assert (await session.identify()).meter_id == meter.meter
            for profile in meter.profiles:
                if profile is ProfileName.EVENTS:
                    continue
                read = await sets(session, profile, reader.clock.now() - timedelta(days=1, hours=1))
                assert read or profile is ProfileName.BILLING, (meter.meter, profile)
                if profile is ProfileName.INSTANTANEOUS:
                    energy = read[0].value("1-0:1.8.0*255")
                    assert isinstance(energy, Number)
                    assert abs(int(energy.decimal()) - state.energy_import_wh) <= 1000
                if profile is ProfileName.PREPAYMENT:
                    money = {str(q)[-6:]: v for q, v in read[0] if isinstance(v, Number)}
                    assert money["24*255"].decimal() * 100 == state.balance_paise
                    assert money["23*255"].decimal() * 100 == state.total_recharged_paise
            if meter.category == "D3":  # behind transformers there is no relay
                with pytest.raises(NotSupported):
                    await session.relay()
                return
            relay = await session.relay()
            if meter.spec.dlms is not None:
                assert relay is RelayState.CLOSED

    await asyncio.gather(*(one(meter) for meter in reader.area.plan.meters))


@pytest.mark.parametrize("index", [0, 2, 4, 5, 8, 10, 11, 13])
async def test_stored_rows_are_what_the_meter_recorded(reader: Reader, index: int) -> None:
    meter = reader.area.plan.meters[index]
    now = reader.clock.now()
    since = now - timedelta(days=3)
    async with reader.open(meter) as session:
        blocks = await sets(session, ProfileName.BLOCK_LOAD, since)
        daily = await sets(session, ProfileName.DAILY, since)
        events = await sets(session, ProfileName.EVENTS, now - timedelta(days=30))
        bills = await sets(session, ProfileName.BILLING)
    truth = reader.area.recorded(meter.meter, since, now)
    assert [(s.at, number(s, "1-0:1.29.0*255"), number(s, "1-0:9.29.0*255")) for s in blocks] == [
        (r.at, r.energy_import_wh, r.apparent_energy_vah) for r in truth.blocks
    ]
    assert [(s.at, number(s, "1-0:1.8.0*255")) for s in daily] == [
        (r.at, r.energy_import_wh) for r in truth.daily
    ]
    logged = reader.area.recorded(meter.meter, now - timedelta(days=30), now).events
    codes = [(s.at, next(number(s, str(q)) for q, _ in s if str(q).startswith("0-0:96.11."))) for s in events]
    assert sorted(codes) == sorted((e.at, e.code) for e in logged)
    months = reader.area.recorded(meter.meter, now - timedelta(days=35), now).billing
    assert [(s.at, number(s, "1-0:1.6.0*255")) for s in bills] == [(r.at, r.max_demand_w) for r in months]


async def test_utility_moves_the_relay_and_sets_the_clock(reader: Reader) -> None:
    meter = reader.area.plan.meters[0]
    async with reader.open(meter) as session:
        before = await session.clock()
        assert before.deviation == 330
        assert before.drift == reader.area.households[meter.meter].state(reader.clock.now()).clock_drift_s
        await session.set_clock(reader.clock.now())
        assert (await session.clock()).drift == 0
        await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.OPEN
        reader.clock.at += timedelta(minutes=2)
        (now,) = await sets(session, ProfileName.INSTANTANEOUS)
        assert number(now, "1-0:1.7.0*255") == 0
        await session.switch_relay(RelayState.CLOSED)
        assert await session.relay() is RelayState.CLOSED
    last = reader.area.recorded(meter.meter, reader.clock.now() - timedelta(minutes=3), reader.clock.now())
    assert [e.code for e in last.events if e.log >= TRANSACTION_LOG] == [151, 301, 302]


async def test_reader_may_not_switch(reader: Reader) -> None:
    meter = reader.area.plan.meters[2]
    assert meter.spec.dlms is not None
    assert meter.spec.dlms.client == 32
    async with reader.open(meter) as session:
        with pytest.raises(MeterRefused):
            await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.CLOSED


async def test_wrong_password_is_refused(reader: Reader) -> None:
    meter = reader.area.plan.meters[2]
    reader.keys.values[f"{meter.key}-secret"] = b"not this"
    with pytest.raises(AssociationRefused):
        async with reader.open(meter):
            pass


async def test_a_dark_meter_on_the_bus_is_silent_and_others_answer(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = reader.area.plan.on_line("hdlc-bus-1")
    monkeypatch.setattr(reader.area.households[bus[0].meter], "state", lambda _at: Dark())
    assert bus[0].spec.dlms is not None
    hasty = replace(bus[0].spec, dlms=replace(bus[0].spec.dlms, timeout=0.3))
    with pytest.raises(MeterSilent):
        async with reader.open(replace(bus[0], spec=hasty)):
            pass
    async with reader.open(bus[1]) as session:
        assert (await session.identify()).meter_id == bus[1].meter


class Dark:
    """A state without supply."""

    powered = False
