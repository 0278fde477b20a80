"""The series `holding`: the join gives each reading the account that held its meter then, whatever came after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.blocks import EncodedBlock
from gateway.edge.influx.follow import InfluxFollower
from gateway.edge.influx.holding import (
    overwritten,
    restated,
    steps_of,
)
from gateway.edge.influx.keeper import HoldingKeeper
from gateway.edge.influx.move import InfluxMover
from gateway.edge.influx.points import UNASSIGNED, account_tag, nanoseconds
from gateway.edge.influx.read import InfluxReader, Server, read_back
from gateway.edge.influx.sink import InfluxSink, InfluxWriter
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import stamp
from mapping.changes import Change, CorrectHoldings, HoldingSpan, Install, MoveIn, MoveOut, Name, Remove
from mapping.directory import NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.reading import Number, ProfileName, Quantity, ReadingSet
from tests.support.influx_servers import (
    create_database,
    get,
    influx_server,
    influxql,
    v2_path,
    victoria_server,
)
from tests.support.paths import DEPLOY, ROOT
from tests.support.waiting import until

METER, SECOND_METER = "GEN:1", "GEN:2"
HALF = timedelta(minutes=30)
T0 = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=5)
"""Readings lie in the last days: queries ask at their own times, and servers refuse what is older than their memory."""
READINGS = 96
FITTED = T0 - timedelta(days=30)
PROFILES = [p.value for p in ProfileName]


class Town:
    """Two meters, one house, two tenants: a directory that grows by the four kinds of history."""

    def __init__(self, path: Path) -> None:
        self.store = DirectoryStore(path)
        self.apply(
            Install(METER, "UP-1", Role.CONSUMER, FITTED),
            MoveIn("UP-1", "acc-1", FITTED),
            Name("acc-1", NumberKind.LEGACY, "KE0000001"),
        )

    def apply(self, *changes: Change) -> DirectorySnapshot:
        self.store.apply(changes, by="test", source="test", at=datetime.now(UTC))
        return self.snapshot

    @property
    def snapshot(self) -> DirectorySnapshot:
        return self.store.snapshot()


def first_day(town: Town) -> None:
    """Nobody has a number yet, and nothing changes."""
    assert town.snapshot.version == 1


def rekey(town: Town) -> None:
    town.apply(Name("acc-1", NumberKind.ACCOUNT, "1111111111"))


def move_out_and_in(town: Town) -> None:
    moved = T0 + 20 * HALF + timedelta(minutes=10)  # inside an interval: that one is nobody's
    town.apply(
        MoveOut("UP-1", moved),
        MoveIn("UP-1", "acc-2", moved),
        Name("acc-2", NumberKind.ACCOUNT, "2222222222"),
    )


def replacement(town: Town) -> None:
    swapped = T0 + 60 * HALF
    town.apply(Remove(METER, swapped), Install(SECOND_METER, "UP-1", Role.CONSUMER, swapped))


def correction_in_the_past(town: Town) -> None:
    """The tenant had moved earlier than was told, and the house stood vacant in between."""
    out, into = T0 + 10 * HALF, T0 + 14 * HALF
    town.apply(CorrectHoldings("UP-1", (HoldingSpan("acc-1", FITTED, out), HoldingSpan("acc-2", into, None))))


HISTORY: tuple[Callable[[Town], None], ...] = (
    first_day,
    rekey,
    move_out_and_in,
    replacement,
    correction_in_the_past,
)


def readings() -> list[ReadingSet]:
    made = []
    for n in range(1, READINGS + 1):
        at = T0 + n * HALF
        value = ((Quantity.of("1-0:1.29.0*255"), Number(1234 + n, 0, "Wh")),)
        made.append(
            ReadingSet(profile=ProfileName.BLOCK_LOAD, at=at, start=at - HALF, values=value, received_at=at)
        )
        register = ((Quantity.of("1-0:1.8.0*255"), Number(987_654 + n, 0, "Wh")),)
        made.append(ReadingSet(profile=ProfileName.DAILY, at=at, values=register, received_at=at))
    return made


Accounts = dict[tuple[str, str, datetime], str]
"""Whose a reading is, by profile, meter and time."""


def tag_of(block: EncodedBlock) -> str:
    return account_tag([] if block.template.holders is None else json.loads(block.template.holders.text))


def by_the_directory(snapshot: DirectorySnapshot) -> Accounts:
    """What the tag `account` of a small site would say."""
    found: Accounts = {}
    for meter in (METER, SECOND_METER):
        for reading in readings():
            [block] = stamp([reading], meter, StampingPart(snapshot))
            found[reading.profile.value, meter, reading.at] = tag_of(block)
    return found


def target(url: str) -> InfluxTarget:
    return InfluxTarget(url=url, org="kesco", bucket="meters", timeout=10)


@contextmanager
def served(server: Server, folder: Path) -> Iterator[str]:
    if server is Server.VICTORIAMETRICS:
        with victoria_server(folder) as victoria:
            yield victoria.url
        return
    with influx_server(folder) as influx:
        create_database(influx.url, "meters")
        with v2_path(influx.url) as (url, _):
            yield url


def examples(language: str) -> list[str]:
    text = (ROOT / "docs" / "influx.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def by_influxql(url: str) -> Accounts:
    """Join as docs/influx.md says for InfluxQL, with its queries and its code."""
    space: dict[str, Any] = {}
    [code] = examples("python")
    exec(code, space)
    who, of_account, registers, intervals = examples("influxql")
    found: Accounts = {}
    for meter in (METER, SECOND_METER):

        def rows(query: str, meter: str = meter) -> list[dict[str, Any]]:
            answer = influxql(url, "meters", query.replace(METER, meter))
            return [dict(zip(one["columns"], row, strict=True)) for one in answer for row in one["values"]]

        holding = [(row["time"], row["account"]) for row in rows(who)]
        if any(account == "1111111111" for _, account in holding):
            assert meter in {row["meter"] for row in rows(of_account)}
        for profile, query in (("daily", registers), ("block_load", intervals)):
            for row in rows(query):
                length = int(row.get("interval_seconds") or 0) * 1_000_000_000
                at = datetime.fromtimestamp(row["time"] // 1_000_000_000, UTC)
                found[profile, meter, at] = space["account_of"](holding, row["time"], length)
    return found


def by_metricsql(url: str) -> Accounts:
    """Join as docs/influx.md says for MetricsQL, at each reading's own time."""
    _, snapshots, intervals = examples("metricsql")
    get(url + "/internal/force_flush")
    found: Accounts = {}
    for profile, query in (("daily", snapshots), ("block_load", intervals)):
        for meter in (METER, SECOND_METER):
            found |= {(profile, meter, T0 + n * HALF): UNASSIGNED for n in range(1, READINGS + 1)}
        span = {"start": str((T0 + HALF).timestamp()), "end": str((T0 + READINGS * HALF).timestamp())}
        answer = json.loads(get(url + "/api/v1/query_range", query=query, step="30m", nocache="1", **span))
        for series in answer["data"]["result"]:
            labels = series["metric"]
            for at, _ in series["values"]:
                found[profile, labels["meter"], datetime.fromtimestamp(at, UTC)] = labels["account"]
    return found


@pytest.mark.influx
@pytest.mark.parametrize("server", [Server.INFLUXDB1, Server.VICTORIAMETRICS])
async def test_the_join_gives_who_held_the_meter_at_each_readings_own_time(
    tmp_path: Path, server: Server
) -> None:
    town = Town(tmp_path / "directory.db")
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    for meter in (METER, SECOND_METER):
        blocks = stamp(list(readings()), meter, StampingPart(town.snapshot))
        await journal.append(JournalBatch(blocks=blocks))
    join = by_metricsql if server is Server.VICTORIAMETRICS else by_influxql
    with served(server, tmp_path) as url:
        reader = InfluxReader(target(url), server, PROFILES)
        verify = InfluxReader(target(url), server, PROFILES)
        sink = InfluxSink(
            target(url), "edge-1", verify=lambda entry: read_back(verify, entry), account_tag=False
        )
        keeper = HoldingKeeper(InfluxWriter(target(url)), reader)
        follower = InfluxFollower(sink, keeper, [METER, SECOND_METER], tmp_path)
        task = asyncio.create_task(follower.run(journal))
        try:
            await until(lambda: sink.statistics().written == 4 * READINGS)
            assert not sink.statistics().unverified
            for happens in HISTORY:
                happens(town)
                follower.directory_changed(town.snapshot)
                wanted = by_the_directory(town.snapshot)

                def joined(wanted: Accounts = wanted) -> bool:
                    return join(url) == wanted

                await until(lambda: asyncio.to_thread(joined), "the join to give what the directory says")
            # Enough of each kind was there: both accounts on both meters' time, and nobody's.
            assert set(wanted.values()) == {"1111111111", "2222222222", UNASSIGNED}
            assert follower.statistics().corrected < 30
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await journal.close()
    town.store.close()


@pytest.mark.influx
@pytest.mark.parametrize("server", [Server.INFLUXDB1, Server.VICTORIAMETRICS])
def test_every_panel_of_the_dashboards_shows_something(tmp_path: Path, server: Server) -> None:
    name = "victoriametrics" if server is Server.VICTORIAMETRICS else "influxdb"
    board = json.loads((DEPLOY / f"grafana-{name}.json").read_text(encoding="utf-8"))
    town = Town(tmp_path / "directory.db")
    rekey(town)
    now = datetime.now(UTC)
    at = nanoseconds(now - timedelta(minutes=1))
    with served(server, tmp_path) as url:
        writer = InfluxWriter(target(url))
        keeper = HoldingKeeper(writer, InfluxReader(target(url), server, PROFILES))
        # The second meter is nobody's by number: the panel that counts such ones shows it.
        assert keeper.correct([METER, SECOND_METER], town.snapshot, now) == 1
        writer.write(
            [
                line
                for meter in (METER, SECOND_METER)
                for line in (
                    f"daily,gateway=e,meter={meter} energy_import=5.0 {at}",
                    f"block_load,gateway=e,meter={meter} interval_energy_import=5.0,interval_seconds=1800.0 {at}",
                    f"instantaneous,gateway=e,meter={meter} voltage=230.0 {at}",
                )
            ]
        )
        queries = [
            (one["title"], target_["query"] if name == "influxdb" else target_["expr"])
            for one in board["panels"]
            for target_ in one["targets"]
        ]
        queries += [("variable", one["query"]) for one in board["templating"]["list"] if one["query"]]
        if server is Server.VICTORIAMETRICS:
            get(url + "/internal/force_flush")
        for title, text in queries:
            query = text.replace("${meter:regex}", METER).replace("${account}", "1111111111")
            query = query.replace("$account", "1111111111").replace("$__interval", "1h")
            query = query.replace("$timeFilter", "time > now() - 30d")
            assert "$" not in query.replace("$/", "")
            if server is Server.VICTORIAMETRICS:
                answer = json.loads(get(url + "/api/v1/query", query=query, time=str(now.timestamp())))
                assert answer["data"]["result"], (title, query)
            else:
                assert influxql(url, "meters", query), (title, query)
        keeper.close()
    town.store.close()


@pytest.mark.influx
@pytest.mark.parametrize("account_tag", [True, False])
async def test_a_meter_that_another_edge_reads_now_is_left_to_that_one(
    tmp_path: Path, account_tag: bool
) -> None:
    town = Town(tmp_path / "directory.db")
    rekey(town)
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    now = datetime.now(UTC)
    at = nanoseconds(now - timedelta(hours=1))
    with served(Server.INFLUXDB1, tmp_path) as url:
        writer = InfluxWriter(target(url))

        def keeper() -> InfluxMover | HoldingKeeper:
            made = InfluxMover if account_tag else HoldingKeeper
            return made(InfluxWriter(target(url)), InfluxReader(target(url), Server.INFLUXDB1, PROFILES))

        writer.write(
            [
                f"daily,account=1111111111,gateway=edge-2,meter={METER} energy_import=5.0 {at}",
                f'holding,meter={METER} account="1111111111" {at}',
            ]
        )
        sink = InfluxSink(target(url), "edge-1", account_tag=account_tag)
        follower = InfluxFollower(sink, keeper(), [METER, SECOND_METER], tmp_path)
        task = asyncio.create_task(follower.run(journal))
        # This edge has the second meter alone now; when that one is seen to, the first was passed over.
        town.apply(Install(SECOND_METER, "UP-2", Role.CONSUMER, FITTED), MoveIn("UP-2", "acc-2", FITTED))
        town.apply(Name("acc-2", NumberKind.ACCOUNT, "2222222222"))
        writer.write(
            [f"daily,account={UNASSIGNED},gateway=edge-1,meter={SECOND_METER} energy_import=5.0 {at}"]
        )
        part = town.snapshot.part([SECOND_METER])
        follower.directory_changed(part)
        await until(lambda: follower.statistics().corrected > 0)
        for measurement in ("daily", "holding"):
            query = f"SELECT * FROM {measurement} WHERE \"meter\" = '{METER}'"
            [series] = influxql(url, "meters", query)
            [row] = series["values"]
            assert "1111111111" in row
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        writer.close()
    await journal.close()
    town.store.close()


def test_what_comes_true_later_is_not_told_before(tmp_path: Path) -> None:
    town = Town(tmp_path / "directory.db")
    rekey(town)
    now = datetime.now(UTC)
    leaves = now + timedelta(hours=3)
    town.apply(MoveOut("UP-1", leaves))
    steps = steps_of(town.snapshot, METER)
    assert [step.account for step in steps] == ["1111111111", UNASSIGNED]
    assert [one.account for one in overwritten(steps, {}, now)] == ["1111111111"]
    assert [(one.field, one.value) for one in restated(steps, [], now)] == [("held", 1)]
    town.store.close()
