"""Associations kept open between polls: used again while they stand, replaced unseen when they do not."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.association_pool import HDLC_INACTIVITY, WRAPPER_INACTIVITY, AssociationPool
from protocols.dlms.data.types import Data
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.ports import serve_hdlc
from protocols.dlms.session import DlmsSession
from protocols.errors import IdentityMismatch, LineTimeout
from protocols.lines.serial import SerialLine
from protocols.reading import ProfileName, RelayState
from protocols.session import MeterSpec
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.dlms.fault_line import FaultLine
from tests.support.dlms.site import Site, collect, settings, site

pytestmark = pytest.mark.virtual_time

AARQ = bytes.fromhex("A1090607608574050801")
RLRQ = bytes.fromhex("6203800100")


class CountedLine(FaultLine):
    """Counts association requests; `lost` lets the meter forget all associations, `dumb` keeps it silent."""

    asked = released = 0

    async def send(self, data: bytes) -> None:
        self.asked += data.count(AARQ)
        self.released += data.count(RLRQ)
        await super().send(data)

    def forget(self) -> None:
        self._boot()


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Kept(Site):
    """A site whose spec keeps associations open."""

    def __init__(self, name: str = "hls2", framing: str = "wrapper", keep_open: float = 600.0) -> None:
        self.meter = SmallMeter({48: POLICIES[name][0], 32: POLICIES["none"][0]})
        self.wire = CountedLine(self.meter, framing, [])
        super().__init__(self.meter, self.wire, name, framing)
        self.time = Time()
        self.pool = AssociationPool(now=self.time)
        self.kept_spec = self.spec(keep_open=keep_open)

    def session(self, spec: MeterSpec | None = None) -> AbstractAsyncContextManager[DlmsSession]:
        return self.open(spec or self.kept_spec, pool=self.pool)

    async def poll(self, spec: MeterSpec | None = None) -> int:
        """Read something; give how many association requests that took, the public client's included."""
        before = self.wire.asked
        async with self.session(spec) as session:
            assert (await session.identify()).meter_id == "GEN:00000007"
            assert await session.relay() is RelayState.CLOSED
        return self.wire.asked - before


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", ["none", "gmac"])
async def test_a_kept_association_is_used_again(name: str, framing: str) -> None:
    s = Kept(name, framing)
    assert [await s.poll() > 0, await s.poll(), await s.poll()] == [True, 0, 0]
    assert s.wire.turns == s.wire.connects + 2  # the line was given back between the polls
    assert s.wire.connects == 1
    await s.pool.close()
    assert s.wire.released >= 1
    assert len(s.pool) == 0
    assert await s.poll() > 0
    assert await s.poll() > 0  # a closed pool keeps nothing


@pytest.mark.parametrize(("framing", "limit"), [("wrapper", WRAPPER_INACTIVITY), ("hdlc", HDLC_INACTIVITY)])
async def test_after_the_meters_inactivity_time_it_is_not_used(framing: str, limit: float) -> None:
    s = Kept("none", framing)
    await s.poll()
    s.time.now += limit
    assert await s.poll() == 0
    s.time.now += limit + 1
    assert await s.poll() == 1


async def test_after_keep_open_it_is_ended_in_order_and_opened_anew() -> None:
    s = Kept("none", keep_open=30)
    await s.poll()
    s.time.now += 31
    assert await s.poll() == 1
    assert s.wire.released == 1
    assert s.wire.connects == 1


async def test_without_keep_open_nothing_is_kept() -> None:
    s = Kept("none", keep_open=0)
    assert [await s.poll(), await s.poll()] == [1, 1]
    assert len(s.pool) == 0


async def test_a_stranger_on_the_line_or_a_new_connection_ends_the_keeping() -> None:
    s = Kept("none")
    await s.poll()
    async with s.wire.exclusive():
        pass
    assert await s.poll() == 1
    await s.wire.hang_up()
    assert await s.poll() == 1
    assert await s.poll() == 0


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", ["none", "gmac"])
async def test_a_stale_association_is_replaced_at_the_first_read(name: str, framing: str) -> None:
    s = Kept(name, framing)
    await s.poll()
    s.wire.forget()
    async with s.session() as session:
        assert len(await collect(session, ProfileName.BLOCK_LOAD)) == 96
        assert session.resumes == 0
    assert await s.poll() == 0


async def test_a_meter_that_is_silent_about_a_stale_association_is_asked_anew() -> None:
    class Silent(CountedLine):
        deaf = False

        async def send(self, data: bytes) -> None:
            self.deaf = self.deaf and AARQ not in data
            if not self.deaf:
                await super().send(data)

    s = Kept("none")
    s.line = s.wire = Silent(s.meter, "wrapper", [])
    await s.poll()
    s.wire.deaf = True
    assert await s.poll() == 1
    assert s.wire.connects == 2


@pytest.mark.parametrize("stale", [True, False])
async def test_an_order_in_a_kept_association_is_sent_once_after_a_read_has_proved_it(stale: bool) -> None:
    s = Kept("hls2")
    await s.poll()
    if stale:
        s.wire.forget()
    orders: list[int] = []
    act = s.meter.action

    def ordered(client: int, target: Target, parameter: Data | None) -> Data | None:
        orders.append(target.index)
        return act(client, target, parameter)

    s.meter.action = ordered  # type: ignore[method-assign] # counts what is ordered
    async with s.session() as session:
        await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.OPEN
    assert orders == [1]


async def test_another_meter_behind_a_stale_association_is_found_out() -> None:
    s = Kept("none")
    await s.poll()
    s.wire.forget()
    s.meter.attributes["0-0:96.1.0*255", 2] = SmallMeter().attributes["1-0:0.2.0*255", 2]
    async with s.session() as session:
        with pytest.raises(IdentityMismatch):
            await session.relay()
    assert len(s.pool) == 0


async def test_another_client_of_the_meter_ends_the_kept_association_first() -> None:
    s = Kept("none")
    await s.poll()
    other = MeterSpec(meter="GEN:00000007", dlms=settings("none", client=32))
    assert await s.poll(other) == 1
    assert s.wire.released == 2
    assert await s.poll() == 1


async def test_a_session_that_failed_is_not_kept() -> None:
    s = Kept("none")
    with pytest.raises(LineTimeout, match="mine"):
        async with s.session():
            raise LineTimeout("mine")
    assert len(s.pool) == 0
    assert await s.poll() == 1


async def test_the_number_of_kept_associations_is_bounded() -> None:
    s = Kept("none")
    s.pool = AssociationPool(now=s.time, capacity=0)
    assert [await s.poll(), await s.poll()] == [1, 1]
    assert len(s.pool) == 0


async def test_over_tcp_the_connection_stays_and_is_closed_by_the_line() -> None:
    async with site("gmac") as s:
        pool = AssociationPool()
        used: list[int] = []
        for _ in range(3):
            async with s.open(s.spec(keep_open=600), pool=pool) as session:
                await session.relay()
                used.append(len(s.counters.given))
        assert used[2] - used[1] == used[1] - used[0] == 2  # two requests each
        assert s.line.statistics().connects == 1
        await pool.close()


# an RS-485 bus


class BusSite(Site):
    """A meter at its own physical address."""

    def __init__(self, meter: SmallMeter, line: SerialLine, physical: int) -> None:
        super().__init__(meter, line, "hls2", "hdlc")
        self.physical = physical

    def session(self, pool: AssociationPool | None = None) -> AbstractAsyncContextManager[DlmsSession]:
        return self.open(self.spec(physical=self.physical, keep_open=600), pool=pool)


@asynccontextmanager
async def bus() -> AsyncIterator[tuple[BusSite, BusSite]]:
    """Two meters on one pty, at physical addresses 17 and 18."""
    meters = {n: SmallMeter({48: POLICIES["hls2"][0]}) for n in (17, 18)}
    master, slave = os.openpty()
    tty.setraw(slave)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    read, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(master), "rb", 0)
    )
    write, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(master, "wb", 0)
    )
    writer = asyncio.StreamWriter(write, protocol, reader, loop)
    server = asyncio.create_task(serve_hdlc(meters, reader, writer, settings=ServerSettings(max_pdu=200)))
    line = SerialLine("bus", os.ttyname(slave), baud=115200)
    sites = [BusSite(meter, line, physical) for physical, meter in meters.items()]
    try:
        yield sites[0], sites[1]
    finally:
        await line.close()
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
        read.close()
        write.close()
        os.close(slave)


async def test_on_a_bus_each_meter_keeps_its_own_association() -> None:
    async with bus() as sites:
        pool = AssociationPool()
        for s in (*sites, *sites):
            before = len(s.counters.given)
            async with s.session(pool) as session:
                assert await session.relay() is RelayState.CLOSED
        assert len(s.counters.given) - before == 2  # output and control state, and nothing else
        await pool.close()


async def _interrupted(session: DlmsSession, after: float) -> None:
    """Cancel a read of all blocks in the middle of its blocks."""
    task = asyncio.create_task(collect(session, ProfileName.BLOCK_LOAD))
    await asyncio.sleep(after)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_in_mid_block_leaves_the_bus_to_the_next_meter() -> None:
    async with bus() as (one, two):
        for s in (one, two, one):
            async with s.session() as session:
                await session.identify()
                await collect(session, ProfileName.INSTANTANEOUS)
                await _interrupted(session, 0.08)
            other = two if s is one else one
            async with other.session() as session:
                assert len(await collect(session, ProfileName.BLOCK_LOAD)) == 96


async def test_cancelling_in_mid_block_leaves_tcp_to_the_next_session() -> None:
    async with site("hls2") as s:
        for turns in range(1, 6):
            async with s.open() as session:
                await session.identify()
                task = asyncio.create_task(collect(session, ProfileName.BLOCK_LOAD))
                for _ in range(3 * turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            async with s.open() as session:
                assert len(await collect(session, ProfileName.BLOCK_LOAD)) == 96
