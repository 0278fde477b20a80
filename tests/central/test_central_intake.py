"""Central on a real Mosquitto: stored before acknowledged, killed in between, holes, poison, losses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import event_type, parse, wrap
from gateway.contract.messages import Ack, Balance, Batch, ReplayRequest, Status
from gateway.contract.topics import TopicKind, Topics
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.central.samples import NOW, batch, capture, gap, octets
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto, login
from tests.support.paths import ROOT
from tests.support.waiting import until

TOPICS = Topics("test")
FAST = CentralOptions(ack_interval=0.05, patience=0.3, lost_after=0.5)


def settings(broker: Mosquitto, client_id: str) -> MqttSettings:
    return MqttSettings(
        port=broker.port, client_id=client_id, username=login(client_id), root="test", session_expiry=3600
    )


@asynccontextmanager
async def running(broker: Mosquitto, ledger: Ledger, **over: object) -> AsyncIterator[Central]:
    options = {"options": FAST, "signing_key": PRIVATE, **over}
    central = Central(settings=settings(broker, "central"), ledger=ledger, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected or task.done(), "central to connect")
        yield central
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Edge:
    """An edge as far as central sees it: publishes its journal, hears acks, answers replays."""

    connection: MqttConnection
    journal: dict[int, Batch] = field(default_factory=dict)
    acks: list[Ack] = field(default_factory=list)
    replays: list[ReplayRequest] = field(default_factory=list)
    answering: bool = True

    async def send(self, data: Batch, *, lose: bool = False) -> None:
        for seq in range(data.first_seq, data.last_seq + 1):
            self.journal[seq] = data
        if not lose:
            await self.connection.publish(topic_of(data), octets(data))

    async def status(self, **fields: object) -> None:
        status = Status.model_validate(
            {"gateway": "edge-1", "online": True, "version": "1", "journal": "journal-1", "at": NOW} | fields
        )
        payload = wrap(status, id="s", source="/gateways/edge-1", time=NOW)
        await self.connection.publish(TOPICS.status("edge-1"), payload, retain=True)

    async def listen(self) -> None:
        async for message in self.connection.messages():
            if TOPICS.parse(message.topic).kind is TopicKind.ACKS:
                self.acks.append(parse_signed(message.payload, Ack, [PUBLIC])[0])
                continue
            wanted, _ = parse_signed(message.payload, ReplayRequest, [PUBLIC])
            self.replays.append(wanted)
            if self.answering:
                again = {
                    self.journal[n].first_seq: self.journal[n] for n in range(wanted.first, wanted.last + 1)
                }
                for data in again.values():
                    await self.connection.publish(topic_of(data), octets(data))

    @property
    def acked(self) -> int:
        return max((ack.seq for ack in self.acks), default=0)


def topic_of(data: Batch) -> str:
    return TOPICS.readings("edge-1", data.captures[0].profile) if data.captures else TOPICS.gaps("edge-1")


@asynccontextmanager
async def edge_at(broker: Mosquitto) -> AsyncIterator[Edge]:
    async with connect(settings(broker, "edge-1")) as connection:
        await connection.subscribe(*TOPICS.from_consumers("edge-1"))
        edge = Edge(connection)
        task = asyncio.create_task(edge.listen())
        try:
            yield edge
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def rows(first: int, last: int) -> Batch:
    return batch([capture(n) for n in range(first, last + 1)])


async def test_readings_gaps_status_and_balance_arrive_and_are_acknowledged(
    broker: Mosquitto, ledger: Ledger
) -> None:
    async with running(broker, ledger), edge_at(broker) as edge:
        await edge.send(rows(1, 50))
        await edge.send(batch(gaps=[gap(51)]))
        await edge.status(last_seq=51, first_seq=1)
        balance = Balance(account_id="acc-1", amount="-12.50", at=NOW, source="billing")
        async with connect(settings(broker, "billing")) as billing:
            payload = wrap(balance, id="b", source="/billing", time=NOW)
            await billing.publish(TOPICS.balance("acc-1"), payload, retain=True)
        await until(lambda: edge.acked == 51, "the ack of everything")
        await until(lambda: ledger.balances.get("acc-1") is not None, "the balance")
        await until(lambda: len(ledger.statuses.all()) == 1, "the status")
    assert ledger.counts().captures == 50
    assert [g.gap_id for g in ledger.gaps.all()] == ["gap-1"]
    assert edge.replays == []


async def test_an_edge_of_version_1_is_answered_in_version_1(broker: Mosquitto, ledger: Ledger) -> None:
    old = TOPICS.of_version(1)
    async with running(broker, ledger), connect(settings(broker, "edge-1")) as edge:
        await edge.subscribe(old.acks("edge-1", "central"), old.replay("edge-1", "central"))
        heard = edge.messages()
        await edge.publish(old.readings("edge-1", "block_load"), octets(rows(1, 3)))
        while (message := await anext(heard)).topic != old.acks("edge-1", "central"):
            pass
        assert parse(message.payload, Ack).data == Ack(journal="journal-1", seq=3, consumer="central")
        assert event_type(message.payload).endswith(".v1")
        await edge.publish(old.readings("edge-1", "block_load"), octets(rows(7, 9)))
        while (message := await anext(heard)).topic != old.replay("edge-1", "central"):
            pass
        assert parse(message.payload, ReplayRequest).data.first == 4


async def test_nothing_is_acknowledged_before_it_is_stored(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger) as central, edge_at(broker) as edge:
        store = ledger.ingest
        ledger.ingest = failing  # type: ignore[method-assign,assignment] # raises at every call
        await edge.send(rows(1, 5))
        await until(lambda: central.statistics().fault == "disk full", "the fault to show")
        assert edge.acks == []
        ledger.ingest = store  # type: ignore[method-assign] # its own again
        await until(lambda: edge.acked == 5, "the ack")
        assert central.statistics().fault is None


async def test_a_ledger_that_fails_beside_the_path_is_waited_for(broker: Mosquitto, ledger: Ledger) -> None:
    """A full disk at the moment of a tick ended central."""
    calls: list[int] = []

    def full(stored: int) -> None:
        calls.append(stored)
        raise LedgerError("disk full")

    ledger.identity.tick = full  # type: ignore[method-assign] # raises at every call
    async with running(broker, ledger), edge_at(broker) as edge:
        await edge.send(rows(1, 5))
        await until(lambda: len(calls) > 1, "two ticks that fail")
        await edge.send(rows(6, 9))
        await until(lambda: edge.acked == 9, "the ack")


def failing(*_: object) -> None:
    raise LedgerError("disk full")


async def test_a_hole_is_asked_for_and_filled(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger), edge_at(broker) as edge:
        await edge.send(rows(1, 3))
        await edge.send(rows(4, 6), lose=True)
        await edge.send(rows(7, 9))
        await until(lambda: edge.acked == 9, "the hole to be filled")
    assert {(r.first, r.last) for r in edge.replays} == {(4, 6)}
    assert ledger.counts().captures == 9


async def test_a_tail_that_never_came_is_asked_for(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger), edge_at(broker) as edge:
        await edge.send(rows(1, 8), lose=True)
        await edge.send(rows(9, 10), lose=True)
        await edge.status(last_seq=12, first_seq=1, backlog=2)
        await until(lambda: edge.acked == 10, "the tail")
    assert max(r.last for r in edge.replays) == 10, "the backlog was not sent yet: it is no hole"


async def test_replay_is_asked_with_back_off_and_lost_entries_are_declared(
    broker: Mosquitto, ledger: Ledger
) -> None:
    async with running(broker, ledger), edge_at(broker) as edge:
        edge.answering = False
        await edge.send(rows(5, 9))
        await edge.status(last_seq=9, first_seq=5)
        await until(lambda: edge.acked == 9, "the journal to go on")
        assert 1 <= len(edge.replays) <= 4
    assert [(one.journal, one.first, one.last) for one in ledger.journals.missing() if one.lost_at] == [
        ("journal-1", 1, 4)
    ]


async def test_poison_is_set_aside_and_delays_nobody(broker: Mosquitto, ledger: Ledger) -> None:
    # users.md C-07
    poison = [
        (TOPICS.readings("edge-1", "block_load"), b"\xff\x00 not json"),
        (TOPICS.readings("edge-1", "daily"), octets(rows(1, 2))),
        (TOPICS.readings("edge-2", "block_load"), octets(rows(1, 2))),
        (TOPICS.readings("edge-1", "block_load"), octets(rows(1, 2)).replace(b'"1.50"', b"1.5")),
        (TOPICS.events("edge-1"), octets(rows(1, 2))),
        (TOPICS.readings("edge-1", "block_load"), b"[" * 100_000),
        (TOPICS.status("edge-1"), b"{}"),
    ]
    async with running(broker, ledger) as central, edge_at(broker) as edge:
        for topic, payload in poison:
            sender = settings(broker, TOPICS.parse(topic).gateway or "")
            async with connect(sender.model_copy(update={"client_id": "poison"})) as connection:
                await connection.publish(topic, payload)
        await edge.send(rows(1, 100))
        await until(lambda: edge.acked == 100, "the good ones")
        # the batch of two with a number in place of a string is taken apart: its entries are kept by themselves
        await until(lambda: central.statistics().set_aside == len(poison) - 1, "the poison")
        await until(lambda: central.statistics().result.quarantined == 2, "the unreadable entries")
        letters = ledger.letters.newest()
    assert {letter.topic for letter in letters} == {topic for topic, _ in poison}
    assert {letter.reason for letter in letters} == {"malformed", "wrong_topic"}


async def test_a_dead_letter_is_redriven(ledger: Ledger) -> None:
    from gateway.central.intake.batches import MessageStore

    store = MessageStore(ledger, TOPICS)
    ledger.letters.put(TOPICS.readings("edge-1", "block_load"), octets(rows(1, 2)), "malformed", "$", NOW)
    letter = ledger.letters.get(ledger.letters.newest()[0].id)
    assert letter is not None
    assert store.redrive(letter, NOW)
    assert ledger.counts().captures == 2
    assert ledger.letters.newest() == []


async def test_the_broker_goes_and_comes_back(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger) as central:
        async with edge_at(broker) as edge:
            await edge.send(rows(1, 3))
            await until(lambda: edge.acked == 3, "the first ack")
        broker.kill()
        await until(lambda: not central.statistics().connected, "central to notice")
        broker.start()
        await until(lambda: central.statistics().connected, "central to come back")
        async with edge_at(broker) as edge:
            await edge.send(rows(4, 6))
            await until(lambda: edge.acked == 6, "the second ack")


def child(folder: Path, broker: Mosquitto, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.central.process", str(folder), str(broker.port), *more],
        cwd=ROOT,
    )


async def test_killed_between_receiving_and_storing_nothing_is_lost(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with edge_at(broker) as edge:
        stalling = child(tmp_path, broker, "STALL")
        try:
            await until(lambda: (tmp_path / "ledger.db").exists(), "the first central")
            while not (tmp_path / "stalled").exists():
                await edge.send(rows(1, 5))
                await asyncio.sleep(0.1)
        finally:
            stalling.kill()
            stalling.wait()
        assert edge.acks == []
        second = child(tmp_path, broker)
        try:
            await edge.status(last_seq=5, first_seq=1)
            await until(lambda: edge.acked == 5, "the second central to store")
        finally:
            second.kill()
            second.wait()
    ledger = Ledger(tmp_path / "ledger.db", read_only=True)
    assert ledger.counts().captures == 5
    ledger.close()


@pytest.mark.mosquitto
async def test_killed_while_the_broker_loses_its_store_too(tmp_path: Path) -> None:
    """The broker forgets what central had not stored: the status shows the hole, the replay repairs it."""
    broker = Mosquitto(tmp_path / "broker", persistence=False)
    with broker:
        first = child(tmp_path, broker, "STALL")
        try:
            async with edge_at(broker) as edge:
                while not (tmp_path / "stalled").exists():
                    await edge.send(rows(1, 5))
                    await asyncio.sleep(0.1)
                journal = edge.journal
        finally:
            first.kill()
            first.wait()
        broker.kill()
        broker.start()
        second = child(tmp_path, broker)
        try:
            async with edge_at(broker) as edge:
                edge.journal = journal
                await edge.status(last_seq=5, first_seq=1)
                await until(lambda: edge.acked == 5, "the replay")
                assert edge.replays
        finally:
            second.kill()
            second.wait()


async def test_killed_at_random_instants(broker: Mosquitto, tmp_path: Path) -> None:
    async with edge_at(broker) as edge:
        process = child(tmp_path, broker)
        try:
            await until(lambda: (tmp_path / "ledger.db").exists(), "the first central")
            for number in range(60):
                await edge.send(rows(number * 10 + 1, number * 10 + 10))
                if number % 20 == 19:
                    process.kill()
                    process.wait()
                    process = child(tmp_path, broker)
            await edge.status(last_seq=600, first_seq=1)
            await until(lambda: edge.acked == 600, "everything", 40)
        finally:
            process.kill()
            process.wait()
    ledger = Ledger(tmp_path / "ledger.db", read_only=True)
    assert ledger.counts().captures == 600
    assert len({c.capture_id for c in ledger.captures.between()}) == 600
    ledger.close()
