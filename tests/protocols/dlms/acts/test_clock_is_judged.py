"""A clock is set, read back and judged: right, put back, or an error that says what the meter shows."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.acts.clock import set_clock
from protocols.dlms.acts.judged import Verdict
from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import INDIA
from protocols.dlms.data.types import Data, Tag, octets
from protocols.dlms.session import DlmsSession
from protocols.errors import LocalError, MeterProtocolError, WriteNotKept
from tests.support.dlms.object_values import JUNE
from tests.support.dlms.scripted_meter import Fate, ScriptedMeter
from tests.support.dlms.trap_site import TrapSite, site

pytestmark = pytest.mark.virtual_time

AHEAD = timedelta(seconds=100)


@pytest.mark.parametrize("deviation", ["014A", "FEB6", "8000", "003C"])
async def test_a_clock_is_set_with_its_own_deviation_first(deviation: str) -> None:
    shown = JUNE.octets[:9] + bytes.fromhex(deviation) + b"\xff"
    at = datetime(2026, 6, 1, 8, 46, tzinfo=UTC)
    meter = ScriptedMeter(Data(Tag.DATE_TIME, shown))
    with suppress(WriteNotKept):  # the last deviation is nobody's: what it shows cannot be believed
        await set_clock(meter, lambda: at, INDIA)
    assert meter.written[0].octets is not None
    assert meter.written[0].octets[9:11].hex().upper() == deviation
    with pytest.raises(LocalError, match="zone"):
        await set_clock(meter, lambda: datetime(2026, 6, 1), INDIA)


async def test_a_clock_that_is_no_time_is_not_written() -> None:
    meter = ScriptedMeter(octets(b"?"))
    with pytest.raises(MeterProtocolError, match="expected date-time"):
        await set_clock(meter, lambda: datetime(2026, 6, 1, tzinfo=UTC), INDIA)
    assert meter.written == []


async def drift(meter: TrapSite) -> float:
    async with meter.open() as session:
        return (await session.clock()).drift


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("deviation-minus", Verdict.AS_ASKED),
        ("deviation-unspecified", Verdict.AS_ASKED),
        ("clock-date-time", Verdict.AS_ASKED),
        ("clock-blue-book", Verdict.ANOTHER_FORM),
        ("clock-from-utc", Verdict.ANOTHER_FORM),
        ("write-unanswered", Verdict.AS_ASKED),
        ("write-lost", Verdict.AS_ASKED),
    ],
)
async def test_a_clock_ends_where_it_was_set(script: str, verdict: Verdict, framing: str) -> None:
    async with site(script, framing) as meter:
        async with meter.open() as session:
            assert isinstance(session, DlmsSession)
            judgement = await session.judged_clock(meter.clock.now() + AHEAD)
        assert judgement.verdict is verdict
        assert judgement.repeated == (script == "write-lost")
        assert await drift(meter) == AHEAD.total_seconds()


async def test_a_clock_that_always_goes_wrong_says_what_it_shows_now() -> None:
    async with site("clock-goes-wrong") as meter, meter.open() as session:
        with pytest.raises(WriteNotKept, match=r"\+3,600 s.*could NOT be put back") as caught:
            await session.set_clock(meter.clock.now())
        assert not caught.value.restored
        assert (await session.clock()).drift == 3587  # the 13 s that it was slow before, and an hour


@pytest.mark.parametrize(
    ("script", "text"),
    [("clock-stuck", "as it did before"), ("clock-slow", "put back"), ("clock-wrong-once", "put back")],
)
async def test_a_clock_that_does_not_take_the_time_keeps_the_one_it_had(script: str, text: str) -> None:
    async with site(script) as meter, meter.open() as session:
        before = (await session.clock()).drift
        with pytest.raises(WriteNotKept, match=text) as caught:
            await session.set_clock(meter.clock.now() + timedelta(hours=5))
        assert caught.value.restored
        assert (await session.clock()).drift == before


async def test_a_meter_that_means_local_time_by_its_constant_keeps_the_clock_it_had() -> None:
    """Nothing tells what its deviation means: what is put back is what was shown, not an instant."""
    async with site("deviation-zero") as meter, meter.open() as session:
        before = (await session.clock()).drift
        assert before > 5 * 3600
        with pytest.raises(WriteNotKept, match="put back"):
            await session.set_clock(meter.clock.now() + AHEAD)
        assert (await session.clock()).drift == before


@pytest.mark.parametrize("drift_before", [20, -20])
async def test_a_clock_that_says_yes_and_stays_off_is_not_called_set(drift_before: int) -> None:
    async with site("clock-stuck") as meter, meter.open() as session:
        shown = (await session.clock()).drift
        with pytest.raises(WriteNotKept, match="as it did before"):
            await session.set_clock(meter.clock.now() + timedelta(seconds=shown - drift_before))


async def test_what_stood_is_put_back_octet_for_octet_where_another_deviation_means_another_time() -> None:
    """A zone with daylight saving: shown in winter, set in summer, by a meter that takes nothing but changes all."""
    zone = ZoneInfo("Europe/Berlin")
    at = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
    shown = octets(
        cosem_time.encode(datetime(2026, 1, 1, 8, 0, tzinfo=UTC), zone, deviation=-60, status=0x42)
    )
    wrong = Fate(made=octets(cosem_time.encode(at + timedelta(days=1), zone, deviation=-120)))
    meter = ScriptedMeter(shown, [wrong, wrong, wrong, wrong])
    with pytest.raises(WriteNotKept) as caught:
        await set_clock(meter, lambda: at, zone)
    assert caught.value.restored
    assert meter.value == shown
    summer = [value.octets for value in meter.written[:4]]
    assert {found[11] for found in summer if found} == {cosem_time.STATUS_DST}
