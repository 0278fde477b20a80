"""The generic companion reads any meter by its own object list, through the same reader and session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.companion import companion
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    boolean,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    scaler_unit,
    structure,
    unsigned,
)
from protocols.dlms.reading.layout_cache import Layouts
from protocols.dlms.server.model import AssociationPolicy
from protocols.dlms.server.ports import serve_wrapper
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.errors import MeterConfigError, NotSupported
from protocols.lines.tcp import TcpLine
from protocols.reading import Instant, Missing, MissingReason, Number, Obis, ProfileName, RelayState, Text
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.household.household import Household
from tests.support.dlms.bench import HLS_KEY, CapturedObject, SmallMeter
from tests.support.dlms.reader_bench import ScriptedExchange, collect, reader_of
from tests.support.dlms.site import SECRETS
from tests.support.fakes import Counters, ManualClock

pytestmark = pytest.mark.virtual_time

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 6, 1, tzinfo=BERLIN)
NOON = MONDAY + timedelta(hours=12)
LIST = ("0-0:40.0.0*255", 2)


def listed(class_id: int, obis: str, *readable: int, mode: int = 1) -> Data:
    rights = array(*(structure(integer(a), enum(mode), NULL) for a in readable or (1, 2)))
    return structure(
        long_unsigned(class_id), unsigned(1), octets(Obis.parse(obis).to_bytes()), structure(rights, array())
    )


class ForeignMeter(SmallMeter):
    """A meter that knows nothing of India: quarter-hours at 1-1:99.1.0, CET with the Blue Book's deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes = self._foreign()

    def _foreign(self) -> dict[tuple[str, int], Data]:
        objects: dict[tuple[str, int], Data] = {
            ("0-0:96.1.0*255", 2): octets(b"4711"),
            ("0-0:42.0.0*255", 2): octets(b"XYZ0000004711"),
            ("1-0:1.8.0*255", 2): double_long_unsigned(123_456),
            ("1-0:1.8.0*255", 3): scaler_unit(1, 30),
            ("1-0:2.8.0*255", 2): double_long_unsigned(5),
            ("1-0:32.7.0*255", 2): long_unsigned(2301),
            ("1-0:32.7.0*255", 3): scaler_unit(-1, 35),
            ("1-0:1.6.0*255", 2): double_long_unsigned(900),
            ("1-0:1.6.0*255", 3): scaler_unit(0, 27),
            ("1-0:1.6.0*255", 5): octets(self.stamp(NOON)),
            ("1-0:1.4.0*255", 3): double_long_unsigned(450),
            ("1-0:1.4.0*255", 4): scaler_unit(0, 27),
            ("0-1:96.3.10*255", 2): boolean(False),
        }
        clock = (8, Obis(0, 0, 1, 0, 0), 2, None)
        energy = (3, Obis(1, 0, 1, 8, 0), 2, None)
        quarters = [MONDAY + timedelta(minutes=15 * n) for n in range(1, 49)]
        rows = [structure(octets(self.stamp(at)), double_long_unsigned(n)) for n, at in enumerate(quarters)]
        self._profile(objects, "1-1:99.1.0*255", None, [clock, energy], rows, period=900)
        log: list[CapturedObject] = [clock, (1, Obis(0, 0, 96, 11, 0), 2, None)]
        reset = structure(octets(self.stamp(NOON)), Data(Tag.UNSIGNED, 3))
        self._profile(objects, "0-0:99.98.0*255", None, log, [reset])
        objects[LIST] = array(
            listed(7, "0-0:99.98.0"),
            listed(70, "0-1:96.3.10"),
            listed(3, "1-0:32.7.0", 1, 2, 3),
            listed(4, "1-0:1.6.0", 1, 2, 3, 5),
            listed(3, "1-0:2.8.0", 2, mode=0),
            listed(3, "1-0:1.8.0", 1, 2, 3),
            listed(3, "1-0:3.8.0", 1, 2, 3),
            listed(5, "1-0:1.4.0", 3, 4),
            listed(7, "1-1:99.1.0"),
            listed(1, "0-0:96.1.0"),
            listed(1, "0-0:42.0.0"),
            listed(15, "0-0:40.0.0"),
        )
        return objects

    @staticmethod
    def stamp(at: datetime) -> bytes:
        offset = at.utcoffset() or timedelta()
        return cosem_time.encode(at, BERLIN, deviation=-(offset // timedelta(minutes=1)))


async def test_a_foreign_meter_shows_its_registers_and_nameplate() -> None:
    reader = reader_of(ScriptedExchange(ForeignMeter()), name="generic", zone=BERLIN, now=NOON)
    (now,) = await collect(reader, ProfileName.INSTANTANEOUS)
    assert {str(q): v for q, v in now} == {
        "1-0:32.7.0*255": Number(2301, -1, "V"),
        "1-0:1.8.0*255": Number(123_456, 1, "Wh"),
        "1-0:3.8.0*255": Missing(MissingReason.NOT_SUPPORTED),
        "1-0:1.6.0*255": Number(900, 0, "W"),
        "1-0:1.6.0*255#5": Instant(NOON),
        "1-0:1.4.0*255#3": Number(450, 0, "W"),
    }
    assert (now.at, now.meter_time) == (NOON.astimezone(UTC), None)
    (plate,) = await collect(reader, ProfileName.NAMEPLATE)
    assert {str(q): v for q, v in plate} == {
        "0-0:42.0.0*255": Text("XYZ0000004711"),
        "0-0:96.1.0*255": Text("4711"),
    }
    for profile in (ProfileName.DAILY, ProfileName.BILLING, ProfileName.PREPAYMENT):
        with pytest.raises(NotSupported, match=f"nothing for the {profile} profile"):
            await collect(reader, profile)


async def test_a_foreign_meter_s_profiles_are_found_and_asked_by_the_blue_book_s_deviation() -> None:
    def in_berlin(rows: list[Data], selection: object) -> list[Data]:
        assert isinstance(selection, RangeSelection)
        stamps = [cosem_time.decode(row.items[0].octets or b"", BERLIN).at for row in rows]
        low, high = (cosem_time.decode(end, BERLIN).at for end in (selection.since, selection.until))
        return [
            row for row, at in zip(rows, stamps, strict=True) if at and low and high and low <= at <= high
        ]

    exchange = ScriptedExchange(ForeignMeter(), in_berlin, only=Obis(1, 1, 99, 1, 0))
    reader = reader_of(exchange, name="generic", zone=BERLIN, now=NOON)
    low = MONDAY + timedelta(hours=6)
    blocks = await collect(reader, ProfileName.BLOCK_LOAD, low)
    assert [b.at for b in blocks] == [low + timedelta(minutes=15 * n) for n in range(1, 25)]
    assert blocks[0].value("1-0:1.8.0*255") == Number(24, 1, "Wh")
    assert blocks[0].start == low
    (asked,) = exchange.buffers
    assert isinstance(asked, RangeSelection)
    assert int.from_bytes(asked.since[9:11], "big", signed=True) == -120
    (event,) = await collect(reader, ProfileName.EVENTS)
    assert event.value("0-0:96.11.0*255") == Number(3)


async def test_the_object_list_is_read_once_for_each_meter() -> None:
    cache: Layouts = {}
    exchange = ScriptedExchange(ForeignMeter())
    for meter in ("1", "2", "1"):
        reader = reader_of(exchange, name="generic", zone=BERLIN, now=NOON, cache=cache, meter=meter)
        await collect(reader, ProfileName.INSTANTANEOUS)
    assert exchange.asked["0-0:40.0.0*255#2"] == 2
    assert exchange.asked["1-0:1.8.0*255#3"] == 2


START = datetime(2026, 10, 18, 18, 30, tzinfo=UTC)
NOW = START + timedelta(days=36, hours=3, minutes=11)


@asynccontextmanager
async def simulated(companion: str, *, max_list: int = 1) -> AsyncIterator[DlmsSession]:
    """Open a session with the simulated household's meter."""
    home = Household(4, "GEN", "10000001", START, cuts_until=NOW - timedelta(hours=2))
    clock = ManualClock(NOW)
    policy = AssociationPolicy(auth=Auth.HLS2, secret=HLS_KEY, may_write=True)
    settings = DlmsSettings(
        client=48, auth=Auth.HLS2, password_ref="hls", companion=companion, max_list=max_list
    )
    spec = MeterSpec(meter="GEN:10000001", dlms=settings)
    server = await serve_wrapper(
        HouseholdModel(home, clock, {48: policy, 16: AssociationPolicy(auth=Auth.NONE)})
    )
    line = TcpLine("sim", *server.sockets[0].getsockname()[:2])
    try:
        async with open_dlms(
            line, spec, SessionContext(secrets=SECRETS, counters=Counters(), clock=clock), layouts={}
        ) as session:
            yield session
    finally:
        await line.close()
        server.close()


@pytest.mark.parametrize("max_list", [1, 12])
async def test_the_simulator_reads_alike_through_both_companions(max_list: int) -> None:
    low = NOW - timedelta(days=5)
    found = {}
    for name in ("is15959", "generic"):
        async with simulated(name, max_list=max_list) as session:
            found[name] = {
                profile: [row async for row in session.read(profile, low)]
                for profile in ProfileName
                if profile is not ProfileName.PREPAYMENT
            }
            assert await session.relay() is RelayState.CLOSED
            await session.switch_relay(RelayState.OPEN)
            assert await session.relay() is RelayState.OPEN
    india, generic = found["is15959"], found["generic"]
    for profile in (ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS):
        assert [(r.at, r.occurrence) for r in india[profile]] == [
            (r.at, r.occurrence) for r in generic[profile]
        ]
    assert [list(r) for r in india[ProfileName.DAILY]] == [list(r) for r in generic[ProfileName.DAILY]]
    assert len(india[ProfileName.BLOCK_LOAD]) > 200
    ours, theirs = (dict(found[n][ProfileName.INSTANTANEOUS][0]) for n in ("is15959", "generic"))
    common = ours.keys() & theirs.keys()
    assert len(common) > 12
    assert {q: ours[q] for q in common} == {q: theirs[q] for q in common}


def test_an_unknown_companion_is_a_configuration_error() -> None:
    with pytest.raises(MeterConfigError, match="unknown companion 'ocpp'"):
        companion("ocpp")
