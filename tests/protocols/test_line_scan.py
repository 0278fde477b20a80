"""A line of which nothing is known: protocols, settings and addresses are found in the likeliest order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from protocols.dlms.client.stations import likely_stations, station
from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder
from protocols.line import Line
from protocols.meters.scan import (
    SETTINGS,
    Found,
    FoundStation,
    ScanLimits,
    ScanProgress,
    SerialSetting,
    scan_bus,
    scan_stations,
)
from protocols.modbus.scan import FoundUnit
from tests.support.modbus.far_side import Act, Far, Heard, far_bus
from tests.support.modbus.raw_responder import rtu

pytestmark = pytest.mark.virtual_time

NINE_E = SerialSetting(9600, "E")
FEW = ScanLimits(units=range(1, 21), stations=tuple(likely_stations())[:12], timeout=0.05)


def stations(*there: Address, kind: int = hdlc.UA, after: float = 0.0) -> Far:
    """A bus with HDLC stations that answer SNRM in their own way."""

    def far(heard: Heard) -> list[Act]:
        acts = []
        for frame in FrameDecoder().receive_data(heard.octets):
            assert isinstance(frame, Frame)
            if frame.destination in there:
                answer = hdlc.UA if frame.kind == hdlc.DISC else kind
                said = Frame(
                    destination=frame.source, source=frame.destination, control=answer | hdlc.POLL
                ).encode()
                acts.append((after, said))
        return acts

    return far


def units(*there: int) -> Far:
    return lambda heard: [(0.0, rtu(heard.octets[0], 0x84, 2))] if heard.octets[0] in there else []


def both(*parts: Far) -> Far:
    def far(heard: Heard) -> list[Act]:
        if heard.octets[0] == hdlc.FLAG:
            return parts[0](heard)
        return parts[1](heard)

    return far


async def found_stations(far: Far, *asked: Address) -> list[FoundStation]:
    async with far_bus(far) as line:
        return [one async for one in scan_stations(line, asked or likely_stations(), 0.05)]


@pytest.mark.parametrize("kind", [hdlc.UA, hdlc.DM, hdlc.FRMR])
async def test_any_answer_proves_a_station(kind: int) -> None:
    found = await found_stations(stations(station(1, 40), kind=kind))
    assert found == [FoundStation(station=station(1, 40))]


async def test_one_octet_and_the_last_digits_of_a_serial_are_asked() -> None:
    there = (station(1, None), station(1, 16), station(1, 115), station(99, None), station(1, 17, 4))
    assert {one.station for one in await found_stations(stations(*there))} == set(there)


async def test_a_meter_that_takes_both_forms_of_its_address_is_one_meter() -> None:
    found = await found_stations(stations(station(1, 17), station(1, 17, 4), station(1, 20, 4)))
    assert [one.station for one in found] == [station(1, 17), station(1, 20, 4)]


async def test_a_slow_station_is_found_late_and_only_once() -> None:
    found = await found_stations(stations(station(1, 20), after=0.8))
    assert [(one.station, one.collision) for one in found] == [(station(1, 20), False)]
    assert found[0].latency is not None
    assert 0.79 < found[0].latency < 0.82


async def test_frames_that_collide_are_named() -> None:
    def far(heard: Heard) -> list[Act]:
        clear = stations(station(1, 17))(heard)
        return [(0.0, octets[:4] + b"\x00\xff" + octets[4:]) for _, octets in clear]

    assert await found_stations(far, station(1, 16), station(1, 17), station(1, 18)) == [
        FoundStation(station=station(1, 17), collision=True)
    ]


@asynccontextmanager
async def settings_of(
    right: SerialSetting, far: Far
) -> AsyncIterator[tuple[Callable[[SerialSetting], Line], list[str]]]:
    """Lines of one device: what is asked at another setting is heard by nobody."""
    opened: list[str] = []

    def at_setting(heard: Heard) -> list[Act]:
        return far(heard) if opened[-1] == str(right) else []

    async with far_bus(at_setting) as line:

        def open_line(setting: SerialSetting) -> Line:
            opened.append(str(setting))
            return _Kept(line)

        yield open_line, opened


class _Kept:
    """A line that survives its `close`: the device stays the same."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.name = line.name
        self.exclusive = line.exclusive
        self.statistics = line.statistics
        self.memory = line.memory  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Stay open."""


async def scanned(
    right: SerialSetting, far: Far, limits: ScanLimits = FEW
) -> tuple[list[tuple[str, Found]], list[str], list[ScanProgress]]:
    told: list[ScanProgress] = []
    async with settings_of(right, far) as (open_line, opened):
        found = [(str(s), one) async for s, _, one in scan_bus(open_line, SETTINGS, limits, told.append)]
    return found, opened, told


async def test_a_mixed_bus_is_found_whole_at_the_setting_where_an_octet_was_heard() -> None:
    found, opened, told = await scanned(NINE_E, both(stations(station(1, 17), station(1, 18)), units(3, 12)))
    assert {(setting, type(one)) for setting, one in found} == {
        ("9600 8E1", FoundStation),
        ("9600 8E1", FoundUnit),
    }
    assert len(found) == 4
    assert opened == [*(str(s) for s in SETTINGS), "9600 8E1"], "a look at each, then the warm one alone"
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[0].seconds_left > told[-1].seconds_left >= 0


async def test_an_address_that_is_not_likely_is_found_in_the_second_round() -> None:
    found, opened, _ = await scanned(SerialSetting(19200, "N"), both(stations(), units(18)))
    assert [(setting, one) for setting, one in found] == [("19200 8N1", FoundUnit(unit=18))]
    assert opened[len(SETTINGS) :] == ["9600 8N1", "9600 8E1", "19200 8N1"]


async def test_an_empty_bus_is_searched_at_every_setting() -> None:
    found, opened, told = await scanned(NINE_E, lambda heard: [])
    assert found == []
    assert opened == [str(s) for s in SETTINGS] * 2
    assert told[-1].seconds_left < 5


async def test_noise_makes_a_setting_warm_and_is_no_meter() -> None:
    found, opened, _ = await scanned(
        NINE_E, both(stations(), lambda heard: [(0.0, b"\x81\x33")] if heard.octets[0] == 2 else [])
    )
    assert [(setting, one) for setting, one in found] == [("9600 8E1", FoundUnit(unit=2, collision=True))]
    assert opened[len(SETTINGS)] == "9600 8E1"
