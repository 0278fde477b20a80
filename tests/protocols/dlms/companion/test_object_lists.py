"""Meters as public lists of IDIS and SPODES describe them are read by their companions, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from protocols.dlms.companion import companion
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.reading.visit_plan import sequence_of
from protocols.dlms.server.ports import serve_wrapper
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.errors import NotSupported
from protocols.lines.tcp import TcpLine
from protocols.reading import Number, Obis, ProfileName, ReadingSet, RelayState
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from tests.support.dlms.bench import POLICIES
from tests.support.dlms.object_lists import IDIS, LISTED, MIDNIGHT, NOW, SPODES, ListedMeter, served_as, utc
from tests.support.dlms.site import SECRETS
from tests.support.fakes import Counters, ManualClock

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def opened(listed: ListedMeter, companion: str = "") -> AsyncIterator[DlmsSession]:
    lls = listed.client == 32
    meter = served_as(listed, POLICIES["lls" if lls else "gmac"][0])
    settings = DlmsSettings(
        client=listed.client,
        auth=Auth.LLS if lls else Auth.HLS_GMAC,
        ciphered=not lls,
        password_ref="password" if lls else None,
        encryption_key_ref=None if lls else "ek",
        authentication_key_ref=None if lls else "ak",
        companion=companion or listed.companion,
    )
    server = await serve_wrapper(meter)
    line = TcpLine("listed", *server.sockets[0].getsockname()[:2])
    context = SessionContext(secrets=SECRETS, counters=Counters(), clock=ManualClock(utc(NOW)))
    try:
        async with open_dlms(line, MeterSpec(meter=None, dlms=settings), context) as session:
            yield session
    finally:
        await line.close()
        server.close()


async def rows(listed: ListedMeter, profile: ProfileName) -> list[ReadingSet]:
    async with opened(listed) as session:
        return [row async for row in session.read(profile, utc(MIDNIGHT - timedelta(days=3)))]


@pytest.mark.parametrize("name", LISTED)
async def test_load_daily_and_billing_are_where_the_list_has_them(name: str) -> None:
    blocks = await rows(LISTED[name], ProfileName.BLOCK_LOAD)
    assert [row.at for row in blocks] == [utc(MIDNIGHT + timedelta(minutes=15 * n)) for n in range(1, 49)]
    assert blocks[3].value("1-0:1.8.0*255") == Number(1004, 0, "Wh")
    assert blocks[3].start == utc(MIDNIGHT + timedelta(minutes=45))
    daily = await rows(LISTED[name], ProfileName.DAILY)
    assert [row.value("1-0:1.8.0*255") for row in daily] == [Number(500 + n, 0, "Wh") for n in range(3)]
    (bill,) = await rows(LISTED[name], ProfileName.BILLING)
    assert bill.value("1-0:1.8.0*255") == Number(502, 0, "Wh")


async def test_a_spodes_meter_shows_its_present_in_one_row_scaled_by_its_scaler_profile() -> None:
    (now,) = await rows(SPODES, ProfileName.INSTANTANEOUS)
    assert {str(q): v for q, v in now} == {
        "1-0:12.7.0*255": Number(23010, -2, "V"),
        "1-0:11.7.0*255": Number(512, -2, "A"),
        "1-0:1.8.0*255": Number(123_456, 0, "Wh"),
    }


async def test_an_idis_meter_shows_its_registers_and_the_status_of_its_rows() -> None:
    (now,) = await rows(IDIS, ProfileName.INSTANTANEOUS)
    assert now.value("1-0:32.7.0*255") == Number(2301, -1, "V")
    block = (await rows(IDIS, ProfileName.BLOCK_LOAD))[0]
    status = block.value("0-0:96.10.1*255")
    assert status == Number(0x82)
    assert companion("idis").status_text(Obis(0, 0, 96, 10, 1), 0x82) == "clock invalid, power down"
    assert companion("idis").status_text(Obis(0, 0, 96, 10, 1), 0x50) == "bit 4, bit 6"
    assert companion("idis").status_text(Obis(1, 0, 1, 8, 0), 0x82) == ""


@pytest.mark.parametrize(("name", "count"), [("idis", 9), ("spodes", 5)], ids=["idis", "spodes"])
async def test_every_log_of_the_list_is_read(name: str, count: int) -> None:
    found = await rows(LISTED[name], ProfileName.EVENTS)
    assert len(found) == count
    logs = {known for row in found for q, _ in row if (known := companion(name).log_name(q.obis))}
    assert (
        logs
        == {
            "idis": {
                "standard",
                "fraud detection",
                "disconnector control",
                "power quality",
                "communication",
            },
            "spodes": {"voltage", "on and off", "quality of supply", "inputs and outputs"},
        }[name]
    )


@pytest.mark.parametrize("name", LISTED)
async def test_contact_and_identity_are_found(name: str) -> None:
    async with opened(LISTED[name]) as session:
        assert await session.relay() is RelayState.CLOSED
        plate = await session.identify()
        assert plate.serial == "00000007"


def test_codes_and_logs_are_the_companion_s_own() -> None:
    idis, spodes, generic = (companion(name) for name in ("idis", "spodes", "generic"))
    assert idis.event_name(62) == "disconnected remotely"
    assert idis.event_name(255) == "event log cleared"
    assert spodes.event_name(1) == generic.event_name(1) == "event 1"
    assert idis.log_name(Obis(0, 0, 96, 11, 1)) == "fraud detection"
    assert spodes.log_name(Obis(0, 0, 96, 5, 1)) == "quality of supply"
    assert generic.log_name(Obis(0, 0, 96, 11, 1)) == ""
    assert sorted(idis.associations) == [1, 16, 102]
    assert sorted(spodes.associations) == [16, 32, 48]


def test_only_logs_of_99_98_have_an_event_number_beside_them() -> None:
    known = companion("idis")
    assert sequence_of(Obis(0, 0, 99, 98, 2), known) == Obis(0, 0, 96, 15, 2)
    assert sequence_of(Obis(1, 0, 99, 97, 0), known) is None


def test_a_single_phase_spodes_meter_has_its_days_elsewhere_and_may_lack_the_row_of_the_present() -> None:
    known = companion("spodes")
    listed = [
        ObjectEntry(class_id=class_id, version=1, obis=Obis.parse(obis), attributes={})
        for class_id, obis in ((7, "1-0:99.2.0*255"), (3, "1-0:12.7.0*255"))
    ]
    daily = known.source(ProfileName.DAILY, listed)
    assert repr(daily) == "BufferSource(places=(Obis(a=1, b=0, c=99, d=2, e=0, f=255),), scaler_profile=None)"
    assert "12" in repr(known.source(ProfileName.INSTANTANEOUS, listed))
    with pytest.raises(NotSupported, match="nothing for the billing profile"):
        known.source(ProfileName.BILLING, listed)
