"""A late answer is never another's: whatever is delayed, lost or cancelled, no value lands under another register.

The far side delays each answer by any time up to `late_answer_max`, so that answers come in any order. Each register
holds its own unit, function and address: a value that landed elsewhere says where it comes from.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import AnswerOwed, MeterError
from protocols.line import Line
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.client.outstanding import MAX_OWED, Outstanding
from protocols.modbus.framing.frames import Frames, TcpFrames, TcpManners
from protocols.modbus.framing.requests import Request
from protocols.unused import unused_frames
from tests.support.modbus.far_side import Act, Heard, far_bus, paper_line
from tests.support.modbus.raw_meters import RawMeter, RawMeters, tcp_frame
from tests.support.virtual_time import run_virtually

LATEST = 10.0
UNITS = (5, 6, 7)
BLOCKS = ((3, 0, 2), (3, 10, 2), (4, 0, 2), (4, 20, 2), (3, 30, 4), (4, 40, 4), (4, 50, 4))
"""Function, address, count: several of equal shape."""


MANNERS = {
    "own numbers": TcpManners(own_transactions=True),
    "unit 0 for all": TcpManners(own_transactions=True, answer_unit=0),
}
FRAMES: dict[str, Frames] = {
    **{name: frames_for(name) for name in ("rtu", "ascii", "tcp")},
    **{name: TcpFrames(manners) for name, manners in MANNERS.items()},
}


def cell(unit: int, function: int, address: int) -> int:
    return unit << 12 | function << 8 | address


def meters(framing: str = "rtu") -> RawMeters:
    cells = {
        unit: {(f, a): cell(unit, f, a) for f, first, count in BLOCKS for a in range(first, first + count)}
        for unit in UNITS
    }
    return RawMeters([RawMeter(unit, held) for unit, held in cells.items()], framing)


@dataclass(frozen=True)
class Turn:
    """What one session asks, and after how many seconds it is cancelled (None: never) or the next one begins."""

    unit: int
    blocks: tuple[int, ...]
    cancelled: float | None
    rest: float


DELAYS = st.one_of(
    st.floats(0.0, 0.3), st.floats(0.9, 1.6), st.floats(0.0, LATEST), st.sampled_from([None, LATEST])
)
TURNS = st.builds(
    Turn,
    unit=st.sampled_from(UNITS),
    blocks=st.lists(st.integers(0, len(BLOCKS) - 1), min_size=1, max_size=4).map(tuple),
    cancelled=st.one_of(st.none(), st.none(), st.none(), st.floats(0.0, 3.0)),
    rest=st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0]),
)


async def course(turns: list[Turn], delays: list[float | None], framing: str) -> int:
    """Play a course; return how many values were read, all of them under their own register."""
    frames, manners = FRAMES[framing], MANNERS.get(framing, TcpManners())
    far, right = meters(frames.name), 0

    def late(heard: Heard) -> list[Act]:
        delay = delays[heard.number % len(delays)]
        answer = far.answer(heard.octets)
        return [] if delay is None or answer is None else [(delay, answer)]

    def late_and_unnumbered(heard: Heard) -> list[Act]:
        acts = late(heard)
        unit = far.unit_of(heard.octets) if manners.answer_unit is None else manners.answer_unit
        return [(d, tcp_frame(heard.number, unit, a[7:])) for d, a in acts if isinstance(a, bytes)]

    async def session(line: Line, turn: Turn) -> None:
        nonlocal right
        async with line.exclusive() as io:
            client = ModbusClient(io, frames, timeout=1.0, worst_latency=0.5, account=account_of(line))
            for number in turn.blocks:
                function, address, count = BLOCKS[number]
                words = await client.read_registers(turn.unit, function, address, count)
                assert words == [cell(turn.unit, function, a) for a in range(address, address + count)]
                right += 1

    async with paper_line(late_and_unnumbered if framing in MANNERS else late) as line:
        for turn in turns:
            with suppress(MeterError, TimeoutError):
                async with asyncio.timeout(turn.cancelled):
                    await session(line, turn)
            await asyncio.sleep(turn.rest)
    return right


@pytest.mark.parametrize("framing", FRAMES)
@settings(max_examples=150)
@given(turns=st.lists(TURNS, min_size=1, max_size=12), delays=st.lists(DELAYS, min_size=1, max_size=8))
def test_no_value_lands_under_another_register(
    framing: str, turns: list[Turn], delays: list[float | None]
) -> None:
    run_virtually(course(turns, delays, framing))


def test_what_is_in_time_is_read() -> None:
    turns = [Turn(unit, (0, 1, 2, 3, 4, 5, 6), None, 0.0) for unit in UNITS]
    assert run_virtually(course(turns, [0.05], "rtu")) == len(turns) * len(BLOCKS)


def test_other_meters_go_on_while_one_is_barred() -> None:
    async def play() -> None:
        far = meters()

        def deaf(heard: Heard) -> list[Act]:
            return [] if heard.octets[0] == 5 else far(heard)

        async with paper_line(deaf) as line:
            account = account_of(line)
            async with line.exclusive() as io:
                client = ModbusClient(io, frames_for("rtu"), timeout=1, worst_latency=0.5, account=account)
                with pytest.raises(MeterError):
                    await client.read_registers(5, 3, 0, 2)
                assert 9 < account.barred_for(5) <= 10
                assert account.barred_shapes(5) == {(3, 4)}
                assert account.barred_for(6) == 0
                with pytest.raises(
                    AnswerOwed, match=r"ask again in 9\.\d s \(unit 5, function 3, 2 registers"
                ):
                    await client.read_registers(5, 3, 10, 2)
                assert len(await client.read_registers(6, 3, 10, 2)) == 2
            await asyncio.sleep(account.barred_for(5))
            assert account.barred_shapes(5) == frozenset()

    run_virtually(play())


@pytest.mark.virtual_time
async def test_the_account_outlives_the_session_that_was_not_answered() -> None:
    """Case 1 of the public reports (pymodbus #2636, libmodbus #83), on a pty: one answer 1.51 s late."""
    far = meters()

    def late(heard: Heard) -> list[Act]:
        return [(1.51 if heard.number == 2 else 0.0, octets) for _, octets in far(heard)]

    async with far_bus(late) as line:
        for _ in range(2):
            async with line.exclusive() as io:
                client = ModbusClient(
                    io, frames_for("rtu"), timeout=1, worst_latency=0.5, account=account_of(line)
                )
                for function, address, count in BLOCKS:
                    words = await client.read_registers(5, function, address, count)
                    assert words == [cell(5, function, a) for a in range(address, address + count)]
        assert unused_frames(line).late_answer == 1


def request(unit: int = 5, address: int = 0, count: int = 2, function: int = 3) -> Request:
    return Request(unit=unit, function=function, address=address, count=count)


def test_what_looks_the_same_is_barred_until_it_came_or_its_time_is_over() -> None:
    owed = Outstanding()
    owed.owe(request(), asked=1.0, until=11.0)
    assert owed.barred(request(address=9), 2.0) == 11.0
    assert owed.barred(request(address=9, count=3), 2.0) is None
    assert owed.barred(request(address=9, function=4), 2.0) is None
    assert owed.barred(request(unit=6), 2.0) is None
    assert owed.barred(request(), 2.0) == 11.0
    assert owed.barred(request(), 2.0, since=0.5) is None
    assert owed.barred(request(), 2.0, since=1.5) == 11.0
    assert owed.barred(request(), 11.0) is None


def test_an_answer_that_came_frees_its_shape_and_tells_its_latency() -> None:
    owed = Outstanding()
    owed.owe(request(), asked=1.0, until=11.0)
    assert owed.came(5, 3, 6, 2.0) is None
    late = owed.came(5, 3, 4, 2.5)
    assert late is not None
    assert late.latency == 1.5
    assert owed.barred(request(), 2.5) is None


def test_a_refusal_that_may_be_of_two_requests_frees_neither() -> None:
    owed = Outstanding()
    owed.owe(request(), asked=1.0, until=11.0)
    owed.owe(request(count=3), asked=2.0, until=12.0)
    assert not owed.takes_refusals(request(count=4), 3.0)
    assert owed.came(5, 3, None, 3.0) is not None
    assert owed.barred(request(), 3.0) == 11.0
    assert owed.barred(request(count=3), 3.0) == 12.0


def test_of_a_repeated_request_one_answer_is_left() -> None:
    owed = Outstanding()
    owed.owe(request(), asked=1.0, until=11.0)
    assert owed.repeated(request(), asked=2.0, until=12.0)
    assert owed.barred(request(address=8), 11.5) == 12.0
    assert not owed.repeated(request(address=8), asked=2.0, until=12.0)


def test_more_than_can_be_told_apart_bar_the_whole_unit() -> None:
    owed = Outstanding()
    for count in range(1, MAX_OWED + 2):
        owed.owe(request(count=count), asked=1.0, until=11.0 + count)
    assert owed.barred(request(function=4, count=99), 2.0) == 11.0 + MAX_OWED + 1
    assert owed.barred(request(unit=6), 2.0) is None
    assert len(owed.barred_shapes(5, 2.0)) == MAX_OWED
