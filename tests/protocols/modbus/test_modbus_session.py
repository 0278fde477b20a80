"""Modbus sessions on real sockets and ptys: conformance, exact values, identity, time, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from protocols.errors import IdentityMismatch, MeterConfigError, MeterSilent
from protocols.known import Known
from protocols.line import Line
from protocols.meters.open import open_session
from protocols.modbus.planning.known_meter import CERTAIN
from protocols.modbus.session.session import ModbusSession, open_modbus
from protocols.reading import (
    Instant,
    Missing,
    MissingReason,
    Number,
    ProfileName,
    Quality,
    ReadingSet,
    RelayState,
    Text,
    Value,
)
from protocols.session import MeterSession, MeterSpec, SessionContext
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.conformance import SessionUnderTest, check_meter_session
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.simulated import (
    NOON,
    STATE,
    StillMeter,
    bus_of,
    spec,
)

pytestmark = pytest.mark.virtual_time

KINDS = ["tcp", "rtu-tcp", "rtu"]
CLOCK = JumpClock(NOON)


def opened(
    line: Line, wanted: MeterSpec, clock: JumpClock = CLOCK, known: Known | None = None
) -> AbstractAsyncContextManager[MeterSession]:
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=clock)
    return open_session(line, wanted, context, layouts=known)


def prepaid(unit: int = 7, serial: str = "10000001") -> ModbusMeter:
    return ModbusMeter(StillMeter("EAS", serial), "sdm320y-sim", unit, CLOCK)


def b23(unit: int = 8) -> ModbusMeter:
    return ModbusMeter(StillMeter("ABB", "40000001"), "abb-b23", unit, CLOCK)


async def only(session: MeterSession, profile: ProfileName) -> ReadingSet:
    (row,) = [row async for row in session.read(profile)]
    return row


def shown(row: ReadingSet) -> dict[str, str]:
    return {str(q): text(v) for q, v in row.values}


def text(value: Value | None) -> str:
    if isinstance(value, Missing):
        return f"missing {value.reason}"
    if isinstance(value, Text):
        return value.text
    if isinstance(value, Number):
        return f"{value.text()} {value.unit}".strip()
    assert isinstance(value, Instant), value
    return str(value.at)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["sdm320y-sim", "abb-b23"])
async def test_conforms(kind: str, model: str) -> None:
    framing = "tcp" if kind == "tcp" else "rtu"
    unit, meter = (7, "EAS:10000001") if model == "sdm320y-sim" else (8, "ABB:40000001")

    @asynccontextmanager
    async def factory() -> AsyncIterator[SessionUnderTest]:
        async with bus_of([prepaid(), b23()], kind) as line:
            yield SessionUnderTest(
                line=line,
                open=lambda: opened(line, spec(model, unit, meter, framing=framing)),
                meter=meter,
                now=CLOCK.now,
                supported=frozenset(
                    {ProfileName.INSTANTANEOUS, ProfileName.NAMEPLATE}
                    | ({ProfileName.PREPAYMENT} if model == "sdm320y-sim" else set())
                ),
                may_switch=model == "sdm320y-sim",
            )

    await check_meter_session(factory)


async def test_prepaid_meter_reads_exactly() -> None:
    async with bus_of([prepaid()], "tcp") as line:
        async with opened(line, spec("sdm320y-sim", 7, "EAS:10000001")) as session:
            live = await only(session, ProfileName.INSTANTANEOUS)
            assert shown(live) == {
                "1-0:12.7.0*255": "231.4 V",
                "1-0:11.7.0*255": "4.321 A",
                "1-0:16.7.0*255": "980.0 W",
                "1-0:9.7.0*255": "1000.0 VA",
                "1-0:13.7.0*255": "0.980",
                "1-0:14.7.0*255": "49.97 Hz",
                "1-0:1.8.0*255": "4567890 Wh",
                "1-0:2.8.0*255": "1230 Wh",
                "1-0:1.6.0*255": "3200.0 W",
            }
            assert live.at == NOON.replace(microsecond=0)
            assert live.received_at == NOON
            assert (live.meter_time, live.quality) == (None, Quality.VALID)
            assert shown(await only(session, ProfileName.PREPAYMENT)) == {
                "0-0:94.96.21*255": "500.00 INR",
                "0-0:94.96.22*255": "2026-11-20 06:30:00+00:00",
                "0-0:94.96.24*255": "-123.45 INR",
                "0-0:94.96.23*255": "9500.00 INR",
                "0-0:94.96.25*255": "2026-11-23 05:30:00+00:00",
                "0-0:94.96.20*255": "1",
                "0-0:96.3.10*255": "1",
            }
            assert shown(await only(session, ProfileName.NAMEPLATE)) == {
                "0-0:96.1.0*255": "10000001",
                "0-0:96.1.1*255": "EAS",
            }
            assert await session.relay() is RelayState.CLOSED


async def test_b23_reads_exactly() -> None:
    async with bus_of([b23()], "rtu") as line:
        async with opened(line, spec("abb-b23", 8, "ABB:40000001", framing="rtu")) as session:
            assert shown(await only(session, ProfileName.INSTANTANEOUS)) == {
                "1-0:1.8.0*255": "4567890 Wh",
                "1-0:2.8.0*255": "1230 Wh",
                "1-0:32.7.0*255": "231.4 V",
                "1-0:52.7.0*255": "231.4 V",
                "1-0:72.7.0*255": "231.4 V",
                "1-0:31.7.0*255": "1.44 A",
                "1-0:51.7.0*255": "1.44 A",
                "1-0:71.7.0*255": "1.44 A",
                "1-0:16.7.0*255": "980.00 W",
                "1-0:14.7.0*255": "49.97 Hz",
                "1-0:13.7.0*255": "0.980",
            }
            assert await session.relay() is RelayState.UNKNOWN


async def test_another_meter_is_told() -> None:
    async with bus_of([prepaid(serial="10000002")], "tcp") as line:
        with pytest.raises(IdentityMismatch) as caught:
            async with opened(line, spec("sdm320y-sim", 7, "EAS:10000001")):
                raise AssertionError("nothing may be read")
        assert (caught.value.expected, caught.value.found) == ("EAS:10000001", "EAS:10000002")
        async with opened(line, spec("sdm320y-sim", 7, None)) as session:
            assert (await session.identify()).meter_id == "EAS:10000002"


async def test_leading_zeros_of_the_printed_serial_are_kept() -> None:
    async with bus_of([prepaid(serial="00012345")], "tcp") as line:
        async with opened(line, spec("sdm320y-sim", 7, "EAS:00012345")) as session:
            assert (await session.identify()).meter_id == "EAS:00012345"
        for other in ("EAS:100012345", "ABB:00012345", "EAS:123450"):
            with pytest.raises(IdentityMismatch, match=r"but EAS:12345 answers|but EAS:00012345 answers"):
                async with opened(line, spec("sdm320y-sim", 7, other)):
                    pass


async def test_undisciplined_clock_marks_the_reading() -> None:
    clock = JumpClock(NOON, good=False)
    async with bus_of([prepaid()], "tcp") as line:
        async with opened(line, spec("sdm320y-sim", 7, None), clock) as session:
            assert (await only(session, ProfileName.INSTANTANEOUS)).quality is Quality.CLOCK_ERROR


async def test_an_open_relay_is_seen_and_moved_where_the_line_is_trusted() -> None:
    meter = StillMeter("EAS", "10000001")
    meter.switch_relay(closed=False, at=NOON)
    async with bus_of([ModbusMeter(meter, "sdm320y-sim", 7, CLOCK)], "tcp") as line:
        async with opened(line, spec("sdm320y-sim", 7, None)) as session:
            assert await session.relay() is RelayState.OPEN
            await session.switch_relay(RelayState.CLOSED)
            assert await session.relay() is RelayState.CLOSED
        async with opened(line, spec("sdm320y-sim", 7, None, trusted=False)) as session:
            with pytest.raises(MeterConfigError, match="declared trusted"):
                await session.switch_relay(RelayState.OPEN)


@pytest.mark.parametrize("kind", KINDS)
async def test_absent_and_unpowered_units_are_silent(kind: str) -> None:
    framing = "tcp" if kind == "tcp" else "rtu"
    dark = ModbusMeter(StillMeter("EAS", "10000009", replace(STATE, powered=False)), "sdm320y-sim", 9, CLOCK)
    async with bus_of([prepaid(), dark], kind) as line:
        for unit in (9, 30):
            wanted = spec("sdm320y-sim", unit, "EAS:10000009", framing=framing, timeout=0.05)
            with pytest.raises(MeterSilent) as caught:
                async with opened(line, wanted):
                    pass
            assert f"unit {unit}" in str(caught.value)
            assert caught.value.line == line.name
        async with opened(line, spec("sdm320y-sim", 7, "EAS:10000001", framing=framing)):
            pass
    assert line.statistics().connects <= 2  # two silent units: a new connection was tried once


async def test_refused_registers_are_missing_and_learned() -> None:
    known: Known = {}
    real = ModbusMeter(StillMeter("EAS", "10000001"), "sdm320y", 7, CLOCK)
    async with bus_of([real], "tcp") as line:
        asked: list[int] = []
        for _ in range(2 * CERTAIN):
            async with opened(line, spec("sdm320y-sim", 7, "EAS:10000001"), known=known) as session:
                before = line.statistics().sends
                row = await only(session, ProfileName.PREPAYMENT)
                asked.append(line.statistics().sends - before)
                assert row.value("0-0:94.96.24*255") == Missing(MissingReason.METER_REFUSED)
                assert text(row.value("0-0:94.96.21*255")) == "500.00 INR"
                assert await session.relay() is RelayState.UNKNOWN
        assert asked[0] > asked[1], "what is refused was found"
        assert asked[1] > asked[-1], "and is asked for rarely"
    ((meter, model, _),) = known
    assert (meter, model) == ("EAS:10000001", "sdm320y-sim")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (spec("no-such", 1, None), "there is no meter model 'no-such'; known: abb-b23, acrel-adw300, "),
        (spec("sdm120", 1, None, framing="bits"), "there is no Modbus framing 'bits'; known: tcp, rtu"),
        (replace(spec("sdm120", 1, None), zone="Mars/Olympus"), "there is no time zone 'Mars/Olympus'"),
        (MeterSpec(meter="EAS:1"), "a meter has either DLMS or Modbus settings"),
    ],
)
async def test_wrong_settings_are_refused(wanted: MeterSpec, message: str) -> None:
    async with bus_of([prepaid()], "tcp") as line:
        with pytest.raises(MeterConfigError, match=message):
            async with opened(line, wanted):
                pass
        assert line.statistics().connects == 0


async def test_open_modbus_needs_modbus_settings() -> None:
    async with bus_of([prepaid()], "tcp") as line:
        with pytest.raises(MeterConfigError, match="no Modbus settings"):
            async with open_modbus(
                line,
                MeterSpec(meter=None),
                SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=CLOCK),
            ) as session:
                assert isinstance(session, ModbusSession)
