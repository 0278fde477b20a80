"""Right numbers or marked ones, from raw octets: what is read twice, what is suspect, when a meter says who it is."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from protocols.errors import IdentityMismatch, MeterRefused, MeterSilent
from protocols.line import Line
from protocols.meters.meter import Row
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import PROVE_EVERY, Memories, remembered
from protocols.reading import Missing, Number, ProfileName, Quality, ReadingSet, RemarkWord
from protocols.session import MeterSession, SessionContext
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, floats, sdm120
from tests.support.modbus.simulated import NOON, spec

pytestmark = pytest.mark.virtual_time

IMPORT = "1-0:1.8.0*255"
QUARTER = timedelta(minutes=15)
LIVE = ProfileName.INSTANTANEOUS


@dataclass
class Site:
    """One SDM120 on a TCP line: what it shows can be changed between and within visits."""

    line: Line
    meter: RawMeter
    asked: list[bytes]
    deaf: list[bool]
    clock: JumpClock = field(default_factory=lambda: JumpClock(NOON))
    store: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin another run of the program."""
        self.memories = Memories(self.store)

    def show(self, values: dict[int, float], function: int = 4) -> None:
        self.meter.cells |= floats(values, function)

    def serial(self, serial: int) -> None:
        self.meter.cells |= {(3, 0xFC00): serial >> 16, (3, 0xFC01): serial & 0xFFFF}

    @property
    def proofs(self) -> int:
        """How often the serial was asked for."""
        return sum(pdu[:3] == b"\x03\xfc\x00" for pdu in self.asked)

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[MeterSession]:
        context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=self.clock)
        wanted = spec("sdm120", 5, "EAS:10000005")
        async with open_session(self.line, wanted, context, memories=self.memories) as session:
            await session.identify()
            yield session

    async def read(self, *, after: timedelta = QUARTER) -> ReadingSet:
        self.clock.at += after
        async with self.visit() as session:
            (row,) = [row async for row in session.read(LIVE)]
        return row


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    meter = RawMeter(5, sdm120(10_000_005))
    far, asked, deaf = RawMeters([meter], "tcp"), list[bytes](), [False]

    def play(heard: Heard) -> list[Act]:
        if deaf[0]:
            return []
        asked.append(far.pdu_of(heard.octets))
        return far(heard)

    async with far_endpoint(play) as line:
        yield Site(line, meter, asked, deaf)


def energy(row: ReadingSet) -> tuple[str, bool]:
    value = row.value(IMPORT)
    suspect = IMPORT in map(str, row.suspect)
    return (value.text() if isinstance(value, Number) else str(value)), suspect


def words(row: ReadingSet) -> list[RemarkWord]:
    return [remark.word for remark in row.remarks]


async def test_zeros_for_one_poll_are_suspect_with_an_event(site: Site) -> None:
    """Evcc #30592: 1234560, 0, 1234560, all valid."""
    assert energy(await site.read()) == ("1234500", False)
    before = dict(site.meter.cells)
    site.meter.cells |= {(4, a): 0 for a in range(0x15C)}
    row = await site.read()
    assert energy(row) == ("0", True)
    assert row.quality is Quality.SUSPECT
    assert words(row) == [RemarkWord.ZEROED]
    assert set(row.suspect) == {q for q, _ in row.values}, "all that is zero"
    assert (row.remarks[0].before, row.remarks[0].found) == (Number(123_450, 1, "Wh"), Number(0, 1, "Wh"))
    site.meter.cells |= before
    row = await site.read()
    assert (energy(row), row.quality, words(row)) == (
        ("1234500", False),
        Quality.VALID,
        [RemarkWord.RETURNED],
    )


async def test_zeros_of_one_answer_are_read_again(site: Site) -> None:
    await site.read()
    site.asked.clear()
    whole = site.meter.pdu

    def zero_once(request: bytes) -> bytes:
        site.meter.pdu = whole  # type: ignore[method-assign]
        return request[:1] + bytes((2 * struct.unpack(">H", request[3:5])[0],)) + bytes(2 * request[4])

    site.meter.pdu = zero_once  # type: ignore[method-assign]
    row = await site.read()
    assert (row.quality, row.suspect, row.remarks) == (Quality.VALID, (), ())
    assert energy(row) == ("1234500", False)


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (1234.4, RemarkWord.FELL),
        (123_450.0, RemarkWord.JUMPED),
        (3.3e38, RemarkWord.BEYOND_LIMITS),
        (-1.0, RemarkWord.BEYOND_LIMITS),
    ],
)
async def test_a_value_that_cannot_be_is_kept_and_marked(site: Site, shown: float, word: RemarkWord) -> None:
    await site.read()
    site.show({0x48: shown})
    row = await site.read()
    assert (row.quality, words(row)) == (Quality.SUSPECT, [word])
    assert [str(q) for q in row.suspect] == [IMPORT], "the others stand as they are"
    assert isinstance(row.value(IMPORT), Number)
    assert (Row(row).suspect(IMPORT), Row(row).suspect("1-0:12.7.0")) == (True, False)
    site.show({0x48: 1234.6})
    assert energy(await site.read()) == ("1234600", False)


async def test_no_number_is_missing_and_marked(site: Site) -> None:
    await site.read()
    site.show({0x48: float("nan")})
    row = await site.read()
    assert isinstance(row.value(IMPORT), Missing)
    assert (row.quality, words(row)) == (Quality.SUSPECT, [RemarkWord.UNREADABLE])
    site.meter.cells |= {(4, 0x48): 0xFFFF, (4, 0x49): 0xFFFF}
    assert (await site.read()).quality is Quality.SUSPECT


async def test_the_wrong_word_order_makes_all_of_a_first_read_suspect(site: Site) -> None:
    for address in range(0, 0x60, 2):
        cells = site.meter.cells
        cells[4, address], cells[4, address + 1] = cells[4, address + 1], cells[4, address]
    row = await site.read()
    assert row.quality is Quality.SUSPECT
    numbers = [q for q, value in row.values if isinstance(value, Number)]
    assert set(numbers) <= set(row.suspect)


async def test_what_is_believed_outlives_a_restart(site: Site) -> None:
    await site.read()
    site.restart()
    site.show({0x48: 1.0})
    assert energy(await site.read()) == ("1000", True)


async def test_without_a_memory_only_what_can_never_be_is_suspect(site: Site) -> None:
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=site.clock)
    for shown, quality in ((1234.5, Quality.VALID), (0.0, Quality.VALID), (3.3e38, Quality.SUSPECT)):
        site.show({0x48: shown})
        async with open_session(site.line, spec("sdm120", 5, None), context) as session:
            (row,) = [row async for row in session.read(LIVE)]
        assert row.quality is quality


# -- who it is


async def test_the_serial_is_asked_at_first_contact_and_then_rarely(site: Site) -> None:
    for _ in range(1 + PROVE_EVERY // QUARTER):
        await site.read()
    assert site.proofs == 2, "at first contact, and once its time was over"
    site.restart()
    await site.read()
    assert site.proofs == 3, "whoever was away saw nothing"


async def test_the_serial_is_asked_again_after_silence(site: Site) -> None:
    await site.read()
    site.deaf[0] = True
    with pytest.raises(MeterSilent):
        await site.read()
    site.deaf[0] = False
    await site.read()
    await site.read()
    assert site.proofs == 2


async def test_the_serial_is_asked_again_when_the_meter_was_not_read_for_long(site: Site) -> None:
    await site.read()
    await site.read(after=timedelta(hours=1))
    assert site.proofs == 1
    await site.read(after=timedelta(hours=3))
    assert site.proofs == 2


async def test_the_serial_is_asked_again_when_the_clock_was_set_back(site: Site) -> None:
    await site.read()
    await site.read(after=-timedelta(days=1))
    assert site.proofs == 2


async def test_nothing_is_read_from_a_meter_whose_energy_does_not_follow_and_who_is_another(
    site: Site,
) -> None:
    await site.read()
    site.serial(10_000_099)
    site.show({0x48: 3.0})
    with pytest.raises(IdentityMismatch, match="10000099"):
        await site.read()
    memory = remembered(site.store, "EAS:10000005")
    assert memory is not None
    assert memory.believed[IMPORT].value == Number(123_450, 1, "Wh"), "what it shows is not the old one's"
    assert memory.shaken
    with pytest.raises(IdentityMismatch):
        await site.read()


async def test_a_meter_whose_energy_fell_and_who_is_the_same_has_proved_it(site: Site) -> None:
    await site.read()
    site.show({0x48: 3.0})
    assert energy(await site.read()) == ("3000", True)
    assert site.proofs == 2


# -- who refuses


async def test_a_meter_that_refuses_everything_has_not_been_read(site: Site) -> None:
    await site.read()
    site.meter.cells.clear()
    with pytest.raises(MeterRefused):
        await site.read()
    assert remembered(site.store, "EAS:10000005") is not None
