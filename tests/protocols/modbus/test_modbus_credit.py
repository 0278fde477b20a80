"""Recharge, balance and relay of a meter in raw octets: written once, proved by what it shows, whatever is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from protocols.errors import (
    LocalError,
    MeterConfigError,
    MeterRefused,
    NotSupported,
    WriteNotKept,
    WriteUnproven,
)
from protocols.meters.open import open_session
from protocols.modbus.format.library import forget_models, load_model
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.session.credit import Credit, Crediting, Purse
from protocols.modbus.session.proof import Shown
from protocols.modbus.session.session import ModbusSession
from protocols.reading import Number, RelayState, Value
from protocols.session import MeterSpec, ModbusSettings, SessionContext
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, far_bus, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters
from tests.support.modbus.whole_meter import NOON

pytestmark = pytest.mark.virtual_time
UNLOCK, RELAY, RECHARGE, SET = 70, 80, 82, 84
BALANCE, TOTAL, CONTACT = 20, 22, 24
MODEL = f"""
name = "payer"
title = "Prepaid meter"
manufacturer = "PAY"
source = "nowhere"

[[registers]]
quantity = "0-0:96.1.0*255"
profiles = ["nameplate"]
function = 3
address = 0
type = "u32"
as_text = true

[[registers]]
quantity = "0-0:94.96.24*255"
profiles = ["prepayment"]
function = 3
address = {BALANCE}
type = "s32"
scaler = -2
unit = "INR"

[[registers]]
quantity = "0-0:94.96.23*255"
profiles = ["prepayment"]
function = 3
address = {TOTAL}
type = "u32"
scaler = -2
unit = "INR"

[[registers]]
quantity = "0-0:96.3.10*255"
profiles = ["prepayment"]
function = 3
address = {CONTACT}
type = "u16"

[relay]
closed = [1]
open = [0]

[writes.unlock]
function = 6
address = {UNLOCK}
type = "u16"
value = 0x5AA5

[writes.relay]
function = 6
address = {RELAY}
type = "u16"
close = 1
open = 0

[writes.recharge]
function = 16
address = {RECHARGE}
type = "u32"
scaler = -2
unit = "INR"

[writes.balance]
function = 16
address = {SET}
type = "s32"
scaler = -2
unit = "INR"
"""
FRAMINGS = ("rtu", "tcp", "ascii")
WRITES = (5, 6, 16)


@dataclass
class Payer(RawMeter):
    """A prepaid meter: 100.00 INR left, 500.00 recharged in all, its contact closed; `spends` paise at each reading."""

    spends: int = 0
    stuck: bool = False
    locked: bool = True
    orders: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)

    def figure(self, address: int) -> int:
        return self.cells[3, address] << 16 | self.cells[3, address + 1]

    def put(self, address: int, value: int) -> None:
        self.cells |= {(3, address): value >> 16 & 0xFFFF, (3, address + 1): value & 0xFFFF}

    def pdu(self, request: bytes) -> bytes:
        if request[0] == 3:
            self.put(BALANCE, self.figure(BALANCE) - self.spends)
            return super().pdu(request)
        if self.locked and int.from_bytes(request[1:3], "big") != UNLOCK:
            return bytes((request[0] | 0x80, 1))
        answer = super().pdu(request)
        if request[0] in WRITES and not answer[0] & 0x80:
            self.orders.append(self.written[-1])
            self.take(*self.written[-1])
        return answer

    def take(self, function: int, address: int, words: tuple[int, ...]) -> None:
        assert function in WRITES
        if address == UNLOCK:
            self.locked = words != (0x5AA5,)
        elif self.stuck:
            return
        elif address == RELAY:
            self.cells[3, CONTACT] = words[0]
        elif address == RECHARGE:
            amount = words[0] << 16 | words[1]
            self.put(BALANCE, self.figure(BALANCE) + amount)
            self.put(TOTAL, self.figure(TOTAL) + amount)
        elif address == SET:
            self.put(BALANCE, words[0] << 16 | words[1])


def payer(*, spends: int = 0, stuck: bool = False) -> Payer:
    meter = Payer(
        7, {(3, a): 0 for a in range(30)}, writable=frozenset(range(70, 90)), spends=spends, stuck=stuck
    )
    meter.put(0, 10_000_001)
    meter.put(BALANCE, 10_000)
    meter.put(TOTAL, 50_000)
    meter.cells[3, CONTACT] = 1
    return meter


@dataclass
class Spoiled:
    """A far side that spoils the answers to the writes of one address: `how` says how."""

    meters: RawMeters
    how: str
    address: int = RECHARGE
    seen: int = 0
    """How often a write of that address came."""
    dead: bool = False

    def __call__(self, heard: Heard) -> list[Act]:
        pdu, unit = self.meters.pdu_of(heard.octets), self.meters.unit_of(heard.octets)
        if self.dead:
            return []
        if pdu[0] not in WRITES or int.from_bytes(pdu[1:3], "big") != self.address:
            return self.meters(heard)
        self.seen += 1

        def refuse(code: int) -> list[Act]:
            return [(0.0, self.meters.frame(heard.octets, unit, bytes((pdu[0] | 0x80, code))))]

        match self.how:
            case "lost":  # carried out, and the answer is lost
                self.meters.answer(heard.octets)
                return []
            case "never came":  # lost before the meter
                return []
            case "dies":
                self.meters.answer(heard.octets)
                self.dead = True
                return []
            case "late":
                return [(4.0, octets) for _, octets in self.meters(heard) if isinstance(octets, bytes)]
            case "failure":  # carried out, and the meter says failure
                self.meters.answer(heard.octets)
                return refuse(4)
            case "acknowledge":
                self.meters.answer(heard.octets)
                return refuse(5)
            case "busy":
                return refuse(6)
            case "refused":
                return refuse(3)
            case "garbled":
                return [
                    (0.0, octets[:-1] + b"\0")
                    for _, octets in self.meters(heard)
                    if isinstance(octets, bytes)
                ]
        return self.meters(heard)


@asynccontextmanager
async def session_with(
    meter: Payer,
    folder: Path,
    *,
    how: str = "",
    address: int = RECHARGE,
    framing: str = "rtu",
    trusted: bool = True,
    model: str = MODEL,
) -> AsyncIterator[tuple[ModbusSession, Spoiled]]:
    (folder / "payer.toml").write_text(model, encoding="utf-8")
    forget_models()
    far = Spoiled(RawMeters([meter], framing), how, address)
    settings = ModbusSettings(
        unit=7, model="payer", models=folder, trusted=trusted, framing=framing, timeout=0.3
    )
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=JumpClock(NOON))
    async with far_endpoint(far) if framing == "tcp" else far_bus(far) as line:
        async with open_session(line, MeterSpec(meter="PAY:10000001", modbus=settings), context) as session:
            assert isinstance(session, ModbusSession)
            yield session, far
        await line.close()


async def recharge(session: ModbusSession, text: str = "50.00") -> str:
    return str(await session.credit(Credit.RECHARGE, session.amount(Credit.RECHARGE, text)))


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_recharge_is_unlocked_written_once_and_proved(tmp_path: Path, framing: str) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, framing=framing) as (session, _):
        assert await recharge(session) == "balance 150.00 INR, recharged in all 550.00 INR"
    assert meter.orders == [(6, UNLOCK, (0x5AA5,)), (16, RECHARGE, (0, 5000))]


@pytest.mark.parametrize(
    ("how", "framing"),
    [
        (how, framing)
        for how in ("lost", "late", "failure", "acknowledge", "garbled")
        for framing in FRAMINGS
        if (how, framing) != ("late", "tcp")  # there a number tells it
    ],
)
async def test_what_was_carried_out_is_proved_without_its_answer(
    tmp_path: Path, how: str, framing: str
) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, how=how, framing=framing) as (session, far):
        assert await recharge(session) == "balance 150.00 INR, recharged in all 550.00 INR"
        assert far.seen == 1


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("how", "code"), [("busy", 6), ("refused", 3)])
async def test_a_refusal_is_told_and_nothing_is_repeated(
    tmp_path: Path, how: str, code: int, framing: str
) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, how=how, framing=framing) as (session, far):
        with pytest.raises(MeterRefused) as refused:
            await recharge(session)
        assert (refused.value.reason_code, far.seen) == (code, 1)
    assert meter.figure(TOTAL) == 50_000


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("how", "says"), [("never came", "shows balance 100.00 INR"), ("dies", "cannot be read now")]
)
async def test_what_cannot_be_proved_is_said_and_not_repeated(
    tmp_path: Path, how: str, says: str, framing: str
) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, how=how, framing=framing) as (session, far):
        with pytest.raises(WriteUnproven, match=f"{says}.*written once and is not repeated"):
            await recharge(session)
        assert far.seen == 1


async def test_a_write_that_is_taken_and_not_kept_is_told(tmp_path: Path) -> None:
    meter = payer(stuck=True)
    async with session_with(meter, tmp_path) as (session, far):
        with pytest.raises(
            WriteNotKept, match=r"took the write of recharge 50\.00 INR.*stands as it did before"
        ):
            await recharge(session)
        with pytest.raises(WriteNotKept, match="took the write of the order to the relay to be open"):
            await session.relay_proved(RelayState.OPEN)
        assert far.seen == 1


async def test_what_is_used_meanwhile_is_no_doubt(tmp_path: Path) -> None:
    async with session_with(payer(spends=100), tmp_path, how="lost") as (session, _):
        assert await recharge(session) == "balance 147.00 INR, recharged in all 550.00 INR"


async def test_a_second_equal_recharge_is_a_second_one(tmp_path: Path) -> None:
    meter = payer()
    async with session_with(meter, tmp_path) as (session, far):
        await recharge(session)
        assert await recharge(session) == "balance 200.00 INR, recharged in all 600.00 INR"
        assert far.seen == 2


async def test_a_balance_is_set_and_proved(tmp_path: Path) -> None:
    async with session_with(payer(), tmp_path, how="lost", address=SET) as (session, far):
        purse = await session.credit(Credit.BALANCE, session.amount(Credit.BALANCE, "-12.5 INR"))
        assert str(purse) == "balance -12.50 INR, recharged in all 500.00 INR"
        assert far.seen == 1


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("how", ["", "lost", "failure"])
async def test_the_contacts_state_is_the_proof(tmp_path: Path, how: str, framing: str) -> None:
    async with session_with(payer(), tmp_path, how=how, address=RELAY, framing=framing) as (session, far):
        assert await session.relay_proved(RelayState.OPEN) is RelayState.OPEN
        assert await session.relay() is RelayState.OPEN
        assert far.seen == 1


async def test_without_the_unlocking_nothing_is_written(tmp_path: Path) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, how="never came", address=UNLOCK) as (session, far):
        with pytest.raises(WriteUnproven, match="nothing but the unlocking was written"):
            await recharge(session)
        assert far.seen == 1
    assert meter.orders == []


async def test_money_is_given_on_trusted_lines_only(tmp_path: Path) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, trusted=False) as (session, _):
        with pytest.raises(MeterConfigError, match="recharge of a Modbus meter is written only on a line"):
            await recharge(session)
    assert meter.orders == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.005", "cannot hold 0.005 INR: it would become 0.00 INR"),
        ("0", "more than nothing"),
        ("-5", "more than nothing"),
        ("50000000", "does not fit"),
        ("50 kWh", "recharge is in INR, not in kWh"),
        ("fifty", "is no amount"),
        ("1e3", "is no amount"),
        ("", "is no amount"),
    ],
)
async def test_an_amount_that_cannot_be_is_refused(tmp_path: Path, text: str, says: str) -> None:
    meter = payer()
    async with session_with(meter, tmp_path) as (session, _):
        with pytest.raises(LocalError, match=says):
            session.amount(Credit.RECHARGE, text)
    assert meter.orders == []


@pytest.mark.parametrize(
    ("part", "instead", "says"),
    [
        ("[relay]\nclosed = [1]\nopen = [0]\n", "", r"writes\.relay.*say in \[relay\] what shows it"),
        ("0-0:94.96.24*255", "0-0:94.96.26*255", r"writes\.balance.*no register gives 0-0:94\.96\.24"),
        (
            'address = 82\ntype = "u32"\nscaler = -2\nunit = "INR"',
            'address = 82\ntype = "u32"\nunit = "kWh"',
            r"writes\.recharge\.unit.*`kWh`.*is in INR",
        ),
    ],
)
def test_a_write_that_nothing_would_prove_is_a_mistake(
    tmp_path: Path, part: str, instead: str, says: str
) -> None:
    assert part in MODEL
    path = tmp_path / "payer.toml"
    path.write_text(MODEL.replace(part, instead), encoding="utf-8")
    with pytest.raises(MeterConfigError, match=says):
        load_model(str(path))


async def test_a_model_without_writes_is_refused_with_what_to_add(tmp_path: Path) -> None:
    meter = payer()
    async with session_with(meter, tmp_path, model=MODEL.partition("[writes.unlock]")[0]) as (session, _):
        with pytest.raises(NotSupported, match=r"model payer has no .*: add \[writes\.recharge\]"):
            await recharge(session)
        with pytest.raises(NotSupported, match=r"model payer has no .*: add \[writes\.relay\]"):
            await session.relay_proved(RelayState.OPEN)
    assert meter.orders == []


async def nothing(registers: tuple[RegisterSpec, ...]) -> list[Value]:
    raise AssertionError(registers)


@pytest.mark.parametrize(
    ("total", "shown"),
    [
        ("100050.43", Shown.KEPT),
        ("100050.44", Shown.KEPT),  # a 32-bit float of this size goes by 0.0078
        ("100000.33", Shown.AS_BEFORE),
        ("100050.50", Shown.NEITHER),
        ("100025.00", Shown.NEITHER),
        ("100100.53", Shown.NEITHER),
    ],
)
def test_a_sum_of_recharges_is_exact_to_what_its_register_can_say(
    tmp_path: Path, total: str, shown: Shown
) -> None:
    path = tmp_path / "payer.toml"
    as_float = f'address = {TOTAL}\ntype = "f32"\nresolution = -2\nunit = "INR"'
    path.write_text(
        MODEL.replace(f'address = {TOTAL}\ntype = "u32"\nscaler = -2\nunit = "INR"', as_float),
        encoding="utf-8",
    )
    crediting = Crediting(load_model(str(path)), ZoneInfo("Asia/Kolkata"), nothing)

    def purse(text: str) -> Purse:
        return Purse(balance=None, recharged=Number.from_text(text, "INR"))

    amount = Number.from_text("50.10", "INR")
    assert crediting.judge(Credit.RECHARGE, amount, purse("100000.33"), purse(total)) is shown


@pytest.mark.parametrize(
    ("balance", "total", "shown"),
    [
        ("150.00", "550.00", Shown.KEPT),
        ("139.00", "550.00", Shown.KEPT),
        ("120.00", "550.00", Shown.NEITHER),  # more than a fourth of it is used up at once: by nobody
        ("150.00", "500.00", Shown.NEITHER),
        ("100.00", "550.00", Shown.NEITHER),
        ("99.00", "500.00", Shown.AS_BEFORE),
        ("200.00", "600.00", Shown.NEITHER),  # twice
    ],
)
def test_figures_that_contradict_each_other_prove_nothing(
    tmp_path: Path, balance: str, total: str, shown: Shown
) -> None:
    path = tmp_path / "payer.toml"
    path.write_text(MODEL, encoding="utf-8")
    crediting = Crediting(load_model(str(path)), ZoneInfo("Asia/Kolkata"), nothing)

    def purse(left: str, in_all: str) -> Purse:
        return Purse(balance=Number.from_text(left, "INR"), recharged=Number.from_text(in_all, "INR"))

    amount = Number.from_text("50.00", "INR")
    assert crediting.judge(Credit.RECHARGE, amount, purse("100.00", "500.00"), purse(balance, total)) is shown
