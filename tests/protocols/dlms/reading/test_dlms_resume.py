"""A long read goes on after line faults: no row twice, none left out, what came whole not asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.resuming_exchange import MAX_RESUMES
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    Data,
    array,
    double_long_unsigned,
    enum,
    long_unsigned,
    octets,
    structure,
)
from protocols.errors import (
    AssociationLost,
    IdentityMismatch,
    LineClosed,
    LineError,
    LineUnavailable,
    MeterError,
    MeterProtocolError,
    MeterSilent,
)
from protocols.lines.tcp import TcpLine
from protocols.reading import ProfileName, ReadingSet, RelayState
from protocols.session import MeterSpec
from tests.support.dlms.bench import POLICIES, START, SmallMeter
from tests.support.dlms.fault_line import Fault, FaultLine
from tests.support.dlms.site import Site, collect, site
from tests.support.tcp_server import tcp_server

pytestmark = pytest.mark.virtual_time

BLOCKS = "1-0:99.1.0*255"


class RowMeter(SmallMeter):
    """Writes down each range of blocks that it is asked for."""

    def __init__(self, name: str = "none", shape: str = "") -> None:
        super().__init__({48: POLICIES[name][0]})
        self.asked: list[RangeSelection] = []
        self.null_stamps = shape == "nulls"
        rows = list(self.attributes[BLOCKS, 2].items)
        if shape == "set back":  # the clock went back by an hour: two stamps come twice
            times = [at for at, _ in self.blocks]
            times = times[:40] + [at - timedelta(hours=1) for at in times[40:]]
            rows = [
                structure(octets(cosem_time.encode(at)), long_unsigned(23000 + n), double_long_unsigned(n))
                for n, at in enumerate(times)
            ]
        if shape in ("newest first", "in secret"):
            rows.reverse()
        if shape == "newest first":
            self.attributes[BLOCKS, 5] = enum(2)
        self.attributes[BLOCKS, 2] = array(*rows)

    def get(self, client: int, target: Target) -> Data:
        if isinstance(target.selection, RangeSelection) and str(target.obis) == BLOCKS:
            self.asked.append(target.selection)
        return super().get(client, target)


def site_of(meter: SmallMeter, framing: str, faults: list[Fault], name: str = "none") -> Site:
    return Site(meter, FaultLine(meter, framing, faults), name, framing)


async def read_all(s: Site) -> tuple[list[ReadingSet], Exception | None]:
    """Give the rows that came and the error that ended the read, if one did."""
    rows: list[ReadingSet] = []
    try:
        async with s.open() as session:
            async for row in session.read(ProfileName.BLOCK_LOAD, START, START + timedelta(days=2)):
                rows.append(row)  # noqa: PERF401 - those before an error count
    except (LineError, MeterError) as error:
        return rows, error
    return rows, None


async def late(name: str, framing: str) -> int:
    """Count octets up to where most rows have come."""
    s = site_of(RowMeter(name), framing, [], name)
    assert (await read_all(s))[1] is None
    assert isinstance(s.line, FaultLine)
    return s.line.received * 3 // 4


def shown(rows: list[ReadingSet]) -> list[tuple[datetime, int, object]]:
    return [(row.at, row.occurrence, row.values) for row in rows]


faults = st.lists(
    st.builds(Fault, st.integers(1, 4000), st.sampled_from(("close", "silence", "reboot", "flip"))),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("shape", ["plain", "nulls", "newest first", "in secret", "set back"])
def test_whatever_is_cut_where_rows_are_a_beginning_of_what_the_meter_has(framing: str, shape: str) -> None:
    whole, error = asyncio.run(read_all(site_of(RowMeter(shape=shape), framing, [])))
    assert error is None
    assert len(whole) == 96
    finished = []

    @profile(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(faults=faults)
    def cut(faults: list[Fault]) -> None:
        given_faults = [f for f in faults if framing == "hdlc" or f.kind != "flip"]
        rows, error = asyncio.run(read_all(site_of(RowMeter(shape=shape), framing, given_faults)))
        assert shown(rows) == shown(whole)[: len(rows)]
        assert error is not None or len(rows) == len(whole)
        finished.append(error is None)

    cut()
    assert any(finished)


@pytest.mark.parametrize("kind", ["close", "silence", "reboot"])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", ["none", "hls2"])
async def test_a_fault_in_mid_read_costs_only_the_rest(name: str, framing: str, kind: str) -> None:
    meter = RowMeter(name)
    s = site_of(meter, framing, [Fault(await late(name, framing), kind)], name)
    async with s.open() as session:
        rows = await collect(session, ProfileName.BLOCK_LOAD, START, START + timedelta(days=2))
        assert len(rows) == 96
        assert session.resumes == 1
    first, again = (cosem_time.decode(asked.since).at for asked in meter.asked)
    assert first is not None
    assert again is not None
    assert again - first > timedelta(hours=6)
    assert len(set(s.counters.given)) == len(s.counters.given)


async def test_faults_on_and_on_end_in_an_error_after_the_rows_that_came() -> None:
    s = site_of(RowMeter(), "wrapper", [Fault(600, "close")] * 30)
    rows, error = await read_all(s)
    assert isinstance(error, LineClosed)
    assert isinstance(s.line, FaultLine)
    assert s.line.connects <= MAX_RESUMES + 1
    assert shown(rows) == shown((await read_all(site_of(RowMeter(), "wrapper", [])))[0])[: len(rows)]


async def test_a_read_that_brings_nothing_is_tried_twice_and_not_more() -> None:
    s = site_of(RowMeter(), "wrapper", [Fault(60, "silence")] + [Fault(0, "silence")] * 30)
    rows, error = await read_all(s)
    assert rows == []
    assert isinstance(error, MeterSilent)
    assert isinstance(s.line, FaultLine)
    assert s.line.connects == 2


async def test_another_meter_after_the_fault_is_an_identity_mismatch() -> None:
    meter = RowMeter()
    s = site_of(meter, "wrapper", [])
    async with s.open() as session:
        meter.attributes["0-0:96.1.0*255", 2] = octets(b"00000008")
        await s.line.close()
        with pytest.raises(IdentityMismatch) as caught:
            await collect(session, ProfileName.BLOCK_LOAD)
    assert caught.value.found == "GEN:00000008"


async def test_an_order_is_never_repeated_and_what_follows_it_is_read_anew() -> None:
    meter = RowMeter()
    orders: list[int] = []
    act = meter.action

    def ordered(client: int, target: Target, parameter: Data | None) -> Data | None:
        orders.append(target.index)
        return act(client, target, parameter)

    meter.action = ordered  # type: ignore[method-assign] # counts what is ordered
    s = site_of(meter, "wrapper", [])
    async with s.open() as session:
        assert isinstance(s.line, FaultLine)
        s.line._faults, s.line._left = [Fault(1, "close")], 1
        with pytest.raises(LineClosed):
            await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.OPEN
    assert orders == [1]


async def test_when_the_line_stays_down_its_own_error_goes_out() -> None:
    cut = await late("none", "wrapper")
    s = site_of(RowMeter(), "wrapper", [Fault(cut, "close")])
    line = s.line
    assert isinstance(line, FaultLine)
    line.refuse = lambda: line.received >= cut
    rows, error = await read_all(s)
    assert isinstance(error, LineUnavailable)
    assert len(rows) > 20


async def test_a_meter_that_refuses_by_exception_is_asked_again_once_and_believed() -> None:
    meter = RowMeter()
    s = site_of(meter, "wrapper", [])
    meter.policies[48] = POLICIES["none"][0]

    class Refusing(FaultLine):
        async def send(self, data: bytes) -> None:
            if bytes((0, 0, 96, 3, 10)) in data:
                self.buffer += bytes.fromhex("0001000100300003D80101")
                return
            await super().send(data)

    s.line = Refusing(meter, "wrapper", [])
    async with s.open(MeterSpec(meter="GEN:00000007", dlms=s.spec().dlms)) as session:
        for _ in range(3):
            with pytest.raises(AssociationLost, match="service not allowed"):
                await session.relay()
        assert session.resumes == 1
        assert len(await collect(session, ProfileName.BLOCK_LOAD)) == 96


# real sockets


@asynccontextmanager
async def cutting(host: str, port: int, after: list[int]) -> AsyncIterator[int]:
    """Forward to a meter and cut connections after so many octets of its answers; gives the port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)

        async def up() -> None:
            while octets := await reader.read(4096):
                far_writer.write(octets)
            far_writer.close()  # the client hung up: so does the meter, and what follows ends

        asking = asyncio.create_task(up())
        left = after.pop(0) if after else 1 << 30
        try:
            while left > 0 and (octets := await far_reader.read(min(left, 4096))):
                writer.write(octets)
                left -= len(octets)
        finally:
            asking.cancel()
            far_writer.close()
            writer.close()

    async with tcp_server(connected) as cut_port:
        yield cut_port


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", ["hls2", "gmac"])
async def test_over_tcp_a_read_outlives_two_lost_connections(name: str, framing: str) -> None:
    async with site(name, framing) as s:
        assert isinstance(s.line, TcpLine)
        host, port = s.line._host, s.line._port
        async with cutting(host, port, [2000, 1200]) as cut_port:
            s.line = TcpLine("cut", host, cut_port)
            async with s.open() as session:
                blocks = await collect(session, ProfileName.BLOCK_LOAD)
                assert [b.at for b in blocks] == [at for at, _ in s.meter.blocks]
                assert session.resumes == 2
            await s.line.close()
        assert len(set(s.counters.given)) == len(s.counters.given)


@pytest.mark.parametrize("limit", [0.03, 0.1])
async def test_one_request_has_a_bound_however_many_blocks_it_takes(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meter that dribbles: each block comes in time, the whole takes too long. What came is not lost."""

    class Slow(FaultLine):
        async def send(self, data: bytes) -> None:
            await asyncio.sleep(0.02)
            await super().send(data)

    defaults: dict[str, Any] = Exchange.__init__.__kwdefaults__ or {}
    s = site_of(RowMeter(), "wrapper", [])
    whole, _ = await read_all(s)
    monkeypatch.setattr(Exchange.__init__, "__kwdefaults__", defaults | {"limit": limit})
    s.line = Slow(RowMeter(), "wrapper", [])
    rows, error = await read_all(s)
    assert shown(rows) == shown(whole)[: len(rows)]
    assert s.line.connects > 1
    if limit == 0.1:
        assert len(rows) > 48
    else:
        assert isinstance(error, MeterProtocolError)
        assert "one request took more than 0.03 s" in str(error)


async def test_the_nameplate_is_read_in_one_request_where_lists_are_allowed() -> None:
    requests: list[bytes] = []

    class Counted(FaultLine):
        async def send(self, data: bytes) -> None:
            requests.append(data)
            await super().send(data)

    for most, count in ((1, 5), (8, 1)):
        s = site_of(RowMeter(), "wrapper", [])
        s.line = Counted(RowMeter(), "wrapper", [], max_pdu=1024)
        async with s.open(s.spec(max_list=most)) as session:
            plate = await session.identify()
            assert (plate.meter_id, plate.firmware, plate.year) == ("GEN:00000007", "F1.0", 2025)
            assert len(requests) == 1 + count
        requests.clear()
