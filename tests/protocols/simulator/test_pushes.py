"""A neighbourhood that pushes: what is due when, to whom, and how the edge's configuration says so."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.config.file import Config
from gateway.edge.push.peers import PushPeers
from gateway.roles.push import pushing_meter
from protocols.clock import SimulatedClock
from protocols.dlms.push.body import Alert, PushedRows
from protocols.dlms.push.framing import PushStream
from protocols.dlms.push.receiver import Notification, PushReceiver, PushStatistics
from protocols.dlms.push.senders import PLAIN
from protocols.errors import LocalError
from protocols.meters.secrets import FileSecrets
from protocols.simulator.dlms.push_client import framed
from protocols.simulator.faults.script import load
from protocols.simulator.neighbourhood.files import edge_toml, write_files
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.pushes import Pushes, PushTo, push_senders
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator
from tests.support.dlms.pushes import Memory, apdus_of
from tests.support.tcp_server import HOST, tcp_server
from tests.support.waiting import PATIENCE, until

START = datetime(2026, 11, 30, 6, tzinfo=UTC)
pytestmark = pytest.mark.virtual_time


class Receiving:
    """A server that takes every push of the configured meters."""

    def __init__(self) -> None:
        self.receiver: PushReceiver | None = None
        self.taken: list[Notification] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = PushStream()
        while data := await reader.read(65536):
            for apdu in apdus_of(data, stream):
                assert self.receiver is not None
                if (found := self.receiver.receive(apdu)) is not None:
                    self.taken.append(found)
        writer.close()


async def test_meters_push_readings_blocks_and_alerts_that_their_edge_takes(tmp_path: Path) -> None:
    receiving = Receiving()
    async with tcp_server(receiving) as port:
        await _push_all(receiving, PushTo(HOST, port), tmp_path)


async def _push_all(receiving: Receiving, to: PushTo, tmp_path: Path) -> None:
    clock = SimulatedClock.ending_now(behind=timedelta(hours=2), speed=1)
    stop = asyncio.Event()
    ready = asyncio.Event()
    town = asyncio.create_task(
        run_simulator(
            SimulatorSettings(meters=8, seed=2, folder=tmp_path, push_to=to),
            ready=lambda _plan: ready.set(),
            stop=stop,
        )
    )
    await asyncio.wait_for(ready.wait(), PATIENCE)
    stop.set()
    await town
    raw = tomllib.loads((tmp_path / "edge.toml").read_text())
    raw.pop("simulation")
    config = Config.model_validate({**raw, "gateway": {"name": "e", "data": str(tmp_path)}})
    assert config.push is not None
    assert (config.push.host, config.push.tcp_port) == (to.host, to.port)
    senders = [pushing_meter(m) for m in config.meters if m.push is not None]
    assert senders
    receiving.receiver = PushReceiver(PushPeers(senders, FileSecrets(tmp_path / "keys", {})), Memory())
    hood = await Neighbourhood.start(seed=2, clock=clock, meters=8)
    try:
        now = clock.now().replace(minute=0, second=0, microsecond=0)
        pushes = Pushes(hood.plan, hood.models, clock, to)
        first = hood.models[senders[0].peer.name].household
        first.switch_relay(closed=False, at=now - timedelta(minutes=1))
        await pushes.between(now - timedelta(minutes=31), now)
        await pushes.between(now + timedelta(minutes=1), now + timedelta(minutes=2))
        receiver = receiving.receiver
        await until(lambda: receiver.statistics().accepted >= 2 * len(senders) + 1)
    finally:
        await hood.stop()
    counts = receiving.receiver.statistics()
    assert (
        sum(getattr(counts, n) for n in counts.__slots__ if n not in ("unknown", "unread", "replays"))
        == counts.accepted
    )
    assert {n.peer.name for n in receiving.taken} == {m.peer.name for m in senders}
    assert {type(n.payload) for n in receiving.taken} == {Alert, PushedRows}


HOURS = 4


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


async def _pushed(town: Path, trap: str) -> tuple[PushStatistics, int]:
    """Let a town push twice in each of some hours; return what its edge counts, and how many meters push ciphered."""
    receiving = Receiving()
    async with tcp_server(receiving) as port:
        to = PushTo(HOST, port)
        clock = HandClock(START)
        hood = await Neighbourhood.start(seed=2, clock=clock, meters=8)
        write_files(hood.plan, town, push_to=to)
        raw = tomllib.loads((town / "edge.toml").read_text())
        raw.pop("simulation", None)
        config = Config.model_validate({**raw, "gateway": {"name": "e", "data": str(town)}})
        known = [pushing_meter(m) for m in config.meters if m.push is not None]
        senders = [meter for meter in known if meter.peer.required != PLAIN]
        receiver = receiving.receiver = PushReceiver(
            PushPeers(senders, FileSecrets(town / "keys", {})), Memory()
        )
        try:
            pushes = Pushes(hood.plan, hood.models, clock, to, faults=load(trap))
            for _ in range(HOURS):
                clock.at += timedelta(hours=1)
                await pushes.between(clock.at - timedelta(seconds=1), clock.at)
            due = 2 * HOURS * len(senders)
            await until(lambda: receiver.statistics().accepted + receiver.statistics().replayed >= due)
        finally:
            await hood.stop()
    return receiver.statistics(), len(senders)


async def test_counters_of_pushes_that_begin_anew_are_taken_by_the_meters_clocks(tmp_path: Path) -> None:
    counts, senders = await _pushed(tmp_path, "push-counter-restarts")
    assert senders
    assert (counts.restarted, counts.replayed) == (senders, 0)
    assert counts.accepted >= 2 * HOURS * senders


async def test_counters_of_pushes_that_stand_are_replays_but_for_a_later_clock(tmp_path: Path) -> None:
    counts, senders = await _pushed(tmp_path, "push-counter-stands")
    assert counts.accepted == HOURS * senders
    assert counts.replayed >= HOURS * senders


async def test_meters_that_dial_in_push_on_their_connection_and_dial_again() -> None:
    arrived: list[bytes] = []
    callers = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal callers
        callers += 1
        arrived.append(await reader.read(65536))
        writer.close()

    async with tcp_server(take) as port:
        await _call_and_push(PushTo(HOST, port, dial_in=True), arrived, lambda: callers)


async def _call_and_push(to: PushTo, arrived: list[bytes], callers: Callable[[], int]) -> None:
    clock = SimulatedClock.ending_now(behind=timedelta(hours=2), speed=1)
    hood = await Neighbourhood.start(seed=2, clock=clock, meters=8)
    pushes = Pushes(hood.plan, hood.models, clock, to)
    count = len(push_senders(hood.plan))
    lines = tomllib.loads(edge_toml(hood.plan, push_to=to))["lines"]
    assert sum(line["kind"] == "dial-in" for line in lines) == count
    running = asyncio.create_task(pushes.run())
    try:
        await until(lambda: callers() >= count)
        now = clock.now().replace(minute=0, second=0, microsecond=0)
        await pushes.between(now - timedelta(minutes=1), now)
        await until(lambda: len(arrived) >= count and callers() >= 2 * count)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hood.stop()
    assert all(data[:2] == b"\x00\x01" for data in arrived[:count])


def test_a_framing_that_is_none_is_our_mistake() -> None:
    with pytest.raises(LocalError):
        framed(b"x", "morse")
