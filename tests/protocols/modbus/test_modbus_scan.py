"""A scan finds who answers, even with a refusal or late, and guesses model, serial and word order."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.lines.traced import TracedLine
from protocols.modbus.format.library import load_model
from protocols.modbus.scan import FoundUnit, Progress, scan_modbus
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.fakes import HandClock
from tests.support.modbus.far_side import far_bus, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, floats, sdm120
from tests.support.modbus.raw_responder import bus, endpoint, mbap, rtu
from tests.support.modbus.simulated import NOON, StillMeter, bus_of
from tests.support.waiting import waits_run_out

pytestmark = pytest.mark.virtual_time

CLOCK = HandClock(NOON)


def street() -> list[ModbusMeter]:
    return [
        ModbusMeter(StillMeter("EAS", "10000001"), "sdm120", 3, CLOCK),
        ModbusMeter(StillMeter("EAS", "10000002"), "sdm320y", 5, CLOCK),
        ModbusMeter(StillMeter("EAS", "10000003"), "sdm320y-sim", 6, CLOCK),
        ModbusMeter(StillMeter("ABB", "40000001"), "abb-b23", 7, CLOCK),
    ]


@pytest.mark.parametrize("kind", ["tcp", "rtu-tcp", "rtu"])
async def test_finds_units_models_and_serials(kind: str) -> None:
    async with bus_of(street(), kind) as line:
        found = [f async for f in scan_modbus(line, range(1, 10), timeout=0.05)]
    assert [(f.unit, f.model, f.meter, f.word_order) for f in found] == [
        (3, "sdm120", "EAS:10000001", "big"),
        (5, "sdm320y", "EAS:10000002", "big"),
        (6, "sdm320y-sim", "EAS:10000003", "big"),
        (7, "abb-b23", "ABB:40000001", "big"),
    ]


async def test_a_traced_bus_is_asked_in_rtu_framing_only() -> None:
    """A trace does not hide that the line is serial: no TCP header is sent over a bus."""
    requests: list[bytes] = []

    class Sink:
        def octets(self, *, sent: bool, octets: bytes) -> None:
            if sent:
                requests.append(octets)

        def remark(self, text: str) -> None: ...

        def close(self) -> None: ...

    async with bus_of(street()[:1], "rtu") as line:
        found = [f.unit async for f in scan_modbus(TracedLine(line, Sink()), range(1, 4), timeout=0.05)]
    assert found == [3]
    assert {octets[0] for octets in requests} == {1, 2, 3}


async def test_an_exception_proves_presence() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, rtu(4, request[1] | 0x80, 1))] if request[0] == 4 else []

    async with bus(play) as line:
        assert [f async for f in scan_modbus(line, range(3, 6), timeout=0.05)] == [FoundUnit(unit=4)]


async def test_a_late_unit_is_found_and_not_taken_for_its_neighbour() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.14, rtu(4, request[1] | 0x80, 1))] if request[0] == 4 else []

    async with bus(play) as line:
        found = [f.unit async for f in scan_modbus(line, range(3, 8), timeout=0.1)]
    assert found == [4]


async def test_an_empty_line_costs_one_timeout_each() -> None:
    async with bus(lambda number, request: []) as line:
        with waits_run_out() as waits:
            assert [f async for f in scan_modbus(line, range(1, 21), timeout=0.02)] == []
        assert sum(waits) < 2
        assert line.statistics().timeouts == 21, "one for all that come late"


async def test_swapped_word_order_is_told() -> None:
    swapped = load_model("sdm120").model_copy(update={"word_order": "little"})
    meter = ModbusMeter(StillMeter("EAS", "10000001"), "sdm120", 3, CLOCK)
    meter._model = swapped
    async with bus_of([meter], "tcp") as line:
        (found,) = [f async for f in scan_modbus(line, [3])]
    assert found.word_order == "little"
    assert found.meter == "EAS:10000001"


def refuses(unit: int, request: bytes, after: float) -> list[tuple[float, bytes]]:
    return [(after, rtu(unit, request[1] | 0x80, 1))] if request[0] == unit else []


@pytest.mark.parametrize("after", [0.25, 0.8, 1.4])
async def test_slow_meters_are_found_by_their_late_answers(after: float) -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return refuses(4, request, after) + refuses(30, request, after)

    async with bus(play) as line:
        found = [f async for f in scan_modbus(line, range(1, 33), timeout=0.1)]
    assert [(f.unit, f.collision) for f in found] == [(4, False), (30, False)]
    assert all(f.latency is not None and abs(f.latency - after) < 0.01 for f in found)


async def test_two_meters_at_one_unit_are_named() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.01, rtu(7, request[1] | 0x80, 1)[:-2] + b"\x55\xaa\x13")] if request[0] == 7 else []

    async with bus(play) as line:
        found = [f async for f in scan_modbus(line, range(5, 10), timeout=0.05)]
    assert found == [FoundUnit(unit=7, collision=True)]


async def test_two_answers_to_one_question_are_two_meters() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return refuses(7, request, 0.01) + refuses(7, request, 0.06)

    async with bus(play) as line:
        found = [f async for f in scan_modbus(line, range(5, 10), timeout=0.05)]
    assert found == [FoundUnit(unit=7, collision=True)]


async def test_a_meter_whose_late_answer_is_spoiled_is_asked_again_with_patience() -> None:
    """As on a real bus, where it meets the question to another unit."""
    spoiled = 0

    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        nonlocal spoiled
        if request[0] != 4 or spoiled:
            return refuses(4, request, 0.8)
        spoiled += 1
        return [(0.8, b"\x04\x84\x00\x00")]

    async with bus(play) as line:
        found = [f async for f in scan_modbus(line, range(1, 20), timeout=0.1)]
    assert [(f.unit, f.collision) for f in found] == [(4, False)]


async def test_an_echo_and_another_masters_questions_are_nobody() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, request), (0.01, rtu(50, 4, 0, 0, 0, 2))]

    async with bus(play) as line:
        assert [f async for f in scan_modbus(line, range(1, 9), timeout=0.05)] == []


async def test_another_masters_meter_is_found_though_nobody_asked_it() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.01, rtu(50, 0x84, 2))] if number == 3 else []

    async with bus(play) as line:
        found = [f async for f in scan_modbus(line, range(1, 9), timeout=0.05)]
    assert [(f.unit, f.latency) for f in found] == [(50, None)]


async def test_a_gateway_that_says_nobody_is_there_is_no_meter() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        code = 2 if request[6] == 5 else 11
        return [(0.02, mbap(request[:2], 0 if request[6] == 5 else request[6], request[7] | 0x80, code))]

    async with endpoint(play) as line:
        found = [f async for f in scan_modbus(line, range(1, 9), timeout=0.1, framing="tcp")]
    assert [f.unit for f in found] == [5]


async def test_a_gateway_that_closes_after_each_answer_is_scanned_whole() -> None:
    def play(number: int, request: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, mbap(request[:2], request[6], request[7] | 0x80, 2)), (0.001, b"")]

    async with endpoint(play) as line:
        found = [f async for f in scan_modbus(line, range(1, 6), timeout=0.1, framing="tcp")]
    assert [f.unit for f in found] == [1, 2, 3, 4, 5]


async def test_progress_is_told() -> None:
    told: list[Progress] = []
    async with bus(lambda number, request: []) as line:
        assert [f async for f in scan_modbus(line, range(1, 41), timeout=0.02, progress=told.append)] == []
    assert [(one.done, one.total) for one in told] == [(16, 40), (32, 40), (40, 40)]


async def test_a_users_model_without_serial_is_told_by_its_scaled_probe(tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text(
        'extends = "sdm120"\nname = "bare"\nserial = false\nremove = ["0-0:96.1.0*255"]\n'
        '[fingerprint]\ngrowing = ["1-0:1.8.0*255"]\n'
        '[[scales]]\nname = "pt"\nfunction = 3\naddress = 0x100\ntype = "u32"\n'
        '[[registers]]\nquantity = "1-0:12.7.0*255"\nmultiply_by = ["pt"]\n',
        encoding="utf-8",
    )
    cells = {cell: word for cell, word in sdm120(1).items() if cell[0] == 4}
    cells |= floats({0: 2.314}) | {(3, 0x100): 0, (3, 0x101): 100}
    async with far_endpoint(RawMeters([RawMeter(3, cells)], "tcp")) as line:
        (found,) = [f async for f in scan_modbus(line, [3], models=tmp_path)]
        await line.close()
    assert (found.model, found.serial, found.word_order) == ("bare", None, "big")


async def test_a_meter_that_gives_zeros_for_what_it_lacks_is_not_taken_for_a_larger_one() -> None:
    """Its phases two and three show no voltage; three that do are a three-phase meter."""
    three = sdm120(10_000_006, {0x02: 231.0, 0x04: 229.5})
    meters = RawMeters([RawMeter(5, sdm120(10_000_005)), RawMeter(6, three)])
    async with far_bus(meters) as line:
        one, other = [f async for f in scan_modbus(line, range(4, 8), timeout=0.05)]
    assert (one.unit, one.model, one.meter) == (5, "sdm120", "EAS:10000005")
    assert "sdm72" in one.also
    assert (other.unit, other.model) == (6, "sdm72")
    assert "sdm120" not in other.also
