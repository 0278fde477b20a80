"""The DLMS session over real sockets: readings, identity, relay, clock, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import array, double_long_unsigned, octets, structure
from protocols.dlms.reading.layout_cache import Layouts
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import HdlcBus, ServedMeter
from protocols.dlms.session import open_dlms
from protocols.errors import (
    AssociationRefused,
    IdentityMismatch,
    LineClosed,
    MeterConfigError,
    MeterProtocolError,
    MeterSilent,
    NotSupported,
)
from protocols.lines.tcp import TcpLine
from protocols.reading import (
    Instant,
    Missing,
    MissingReason,
    Number,
    ProfileName,
    RelayState,
)
from protocols.session import MeterSpec, SessionContext
from tests.support.dlms.bench import POLICIES, START, SmallMeter
from tests.support.dlms.site import NOW, SECRETS, collect, settings, site
from tests.support.fakes import Counters, ManualClock
from tests.support.tcp_server import HOST, tcp_server

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", POLICIES)
async def test_reads_every_kind_of_profile(framing: str, name: str) -> None:
    async with site(name, framing) as s, s.open() as session:
        plate = await session.identify()
        assert (plate.meter_id, plate.firmware, plate.year) == ("GEN:00000007", "F1.0", 2025)
        (now,) = await collect(session, ProfileName.INSTANTANEOUS)
        assert now.at == NOW
        assert now.meter_time is not None
        assert now.meter_time.deviation == 330
        assert now.value("1-0:12.7.0*255") == Number(23012, -2, "V")
        assert now.value("1-0:13.7.0*255") == Number(-987, -3, "")
        assert now.value("1-0:1.8.0*255") == Number(1234, 1, "Wh")
        assert now.value("1-0:1.6.0*255") == Number(900, 0, "W")
        assert now.value("1-0:1.6.0*255#5") == Missing(MissingReason.NOT_SPECIFIED)
        assert now.value("0-0:96.3.10*255") == Number(1)
        assert now.value("0-0:1.0.0*255") is None
        blocks = await collect(session, ProfileName.BLOCK_LOAD)
        assert [b.at for b in blocks] == [at for at, _ in s.meter.blocks]
        assert blocks[5].start == blocks[4].at
        assert blocks[5].value("1-0:12.27.0*255") == Number(23005, -2, "V")


async def test_a_range_is_open_below_and_closed_above() -> None:
    async with site() as s, s.open() as session:
        low, high = START + timedelta(hours=1), START + timedelta(hours=2)
        blocks = await collect(session, ProfileName.BLOCK_LOAD, low, high)
        assert [b.at for b in blocks] == [low + timedelta(minutes=30), high]


async def test_null_stamps_add_one_period() -> None:
    async with site() as s, s.open() as session:
        s.meter.null_stamps = True
        blocks = await collect(session, ProfileName.BLOCK_LOAD, START, START + timedelta(hours=3))
        assert [b.at for b in blocks] == [at for at, _ in s.meter.blocks[:6]]
        assert blocks[3].meter_time is not None
        assert blocks[3].meter_time.wall == "2026-06-01 02:00:00"


async def test_prepayment_accepts_both_places_and_says_what_is_missing() -> None:
    async with site() as s, s.open() as session:
        (reading,) = await collect(session, ProfileName.PREPAYMENT)
        assert reading.value("0-0:94.96.24*255") == Number(-12345, -2, "INR")
        assert reading.value("0-0:94.96.25*255") == Instant(NOW)
        assert reading.value("0-0:94.96.20*255") == Number(1)
        assert reading.value("0-0:94.96.21*255") == Missing(MissingReason.NOT_SUPPORTED)


async def test_events_keep_apart_under_one_stamp() -> None:
    async with site() as s, s.open() as session:
        events = await collect(session, ProfileName.EVENTS)
        codes = [
            (v.mantissa, e.occurrence)
            for e in events
            for q, v in e
            if q.obis.d == 11 and isinstance(v, Number)
        ]
        base = 100_000_000
        assert codes == [(101, 2 * base + 44), (301, 6 * base), (302, 6 * base + 1), (301, 6 * base)]


async def test_relay_and_clock() -> None:
    async with site() as s, s.open() as session:
        assert await session.relay() is RelayState.CLOSED
        await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.OPEN
        await session.switch_relay(RelayState.CLOSED)
        assert await session.relay() is RelayState.CLOSED
        clock = await session.clock()
        assert (clock.meter, clock.drift, clock.deviation) == (NOW, 0.0, 330)
        await session.set_clock(NOW + timedelta(seconds=5))
        assert s.meter.clock_set == cosem_time.encode(NOW + timedelta(seconds=5), deviation=330)


async def test_a_profile_that_is_not_there_is_not_supported() -> None:
    async with site() as s, s.open() as session:
        with pytest.raises(NotSupported, match="object undefined"):
            await collect(session, ProfileName.DAILY)
        assert await session.relay() is RelayState.CLOSED  # the session goes on


async def test_counters_start_above_the_meters_and_never_repeat() -> None:
    async with site("gmac") as s:
        s.meter.counters[48] = 5000
        for _ in range(2):
            async with s.open() as session:
                await session.relay()
        assert s.counters.given[0] == 5001
        assert len(set(s.counters.given)) == len(s.counters.given)


async def test_layouts_are_cached_by_meter_and_firmware() -> None:
    cache: Layouts = {}
    async with site() as s:
        async with s.open(layouts=cache) as session:
            await collect(session, ProfileName.BLOCK_LOAD)
        assert {key[:2] for key in cache} == {("GEN:00000007", "F1.0"), ("GEN:00000007", "")}
        del s.meter.attributes["1-0:94.91.4*255", 3]  # read again it would be missing
        async with s.open(layouts=cache) as session:
            rows = await collect(session, ProfileName.BLOCK_LOAD)
            assert len(rows) == 96
            assert isinstance(rows[0].value("1-0:12.27.0*255"), Number)


async def test_a_cached_layout_that_does_not_fit_is_read_again_at_once() -> None:
    cache: Layouts = {}
    async with site() as s:
        async with s.open(layouts=cache) as session:
            await collect(session, ProfileName.INSTANTANEOUS)
        for attribute in (2, 3):  # the utility takes one column out
            key = ("1-0:94.91.0*255", attribute)
            rows = s.meter.attributes[key].items
            less = rows[:-1] if attribute == 3 else (structure(*rows[0].items[:-1]),)
            s.meter.attributes[key] = array(*less)
        async with s.open(layouts=cache) as session:
            (now,) = await collect(session, ProfileName.INSTANTANEOUS)
            assert now.value("1-0:12.7.0*255") == Number(23012, -2, "V")
            assert now.value("0-0:96.3.10*255") is None


async def test_rows_that_fit_no_columns_of_the_meter_are_a_protocol_error() -> None:
    async with site() as s, s.open() as session:
        (row,) = s.meter.attributes["1-0:94.91.0*255", 2].items
        s.meter.attributes["1-0:94.91.0*255", 2] = array(structure(*row.items[:-1]))
        with pytest.raises(MeterProtocolError, match="row 0 has 6 cells"):
            await collect(session, ProfileName.INSTANTANEOUS)


async def test_the_capture_period_is_the_meters_own_not_the_cache_s() -> None:
    cache: Layouts = {}
    async with site() as s:
        for seconds in (1800, 900):
            s.meter.attributes["1-0:99.1.0*255", 4] = double_long_unsigned(seconds)
            async with s.open(layouts=cache) as session:
                first = (await collect(session, ProfileName.BLOCK_LOAD))[0]
                assert first.start is not None
                assert (first.at - first.start).total_seconds() == seconds


async def test_any_span_may_be_asked_for() -> None:
    async with site() as s, s.open() as session:
        ages = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
        assert len(await collect(session, ProfileName.BLOCK_LOAD, *ages)) == 96
        assert len(await collect(session, ProfileName.EVENTS, *ages)) == 4
        for profile in (ProfileName.BLOCK_LOAD, ProfileName.EVENTS):
            assert await collect(session, profile, *reversed(ages)) == []


async def test_the_makers_name_or_its_flag_letters_may_be_expected() -> None:
    async with site() as s:
        s.meter.attributes["0-0:96.1.1*255", 2] = octets(b"Zenith Power")
        for expected in ("GEN:00000007", "ZEN:00000007"):
            async with s.open(s.spec(meter=expected)) as session:
                assert (await session.identify()).meter_id == expected
        async with s.open(s.spec(meter=None)) as session:
            assert (await session.identify()).manufacturer == "GEN"


async def test_another_meter_at_the_address_is_an_identity_mismatch() -> None:
    async with site() as s:
        with pytest.raises(IdentityMismatch) as caught:
            async with s.open(s.spec(meter="GEN:99999999")):
                pytest.fail("opened")
        assert caught.value.found == "GEN:00000007"
        assert caught.value.line == "test"


async def test_the_makers_name_stands_in_for_a_missing_title() -> None:
    async with site("none") as s, s.open() as session:
        assert (await session.identify()).manufacturer == "GEN"


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lls", {"password_ref": "wrong"}),
        ("hls2", {"password_ref": "wrong"}),
        ("hls2", {"encryption_key_ref": "badkey"}),
        ("gmac", {"authentication_key_ref": "badkey"}),
    ],
)
async def test_wrong_secrets_are_refused_and_the_line_stays_usable(
    framing: str, name: str, changes: dict[str, Any]
) -> None:
    async with site(name, framing) as s:
        with pytest.raises(AssociationRefused, match="wrong"):
            async with s.open(s.spec(**changes)):
                pytest.fail("opened")
        async with s.open() as session:
            assert await session.relay() is RelayState.CLOSED


async def test_missing_secrets_and_settings_are_configuration_errors() -> None:
    async with site() as s:
        for spec in (
            s.spec(password_ref="nowhere"),
            s.spec(encryption_key_ref=None),
            MeterSpec(meter=None),
            MeterSpec(meter=None, zone="Mars/Olympus", dlms=settings("none")),
        ):
            with pytest.raises(MeterConfigError):
                async with s.open(spec):
                    pytest.fail("opened")


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_cancelling_in_mid_read_leaves_the_line_usable(framing: str) -> None:
    async with site("hls2", framing) as s:
        started = asyncio.Event()

        async def poll() -> None:
            async with s.open() as session:
                async for _ in session.read(ProfileName.BLOCK_LOAD):
                    started.set()
                    await session.relay()

        task = asyncio.create_task(poll())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with s.open() as session:
            assert await session.relay() is RelayState.CLOSED


async def test_cancelling_in_mid_goodbye_hangs_up() -> None:
    async with site("none") as s:
        opened, before = asyncio.Event(), s.line.statistics().connects

        async def poll() -> None:
            async with s.open() as session:
                connection = session.exchange._exchange._connection
                connection.receive_data = lambda data: []  # type: ignore[method-assign] # the answer is lost
                opened.set()

        task = asyncio.create_task(poll())
        await opened.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with s.open() as session:
            assert await session.relay() is RelayState.CLOSED
        assert s.line.statistics().connects == before + 2


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def misbehaving(answer: Answer) -> AsyncIterator[TcpLine]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        await answer(reader, writer)
        writer.close()

    async with tcp_server(connected) as port:
        line = TcpLine("bad", HOST, port)
        try:
            yield line
        finally:
            await line.close()


async def _open_plain(line: TcpLine, framing: str) -> None:
    spec = MeterSpec(meter=None, dlms=settings("none", timeout=0.3, framing=framing, physical=17))
    clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
    async with open_dlms(line, spec, SessionContext(secrets=SECRETS, counters=Counters(), clock=clock)):
        pytest.fail("opened")


async def test_closing_in_mid_apdu_is_line_closed() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes.fromhex("000100010030002B6129A109"))
        await writer.drain()

    async with misbehaving(answer) as line:
        with pytest.raises(LineClosed):
            await _open_plain(line, "wrapper")


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_garbage_is_a_protocol_error(framing: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()
        while await reader.read(1000):
            pass

    async with misbehaving(answer) as line:
        with pytest.raises(MeterProtocolError):
            await _open_plain(line, framing)


async def test_a_silent_meter_is_named_so() -> None:
    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with misbehaving(answer) as line:
        with pytest.raises(MeterSilent, match="no answer within"):
            await _open_plain(line, "hdlc")


@pytest.mark.parametrize("fault", ["lost", "damaged", "lost request"])
@pytest.mark.parametrize("window", [1, 4])
async def test_a_bus_with_faults_is_read_all_the_same(fault: str, window: int) -> None:
    """Every seventh message of one direction is lost or damaged; the readings come whole."""
    bus = HdlcBus(
        {17: ServedMeter(model=SmallMeter({48: POLICIES["hls2"][0]}))},
        ServerSettings(max_pdu=560, window=window),
    )
    messages = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal messages
        while data := await reader.read(4096):
            messages += 1
            if messages % 7 == 0 and fault == "lost request":
                continue
            answer = bus.receive_data(data)
            if messages % 7 == 0:
                answer = b"" if fault == "lost" else answer[:-2] + bytes((answer[-2] ^ 1,)) + answer[-1:]
            writer.write(answer)
            await writer.drain()
        writer.close()

    spec = MeterSpec(
        meter=None,
        dlms=settings("hls2", timeout=0.05, framing="hdlc", physical=17, window=window, address_octets=4),
    )
    context = SessionContext(secrets=SECRETS, counters=Counters(), clock=ManualClock(NOW))
    async with tcp_server(connected) as port:
        line = TcpLine("bad", HOST, port)
        async with open_dlms(line, spec, context) as session:
            blocks = await collect(session, ProfileName.BLOCK_LOAD)
        await line.close()
    assert len(blocks) == len(SmallMeter().blocks)
    assert messages > 14
