"""A make that writes a constant as deviation and means local time: by a setting, proposed from clock and rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import INDIA, meter_zone
from protocols.dlms.profile.decoder import decode_buffer
from protocols.dlms.profile.deviation_advice import NEAR, SeenTime, proposed_deviation
from protocols.dlms.profile.layouts import CLOCK, CapturedColumn, Layout
from protocols.dlms.reading.deviations import Deviations
from protocols.dlms.reading.range_reader import CHUNK
from protocols.reading import Obis, ProfileName, Quantity
from tests.support.dlms.trap_site import NOW, energies, site

pytestmark = pytest.mark.virtual_time

FIELD_ROWS = bytes.fromhex("0102 0202 090C07E7010D05130000000000001107 0202 090C07E7010D05140000000000001107")
"""Profile rows with deviation 0000 in a country at +2 h, seen in the field: the meter means local time."""
KYIV = ZoneInfo("Europe/Kiev")
ZONES = st.sampled_from(["Asia/Kolkata", "Europe/Kiev", "America/New_York", "UTC", "Pacific/Auckland"])


async def test_with_the_setting_rows_and_clock_are_right_and_trusted() -> None:
    async with site("deviation-zero") as meter, meter.open(local_deviation=0) as session:
        rows = await meter.blocks(session)
        assert energies(rows) == meter.true_blocks()
        assert all(r.meter_time is not None and r.meter_time.trusted for r in rows)
        assert {r.meter_time.deviation for r in rows if r.meter_time} == {0}
        assert abs((await session.clock()).drift) < 60
        await session.set_clock(meter.clock.now())
        assert (await session.clock()).drift == 0


async def test_without_the_setting_nothing_is_believed_and_the_clock_proposes_it() -> None:
    async with site("deviation-zero") as meter, meter.open() as session:
        found = await session.clock()
        assert found.drift > 5 * 3600
        seen = SeenTime(found.meter, found.deviation)
        assert proposed_deviation(NOW, INDIA, clock=seen) == 0
        assert proposed_deviation(NOW, meter_zone(INDIA, frozenset((0,))), clock=seen) is None
        rows = [s async for s in session.read(ProfileName.BLOCK_LOAD, NOW - timedelta(hours=4))]
        assert not any(r.meter_time.trusted for r in rows if r.meter_time)
        stamps = [SeenTime(r.at, r.meter_time.deviation) for r in rows if r.meter_time]
        assert proposed_deviation(NOW, INDIA, rows=stamps) == 0


async def test_without_the_setting_all_rows_come_and_propose_it() -> None:
    """Each range seems to bring another one; what came of the first is never taken for all that the meter has."""
    async with site("deviation-zero") as meter:
        async with meter.open(local_deviation=0) as session:
            true = [row.at async for row in session.read(ProfileName.BLOCK_LOAD)]
        async with meter.open() as session:
            rows = [row async for row in session.read(ProfileName.BLOCK_LOAD)]
    assert true[-1] - true[0] > CHUNK[ProfileName.BLOCK_LOAD]
    assert [row.at for row in rows] == [at + timedelta(hours=5, minutes=30) for at in true]
    stamps = [SeenTime(r.at, r.meter_time.deviation) for r in rows if r.meter_time]
    assert proposed_deviation(NOW, INDIA, rows=stamps) == 0


@pytest.mark.parametrize("script", ["deviation-minus", "deviation-unspecified", "clock-stuck"])
async def test_of_other_meters_nothing_is_proposed(script: str) -> None:
    async with site(script) as meter, meter.open() as session:
        found = await session.clock()
    assert proposed_deviation(NOW, INDIA, clock=SeenTime(found.meter, found.deviation)) is None


def test_the_rows_of_the_field() -> None:
    layout = Layout(
        profile=ProfileName.BLOCK_LOAD,
        obis=Obis(1, 0, 99, 1, 0),
        columns=(
            CapturedColumn(class_id=8, quantity=Quantity(CLOCK)),
            CapturedColumn(class_id=1, quantity=Quantity(Obis(0, 0, 96, 5, 0))),
        ),
        period=3600,
    )
    true = [datetime(2023, 1, 13, hour, tzinfo=UTC) for hour in (17, 18)]
    for zone, shift, trusted in ((KYIV, 2, False), (meter_zone(KYIV, frozenset((0,))), 0, True)):
        buffer = decode_buffer(layout, FIELD_ROWS, zone=zone)
        assert list(buffer.instants) == [at + timedelta(hours=shift) for at in true]
        stamps = [buffer.stamp(row) for row in range(2)]
        assert [s.trusted for s in stamps if s] == [trusted] * 2
    seen = [SeenTime(at + timedelta(hours=2), 0) for at in true]
    assert proposed_deviation(true[-1] + timedelta(minutes=5), KYIV, rows=seen) == 0


@given(
    ZONES,
    st.integers(-56, 56),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    st.integers(-600, 600),
)
def test_a_clock_proposes_what_it_means_and_nothing_else(
    name: str, quarters: int, at: datetime, wrong: int
) -> None:
    """Proposed is exactly a deviation that explains the clock and is none of the usual ones."""
    zone, deviation, now = ZoneInfo(name), 15 * quarters, at.replace(tzinfo=UTC, microsecond=0)
    octets = cosem_time.encode(now + timedelta(seconds=wrong), zone, deviation=deviation)
    stamp = cosem_time.decode(octets, zone)
    assert stamp.at is not None
    offset = (now.astimezone(zone).utcoffset() or timedelta()) // timedelta(minutes=1)
    found = proposed_deviation(now, zone, clock=SeenTime(stamp.at, stamp.deviation))
    explains = abs(stamp.at - now) > NEAR and abs(deviation) != abs(offset)
    if stamp.trusted or not explains:
        assert found is None
    elif found is not None:
        assert found == deviation
        again = cosem_time.decode(octets, meter_zone(zone, frozenset((deviation,))))
        assert again.trusted


@given(ZONES, st.integers(-60, 60), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_a_meter_that_writes_what_it_means_is_left_alone(name: str, quarters: int, at: datetime) -> None:
    now = at.replace(tzinfo=UTC)
    assert proposed_deviation(now, ZoneInfo(name), clock=SeenTime(now, 15 * quarters)) is None
    past = [SeenTime(now - timedelta(hours=hours), 15 * quarters) for hours in (3, 2, 1)]
    assert proposed_deviation(now, ZoneInfo(name), rows=past) is None


def test_two_deviations_and_unspecified_ones_propose_nothing() -> None:
    late = NOW + timedelta(hours=5)
    assert proposed_deviation(NOW, INDIA, rows=[SeenTime(late, 0), SeenTime(late, 60)]) is None
    assert proposed_deviation(NOW, INDIA, rows=[SeenTime(late, None)]) is None
    assert proposed_deviation(NOW, INDIA) is None


def test_a_range_is_first_asked_with_the_meter_s_own_constant() -> None:
    forms = Deviations(meter_zone(INDIA, frozenset((0,))), east=True)
    written = []
    for attempt in range(forms.forms):
        written.append(int.from_bytes(forms.encode(NOW)[9:11], "big", signed=True))
        forms.next(attempt)
    assert written == [0, 330, -330, -0x8000]
    assert forms.form == 3, "an earlier form keeps its number, whatever constants there are"
    assert Deviations(INDIA, east=True).form == 0


def test_one_zone_is_made_once_so_that_what_is_kept_by_zone_is_found_again() -> None:
    assert meter_zone(INDIA, frozenset((0,))) is meter_zone(INDIA, frozenset((0,)))
    assert meter_zone(INDIA, frozenset()) is INDIA
