"""What is learned of one meter: holes, refusals, longest reads, latency; of that meter only, and for a day only."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.polling.known_meters import KnownMeters
from protocols.errors import MeterRefused, MeterSilent
from protocols.known import Known
from protocols.line import Line, LinePace
from protocols.meters.open import open_session
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.format.library import load_model
from protocols.modbus.planning.known_meter import (
    ASK_REFUSED,
    CERTAIN,
    KEPT_FOR,
    MAX_REFUSALS,
    KnownModbusMeter,
    ModbusNotes,
    Refusal,
    known_modbus,
)
from protocols.modbus.planning.plan import RegisterRange, RegisterSpan
from protocols.modbus.session.reader import SAMPLES, RegisterReader
from protocols.modbus.session.visit import VisitReader
from protocols.reading import Missing, MissingReason, ProfileName, ReadingSet
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, far_bus, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, sdm120
from tests.support.modbus.simulated import NOON, spec

pytestmark = pytest.mark.virtual_time

LIVE = ProfileName.INSTANTANEOUS
HOLE = 3
"""An address of function 4 that no value uses, between two that are used."""


@dataclass
class Odd(RawMeter):
    """An SDM120 that does not answer some reads: `odd` returns None for silence, or an exception's code."""

    odd: Callable[[int, int, int], int | None] = lambda function, address, count: 0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def pdu(self, request: bytes) -> bytes:
        function, address, count = request[0], *struct.unpack(">HH", request[1:5])
        self.asked.append((address, count))
        code = self.odd(function, address, count)
        if code is None:
            return b""
        return bytes((function | 0x80, code)) if code else super().pdu(request)


@dataclass
class Field:
    """A line with odd meters at units 5 and 6, what is known of them, and how often each was asked."""

    line: Line
    meters: dict[int, Odd]
    clock: JumpClock
    framing: str
    known: Known = field(default_factory=dict)
    model: str = "sdm120"

    @asynccontextmanager
    async def session(self, unit: int = 5, visit: Visit | None = None) -> AsyncIterator[MeterSession]:
        context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=self.clock)
        async with open_session(
            self.line, self.spec(unit), context, layouts=self.known, visit=visit or Visit(profiles=(LIVE,))
        ) as session:
            yield session

    def spec(self, unit: int) -> MeterSpec:
        return spec(self.model, unit, f"EAS:{10_000_000 + unit}", framing=self.framing, timeout=0.2)

    async def visit(self, unit: int = 5) -> tuple[ReadingSet, int]:
        """Read once; return the set and how many requests beside the serial's it took."""
        before = len(self.meters[unit].asked)
        async with self.session(unit) as session:
            (row,) = [row async for row in session.read(LIVE)]
        asked = self.meters[unit].asked[before:]
        return row, sum(address != 0xFC00 for address, _ in asked)

    def of(self, unit: int = 5) -> KnownModbusMeter:
        found = known_modbus(self.known, f"EAS:{10_000_000 + unit}", "sdm120")
        assert found is not None
        return found


def play(meters: RawMeters) -> Callable[[Heard], list[Act]]:
    def far(heard: Heard) -> list[Act]:
        meter = meters.meters.get(meters.unit_of(heard.octets))
        pdu = b"" if meter is None else meter.pdu(meters.pdu_of(heard.octets))
        return [(0.0, meters.frame(heard.octets, meters.unit_of(heard.octets), pdu))] if pdu else []

    return far


@asynccontextmanager
async def field_of(odd: Callable[[int, int, int], int | None], framing: str = "rtu") -> AsyncIterator[Field]:
    """Both meters are of one model; unit 5 is odd."""
    five, six = Odd(5, sdm120(10_000_005), odd=odd), Odd(6, sdm120(10_000_006))
    far = play(RawMeters([five, six], framing))
    async with far_bus(far) if framing == "rtu" else far_endpoint(far) as line:
        yield Field(line, {5: five, 6: six}, JumpClock(NOON), framing)


def covers(place: int) -> Callable[[int, int, int], bool]:
    return lambda function, address, count: function == 4 and address <= place < address + count


def whole(row: ReadingSet) -> bool:
    return not any(isinstance(value, Missing) for _, value in row.values)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
@pytest.mark.parametrize("code", [None, 2, 3, 4])
async def test_a_block_across_a_hole_is_narrowed_and_learned_for_that_meter(
    framing: str, code: int | None
) -> None:
    """Case 13: it is not answered, or refused; every value is read, and the next visit goes round the hole."""
    hit = covers(HOLE)
    async with field_of(lambda *asked: code if hit(*asked) else 0, framing) as bus:
        first, many = await bus.visit()
        assert whole(first)
        second, few = await bus.visit()
        assert whole(second)
        assert few < many
        third, least = await bus.visit()
        assert (third.values, least) == (second.values, few)
        failed = [place for place in bus.meters[5].asked[-few:] if hit(4, *place) and place[0] != 0xFC00]
        assert not failed, "the hole is not asked for again"
        _, other = await bus.visit(6)
        assert other < few
        assert bus.of(6).refusals == ()


@pytest.mark.parametrize("code", [None, 2, 4])
async def test_the_longest_read_is_learned(code: int | None) -> None:
    async with field_of(lambda _, __, count: code if count > 20 else 0) as bus:
        row, many = await bus.visit()
        assert whole(row)
        row, few = await bus.visit()
        assert whole(row)
        assert few < many
        assert all(count <= 20 for _, count in bus.meters[5].asked[-few:])
        assert bus.of().longest is not None


async def test_a_lengthened_block_that_is_refused_is_read_as_it_was() -> None:
    """A block grows for a length of its own, perhaps over the end of what the meter has."""
    wanted = {(0, 32), (0x46, 18)}
    async with field_of(lambda f, a, c: 2 if f == 4 and (a, c) not in wanted else 0) as bus:
        row, _ = await bus.visit()
        assert whole(row)
        row, few = await bus.visit()
        assert whole(row)
        assert few == 2


@pytest.mark.parametrize("code", [1, 2, 4])
@pytest.mark.parametrize("serial", [True, False])
async def test_a_meter_that_refuses_everything_is_not_ok_and_teaches_nothing(
    code: int, *, serial: bool
) -> None:
    """Case 14: one that is just starting refuses everything for one poll, but perhaps its serial."""
    starting = False
    async with field_of(
        lambda function, *_: code if starting and (function == 4 or not serial) else 0
    ) as bus:
        _, usual = await bus.visit()
        starting = True
        before = len(bus.meters[5].asked)
        with pytest.raises(MeterRefused, match=r"refuses (every value|to tell its serial)"):
            await bus.visit()
        assert len(bus.meters[5].asked) - before <= (30 if serial else usual + SAMPLES + 1)
        starting = False
        for unit in (5, 6):
            row, asked = await bus.visit(unit)
            assert whole(row)
            assert asked == usual


async def test_a_meter_that_refused_while_it_started_is_read_as_before_in_the_end() -> None:
    """It refuses the first blocks of a visit, and answers the last: nothing of that lasts."""
    left = 0

    def odd(function: int, address: int, count: int) -> int:
        nonlocal left
        left -= 1
        return 2 if left >= 0 and function == 4 else 0

    async with field_of(odd) as bus:
        _, usual = await bus.visit()
        for refusals in range(1, 8):
            left = refusals
            with suppress(MeterRefused):
                await bus.visit()
            row, _ = await bus.visit()
            assert whole(row)
            assert (await bus.visit())[1] == usual


async def test_a_value_that_is_refused_is_told_and_asked_for_rarely() -> None:
    hit = covers(6)
    async with field_of(lambda *asked: 2 if hit(*asked) else 0) as bus:
        counts = []
        for _ in range(CERTAIN + 2):
            row, asked = await bus.visit()
            counts.append(asked)
            assert row.value("1-0:11.7.0*255") == Missing(MissingReason.METER_REFUSED)
            assert sum(isinstance(value, Missing) for _, value in row.values) == 1
        assert counts[0] > counts[1] == counts[CERTAIN - 1] > counts[CERTAIN] == counts[-1]
        bus.clock.at += ASK_REFUSED
        assert (await bus.visit())[1] == counts[1], "it is asked for again"
        bus.meters[5].odd = lambda *_: 0
        bus.clock.at += ASK_REFUSED
        row, _ = await bus.visit()
        assert whole(row)
        assert bus.of().refusals == ()


async def test_what_was_learned_is_forgotten_after_a_day() -> None:
    hit = covers(HOLE)
    async with field_of(lambda *asked: 2 if hit(*asked) else 0) as bus:
        await bus.visit()
        _, few = await bus.visit()
        bus.meters[5].odd = lambda *_: 0
        bus.clock.at += KEPT_FOR - timedelta(seconds=1)
        assert (await bus.visit())[1] == few
        bus.clock.at += timedelta(seconds=1)
        assert (await bus.visit())[1] < few


async def test_what_was_learned_survives_a_restart(tmp_path: Path) -> None:
    hit = covers(HOLE)
    async with field_of(lambda *asked: 2 if hit(*asked) else 0) as bus:
        kept = KnownMeters(tmp_path / "known.db")
        bus.known = kept
        await bus.visit()
        learned = bus.of()
        assert learned.refusals
        kept.close()
        bus.known = again = KnownMeters(tmp_path / "known.db")
        assert bus.of() == learned
        _, few = await bus.visit()
        assert few == (await bus.visit())[1]
        again.close()


async def test_an_end_that_closes_after_each_answer_is_known_after_a_restart() -> None:
    """Case 7: what was learned on one line spares another run the requests in vain."""
    far = play(RawMeters([Odd(5, sdm120(10_000_005))], "tcp"))

    def closing(heard: Heard) -> list[Act]:
        return [*far(heard), (0.0, b"")]

    known: Known = {}
    vain = []
    for _ in range(2):
        async with far_endpoint(closing) as line:
            bus = Field(line, {5: Odd(5)}, JumpClock(NOON), "tcp", known)
            for _ in range(3):
                async with bus.session() as session:
                    rows = [row async for row in session.read(LIVE)]
                    assert whole(rows[0])
            vain.append(line.statistics().sends - line.statistics().connects)
    assert bus.of().closes_since == NOON
    assert vain[0] > vain[1] == 0, "requests on a connection that was closed"


async def test_a_dead_meter_costs_one_wait_and_one_that_dies_few() -> None:
    silent_from = 0

    def odd(*_: int) -> int | None:
        return None if len(bus.meters[5].asked) > silent_from else 0

    async with field_of(odd) as bus:
        with pytest.raises(MeterSilent):
            await bus.visit()
        assert len(bus.meters[5].asked) == 1
        bus.meters[5].asked.clear()
        silent_from = 2
        await asyncio.sleep(10)  # what was asked may have been answered late until now
        with pytest.raises(MeterSilent):
            await bus.visit()
        assert len(bus.meters[5].asked) <= 8


@asynccontextmanager
async def visiting(bus: Field, parts: dict[str, tuple[RegisterSpan, ...]]) -> AsyncIterator[VisitReader]:
    async with bus.line.exclusive() as io:
        client = ModbusClient(
            io, frames_for(bus.framing), timeout=0.2, worst_latency=0.2, account=account_of(bus.line)
        )
        notes = ModbusNotes(bus.clock.now())
        reader = RegisterReader(
            client, load_model("sdm120"), 5, notes, pace=LinePace(octet=0.001, gap=0.0035)
        )
        yield VisitReader(reader, bus.clock, parts)


async def test_parts_of_a_silent_block_are_told_apart_from_its_late_answer() -> None:
    """The halves are of equal length, and the first is not answered either."""
    spans = tuple(RegisterSpan(4, place, 2) for place in (0, 4, 8, 12))
    hit = covers(HOLE)
    async with field_of(lambda *asked: None if hit(*asked) else 0) as bus:
        async with visiting(bus, {"live": spans}) as visit:
            await visit.take("other", spans[:1])
            words = (await visit.take("live", spans)).words
        assert None not in words.values()
        asked = [place for place in bus.meters[5].asked if hit(4, *place)]
        assert asked[:1] == [(0, 14)]


async def test_parts_of_a_visit_are_read_together_and_later_alone() -> None:
    live = (RegisterSpan(4, 0, 2), RegisterSpan(4, 6, 2))
    money = (RegisterSpan(4, 2, 2), RegisterSpan(4, 6, 2))
    async with field_of(lambda *_: 0) as bus, visiting(bus, {"live": live, "money": money}) as visit:
        asked = bus.meters[5].asked
        first = await visit.take("live", live)
        assert asked == [(0, 8)]
        bus.clock.at += timedelta(seconds=5)
        second = await visit.take("money", money)
        assert asked == [(0, 8)]
        assert (second.begun, second.ended) == (first.begun, first.ended), "when it was read"
        assert first.words.keys() == set(live)
        assert second.words.keys() == set(money)
        again = await visit.take("money", money)
        assert asked[1:] == [(2, 6)]
        assert again.words == second.words
        assert again.begun > second.begun
        await visit.take("other", live[:1])
        assert asked[2:] == [(0, 2)], "what was not told is read alone"


async def test_a_fault_in_a_visit_costs_only_what_was_not_read() -> None:
    """The serial comes with the nameplate's block; the present values after it are not answered."""
    silent = False
    async with field_of(lambda function, *_: None if silent and function == 4 else 0) as bus:
        silent = True
        async with bus.session(visit=Visit(profiles=(ProfileName.NAMEPLATE, LIVE))) as session:
            (row,) = [row async for row in session.read(ProfileName.NAMEPLATE)]
            assert whole(row)
            with pytest.raises(MeterSilent):
                _ = [row async for row in session.read(LIVE)]


def at(minutes: float) -> ModbusNotes:
    return ModbusNotes(NOON + timedelta(minutes=minutes))


def test_latency_is_noted_when_it_changes_a_plan() -> None:
    notes = at(0)
    notes.sum_up(by_register=False)
    assert not notes.changed
    for seconds in (0.03, 0.05, 0.04):
        notes.took(10, seconds)
    notes.sum_up(by_register=False)
    assert notes.known.latency == 0.04
    for minutes, seconds, noted in ((5, 0.03, 0.04), (5, 0.1, 0.1), (20, 0.042, 0.04), (20, 0.03, 0.03)):
        later = ModbusNotes(NOON + timedelta(minutes=minutes), notes.known)
        later.took(10, seconds)
        later.sum_up(by_register=False)
        assert later.known.latency == noted


def test_the_time_of_a_register_is_told_from_reads_of_different_lengths() -> None:
    notes = at(0)
    for count in (2, 40, 100):
        notes.took(count, 0.05 + count * 0.002)
    notes.sum_up(by_register=True)
    assert notes.known.register == pytest.approx(0.002)
    assert notes.known.latency == pytest.approx(0.05)


def test_notes_are_bounded_and_forgotten_with_the_firmware() -> None:
    notes = at(0)
    for place in range(2 * MAX_REFUSALS):
        notes.refused(RegisterRange(3, place, place + 1))
    assert len(notes.known.refusals) == MAX_REFUSALS
    assert notes.known.refusals[-1] == Refusal(
        range=RegisterRange(3, 2 * MAX_REFUSALS - 1, 2 * MAX_REFUSALS), since=NOON, asked=NOON
    )
    notes.firmware_is("1.2")
    assert len(notes.known.refusals) == MAX_REFUSALS
    notes.firmware_is("1.3")
    assert notes.known == KnownModbusMeter(firmware="1.3")


async def test_a_new_firmware_is_another_meter_to_what_was_learned(tmp_path: Path) -> None:
    """The model shows the firmware in its nameplate."""
    (tmp_path / "my-meter.toml").write_text(
        """
name = "my-meter"
title = "SDM120 that shows its firmware"
manufacturer = "EAS"
source = "this test"
extends = "sdm120"
[[registers]]
quantity = "1-0:0.2.0*255"
profiles = ["nameplate"]
function = 3
address = 0xFC02
type = "u32"
as_text = true
""",
        encoding="utf-8",
    )
    hit = covers(HOLE)
    async with field_of(lambda *asked: 2 if hit(*asked) else 0) as bus:
        cells = bus.meters[5].cells
        cells[3, 0xFC02] = 0
        bus.model = str(tmp_path / "my-meter.toml")
        many, few = [(await bus.visit())[1] for _ in range(2)]
        cells[3, 0xFC03] = 12
        for firmware, least in ((12, few), (13, few)):
            cells[3, 0xFC03] = firmware
            async with bus.session(visit=Visit(profiles=(ProfileName.NAMEPLATE,))) as session:
                _ = [row async for row in session.read(ProfileName.NAMEPLATE)]
            row, asked = await bus.visit()
            assert whole(row)
            assert (asked == least) == (firmware == 12)
        assert many > few
