"""A raw responder plays what servers cannot: late, dead, garbled and foreign answers, on ptys and sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from protocols.errors import (
    LineClosed,
    LocalError,
    MeterBusy,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
)
from protocols.line import Line
from protocols.modbus.client.account import LineAccount, account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.unused import UnusedFrames, unused_frames
from tests.support.modbus.raw_responder import bus, endpoint, mbap, rtu, words
from tests.support.waiting import waits_run_out

pytestmark = pytest.mark.virtual_time

TIMEOUT, LATENCY = 0.2, 0.8
"""Seconds."""


@asynccontextmanager
async def client(
    line: Line, framing: str = "rtu", *, account: LineAccount | None = None
) -> AsyncIterator[ModbusClient]:
    async with line.exclusive() as io:
        yield ModbusClient(
            io,
            frames_for(framing),
            timeout=TIMEOUT,
            worst_latency=LATENCY,
            account=account or account_of(line),
        )


@pytest.mark.parametrize("late", [TIMEOUT + 0.2, TIMEOUT + 0.4, TIMEOUT + LATENCY - 0.2])
@pytest.mark.parametrize("next_unit", [5, 6])
@pytest.mark.parametrize("same_turn", [True, False])
async def test_a_late_answer_is_never_the_next_ones(late: float, next_unit: int, same_turn: bool) -> None:
    """It is heard in the quiet time, so that the meter is asked again: only the second answer is believed."""

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(late, words(5, 1111, 1112))] if number == 1 else [(0.0, words(request[0], 2222, number))]

    async with bus(play) as line:
        account = account_of(line)
        async with client(line, account=account) as modbus:
            assert await modbus.read_registers(5, 3, 0, 2) == [2222, 2]
            if same_turn:
                assert await modbus.read_registers(next_unit, 3, 10, 2) == [2222, 3]
        if not same_turn:
            async with client(line, account=account) as modbus:
                assert await modbus.read_registers(next_unit, 3, 10, 2) == [2222, 3]
        assert unused_frames(line) == UnusedFrames(late_answer=1)
        assert account.latency(5).slowest > late - 0.01


async def test_a_late_answer_after_a_cancelled_request_is_dropped() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.06, words(5, 1111 * number))]

    async with bus(play) as line:

        async def ask() -> None:
            async with client(line) as modbus:
                await modbus.read_registers(5, 3, 0, 1)

        asking = asyncio.create_task(ask())
        while line.statistics().sent < 8:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with client(line) as modbus:
            assert await modbus.read_registers(5, 3, 0, 1) == [2222]


async def test_a_late_answer_cut_in_two_by_the_end_of_quiet_is_dropped_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The silence wanted at the end of quiet is lengthened, so that a busy machine still cuts where it should."""
    monkeypatch.setattr("protocols.lines.base.SETTLE_SILENCE", 0.4)
    late = words(5, 1111)
    cut = TIMEOUT + LATENCY

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        if number == 1:
            return [(cut - 0.2, late[:3]), (cut + 0.1, late[3:])]
        return [(0.04, words(request[0], 2222))]

    async with bus(play) as line, client(line) as modbus:
        with pytest.raises(MeterSilent):
            await modbus.read_registers(5, 3, 0, 1)
        assert await modbus.read_registers(6, 3, 0, 1) == [2222]


async def test_a_later_answer_of_another_unit_is_passed_over() -> None:
    """Later than any latency that was declared: it comes while another meter is asked, and is counted."""

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [] if number == 1 else [(0.0, words(5, 1111)), (0.1, words(6, 2222))]

    async with bus(play) as line, client(line) as modbus:
        with pytest.raises(MeterSilent):
            await modbus.read_registers(5, 3, 0, 1)
        assert await modbus.read_registers(6, 3, 0, 1) == [2222]
        assert unused_frames(line) == UnusedFrames(late_answer=1)


async def test_a_dead_meter_costs_one_timeout_and_leaves_the_line() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, words(6, 2222))] if request[0] == 6 else []

    async with bus(play) as line, client(line) as modbus:
        text = r"no answer in 0.2 s \(unit 5, function 3, 1 registers from 0"
        with waits_run_out() as waits, pytest.raises(MeterSilent, match=text):
            await modbus.read_registers(5, 3, 0, 1)
        assert sum(waits) < TIMEOUT + LATENCY + 0.2
        assert await modbus.read_registers(6, 3, 0, 1) == [2222]
        assert line.statistics().timeouts == 2  # one for the answer, one for a late one


BROKEN = {
    "bad check sum": (words(5, 7)[:-1] + b"\x00", r"check sum of the answer is wrong \(7 octets came\)"),
    "garbage": (b"\xff\x00\xff\x00\xff\x00\xff", "7 octets came that are no frame"),
    "other unit": (words(9, 7), "unit 9 answers instead of unit 5"),
    "other function": (words(5, 7, function=4), "to function 4, not 3"),
    "too few data": (rtu(5, 3, 0), "5 octets came that are no frame"),
    "too many data": (words(5, 7, 8), "4 octets of data, not 2"),
    "broken off": (words(5, 7)[:5], "broke off after 5 octets"),
    "flood": (bytes(2000), "octets came that are no frame"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_rtu_answers_say_what_is_wrong_and_pass(name: str) -> None:
    octets, message = BROKEN[name]

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, octets if number < 3 else words(5, 2222, 2223))]

    async with bus(play) as line, client(line) as modbus:
        with pytest.raises(MeterProtocolError, match=message):
            await modbus.read_registers(5, 3, 0, 1)
        assert await modbus.read_registers(5, 3, 0, 2) == [2222, 2223]


@pytest.mark.parametrize("bad", [words(5, 7)[:-1] + b"\x00", b"", b"\x00\xff\x00"])
async def test_a_meter_that_was_heard_is_asked_again_once(bad: bytes) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, bad if number in (2, 4, 5) else words(5, number))]

    async with bus(play) as line, client(line) as modbus:
        assert await modbus.read_registers(5, 3, 0, 1) == [1]
        assert await modbus.read_registers(5, 3, 0, 1) == [3]
        with pytest.raises(MeterError):
            await modbus.read_registers(5, 3, 0, 1)


async def test_noise_after_the_answer_and_an_echo_before_it_do_no_harm() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, request + words(5, number) + b"\x00")]

    async with bus(play) as line, client(line) as modbus:
        assert await modbus.read_registers(5, 3, 0, 1) == [1]
        assert await modbus.read_registers(5, 3, 2, 1) == [2]


@pytest.mark.parametrize("address", [0, 0x0200])
async def test_an_echo_in_pieces_is_no_answer_and_alone_it_is_silence(address: int) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        pieces = [(0.005 * i, request[i : i + 1]) for i in range(len(request))]
        return [*pieces, (0.06, words(request[0], 7))] if request[0] == 5 else pieces

    async with bus(play) as line, client(line) as modbus:
        assert await modbus.read_registers(5, 3, address, 1) == [7]
        modbus._has_answered = False
        with pytest.raises(MeterSilent):
            await modbus.read_registers(6, 3, address, 1)


async def test_a_slow_answer_in_pieces_is_one_answer() -> None:
    answer = words(5, 7)

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.03 * i, answer[i : i + 1]) for i in range(len(answer))]

    async with bus(play) as line, client(line) as modbus:
        assert await modbus.read_registers(5, 3, 0, 1) == [7]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        *((code, MeterRefused) for code in (1, 2, 3, 4, 77)),
        (5, MeterBusy),
        (10, MeterSilent),
        (11, MeterSilent),
    ],
)
@pytest.mark.parametrize("framing", ["rtu", "tcp"])
async def test_exceptions_say_who_must_act(code: int, error: type[MeterError], framing: str) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, rtu(5, 0x83, code) if framing == "rtu" else mbap(request[:2], 5, 0x83, code))]

    async with (bus if framing == "rtu" else endpoint)(play) as line, client(line, framing) as modbus:
        with pytest.raises(error, match=f"Modbus exception {code} ") as caught:
            await modbus.read_registers(5, 3, 0, 1)
        assert type(caught.value) is error
        if isinstance(caught.value, MeterRefused):
            assert caught.value.reason_code == code


async def test_a_busy_meter_is_asked_again_and_never_read_as_zero() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, rtu(5, 0x83, 6) if number < 3 or number > 3 else words(5, 42))]

    async with bus(play) as line, client(line) as modbus:
        assert await modbus.read_registers(5, 3, 0, 1) == [42]
        with pytest.raises(MeterBusy):
            await modbus.read_registers(5, 3, 0, 1)


async def test_late_tcp_answers_are_known_by_their_transaction() -> None:
    first = b""

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        nonlocal first
        if number == 1:
            first = request[:2]
            return []
        return [(0.0, mbap(first, 5, 3, 2, 0, 1) + mbap(request[:2], 5, 3, 2, 0, 2))]

    async with endpoint(play) as line, client(line, "tcp") as modbus:
        with pytest.raises(MeterSilent):
            await modbus.read_registers(5, 3, 0, 1)
        assert await modbus.read_registers(5, 3, 0, 1) == [2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t: mbap(t, 9, 3, 2, 0, 7), "unit 9 answers instead of unit 5"),
        (lambda t: mbap(t, 5, 4, 2, 0, 7), "to function 4, not 3"),
        (lambda t: mbap(t, 5, 3, 4, 0, 7, 0, 8), "4 octets of data, not 2"),
        (lambda t: mbap(t, 5, 3, 2, 0), "1 octets of data, not 2"),
        (lambda t: b"GET / HTTP/1.0\r\n\r\n", "not a Modbus header"),
        (lambda t: t + b"\0\0\0\0\5\3\2\0\7", "not a Modbus header: protocol 0, length 0"),
        (lambda t: mbap(t, 5, 3, 2, 0, 7)[:-1], "broke off after 10 octets"),
    ],
)
async def test_broken_tcp_answers_say_what_is_wrong_and_pass(
    answer: Callable[[bytes], bytes], message: str
) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, answer(request[:2]) if number < 3 else mbap(request[:2], 5, 3, 2, 8, 174))]

    async with endpoint(play) as line, client(line, "tcp") as modbus:
        with pytest.raises(MeterProtocolError, match=message):
            await modbus.read_registers(5, 3, 0, 1)
        assert await modbus.read_registers(5, 3, 0, 1) == [2222]


async def test_a_far_end_that_closes_is_a_line_error() -> None:
    async with endpoint(lambda number, request: [(0.0, b"")]) as line, client(line, "tcp") as modbus:
        with pytest.raises(LineClosed):
            await modbus.read_registers(5, 3, 0, 1)


@pytest.mark.parametrize(
    "wrong", [(5, 6, 0, 1), (5, 3, 0, 126), (5, 3, 0, 0), (5, 3, 65535, 2), (300, 3, 0, 1)]
)
async def test_impossible_requests_are_our_own_fault(wrong: tuple[int, int, int, int]) -> None:
    async with endpoint(lambda number, request: []) as line, client(line, "tcp") as modbus:
        with pytest.raises(LocalError):
            await modbus.read_registers(*wrong)
