"""Sessions do what a model says: scales, identification, coils, clock, relay, load survey; far sides in raw octets."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from protocols.errors import IdentityMismatch, MeterConfigError, NotSupported, WriteUnproven
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.modbus.format.library import forget_models
from protocols.reading import (
    Missing,
    MissingReason,
    Number,
    ProfileName,
    ReadingSet,
    RelayState,
    Text,
)
from protocols.session import MeterSession, MeterSpec, ModbusSettings, SessionContext
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, far_bus, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters
from tests.support.modbus.whole_meter import NOON, put_model, whole

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def session_with(
    meter: RawMeter,
    folder: Path,
    *,
    rtu: bool = False,
    trusted: bool = True,
    expected: str | None = "WHO:AB123456",
    memories: Memories | None = None,
) -> AsyncIterator[MeterSession]:
    put_model(folder)
    far = SingleReads(RawMeters([meter], "rtu" if rtu else "tcp"))
    settings = ModbusSettings(
        unit=9, model="whole", models=folder, trusted=trusted, framing="rtu" if rtu else "tcp", timeout=0.3
    )
    spec = MeterSpec(meter=expected, modbus=settings)
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=JumpClock(NOON))
    async with far_bus(far) if rtu else far_endpoint(far) as line:
        async with open_session(line, spec, context, memories=memories) as session:
            yield session
        await line.close()


class SingleReads:
    """Meters that refuse the isolated register together with others."""

    def __init__(self, meters: RawMeters) -> None:
        self._meters = meters

    def __call__(self, heard: Heard) -> list[Act]:
        pdu = self._meters.pdu_of(heard.octets)
        if pdu[0] == 4:
            address, count = struct.unpack(">HH", pdu[1:5])
            if address <= 1 < address + count and count != 1:
                unit = self._meters.unit_of(heard.octets)
                return [(0.0, self._meters.frame(heard.octets, unit, bytes((0x84, 2))))]
        return self._meters(heard)


async def one(session: MeterSession, profile: ProfileName) -> ReadingSet:
    (row,) = [row async for row in session.read(profile)]
    return row


@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_values_are_scaled_and_identification_is_read(tmp_path: Path, rtu: bool) -> None:
    async with session_with(whole(), tmp_path, rtu=rtu) as session:
        assert (await session.identify()).meter_id == "WHO:AB123456"
        live = await one(session, ProfileName.INSTANTANEOUS)
        assert live.value("1-0:1.8.0") == Number((65536 + 1234) * 40_000, -1, "Wh")
        assert live.value("1-0:12.7.0") == Number(2304, -1, "V")
        assert live.value("1-0:14.7.0") == Number(4998, -2, "Hz")
        plate = await one(session, ProfileName.NAMEPLATE)
        assert plate.value("1-0:0.2.0") == Text("V1.07")
        assert plate.value("0-0:96.1.4") == Missing(MissingReason.METER_REFUSED)
        assert plate.value("0-0:1.0.0") is None
        prepaid = await one(session, ProfileName.PREPAYMENT)
        assert prepaid.value("0-0:96.3.10") == Number(1)


async def test_a_scale_that_cannot_be_leaves_no_value(tmp_path: Path) -> None:
    meter = whole()
    meter.cells[3, 100] = 0
    async with session_with(meter, tmp_path) as session:
        live = await one(session, ProfileName.INSTANTANEOUS)
        assert live.value("1-0:1.8.0") == Missing(MissingReason.OUT_OF_RANGE)
        assert live.value("1-0:12.7.0") == Number(2304, -1, "V")


async def test_the_clock_is_read_and_set(tmp_path: Path) -> None:
    meter = whole()
    async with session_with(meter, tmp_path) as session:
        assert (await session.clock()).meter == NOON
        await session.set_clock(NOON + timedelta(hours=1))
        assert (await session.clock()).drift == 3600
    assert meter.written == [(6, 70, (0x5AA5,)), (16, 60, (0x2611, 0x2313, 0x0000))]


async def test_the_relay_is_moved_on_a_trusted_line_and_shows_it(tmp_path: Path) -> None:
    meter = whole()
    async with session_with(meter, tmp_path, rtu=True) as session:
        assert await session.relay() is RelayState.CLOSED
        await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.OPEN
    assert meter.written == [(6, 70, (0x5AA5,)), (5, 16, (0,))]


async def test_the_relay_stays_on_a_line_that_is_not_trusted(tmp_path: Path) -> None:
    meter = whole()
    async with session_with(meter, tmp_path, trusted=False) as session:
        with pytest.raises(MeterConfigError, match="only on a line that is declared trusted"):
            await session.switch_relay(RelayState.OPEN)
    assert meter.written == []


ACTS: dict[str, Callable[[MeterSession], Awaitable[object]]] = {
    "relay": lambda session: session.switch_relay(RelayState.OPEN),
    "clock": lambda session: session.set_clock(NOON),
    "loads": lambda session: one(session, ProfileName.BLOCK_LOAD),
}


@pytest.mark.parametrize("act", ACTS)
async def test_whose_relay_clock_and_history_it_is_is_asked_first(tmp_path: Path, act: str) -> None:
    """A meter that proved its identity lately is taken for granted; not where something of it is changed or kept."""
    meter, memories = whole(), Memories({})
    async with session_with(meter, tmp_path, memories=memories):
        pass
    meter.server_id = b"\x01\xffAB999999"
    async with session_with(meter, tmp_path, memories=memories) as session:
        with pytest.raises(IdentityMismatch):
            await ACTS[act](session)
    assert meter.written == []


class NoAnswer(RawMeters):
    """Meters that take a write of the relay and say nothing."""

    def answer(self, request: bytes) -> bytes | None:
        framed = super().answer(request)
        return None if self.pdu_of(request)[0] == 5 else framed


async def test_a_write_without_answer_is_unproven_and_never_repeated(tmp_path: Path) -> None:
    meter = whole()
    put_model(tmp_path)
    settings = ModbusSettings(
        unit=9, model="whole", models=tmp_path, trusted=True, framing="rtu", timeout=0.3
    )
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=JumpClock(NOON))
    async with far_bus(SingleReads(NoAnswer([meter]))) as line:
        async with open_session(line, MeterSpec(meter=None, modbus=settings), context) as session:
            with pytest.raises(WriteUnproven, match="drew no sound answer"):
                await session.switch_relay(RelayState.OPEN)
        await line.close()
    assert [function for function, _, _ in meter.written] == [6, 5]


@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_the_load_survey_is_read_from_where_it_was_left(tmp_path: Path, rtu: bool) -> None:
    async with session_with(whole(), tmp_path, rtu=rtu) as session:
        rows = [row async for row in session.read(ProfileName.BLOCK_LOAD)]
        assert [row.at for row in rows] == [NOON - n * timedelta(minutes=30) for n in range(5, -1, -1)]
        assert rows[-1].start == NOON - timedelta(minutes=30)
        assert rows[-1].value("1-0:1.29.0") == Number(7 * 40, 0, "Wh")
        assert rows[-1].meter_time is not None
        assert rows[-1].meter_time.wall == "2026-11-23T06:30:00"
        later = [row async for row in session.read(ProfileName.BLOCK_LOAD, rows[-2].at)]
        assert later == [replace(rows[-1], received_at=later[0].received_at)]


async def test_what_a_model_lacks_is_not_supported(tmp_path: Path) -> None:
    (tmp_path / "less.toml").write_text(
        'extends = "sdm120"\nname = "less"\ntitle = "Less"\n', encoding="utf-8"
    )
    forget_models()
    settings = ModbusSettings(unit=9, model="less", models=tmp_path, framing="tcp", timeout=0.3, trusted=True)
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=JumpClock(NOON))
    async with far_endpoint(RawMeters([whole()], "tcp")) as line:
        async with open_session(line, MeterSpec(meter=None, modbus=settings), context) as session:
            for ask in (session.clock(), session.set_clock(NOON), session.switch_relay(RelayState.OPEN)):
                with pytest.raises(NotSupported, match="model less has no"):
                    await ask
            with pytest.raises(NotSupported, match="has no profile block_load"):
                await anext(aiter(session.read(ProfileName.BLOCK_LOAD)))
        await line.close()
