"""Nobody's word releases an entry: forged, foreign, replayed and impossible acknowledgements are refused and told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import Ack, ReplayRequest
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.errors import PeerError
from gateway.mqtt.connection import MqttConnection, connect
from protocols.clock import SystemClock
from tests.support.check_sink import running, wait_cursor
from tests.support.edge.mqtt_edge import LIFE, NOW, TOPICS, Edge, central_says, say, settings
from tests.support.journal_records import record, records
from tests.support.keys import OTHER_PRIVATE, PRIVATE
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.mosquitto
FLOORLESS = JournalLimits(retention=timedelta(0), sinks=("mqtt",), consumers=("central", "billing"))
"""Entries go as soon as both have acknowledged: what a wrong word releases is gone at once."""


@asynccontextmanager
async def edge_with(broker: Mosquitto, folder: Path, entries: int) -> AsyncIterator[tuple[Edge, Journal]]:
    journal = await Journal.open(folder / "journal.db", clock=SystemClock(), limits=FLOORLESS)
    edge = Edge(broker, journal, folder / "edge", counting=("central", "billing"))
    try:
        async with hearing(broker) as listens, running(edge.sink, journal):
            await journal.append(records(entries))
            await wait_cursor(journal, "mqtt", entries)
            await asyncio.wait_for(listens.wait(), PATIENCE)
            yield edge, journal
    finally:
        await journal.close()


@asynccontextmanager
async def hearing(broker: Mosquitto, **more: object) -> AsyncIterator[asyncio.Event]:
    """Tell when the edge listens: it asks for its part of the directory after it has subscribed."""
    listens = asyncio.Event()

    async def hear(connection: MqttConnection) -> None:
        async for _ in connection.messages():
            listens.set()

    async with connect(settings(broker, "hears", **more), password=b"d") as connection:
        await connection.subscribe(TOPICS.directory_request("edge-1"))
        task = asyncio.create_task(hear(connection))
        try:
            yield listens
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def ack(journal: Journal, seq: int, consumer: str = "central", **more: object) -> Ack:
    return Ack.model_validate({"journal": journal.uuid, "seq": seq, "consumer": consumer, **more})


async def refused(edge: Edge, number: int, why: str) -> None:
    """Wait for the n-th refusal, and see that it says why, for the alarm."""
    await until(lambda: edge.link.statistics().acks_refused == number, lambda: str(edge.link.statistics()))
    assert why in (edge.link.statistics().ack_fault or "")


async def test_an_acknowledgement_in_the_name_of_central_needs_its_signature(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with edge_with(broker, tmp_path, 5) as (edge, journal):
        async with connect(settings(broker, "stranger")) as stranger:
            await say(stranger, TOPICS.acks("edge-1", "central"), ack(journal, 5))
            await refused(edge, 1, "said in the name of central")
            await central_says(stranger, ack(journal, 5), key=OTHER_PRIVATE)
            await refused(edge, 2, "not trusted")
            wrong = ReplayRequest(journal=journal.uuid, first=1, last=5, consumer="central")
            payload = wrap_signed(wrong, key=PRIVATE, id="t/1", source="/central", time=NOW)
            await stranger.publish(TOPICS.acks("edge-1", "central"), payload)
            await refused(edge, 3, "$.type")
        assert journal.statistics().consumers == {"central": 0, "billing": 0}


async def test_a_consumer_speaks_for_itself_only(broker: Mosquitto, tmp_path: Path) -> None:
    async with edge_with(broker, tmp_path, 5) as (edge, journal):
        # As central at the broker: what the access rules would stop must be stopped by the edge as well.
        async with connect(settings(broker, "billing", username="central")) as billing:
            mine = TOPICS.acks("edge-1", "billing")
            await say(billing, mine, ack(journal, 5, "central"))
            await refused(edge, 1, "'central' on the topic of 'billing'")
            await say(billing, mine, ack(journal, 6, "billing"))
            await refused(edge, 2, "billing acknowledged 6")
            await say(billing, mine, Ack(journal="another", seq=1, consumer="billing"))
            await refused(edge, 3, "is not our journal")
            await say(billing, mine, ack(journal, 4, "billing"))
            await until(lambda: journal.statistics().consumers == {"central": 0, "billing": 4})
            await say(billing, TOPICS.acks("edge-1", "listener"), ack(journal, 5, "listener"))
            await until(lambda: edge.link.statistics().acks_ignored == 1)
        assert journal.statistics().consumers == {"central": 0, "billing": 4}


async def test_an_acknowledgement_of_an_earlier_life_of_the_ledger_does_nothing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Central's ledger was restored from a copy of when it held 2 entries; its old word of 5 is still about."""
    later = Generation(2, "bbbbbbbb")
    async with edge_with(broker, tmp_path, 5) as (edge, journal):
        async with connect(settings(broker, "central")) as central:
            await central_says(central, ack(journal, 5))
            await until(lambda: journal.statistics().consumers["central"] == 5)
            await central_says(central, ack(journal, 2), life=later)
            await until(lambda: journal.statistics().consumers["central"] == 2)
            await central_says(central, ack(journal, 5))
            await refused(edge, 1, f"generation {LIFE} of its ledger, and we heard of {later}")
            await central_says(central, ack(journal, 5), life=replace(later, random="cccccccc"))
            await refused(edge, 2, "two ledgers of one generation")
            assert journal.statistics().consumers["central"] == 2
            await central_says(central, ack(journal, 3), life=later)
            await until(lambda: journal.statistics().consumers["central"] == 3)


async def test_what_the_ledger_was_is_known_after_a_restart(broker: Mosquitto, tmp_path: Path) -> None:
    later = Generation(2, "bbbbbbbb")
    async with connect(settings(broker, "central")) as central:
        async with edge_with(broker, tmp_path, 5) as (edge, journal):
            await central_says(central, ack(journal, 2), life=later)
            await until(lambda: journal.statistics().consumers["central"] == 2)
            await central_says(central, ack(journal, 3), life=later)
            await until(lambda: journal.statistics().consumers["central"] == 3)
            proof = journal.ack_proof("central")
        async with edge_with(broker, tmp_path, 5) as (edge, journal):
            assert journal.ack_proof("central") == proof
            await central_says(central, ack(journal, 5))
            await refused(edge, 1, f"we heard of {later}")


async def test_a_replay_is_asked_for_in_ones_own_name(broker: Mosquitto, tmp_path: Path) -> None:
    async with edge_with(broker, tmp_path, 5) as (edge, journal):
        # As central at the broker: what the access rules would stop must be stopped by the edge as well.
        async with connect(settings(broker, "billing", username="central")) as billing:
            wanted = ReplayRequest(journal=journal.uuid, first=1, last=5, consumer="central")
            await say(billing, TOPICS.replay("edge-1", "central"), wanted)
            await central_says(billing, wanted, key=OTHER_PRIVATE)
            await say(billing, TOPICS.replay("edge-1", "billing"), wanted)
            await until(lambda: edge.link.statistics().refused == 3)
            own = wanted.model_copy(update={"consumer": "billing", "last": 2})
            await say(billing, TOPICS.replay("edge-1", "billing"), own)
            await until(lambda: edge.link.statistics().replayed == 2)


LOGINS = {"edge-1": "a", "edge-2": "b", "billing": "c", "central": "d"}


async def test_416_undelivered_entries_are_not_deleted_by_a_message_of_the_wrong_account(
    tmp_path: Path,
) -> None:
    """With the shipped access rules, no login releases what central lacks: not billing's, not another edge's."""
    with Mosquitto(tmp_path / "m", passwords=LOGINS) as broker:
        journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=FLOORLESS)
        edge = Edge(broker, journal, tmp_path / "edge", counting=("central", "billing"), login=LOGINS)
        await journal.append(records(416))
        async with AsyncExitStack() as logins:
            listens = await logins.enter_async_context(hearing(broker, username="central"))
            await logins.enter_async_context(running(edge.sink, journal))
            await wait_cursor(journal, "mqtt", 416)
            await asyncio.wait_for(listens.wait(), PATIENCE)
            forged = wrap_signed(ack(journal, 416), key=OTHER_PRIVATE, id="t", source="/central", time=NOW)
            for name in ("edge-2", "billing", "central"):
                for topic in (TOPICS.acks("edge-1", "central"), TOPICS.acks("edge-1", name)):
                    for word in (forged, ack(journal, 416, "central"), ack(journal, 416, name)):
                        await attempt(broker, name, topic, word)
            await until(lambda: journal.statistics().consumers["billing"] == 416)
            assert journal.statistics().consumers["central"] == 0
            await journal.append(JournalBatch(blocks=(record(1_000),)))
            await asyncio.sleep(0)
            assert journal.first_seq == 1, "billing alone releases nothing"
            async with login(broker, "central") as central:
                await central_says(central, ack(journal, 416))
            await until(lambda: journal.first_seq == 417)
        await journal.close()


def login(broker: Mosquitto, name: str) -> AbstractAsyncContextManager[MqttConnection]:
    return connect(settings(broker, f"{name}-test", username=name), password=LOGINS[name].encode())


async def attempt(broker: Mosquitto, name: str, topic: str, word: Ack | bytes) -> None:
    """Say it; a broker that refuses says so, or takes it and lets nobody hear it."""
    with contextlib.suppress(PeerError):
        async with login(broker, name) as connection:
            if isinstance(word, bytes):
                await connection.publish(topic, word)
            else:
                await say(connection, topic, word)
