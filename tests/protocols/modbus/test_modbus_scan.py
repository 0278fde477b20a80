"""A scan finds who answers, even with a refusal or late, and guesses model, serial and word order."""

from __future__ import annotations

import pytest

from protocols.lines.traced import TracedLine
from protocols.modbus.library import load_model
from protocols.modbus.model import SERIAL
from protocols.modbus.scan import FoundUnit, scan_modbus
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.fakes import HandClock
from tests.support.modbus.raw_responder import bus, rtu
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
        assert line.statistics().timeouts == 20


async def test_swapped_word_order_is_told() -> None:
    swapped = load_model("sdm120").model_copy(update={"word_order": "little"})
    meter = ModbusMeter(StillMeter("EAS", "10000001"), "sdm120", 3, CLOCK)
    meter._model = swapped
    async with bus_of([meter], "tcp") as line:
        (found,) = [f async for f in scan_modbus(line, [3], models=[load_model("sdm120")])]
    assert found.word_order == "little"
    assert found.meter == "EAS:10000001"


async def test_a_meter_without_serial_is_told_by_its_probe() -> None:
    made = load_model("sdm120")
    bare = made.model_copy(
        update={
            "name": "bare",
            "serial": False,
            "registers": tuple(r for r in made.registers if r.quantity != SERIAL),
        }
    )
    meter = ModbusMeter(StillMeter("EAS", "10000001"), "sdm120", 3, CLOCK)
    async with bus_of([meter], "tcp") as line:
        (found,) = [f async for f in scan_modbus(line, [3], models=[bare])]
        assert (found.model, found.serial, found.meter) == ("bare", None, None)
        nothing = bare.model_copy(update={"probe": ()})
        (found,) = [f async for f in scan_modbus(line, [3], models=[nothing])]
        assert found.model is None
