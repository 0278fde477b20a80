"""Faults of simulated Modbus meters: what leaves, at the times and as often as the script says."""

from __future__ import annotations

import pytest

from protocols.simulator.faults.kinds import FAULT_KINDS, FaultKind, Place
from protocols.simulator.faults.script import Fault, FaultPlayer, FaultScript, shipped
from protocols.simulator.faults.wire import PortStep
from protocols.simulator.modbus.faults import ModbusFaults
from protocols.simulator.modbus.frames import Asked, crc16, take_mbap, take_rtu
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.fakes import HandClock
from tests.support.modbus.raw_responder import rtu
from tests.support.modbus.simulated import NOON, StillMeter

UNIT = 5
VOLTAGE = (4, 0, 0, 0, 2)
ENERGY = (4, 0, 0x48, 0, 2)
SERIAL = (3, 0xFC, 0, 0, 2)


def meter(*faults: Fault) -> ModbusMeter:
    player = FaultPlayer(FaultScript(faults=faults), "EAS:10000001")
    return ModbusMeter(
        StillMeter("EAS", "10000001"), "sdm120", UNIT, HandClock(NOON), faults=ModbusFaults(player)
    )


def fault(kind: str, **fields: int) -> Fault:
    return Fault(kind=FaultKind(kind), **fields)  # type: ignore[arg-type]


def on_bus(of: ModbusMeter, *pdu: int, now: float = 0.0) -> bytes:
    [asked] = take_rtu(bytearray(rtu(UNIT, *pdu)))
    return b"".join(step.octets for step in of.steps(asked, now))


def on_tcp(of: ModbusMeter, *pdu: int) -> list[PortStep]:
    frame = b"\0\x07\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes((UNIT, *pdu))
    [asked] = take_mbap(bytearray(frame))
    return of.steps(asked, 0.0)


RIGHT = on_bus(meter(), *VOLTAGE)


def test_what_comes_before_an_answer_on_a_bus() -> None:
    request = rtu(UNIT, *VOLTAGE)
    assert crc16(RIGHT) == 0
    assert on_bus(meter(fault("echo")), *VOLTAGE) == request + RIGHT
    assert on_bus(meter(fault("echo", value=2)), *VOLTAGE) == request[-2:] + RIGHT
    assert on_bus(meter(fault("lead-in", value=255)), *VOLTAGE) == b"\xff\xff" + RIGHT
    foreign = rtu(9, *RIGHT[1:-2])
    assert on_bus(meter(fault("foreign-unit", value=9)), *VOLTAGE) == foreign + RIGHT
    assert on_bus(meter(fault("second-master", value=9)), *VOLTAGE) == rtu(9, *VOLTAGE) + foreign + RIGHT


def test_what_is_wrong_in_an_answer_over_tcp() -> None:
    [right] = on_tcp(meter(), *VOLTAGE)
    assert right.octets[:2] == b"\0\x07"
    [other] = on_tcp(meter(fault("own-transaction", value=2)), *VOLTAGE)
    assert other.octets == b"\0\x02" + right.octets[2:]
    [other] = on_tcp(meter(fault("own-unit")), *VOLTAGE)
    assert other.octets == right.octets[:6] + b"\0" + right.octets[7:]
    [last] = on_tcp(meter(fault("closes")), *VOLTAGE)
    assert (last.octets, last.hang_up, right.hang_up) == (right.octets, True, False)


def test_a_meter_that_restarts_is_deaf_for_a_while() -> None:
    restarting = meter(fault("deaf", value=2000, after=1, times=1))
    assert [on_bus(restarting, *VOLTAGE, now=now) == RIGHT for now in (0, 1, 2, 2.9, 3.1, 9)] == [
        True, False, False, False, True, True,
    ]  # fmt: skip


def test_a_meter_is_deaf_after_a_request_to_another() -> None:
    deaf = meter(fault("deaf-after-others", value=200))
    assert on_bus(deaf, *VOLTAGE, now=1.0) == RIGHT
    assert deaf.faults is not None
    deaf.faults.other_asked(1.0)
    assert on_bus(deaf, *VOLTAGE, now=1.1) == b""
    assert on_bus(deaf, *VOLTAGE, now=1.3) == RIGHT


def test_refusals_end_when_the_script_says() -> None:
    booting = meter(fault("exception", value=4, times=2))
    refused = rtu(UNIT, 0x84, 4)
    assert [on_bus(booting, *VOLTAGE) for _ in range(3)] == [refused, refused, RIGHT]
    assert on_bus(meter(fault("busy")), *VOLTAGE) == rtu(UNIT, 0x84, 6)
    assert on_bus(meter(fault("silent")), *VOLTAGE) == b""


def test_a_block_across_a_hole_draws_no_answer() -> None:
    holed = meter(fault("holes-silent"))
    assert on_bus(holed, *VOLTAGE) == RIGHT
    assert on_bus(holed, 4, 0, 0, 0, 8) == b""
    assert on_bus(meter(), 4, 0, 0, 0, 8) != b""


def test_zeros_are_everywhere_but_in_the_serial_for_as_long_as_the_script_says() -> None:
    waking = meter(fault("zeros", after=1, times=1))
    zero = rtu(UNIT, 4, 4, 0, 0, 0, 0)
    assert [on_bus(waking, *VOLTAGE) for _ in range(3)] == [RIGHT, zero, RIGHT]
    serial = on_bus(meter(), *SERIAL)
    assert on_bus(meter(fault("zeros")), *SERIAL) == serial != b""


def test_the_other_word_order_and_an_energy_that_is_off() -> None:
    turned = on_bus(meter(fault("word-order")), *VOLTAGE)
    assert turned[3:7] == RIGHT[5:7] + RIGHT[3:5]
    whole = [on_bus(meter(fault("energy-off", value=by)), *ENERGY) for by in (0, -100, 16_000_000)]
    assert len(set(whole)) == 3


def prepaid(*faults: Fault) -> tuple[ModbusMeter, StillMeter]:
    still = StillMeter("EAS", "10000001")
    player = FaultPlayer(FaultScript(faults=faults), "EAS:10000001")
    clock = HandClock(NOON)
    return ModbusMeter(still, "sdm320y-sim", UNIT, clock, faults=ModbusFaults(player)), still


UNLOCKING = (16, 0x70, 0x10, 0, 2, 4, 0x20, 0x26, 0x11, 0x30)
RECHARGING = (16, 0x70, 0x14, 0, 2, 4, 0, 0, 0x13, 0x88)
OPENING = (16, 0x70, 0x12, 0, 1, 2, 0, 0)


def test_a_meter_takes_only_what_its_model_names_and_only_unlocked() -> None:
    meter, still = prepaid()
    assert on_bus(meter, *RECHARGING) == rtu(UNIT, 0x90, 1)
    assert on_bus(meter, *UNLOCKING[:-1], 0x31) == rtu(UNIT, 0x90, 3)
    assert on_bus(meter, *UNLOCKING) == rtu(UNIT, *UNLOCKING[:5])
    before = still.shown
    assert on_bus(meter, *RECHARGING) == rtu(UNIT, *RECHARGING[:5])
    assert still.shown.balance_paise == before.balance_paise + 5000
    assert still.shown.total_recharged_paise == before.total_recharged_paise + 5000
    assert on_bus(meter, *OPENING) == rtu(UNIT, 0x90, 1)
    on_bus(meter, *UNLOCKING)
    assert on_bus(meter, *OPENING) == rtu(UNIT, *OPENING[:5])
    assert not still.shown.relay_closed
    assert on_bus(meter, 6, 0, 0, 0, 1) == rtu(UNIT, 0x86, 1)
    assert on_bus(meter, 16, 0, 0, 0, 1, 2, 0, 1) == rtu(UNIT, 0x90, 2)


@pytest.mark.parametrize(
    ("kind", "answer", "credited"),
    [
        ("write-refused", (0x90, 3), 0),
        ("credit-stuck", RECHARGING[:5], 0),
        ("action-unanswered", (), 5000),
        ("silent", (), 0),
    ],
)
def test_what_may_become_of_a_write(kind: str, answer: tuple[int, ...], credited: int) -> None:
    after = 0 if kind == "credit-stuck" else 1
    meter, still = prepaid(fault(kind, after=after))
    before = still.shown.balance_paise
    on_bus(meter, *UNLOCKING)
    assert on_bus(meter, *RECHARGING) == (rtu(UNIT, *answer) if answer else b"")
    assert still.shown.balance_paise == before + credited


def test_a_stuck_relay_is_answered_and_stays() -> None:
    meter, still = prepaid(fault("relay-stuck"))
    on_bus(meter, *UNLOCKING)
    assert on_bus(meter, *OPENING) == rtu(UNIT, *OPENING[:5])
    assert still.shown.relay_closed


def test_every_script_of_modbus_is_of_its_kinds() -> None:
    used = {f.kind for name, one in shipped().items() if name.startswith("modbus-") for f in one.faults}
    assert used >= {kind for kind, info in FAULT_KINDS.items() if info.place is Place.MODBUS}


@pytest.mark.parametrize("noise", [b"", b"\x05\x04", bytes(range(40))])
def test_a_request_behind_noise_is_found(noise: bytes) -> None:
    buffer = bytearray(noise + rtu(UNIT, *VOLTAGE))
    assert [(asked.unit, asked.pdu) for asked in take_rtu(buffer)] == [(UNIT, bytes(VOLTAGE))]
    assert not buffer


def test_an_answer_has_the_framing_of_its_request() -> None:
    assert Asked(b"", 1, b"", None).frame(1, b"\x84\x02") == rtu(1, 0x84, 2)
    assert Asked(b"", 1, b"", 258).frame(1, b"\x84\x02") == bytes((1, 2, 0, 0, 0, 3, 1, 0x84, 2))
