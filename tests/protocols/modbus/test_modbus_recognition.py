"""A meter without a serial: known again by its marks and by energies that go on, and told from another one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from protocols.errors import IdentityMismatch
from protocols.line import Line
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories, remembered
from protocols.reading import Number, ProfileName, Quality, ReadingSet, RemarkWord
from protocols.session import SessionContext
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, floats
from tests.support.modbus.simulated import NOON, spec

pytestmark = pytest.mark.virtual_time

METER, IMPORT = "SEL:7", "1-0:1.8.0*255"
QUARTER = timedelta(minutes=15)
MODEL = """
name = "panel"
title = "A panel meter without a serial"
manufacturer = "SEL"
source = "this test"
serial = false
[fingerprint]
same = ["1-0:0.2.0*255", "ct"]
growing = ["1-0:1.8.0*255"]
[[scales]]
name = "ct"
function = 3
address = 20
type = "u16"
[[registers]]
quantity = "1-0:0.2.0*255"
profiles = ["nameplate"]
function = 3
address = 10
type = "u16"
as_text = true
[[registers]]
quantity = "1-0:1.8.0*255"
profiles = ["instantaneous"]
function = 4
address = 0
type = "f32"
resolution = -2
unit = "kWh"
[[registers]]
quantity = "1-0:12.7.0*255"
profiles = ["instantaneous"]
function = 4
address = 2
type = "f32"
resolution = -1
unit = "V"
low = 100
high = 300
zero_after_power_up = true
"""


@dataclass
class Panel:
    """The meter, and visits to it."""

    line: Line
    meter: RawMeter
    deaf: list[bool]
    folder: Path
    clock: JumpClock = field(default_factory=lambda: JumpClock(NOON))
    store: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()
        self.wanted = spec("panel", 5, METER)
        assert self.wanted.modbus is not None
        self.wanted = replace(self.wanted, modbus=replace(self.wanted.modbus, models=self.folder))

    def restart(self) -> None:
        self.memories = Memories(self.store)

    def is_(self, *, firmware: int | None = None, ct: int | None = None, kwh: float | None = None) -> None:
        if firmware is not None:
            self.meter.cells[3, 10] = firmware
        if ct is not None:
            self.meter.cells[3, 20] = ct
        if kwh is not None:
            self.meter.cells |= floats({0: kwh})

    def vouch(self) -> None:
        assert self.wanted.modbus is not None
        modbus = replace(self.wanted.modbus, vouched_at=self.clock.at)
        self.wanted = replace(self.wanted, modbus=modbus)

    async def read(self) -> ReadingSet:
        self.clock.at += QUARTER
        context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=self.clock)
        async with open_session(self.line, self.wanted, context, memories=self.memories) as session:
            nameplate = await session.identify()
            assert nameplate.meter_id == METER
            (row,) = [row async for row in session.read(ProfileName.INSTANTANEOUS)]
        return row


@pytest.fixture
async def panel(tmp_path: Path) -> AsyncIterator[Panel]:
    (tmp_path / "panel.toml").write_text(MODEL)
    meter = RawMeter(5, {(3, 10): 11, (3, 20): 40} | floats({0: 5_000.0, 2: 231.0}))
    far, deaf = RawMeters([meter], "tcp"), [False]

    def play(heard: Heard) -> list[Act]:
        return [] if deaf[0] else far(heard)

    async with far_endpoint(play) as line:
        yield Panel(line, meter, deaf, tmp_path)


def words(row: ReadingSet) -> list[RemarkWord]:
    return [remark.word for remark in row.remarks]


async def test_new_firmware_in_a_meter_whose_energy_goes_on_is_the_same_meter(panel: Panel) -> None:
    await panel.read()
    panel.restart()
    panel.is_(firmware=12, kwh=5_001.0)
    row = await panel.read()
    assert (row.quality, words(row)) == (Quality.VALID, [RemarkWord.METER_UPDATED])
    assert row.remarks[0].detail == "1-0:0.2.0*255 12, not 11"
    panel.restart()
    assert (await panel.read()).remarks == (), "it is told once"


@pytest.mark.parametrize("mark", [{"firmware": 12}, {"ct": 20}])
async def test_other_marks_and_an_energy_that_does_not_go_on_are_another_meter(
    panel: Panel, mark: dict[str, int]
) -> None:
    await panel.read()
    proved = panel.clock.at
    panel.is_(kwh=3.0, **mark)
    for _ in range(5):
        with pytest.raises(IdentityMismatch, match=r"a meter with .*not (11|40), and an energy .*vouched_at"):
            await panel.read()
    memory = remembered(panel.store, METER)
    assert memory is not None
    assert memory.proved_at == proved
    assert memory.believed[IMPORT].value == Number(500_000, 1, "Wh")


async def test_an_energy_that_went_back_and_stays_is_another_meter(panel: Panel) -> None:
    """A twin of the same firmware and ratio: suspect at first, for it may be starting; then somebody has to look."""
    await panel.read()
    proved = panel.clock.at
    panel.is_(kwh=3.0)
    for _ in range(2):
        row = await panel.read()
        assert (row.quality, [str(q) for q in row.suspect]) == (Quality.SUSPECT, [IMPORT])
    for _ in range(3):
        with pytest.raises(IdentityMismatch, match="does not go on, and stays so"):
            await panel.read()
    memory = remembered(panel.store, METER)
    assert memory is not None
    assert memory.proved_at == proved, "what came after it is not proved"
    panel.is_(kwh=5_001.0)
    assert (await panel.read()).quality is Quality.VALID, "the right one is back"


async def test_who_vouches_for_a_meter_makes_it_the_right_one(panel: Panel) -> None:
    await panel.read()
    panel.is_(firmware=12, kwh=3.0)
    with pytest.raises(IdentityMismatch):
        await panel.read()
    panel.vouch()
    row = await panel.read()
    assert (row.quality, row.suspect) == (Quality.VALID, ())
    panel.restart()
    panel.is_(kwh=3.2)
    assert (await panel.read()).quality is Quality.VALID


async def test_a_mark_that_is_missing_speaks_for_nobody(panel: Panel) -> None:
    await panel.read()
    panel.restart()
    del panel.meter.cells[3, 20]
    assert (await panel.read()).quality is Quality.VALID


async def test_a_register_that_shows_zero_after_power_up_is_not_believed_at_once(panel: Panel) -> None:
    panel.meter.cells |= floats({2: 0.0})
    row = await panel.read()
    assert "1-0:12.7.0*255" in map(str, row.suspect)


async def test_limits_of_the_model_count(panel: Panel) -> None:
    await panel.read()
    panel.meter.cells |= floats({2: 310.0})
    row = await panel.read()
    assert words(row) == [RemarkWord.BEYOND_LIMITS]


LOG = """
[log]
function = 3
address = 1000
record = 3
records = 4
period = 1800
time = { offset = 0, type = "time_seconds", count = 2 }
values = [{ quantity = "1-0:1.29.0*255", offset = 2, type = "u16", scaler = -2, unit = "kWh" }]
"""


async def test_an_interval_of_more_than_can_have_flowed_is_read_again_and_marked(panel: Panel) -> None:
    (panel.folder / "panel.toml").write_text(MODEL.replace("[fingerprint]", f"{LOG}\n[fingerprint]"))
    assert panel.wanted.modbus is not None
    panel.wanted = replace(panel.wanted, modbus=replace(panel.wanted.modbus, sanctioned_load=5.0))
    begun = NOON.replace(microsecond=0) - 4 * timedelta(minutes=30)
    for number, count in enumerate((120, 0xFFFF, 90, 0xFFFF)):
        time = divmod(int((begun + number * timedelta(minutes=30)).timestamp()), 65536)
        panel.meter.cells |= {(3, 1000 + 3 * number + n): word for n, word in enumerate((*time, count))}
    whole, asked = panel.meter.pdu, [0]

    def right_at_last(request: bytes) -> bytes:
        asked[0] += 1
        answer = whole(request)
        panel.meter.cells[3, 1011] = 100  # the last one was a slip, and the other one stands
        return answer

    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=panel.clock)
    async with open_session(panel.line, panel.wanted, context, memories=panel.memories) as session:
        await session.identify()
        panel.meter.pdu = right_at_last  # type: ignore[method-assign]
        rows = [row async for row in session.read(ProfileName.BLOCK_LOAD)]
    told = [(row.values[0][1], row.quality, words(row)) for row in rows]
    assert told == [
        (Number(120, 1, "Wh"), Quality.VALID, []),
        (Number(0xFFFF, 1, "Wh"), Quality.SUSPECT, [RemarkWord.BEYOND_LIMITS]),
        (Number(90, 1, "Wh"), Quality.VALID, []),
        (Number(100, 1, "Wh"), Quality.VALID, []),
    ]
