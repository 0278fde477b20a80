"""Points follow the directory: the sink's conformance, moves on both servers, crashes in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.blocks import EncodedBlock
from gateway.edge.influx.follow import InfluxFollower
from gateway.edge.influx.move import InfluxMover, account_at
from gateway.edge.influx.points import UNASSIGNED, account_tag, nanoseconds
from gateway.edge.influx.read import InfluxReader, Server, StoredPoint, read_back
from gateway.edge.influx.sink import InfluxSink, InfluxWriter
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.base import Sink
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import stamp
from mapping.changes import Change, Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.reading import Number, ProfileName, Quantity, ReadingSet
from tests.support.check_sink import check_sink
from tests.support.influx_servers import create_database, influx_server, v2_path, victoria_server
from tests.support.journal_records import T0 as RECORDS_FROM
from tests.support.journal_records import records
from tests.support.waiting import until

METER = "GEN:1"
T0 = datetime(2026, 11, 1, tzinfo=UTC)
HALF = timedelta(minutes=30)
MOVED = T0 + 20 * HALF
PROFILES = [p.value for p in ProfileName]


def target(url: str) -> InfluxTarget:
    return InfluxTarget(url=url, org="kesco", bucket="meters", timeout=5)


@contextmanager
def served(server: Server, folder: Path) -> Iterator[str]:
    """One of the two servers, with a v2 write path; gives the URL to use."""
    if server is Server.VICTORIAMETRICS:
        with victoria_server(folder) as vm:
            yield vm.url
        return
    with influx_server(folder) as influx:
        create_database(influx.url, "meters")
        with v2_path(influx.url) as (url, _):
            yield url


def reader(url: str, server: Server) -> InfluxReader:
    return InfluxReader(target(url), server, PROFILES)


def points(url: str, server: Server) -> list[StoredPoint]:
    end = nanoseconds(T0 + timedelta(days=100))
    return [p for p in reader(url, server).points(METER, nanoseconds(T0) - 1, end) if p.stands]


def readings() -> list[ReadingSet]:
    """Forty half-hours and a snapshot at each of their ends."""
    made = []
    for n in range(1, 41):
        at = T0 + n * HALF
        value = ((Quantity.of("1-0:1.29.0*255"), Number(1234 + n, -2, "Wh")),)
        made.append(
            ReadingSet(profile=ProfileName.BLOCK_LOAD, at=at, start=at - HALF, values=value, received_at=at)
        )
        register = ((Quantity.of("1-0:1.8.0*255"), Number(987_654 + n, 0, "Wh")),)
        made.append(ReadingSet(profile=ProfileName.DAILY, at=at, values=register, received_at=at))
    return made


class Directory:
    """A directory that grows: first a holder without number, then the re-key, then a hand-over."""

    def __init__(self, path: Path) -> None:
        self.store = DirectoryStore(path)
        fitted: list[Change] = [
            Install(METER, "UP-1", Role.CONSUMER, T0 - timedelta(days=1)),
            MoveIn("UP-1", "acc-1", T0 - timedelta(days=1)),
            Name("acc-1", NumberKind.LEGACY, "KE0000001"),
        ]
        self.apply(*fitted)

    def apply(self, *changes: Change) -> DirectorySnapshot:
        self.store.apply(changes, by="test", source="test", at=datetime.now(UTC))
        return self.snapshot

    @property
    def snapshot(self) -> DirectorySnapshot:
        return self.store.snapshot()

    def rekey(self) -> DirectorySnapshot:
        return self.apply(Name("acc-1", NumberKind.ACCOUNT, "1111111111"))

    def hand_over(self) -> DirectorySnapshot:
        return self.apply(
            MoveOut("UP-1", MOVED),
            MoveIn("UP-1", "acc-2", MOVED),
            Name("acc-2", NumberKind.ACCOUNT, "2222222222"),
        )


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(tmp_path / "directory.db")
    yield made
    made.store.close()


Accounts = dict[tuple[str, datetime], list[str]]
"""By measurement and instant of a point: the accounts under which it stands."""


def tag_of(block: EncodedBlock) -> str:
    return account_tag([] if block.template.holders is None else json.loads(block.template.holders.text))


def expected(snapshot: DirectorySnapshot) -> Accounts:
    """By the sink's own rule for captures stamped with this snapshot: each point under one account."""
    found: Accounts = {}
    for reading in readings():
        [block] = stamp([reading], METER, StampingPart(snapshot))
        found[reading.profile.value, reading.at] = [tag_of(block)]
    return found


def held(url: str, server: Server) -> Accounts:
    """As the server has it; in the middle of a move a point stands under the old account and the new one."""
    found: Accounts = defaultdict(list)
    for p in points(url, server):
        found[p.measurement, p.time].append(p.account)
    return found


async def until_held(url: str, server: Server, wanted: Accounts) -> None:
    await until(
        lambda: asyncio.to_thread(lambda: held(url, server) == wanted), "the points to stand as wanted"
    )


@asynccontextmanager
async def following(
    url: str, server: Server, folder: Path, journal: Journal
) -> AsyncIterator[InfluxFollower]:
    check = reader(url, server)
    sink = InfluxSink(target(url), "edge-1", verify=lambda entry: read_back(check, entry))
    mover = InfluxMover(InfluxWriter(target(url)), reader(url, server))
    follower = InfluxFollower(sink, mover, [METER], folder)
    task = asyncio.create_task(follower.run(journal))
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.influx
@pytest.mark.parametrize("server", [Server.VICTORIAMETRICS, Server.INFLUXDB1])
async def test_points_follow_the_directory_exactly(
    tmp_path: Path, directory: Directory, server: Server
) -> None:
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    unnamed = directory.snapshot
    await journal.append(JournalBatch(blocks=stamp(list(readings()), METER, StampingPart(unnamed))))
    with served(server, tmp_path) as url:
        async with following(url, server, tmp_path, journal) as follower:
            await until_held(url, server, expected(unnamed))
            assert list(held(url, server).values()) == 80 * [[UNASSIGNED]]
            values = {(p.measurement, p.time): p.fields for p in points(url, server)}
            assert values["block_load", T0 + HALF]["interval_energy_import"] == 12.35
            assert values["daily", T0 + HALF]["energy_import"] == 987_655.0
            assert follower.statistics().unverified == 0

            named = directory.rekey()
            follower.directory_changed(named)
            await until_held(url, server, expected(named))
            assert list(held(url, server).values()) == 80 * [["1111111111"]]
        handed = directory.hand_over()
        async with following(url, server, tmp_path, journal) as follower:  # the edge was killed and is back
            follower.directory_changed(handed)
            await until_held(url, server, expected(handed))
            assert held(url, server)["block_load", MOVED] == ["1111111111"]
            assert held(url, server)["daily", MOVED] == ["2222222222"]
            follower.directory_changed(named)  # a correction takes it back: each point stands once, again
            await until_held(url, server, expected(named))
            assert {p.fields.get("interval_energy_import") for p in points(url, server)} >= {12.35, 12.74}
    await journal.close()


@pytest.mark.influx
@pytest.mark.parametrize("server", [Server.VICTORIAMETRICS, Server.INFLUXDB1])
async def test_a_move_that_was_cut_short_is_made_again(
    tmp_path: Path, directory: Directory, server: Server
) -> None:
    named = directory.rekey()
    with served(server, tmp_path) as url:
        writer = InfluxWriter(target(url))
        lines = [
            f"daily,account={UNASSIGNED},gateway=e,meter={METER} energy_import={n}.0 {nanoseconds(T0 + n * HALF)}"
            for n in range(1, 11)
        ]
        # killed after the copies were written and before the old ones were retired
        writer.write([*lines, *(text.replace(UNASSIGNED, "1111111111") for text in lines[:5])])
        mover = InfluxMover(writer, reader(url, server))
        assert await asyncio.to_thread(mover.move, METER, named, T0 + timedelta(days=9)) == 10
        assert list(held(url, server).values()) == 10 * [["1111111111"]]
        assert len(points(url, server)) == 10
        assert await asyncio.to_thread(mover.move, METER, named, T0 + timedelta(days=9)) == 0
        mover.close()


class _Peer:
    """A server as `check_sink` sees it; points tell their order by their time."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._process = victoria_server(folder) if server is Server.VICTORIAMETRICS else influx_server(folder)
        self._stack = contextlib.ExitStack()
        self._process.start()
        self._stack.callback(lambda: self._process.stop())
        self.url = self._process.url
        if server is Server.INFLUXDB1:
            create_database(self.url, "meters")
            self.url, _ = self._stack.enter_context(v2_path(self.url))

    async def stop(self) -> None:
        await asyncio.to_thread(self._process.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._process.start)

    async def delivered(self) -> Sequence[str]:
        last = nanoseconds(RECORDS_FROM + 4_000 * HALF)
        found = await asyncio.to_thread(
            reader(self.url, self.server).points, METER, nanoseconds(RECORDS_FROM) - 1, last
        )
        times = sorted(p.time for p in found)
        return [f"{METER}/block_load/{at:%Y-%m-%dT%H:%M:%SZ}/0" for at in times]

    def close(self) -> None:
        self._stack.close()


@pytest.mark.influx
@pytest.mark.parametrize("server", [Server.VICTORIAMETRICS, Server.INFLUXDB1])
async def test_the_sink_conforms(tmp_path: Path, server: Server) -> None:
    peer = _Peer(server, tmp_path)

    def make() -> Sink:
        return InfluxSink(target(peer.url), "edge-1")

    try:
        await check_sink(make, peer, tmp_path)
    finally:
        peer.close()


@pytest.mark.influx
async def test_what_the_server_swallows_raises_the_alarm(tmp_path: Path) -> None:
    with served(Server.VICTORIAMETRICS, tmp_path) as url:
        sink = InfluxSink(target(url), "edge-1", verify=lambda _: False)
        journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
        await journal.append(records(3))
        task = asyncio.create_task(sink.run(journal))
        await until(lambda: sink.statistics().unverified == 1)
        assert "does not show it" in (sink.statistics().last_error or "")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await journal.close()


@settings(max_examples=60)
@given(ends=st.integers(1, 60), length=st.sampled_from([None, 900, 1800, 3600]), cut=st.integers(0, 60))
def test_the_movers_rule_is_the_sinks(
    tmp_path_factory: pytest.TempPathFactory, ends: int, length: int | None, cut: int
) -> None:
    made = Directory(tmp_path_factory.mktemp("d") / "directory.db")
    try:
        made.rekey()
        moved = T0 + cut * timedelta(minutes=15)
        snapshot = made.apply(
            MoveOut("UP-1", moved),
            MoveIn("UP-1", "acc-2", moved),
            Name("acc-2", NumberKind.ACCOUNT, "2222222222"),
        )
    finally:
        made.store.close()
    at = T0 + ends * timedelta(minutes=15)
    start = at - timedelta(seconds=length) if length else None
    profile = ProfileName.BLOCK_LOAD if start else ProfileName.DAILY
    value = ((Quantity.of("1-0:1.8.0*255"), Number(1)),)
    reading = ReadingSet(profile=profile, at=at, start=start, values=value, received_at=at)
    [block] = stamp([reading], METER, StampingPart(snapshot))
    assert account_at(snapshot, METER, at, float(length) if length else None) == tag_of(block)
