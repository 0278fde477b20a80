"""A meter by URL, used without `await`: values, errors, and nothing that stays open."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from protocols.errors import (
    IdentityMismatch,
    LineUnavailable,
    LocalError,
    MeterConfigError,
    NotSupported,
    SecretMissing,
)
from protocols.meters import Meter, Row, open_meter, open_meter_async
from protocols.reading import (
    Bits,
    Instant,
    Missing,
    MissingReason,
    Number,
    ProfileName,
    Quantity,
    ReadingSet,
    RelayState,
    Text,
)
from protocols.simulator.neighbourhood.plan import MeterKind
from tests.support.simulator import ServedNeighbourhood, served_neighbourhood
from tests.support.tcp_server import tcp_server

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNeighbourhood]:
    with served_neighbourhood(tmp_path_factory.mktemp("town")) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """After each test no thread of a session lives, but the town's."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert set(threading.enumerate()) <= before


def opened(town: ServedNeighbourhood, kind: MeterKind = MeterKind.DLMS_TCP, **settings: object) -> Meter:
    plan = town.meter(kind)
    return open_meter(town.url(plan, **settings), keys=town.keys(plan) if plan.secrets else None)


@pytest.mark.parametrize("kind", list(MeterKind))
def test_every_kind_of_meter_is_opened_by_its_url(town: ServedNeighbourhood, kind: MeterKind) -> None:
    plan = town.meter(kind)
    keys = town.keys(plan) if plan.secrets else None
    with open_meter(town.url(plan, meter=plan.meter), keys=keys) as meter:
        assert meter.identify().meter_id == plan.meter
        (row,) = meter.rows("instantaneous")
        assert isinstance(row["1-0:12.7.0*255"], Decimal) or isinstance(row["1-0:32.7.0*255"], Decimal)


def test_a_day_of_block_load_is_what_the_meter_recorded(town: ServedNeighbourhood) -> None:
    plan = town.meter(MeterKind.DLMS_TCP)
    until = town.area.clock.now()
    since = until - timedelta(days=1)
    recorded = town.area.recorded(plan.meter, since, until).blocks
    with opened(town) as meter:
        rows = list(meter.rows(ProfileName.BLOCK_LOAD, since, until))
        clock = meter.clock()
    assert [r.at for r in rows] == [b.at for b in recorded]
    assert all(r.at.tzinfo is UTC and r.start is not None and r.start < r.at for r in rows)
    assert [r["1-0:1.29.0*255"] for r in rows] == [Decimal(b.energy_import_wh) for b in recorded]
    assert [r["1.0.12.27.0.255"] for r in rows] == [r["1-0:12.27.0"] for r in rows]
    assert {type(v) for r in rows for v in r.values()} <= {Decimal, datetime, str, type(None)}
    assert clock.meter.tzinfo is not None
    assert isinstance(clock.drift, float)


def test_it_works_inside_a_running_event_loop(town: ServedNeighbourhood) -> None:
    """A notebook has one; ours runs in its own thread."""

    async def cell() -> str:
        with opened(town) as meter:
            return meter.identify().serial

    assert asyncio.run(cell()) == town.meter(MeterKind.DLMS_TCP).serial


def test_it_opens_again_and_two_meters_are_open_at_once(town: ServedNeighbourhood) -> None:
    other = town.meter(MeterKind.MODBUS_TCP)
    for _ in range(2):
        with opened(town) as one, open_meter(town.url(other)) as two:
            assert (one.identify().meter_id, two.identify().meter_id) == (
                town.meter(MeterKind.DLMS_TCP).meter,
                other.meter,
            )


def test_the_relay_is_read_and_switched(town: ServedNeighbourhood) -> None:
    with opened(town, MeterKind.DLMS_HDLC) as meter:
        meter.switch_relay(RelayState.OPEN)
        assert meter.relay() is RelayState.OPEN
        meter.switch_relay(RelayState.CLOSED)
        assert meter.relay() is RelayState.CLOSED
        at = town.area.clock.now() - timedelta(minutes=3)
        meter.set_clock(at)
        assert abs(meter.clock().meter - at) < timedelta(minutes=1)


def test_the_asynchronous_twin_gives_the_session(town: ServedNeighbourhood) -> None:
    plan = town.meter(MeterKind.MODBUS_TCP)

    async def read() -> list[Row]:
        async with open_meter_async(town.url(plan)) as session:
            return [Row(reading) async for reading in session.read(ProfileName.INSTANTANEOUS)]

    (row,) = asyncio.run(read())
    assert row.reading.profile is ProfileName.INSTANTANEOUS


# errors and clean-up


def test_what_cannot_be_opened_leaves_nothing(town: ServedNeighbourhood) -> None:
    plan = town.meter(MeterKind.DLMS_TCP)
    with pytest.raises(LineUnavailable):
        open_meter("dlms+tcp://127.0.0.1:1")
    with pytest.raises(IdentityMismatch):
        open_meter(town.url(plan, meter="GEN:1"), keys=town.keys(plan))
    with pytest.raises(SecretMissing, match="needs hls_key: put it into a key file"):
        open_meter(town.url(plan))
    with pytest.raises(MeterConfigError, match="cannot be read"):
        open_meter(town.url(plan), keys=town.folder / "none.toml")


def test_an_error_in_the_block_closes_everything(town: ServedNeighbourhood) -> None:
    meter = opened(town)
    rows = meter.rows("block_load")

    def fail() -> None:
        with meter:
            next(rows)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(LocalError, match="was closed"):
        next(rows)
    with pytest.raises(LocalError, match="was closed"):
        meter.clock()
    meter.close()


def test_rows_may_be_left_before_their_end(town: ServedNeighbourhood) -> None:
    with opened(town) as meter:
        for row in meter.rows("block_load"):
            assert row.start is not None
            break
        assert meter.identify().serial == town.meter(MeterKind.DLMS_TCP).serial


def test_wrong_use_is_said_before_the_meter_is_asked(town: ServedNeighbourhood) -> None:
    with opened(town, MeterKind.MODBUS_TCP) as meter:
        with pytest.raises(LocalError, match="`weekly` is no profile: instantaneous, block_load"):
            meter.rows("weekly")
        with pytest.raises(LocalError, match="`since` needs a zone"):
            meter.rows("block_load", datetime(2026, 11, 23))
        with pytest.raises(NotSupported):
            list(meter.rows("block_load"))
        assert meter.identify().serial  # an error of one call leaves the meter usable


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Let an interrupt reach Python, also where the tests were started with it ignored (`make test &`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupt_when(condition: threading.Event) -> threading.Thread:
    def interrupt() -> None:
        condition.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_while_waiting_ends_the_request_and_closes(town: ServedNeighbourhood) -> None:
    asked = threading.Event()
    meter = opened(town)

    async def never() -> None:
        asked.set()
        await asyncio.sleep(3600)

    thread = _interrupt_when(asked)
    with pytest.raises(KeyboardInterrupt), meter:
        meter._thread.call(never())
    thread.join()
    assert meter._thread.closed


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_while_opening_leaves_nothing() -> None:
    """The far end takes the connection and says nothing."""
    connected = threading.Event()

    async def serve() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            await reader.read()
            await reader.read()
            writer.close()
            done.set()

        done = asyncio.Event()
        async with tcp_server(silent) as listens:
            port.append(listens)
            listening.set()
            await done.wait()

    port: list[int] = []
    listening = threading.Event()
    far = threading.Thread(target=lambda: asyncio.run(serve()))
    far.start()
    listening.wait(10)
    thread = _interrupt_when(connected)
    with pytest.raises(KeyboardInterrupt):
        open_meter(f"dlms+tcp://127.0.0.1:{port[0]}?timeout=60")
    thread.join()
    far.join(10)
    assert not far.is_alive()


def test_a_meter_that_nobody_closed_says_so_and_ends(town: ServedNeighbourhood) -> None:
    meters = [opened(town, MeterKind.MODBUS_TCP)]
    thread = meters[0]._thread._thread
    with pytest.warns(ResourceWarning, match="unclosed"):
        meters.clear()
    thread.join(10)
    assert not thread.is_alive()


# rows


def test_a_row_maps_obis_codes_to_plain_values() -> None:
    values = (
        ("1-0:1.8.0*255", Number(12345678901234567890123456789, -3, "Wh")),
        ("1-0:1.6.0*255#5", Instant(NOON)),
        ("0-0:96.1.0*255", Text("10000001")),
        ("0-0:94.91.18*255", Bits("0101")),
        ("1-0:13.7.0*255", Missing(MissingReason.NOT_MEASURED)),
        ("1-0:1.8.0*255", Number(1, 0, "Wh")),
    )
    row = Row(
        ReadingSet(
            profile=ProfileName.INSTANTANEOUS,
            at=NOON.astimezone(),
            received_at=NOON,
            values=tuple((Quantity.of(q), v) for q, v in values),
        )
    )
    assert dict(row) == {
        "1-0:1.8.0*255": Decimal("12345678901234567890123456.789"),
        "1-0:1.6.0*255#5": NOON,
        "0-0:96.1.0*255": "10000001",
        "0-0:94.91.18*255": "0101",
        "1-0:13.7.0*255": None,
    }
    assert list(row) == [q for q, _ in values[:5]]
    assert row.at == NOON
    assert row.at.tzinfo is UTC
    assert row.start is None
    assert (row.unit("1-0:1.8.0"), row.unit("0-0:96.1.0")) == ("Wh", "")
    assert row.missing("1-0:13.7.0") is MissingReason.NOT_MEASURED
    assert row.missing("1-0:1.8.0") is None
    assert row.name("1-0:1.6.0*255#5") == "max_demand_time"
    assert "1.0.1.8.0.255" in row
    for unknown in ("1-0:2.8.0*255", "not a code"):
        assert unknown not in row
        for ask in (row.unit, row.missing, row.name):
            with pytest.raises(KeyError):
                ask(unknown)
    assert repr(row) == "Row(instantaneous, 2026-11-23T12:00:00+00:00, 5 values)"
