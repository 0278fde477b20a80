"""Edge and central together on a real broker: a ledger restored from a copy, an entry refused for good."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import read_signed
from gateway.contract.messages import Ack, Status
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.sinks import status_report
from protocols.clock import SystemClock
from tests.support.check_sink import running
from tests.support.edge.mqtt_edge import Edge, settings
from tests.support.journal_records import record
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.postgres import PostgreSQL
from tests.support.waiting import until

FAST = CentralOptions(ack_interval=0.05, patience=0.3, lost_after=30.0)
LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central",))


@pytest.fixture(autouse=True)
def status_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A central that comes late learns what a journal holds from the next status."""
    monkeypatch.setattr(status_report, "STATUS_EVERY", 0.5)


class HonestEdge(Edge):
    """An edge whose status says what its journal holds, and what waits."""

    def _status(self) -> Status:
        journal = self.journal.statistics()
        told = {"first_seq": journal.first_seq, "backlog": journal.backlog("mqtt")}
        return super()._status().model_copy(update=told)

    def acknowledged(self) -> str:
        """The acknowledgement that it keeps as proof, as text."""
        proof = self.journal.ack_proof("central") or ""
        return read_signed(proof, Ack, [PUBLIC]).model_dump_json()


@asynccontextmanager
async def central_with(broker: Mosquitto, path: Path | str) -> AsyncIterator[Ledger]:
    ledger = Ledger(path)
    one = settings(broker, "central", session_expiry=3600)
    central = Central(settings=one, ledger=ledger, signing_key=PRIVATE, options=FAST)
    task = asyncio.create_task(central.run())
    try:
        yield ledger
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ledger.close()


async def append(journal: Journal, first: int, count: int) -> None:
    await journal.append(JournalBatch(blocks=tuple(record(n) for n in range(first, first + count))))


async def acknowledged(journal: Journal, seq: int) -> None:
    await until(lambda: journal.statistics().consumers["central"] == seq)


@pytest.mark.mosquitto
@pytest.mark.parametrize("how", ["file", "folder", "elsewhere"])
async def test_a_ledger_restored_from_a_copy_gets_all_back(tmp_path: Path, how: str) -> None:
    """697 entries came after the copy and were acknowledged; the floor holds them for the ledger that lost them.

    `file`: the copy is put in its place; `folder`: with all that lies beside it, so that only the edge can tell;
    `elsewhere`: it is opened on another machine.
    """
    live, copies = tmp_path / "live" / "ledger.db", tmp_path / "copies"
    live.parent.mkdir()
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=LIMITS)
    with Mosquitto(tmp_path / "m") as broker:
        edge = HonestEdge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal):
            await append(journal, 0, 300)
            async with central_with(broker, live) as ledger:
                await acknowledged(journal, 300)
                first = ledger.identity.generation
            shutil.copytree(live.parent, copies)
            await append(journal, 300, 697)
            async with central_with(broker, live) as ledger:
                await acknowledged(journal, 997)
                assert ledger.identity.generation == first
                ledger.identity.tick(1)
            restored = {"file": live, "folder": live, "elsewhere": tmp_path / "other.db"}[how]
            shutil.copy(copies / "ledger.db", restored)
            if how == "folder":
                shutil.copytree(copies, live.parent, dirs_exist_ok=True)
            async with central_with(broker, restored) as ledger:
                await until(lambda: ledger.identity.generation.counter == first.counter + 1)
                await until(lambda: ledger.journals.state(journal.uuid).contiguous == 997)
                assert ledger.counts().captures == 997
                assert ledger.journals.missing() == []
                [set_back] = ledger.identity.set_backs()
                assert ("edge-1 shows" in set_back.why) == (how == "folder")
                await append(journal, 997, 3)
                await acknowledged(journal, 1_000)
                assert str(ledger.identity.generation) in edge.acknowledged()
    assert journal.first_seq == 1
    await journal.close()


@pytest.mark.mosquitto
@pytest.mark.postgres
async def test_a_ledger_of_a_server_restored_from_a_copy_gets_all_back(tmp_path: Path) -> None:
    """Nothing lies beside a server's database: what the edge was acknowledged shows that it was more."""
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=LIMITS)
    with PostgreSQL() as server, Mosquitto(tmp_path / "m") as broker:
        live = server.database()
        edge = HonestEdge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal):
            await append(journal, 0, 30)
            async with central_with(broker, live) as ledger:
                await acknowledged(journal, 30)
                first = ledger.identity.generation
            backup = server.copy(live)
            await append(journal, 30, 67)
            async with central_with(broker, live):
                await acknowledged(journal, 97)
            async with central_with(broker, backup) as ledger:
                await until(lambda: ledger.identity.generation.counter == first.counter + 1)
                await until(lambda: ledger.journals.state(journal.uuid).contiguous == 97)
                assert ledger.counts().captures == 97
                assert ledger.journals.missing() == []
                [set_back] = ledger.identity.set_backs()
                assert "edge-1 shows" in set_back.why
    assert journal.first_seq == 1
    await journal.close()


@pytest.mark.mosquitto
async def test_the_count_goes_on_behind_an_entry_that_the_broker_refuses(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=LIMITS)
    large = record(2, pad=40_000)
    await journal.append(JournalBatch(blocks=(record(1), large, record(3))))
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        edge = HonestEdge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal), central_with(broker, tmp_path / "ledger.db") as ledger:
            await acknowledged(journal, 3)
            await append(journal, 10, 1)
            await acknowledged(journal, 4)
            assert ledger.counts().captures == 3
            [gap] = ledger.gaps.all()
            assert (gap.state, gap.reason, gap.until) == ("unfillable", "refused_entry", large.rows[0].at)
            assert ledger.journals.missing() == []
    assert [letter.seq for letter in await journal.dead_letters("mqtt")] == [2]
    assert journal.statistics().tombstones == 1
    await journal.close()


@pytest.mark.mosquitto
async def test_an_entry_that_is_refused_when_it_is_replayed_lets_the_count_go_on(tmp_path: Path) -> None:
    """A hole from the time before tombstones: the broker refused entry 2, and the cursor had passed it."""
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=LIMITS)
    await journal.append(JournalBatch(blocks=(record(1), record(2, pad=40_000))))
    await journal.ack("mqtt", 2)
    await append(journal, 3, 1)
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        edge = HonestEdge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal), central_with(broker, tmp_path / "ledger.db") as ledger:
            await acknowledged(journal, 3)
            assert ledger.counts().captures == 2
    await journal.close()


@pytest.mark.mosquitto
async def test_an_edge_restored_with_the_broker_away_and_its_store_lost_loses_nothing(tmp_path: Path) -> None:
    """The restored edge gives the numbers of 53 entries again, to other readings: central must not mix them up."""
    folder, backup = tmp_path / "edge", tmp_path / "backup"
    folder.mkdir()

    async def opened() -> Journal:
        return await Journal.open(folder / "journal.db", clock=SystemClock(), limits=LIMITS, gateway="edge-1")

    journal = await opened()
    await append(journal, 0, 40)
    await journal._writer.call(lambda store: store.checkpoint())
    shutil.copytree(folder, backup)
    with Mosquitto(tmp_path / "m1") as broker:
        edge = HonestEdge(broker, journal, tmp_path / "link")
        async with running(edge.sink, journal), central_with(broker, tmp_path / "ledger.db"):
            await append(journal, 40, 53)
            await acknowledged(journal, 93)
    was = journal.uuid
    await journal.close()
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    journal = await opened()
    assert journal.uuid != was
    await append(journal, 200, 53)
    with Mosquitto(tmp_path / "m2") as broker:  # takes them, and dies with all that it had
        edge = HonestEdge(broker, journal, tmp_path / "link")
        async with running(edge.sink, journal):
            await until(lambda: journal.statistics().backlog("mqtt") == 0)
    with Mosquitto(tmp_path / "m3") as broker:
        edge = HonestEdge(broker, journal, tmp_path / "link")
        async with running(edge.sink, journal), central_with(broker, tmp_path / "ledger.db") as ledger:
            await acknowledged(journal, 93)
            assert ledger.counts().captures == 146
            assert ledger.journals.missing() == []
    await journal.close()
