"""Behaviours of meters and gateways from public reports, each with raw octets: two SDM120 at units 5 and 6.

Numbers are those of the cases in the issue trackers that are named. What concerns values, learned holes and the scan is
tested beside those parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.errors import LineClosed, MeterProtocolError, MeterSilent, ProtocolError
from protocols.known import Known
from protocols.line import Line
from protocols.modbus.client.account import GatewayFacts, account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.client.latency import LatencyFacts
from protocols.modbus.framing.requests import Request
from protocols.modbus.session.session import open_modbus
from protocols.reading import Number, ProfileName
from protocols.session import MeterSpec, ModbusSettings, SessionContext
from protocols.unused import UnusedFrames, unused_frames
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Far, Heard, far_bus, far_datagrams, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, ascii_frame, rtu_frame, tcp_frame, two_sdm120
from tests.support.modbus.simulated import NOON
from tests.support.waiting import passed

pytestmark = pytest.mark.virtual_time

CONTEXT = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=JumpClock(NOON))
VOLTS = {5: "231.4", 6: "232.4"}


def spec(unit: int = 5, framing: str = "rtu", **settings: Any) -> MeterSpec:
    modbus = replace(ModbusSettings(unit=unit, model="sdm120", framing=framing), **settings)
    return MeterSpec(meter=f"EAS:1000000{unit}", modbus=modbus)


async def volts(line: Line, wanted: MeterSpec) -> str:
    """Read a meter in a session of its own; return its voltage."""
    async with open_modbus(line, wanted, CONTEXT) as session:
        (reading,) = [reading async for reading in session.read(ProfileName.INSTANTANEOUS)]
    value = reading.value("1-0:12.7.0*255")
    assert isinstance(value, Number)
    return value.text()


async def read_both(line: Line, framing: str = "rtu", **settings: Any) -> None:
    for unit, shown in VOLTS.items():
        assert await volts(line, spec(unit, framing, **settings)) == shown


def before(octets: bytes, *, each: int = 1) -> Far:
    """Two meters with these octets before every answer, or before one in so many."""
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        noise = octets if heard.number % each == 0 else b""
        return [(delay, noise + answer) for delay, answer in far(heard)]

    return play


FOREIGN = rtu_frame(9, bytes((4, 4, 1, 2, 3, 4)))
MASTER = rtu_frame(9, bytes((4, 0, 0, 0, 2))) + FOREIGN
SAME_METER = rtu_frame(5, bytes((4, 0, 0x20, 0, 1))) + rtu_frame(5, bytes((4, 2, 9, 9)))


@pytest.mark.parametrize("noise", [b"\0", b"\xff", b"\0\xff\0", b"\x05", b"\x05\x04", b"\x05\x04\x48"])
@pytest.mark.parametrize("each", [1, 3])
async def test_05_octets_before_the_answer(noise: bytes, each: int) -> None:
    """Minimalmodbus #61, libmodbus #14, tokio-modbus #375."""
    async with far_bus(before(noise, each=each)) as line:
        for _ in range(3):
            await read_both(line)
        assert unused_frames(line).not_a_frame > 0


async def test_04_a_frame_of_another_unit_comes_before_the_right_one() -> None:
    """simonvetter/modbus #40: 20 ms before it, and glued to it."""
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        if heard.number % 2:
            return [(0.0, FOREIGN), *((0.02, answer) for _, answer in far(heard))]
        return [(0.0, FOREIGN + answer) for _, answer in far(heard)]

    async with far_bus(play) as line:
        await read_both(line)
        assert unused_frames(line).wrong_address == line.statistics().sends


@pytest.mark.parametrize("kept", [8, 2, 1])
async def test_06_the_line_gives_back_the_request_or_its_tail(kept: int) -> None:
    """esphome_modbus_bridge #21: an adapter that mutes its receiver too late."""
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        return [(0.0, heard.octets[-kept:] + answer) for _, answer in far(heard)]

    async with far_bus(play) as line:
        await read_both(line)
        assert unused_frames(line) == UnusedFrames(echo=line.statistics().sends)


async def test_an_echo_alone_is_silence_that_names_it() -> None:
    async with far_bus(lambda heard: [(0.0, heard.octets)]) as line:
        with pytest.raises(MeterSilent, match="gives back what is sent"):
            await volts(line, spec())


async def test_17_another_masters_traffic_is_passed_over_and_named() -> None:
    """Libmodbus #83: requests and answers of a second master, to other units and to the same meter."""
    far = two_sdm120()
    silent = False

    def play(heard: Heard) -> list[Act]:
        traffic = (MASTER, SAME_METER)[heard.number % 2]
        return [(0.0, traffic + (b"" if silent else answer)) for _, answer in far(heard)]

    async with far_bus(play) as line:
        await read_both(line)
        assert unused_frames(line).other_master == 2 * line.statistics().sends
        silent = True
        with pytest.raises(MeterSilent, match="another master talks on this line"):
            await volts(line, spec())


async def test_another_master_that_asks_the_same_spoils_the_answer_and_no_more() -> None:
    """Its answer has our answer's look: neither is believed, and the text says why."""
    far = two_sdm120()
    spoiled = True

    def play(heard: Heard) -> list[Act]:
        function, count = heard.octets[1], heard.octets[4:6]
        other = rtu_frame(5, bytes((function, 0, 0x60)) + count)
        answer = rtu_frame(5, bytes((function, 2 * count[1])) + bytes(2 * count[1]))
        return [(0.0, (other + answer if spoiled else b"") + mine) for _, mine in far(heard)]

    async with far_bus(play) as line:
        with pytest.raises(MeterProtocolError, match=r"another master .* asks unit 5 the same"):
            await volts(line, spec())
        spoiled = False
        assert await volts(line, spec(6)) == VOLTS[6]


async def test_a_wrong_check_sum_says_how_many_octets_came() -> None:
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        return [(0.0, answer[:-1] + b"\0") for _, answer in far(heard)]

    async with far_bus(play) as line:
        with pytest.raises(
            MeterProtocolError, match=r"check sum .* \(9 octets came\).*two meters answer at 5"
        ):
            await volts(line, spec())


async def test_18_two_meters_at_one_unit() -> None:
    """Both answer, one behind the other: no value of either is believed."""
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        return [
            (0.0, answer + rtu_frame(5, answer[1:3] + bytes(len(answer) - 5))) for _, answer in far(heard)
        ]

    async with far_bus(play) as line:
        with pytest.raises(MeterProtocolError, match="two meters answer at 5"):
            await volts(line, spec())


async def test_16_a_meter_at_1_3_seconds_is_read() -> None:
    """Libmodbus #776: the answer is heard in the quiet time, and the wait follows."""
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        return [(1.3, answer) for _, answer in far(heard)]

    async with far_bus(play) as line:
        assert await volts(line, spec()) == VOLTS[5]
        waited = line.statistics().timeouts
        assert waited == 1
        for _ in range(2):
            assert await volts(line, spec()) == VOLTS[5]
        assert line.statistics().timeouts == waited
        assert 1.2 < account_of(line).latency(5).usual < 1.4


async def test_a_meter_slower_than_any_wait_is_heard_while_others_are_read() -> None:
    far = two_sdm120()

    def play(heard: Heard) -> list[Act]:
        return [(4.0 if heard.octets[0] == 5 else 1.0, answer) for _, answer in far(heard)]

    async with far_bus(play) as line:
        with pytest.raises(MeterSilent):
            await volts(line, spec(5))
        for _ in range(3):
            assert await volts(line, spec(6)) == VOLTS[6]
        assert await volts(line, spec(5)) == VOLTS[5]


def paused(unit: int, seconds: float, *, after: Callable[[int], bool]) -> Far:
    """Two meters, one of which is deaf for a while after a unit was asked that `after` says; asked then, it reboots."""
    far, ready = two_sdm120(), list[Callable[[], bool]]()

    def play(heard: Heard) -> list[Act]:
        asked = heard.octets[0]
        deaf = asked == unit and bool(ready) and not ready[-1]()
        if deaf or after(asked):
            ready.append(passed(5.0 if deaf else seconds))
        return [] if deaf else far(heard)

    return play


def model_with(folder: Path, pause: str) -> dict[str, Any]:
    """Return the settings of a meter whose model wants a pause."""
    text = f'extends = "sdm120"\nname = "paused"\ntitle = "Paused"\n{pause}\n'
    (folder / "paused.toml").write_text(text, encoding="utf-8")
    return {"model": "paused", "models": folder}


async def test_11_a_meter_that_must_not_be_asked_again_at_once(tmp_path: Path) -> None:
    """reaper7/SDM_Energy_Meter #50: asked within 100 ms of its answer it reboots."""
    async with far_bus(paused(5, 0.1, after=lambda unit: unit == 5)) as line:
        with pytest.raises(ProtocolError):
            await volts(line, spec())
    async with far_bus(paused(5, 0.1, after=lambda unit: unit == 5)) as line:
        for _ in range(2):
            assert await volts(line, spec(**model_with(tmp_path, "pause = 0.11"))) == VOLTS[5]


async def test_12_a_meter_that_is_deaf_after_another_units_answer(tmp_path: Path) -> None:
    """Mbmd #155, #333: 200 ms."""
    async with far_bus(paused(6, 0.2, after=lambda unit: unit == 5)) as line:
        for _ in range(2):
            await read_both(line, **model_with(tmp_path, "pause_after_other_unit = 0.21"))
        assert line.statistics().timeouts == 0


async def test_07_a_gateway_that_closes_after_each_answer() -> None:
    """alejoseb/Modbus-STM32 #32: read from the first time on, and learned after two."""
    far = two_sdm120("tcp")

    def play(heard: Heard) -> list[Act]:
        return [*far(heard), (0.0, b"")]

    async with far_endpoint(play) as line:
        for _ in range(3):
            await read_both(line, "tcp")
        assert account_of(line).connection.one_request


async def test_one_request_a_connection_as_a_setting_makes_no_request_in_vain() -> None:
    far = two_sdm120("tcp")
    longest = 0

    def play(heard: Heard) -> list[Act]:
        nonlocal longest
        longest = max(longest, heard.on_connection)
        return far(heard)

    async with far_endpoint(play) as line:
        await read_both(line, "tcp", one_request=True)
    assert longest == 1


def renumbered(number: int) -> Far:
    """A gateway with transaction ids of its own."""
    far = two_sdm120("tcp")
    return lambda heard: [(delay, number.to_bytes(2, "big") + answer[2:]) for delay, answer in far(heard)]


@pytest.mark.parametrize("number", [0, 2])
async def test_08_a_gateway_with_transaction_ids_of_its_own(number: int) -> None:
    """Pymodbus #2709, sunsynk #680: the message proposes the setting, with which it is read."""
    async with far_endpoint(renumbered(0 if number == 0 else 65000)) as line:
        with pytest.raises(MeterProtocolError, match="set own_transactions = true"):
            await volts(line, spec(framing="tcp"))
    async with far_endpoint(renumbered(number)) as line:
        await read_both(line, "tcp", own_transactions=True)


@pytest.mark.parametrize("unit", [0, 255])
async def test_09_a_gateway_that_answers_for_unit_0_or_255(unit: int) -> None:
    """FluentModbus #84."""
    far = two_sdm120("tcp")

    def play(heard: Heard) -> list[Act]:
        return [(delay, answer[:6] + bytes((unit,)) + answer[7:]) for delay, answer in far(heard)]

    async with far_endpoint(play) as line:
        with pytest.raises(MeterProtocolError, match=f"set answer_unit = {unit}"):
            await volts(line, spec(framing="tcp"))
        await read_both(line, "tcp", answer_unit=unit)


@pytest.mark.parametrize("unit", [0, 255])
async def test_09_a_meter_that_wants_unit_0_or_255(unit: int) -> None:
    far = RawMeters([replace(two_sdm120().meters[5], unit=unit)], "tcp")
    async with far_endpoint(far) as line:
        wanted = replace(spec(framing="tcp"), modbus=ModbusSettings(unit=unit, model="sdm120"))
        assert await volts(line, wanted) == VOLTS[5]


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
async def test_10_a_connection_on_which_nothing_answers_any_more(framing: str) -> None:
    """Edgex device-modbus-go #606: a new one works."""
    far = two_sdm120(framing)
    dead: set[int] = set()

    def play(heard: Heard) -> list[Act]:
        return [] if heard.connection in dead else far(heard)

    async with far_endpoint(play) as line:
        await read_both(line, framing)
        dead.add(1)
        for _ in range(2):
            try:
                await read_both(line, framing)
                break
            except ProtocolError:
                await asyncio.sleep(10)
        else:
            pytest.fail("never read again")
        assert line.statistics().connects == 2


async def test_a_silent_meter_is_no_reason_for_one_connection_after_the_other() -> None:
    async with far_endpoint(lambda heard: []) as line:
        for _ in range(6):
            with pytest.raises(MeterSilent):
                await volts(line, spec(framing="tcp"))
        assert line.statistics().connects <= 3


async def test_15_a_gateways_word_on_a_dead_meter_is_waited_for() -> None:
    """HA core #122607, telegraf #11782: it waits 3 s for a dead meter, and does nothing else meanwhile."""
    far = two_sdm120("tcp")
    busy: list[Callable[[], bool]] = []

    def play(heard: Heard) -> list[Act]:
        if busy and not busy[-1]():
            pytest.fail("asked while it waits for the dead meter")
        if heard.octets[6] == 6:
            return far(heard)
        busy.append(passed(2.99))
        return [(3.0, tcp_frame(far.transaction_of(heard.octets), 5, bytes((heard.octets[7] | 0x80, 11))))]

    async with far_endpoint(play) as line:
        for _ in range(2):
            with pytest.raises(MeterSilent, match="exception 11"):
                await volts(line, spec(5, "tcp"))
            assert await volts(line, spec(6, "tcp")) == VOLTS[6]
        facts = account_of(line).gateway
        assert facts.speaks_after is not None
        assert 2.9 < facts.speaks_after < 3.1


async def test_a_gateway_without_a_word_is_waited_for_once() -> None:
    far = two_sdm120("tcp")
    async with far_endpoint(lambda heard: [] if heard.octets[6] == 5 else far(heard)) as line:
        assert await volts(line, spec(6, "tcp")) == VOLTS[6]
        with pytest.raises(MeterSilent, match="no answer in 5 s"):
            await volts(line, spec(5, "tcp"))
        assert account_of(line).gateway == GatewayFacts(keeps_silent=True)
        assert await volts(line, spec(6, "tcp")) == VOLTS[6]
        with pytest.raises(MeterSilent, match="no answer in 1 s"):
            await volts(line, spec(5, "tcp"))


async def test_modbus_over_udp() -> None:
    far = two_sdm120("tcp")
    lost = {2, 5}
    async with far_datagrams(lambda heard: [] if heard.number in lost else far(heard)) as line:
        for _ in range(2):
            await read_both(line, "tcp")


async def test_modbus_ascii_with_noise_and_another_units_frame() -> None:
    far = two_sdm120("ascii")
    other = ascii_frame(9, bytes((4, 2, 0, 1)))

    def play(heard: Heard) -> list[Act]:
        return [(0.0, b"\0:05" + other + answer) for _, answer in far(heard)]

    async with far_bus(play) as line:
        await read_both(line, "ascii")
        assert unused_frames(line).wrong_address == line.statistics().sends


async def test_a_far_end_that_closes_at_once_is_a_line_error() -> None:
    async with far_endpoint(lambda heard: [(0.0, b"")]) as line:
        with pytest.raises(LineClosed):
            await volts(line, spec(framing="tcp"))


def test_a_request_says_what_it_is() -> None:
    assert str(Request(unit=5, function=4, address=0, count=2)) == "unit 5, function 4, 2 registers from 0"


async def test_a_slow_meter_is_waited_for_at_once_when_its_latency_is_known() -> None:
    """An earlier run of the program kept it, as it keeps what else it learned of a meter."""
    far = two_sdm120()
    known: Known = {}

    def play(heard: Heard) -> list[Act]:
        return [(1.3, answer) for _, answer in far(heard)]

    for waited in (1, 0):
        async with far_bus(play) as line:
            async with open_modbus(line, spec(), CONTEXT, known=known) as session:
                assert [reading async for reading in session.read(ProfileName.INSTANTANEOUS)]
            assert line.statistics().timeouts == waited


def test_patience_follows_what_a_meter_takes() -> None:
    facts = LatencyFacts()
    assert facts.patience(1.0, 10.0) == 1.0
    for _ in range(20):
        facts = facts.heard(0.03)
    assert facts.patience(1.0, 10.0) == 0.25
    facts = facts.heard(0.9)
    assert facts.patience(1.0, 10.0) > 1.3
    for _ in range(400):
        facts = facts.heard(0.03)
    assert facts.patience(1.0, 10.0) < 0.3
    assert LatencyFacts().heard(30.0).patience(1.0, 10.0) == 10.0


@pytest.mark.parametrize("apart", [0.0, 0.02, 0.3])
async def test_18_two_meters_at_one_unit_one_after_the_other(apart: float) -> None:
    """The second one is slower: its answer comes behind, or into the next request, which is of equal shape."""
    registers = {unit: {(3, a): 1000 * unit + a for a in range(8)} for unit in (1, 2)}
    far = [RawMeters([RawMeter(5, cells)]) for cells in registers.values()]

    def play(heard: Heard) -> list[Act]:
        return [(apart * place, octets) for place, one in enumerate(far) for _, octets in one(heard)]

    async with far_bus(play) as line:
        for _ in range(3):
            async with line.exclusive() as io:
                client = ModbusClient(
                    io, frames_for("rtu"), timeout=1, worst_latency=0.5, account=account_of(line)
                )
                with pytest.raises(MeterProtocolError, match="two meters answer at 5"):
                    await several(client)


async def several(client: ModbusClient) -> None:
    """Ask for two blocks of equal shape and another one, with time for a second answer to each."""
    for address, count in ((0, 2), (4, 2), (6, 1)):
        await client.ask(Request(unit=5, function=3, address=address, count=count))
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("apart", [0.0, 0.02, 0.06])
async def test_answers_that_come_twice_are_each_taken_once(apart: float) -> None:
    """A repeater: the copy of one answer is not the answer to the next request, however alike they look."""
    far = RawMeters([RawMeter(5, {(3, a): 100 + a for a in range(40)})])

    def play(heard: Heard) -> list[Act]:
        return [(delay, octets) for at, octets in far(heard) for delay in (at, at + apart)]

    async with far_bus(play) as line:
        for _ in range(20):
            async with line.exclusive() as io:
                client = ModbusClient(
                    io, frames_for("rtu"), timeout=1, worst_latency=0.5, account=account_of(line)
                )
                for address in range(0, 40, 4):
                    request = Request(unit=5, function=3, address=address, count=4)
                    assert (await client.ask(request)).words == tuple(range(100 + address, 104 + address))
        assert account_of(line).doubles
