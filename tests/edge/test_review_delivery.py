"""Delivery goes on when the journal's disk fails for a moment and when the broker refuses what is replayed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.file import JournalSection
from gateway.contract.messages import Ack, ReplayRequest
from gateway.edge.influx.sink import InfluxSink, InfluxTarget
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.errors import JournalError, JournalFull
from gateway.mqtt.connection import connect
from protocols.clock import SystemClock
from tests.support.captures import record
from tests.support.check_sink import running, wait_cursor, wait_for
from tests.support.edge.mqtt_edge import TOPICS, Edge, say, settings
from tests.support.edge.mqtt_sink import billing, sink
from tests.support.mosquitto import Mosquitto


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    yield opened
    await opened.close()


def fail_once(journal: Journal, name: str, error: JournalError, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let one method of the journal fail at its first call, as a full disk makes it."""
    works, failed = getattr(journal, name), []

    async def wrapped(*arguments):
        if not failed:
            failed.append(name)
            raise error
        return await works(*arguments)

    monkeypatch.setattr(journal, name, wrapped)
    return failed


@pytest.mark.parametrize("name", ["ack", "dead_letter"])
async def test_a_journal_that_fails_for_a_moment_does_not_end_mqtt_delivery(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await journal.append(JournalBatch(captures=(record(1), record(2, pad=40_000), record(3))))
    failed = fail_once(journal, name, JournalFull("no space"), monkeypatch)
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        async with running(sink(broker), journal):
            await wait_cursor(journal, "mqtt", 3)
    assert failed


async def test_a_journal_that_fails_for_a_moment_does_not_end_influx(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append(JournalBatch(captures=(record(1),)))
    one = InfluxSink(InfluxTarget(url="http://127.0.0.1:9", org="o", bucket="b"), "edge-1")
    monkeypatch.setattr(one._writer, "write", lambda lines: None)
    failed = fail_once(journal, "ack", JournalFull("no space"), monkeypatch)
    async with running(one, journal):
        await wait_cursor(journal, "influx", 1)
    assert failed


async def test_a_replay_that_the_broker_refuses_does_not_stop_delivery(
    tmp_path: Path, journal: Journal
) -> None:
    await journal.append(JournalBatch(captures=(record(1), record(2, pad=40_000), record(3))))
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        async with billing(broker) as consumer, running(edge.sink, journal):
            await wait_cursor(journal, "mqtt", 3)
            async with connect(settings(broker, "asks")) as connection:
                await say(
                    connection, TOPICS.replay("edge-1"), ReplayRequest(journal=journal.uuid, first=1, last=3)
                )
                await wait_for(lambda: edge.link.statistics().replayed == 2)
                await asyncio.sleep(0)
            await journal.append(JournalBatch(captures=(record(10),)))
            await wait_cursor(journal, "mqtt", 4)
            await wait_for(lambda: len(set(consumer.arrived)) == 3)
        assert edge.sink.statistics().failures == 0


async def test_a_journal_that_was_set_back_goes_on_under_another_name(
    tmp_path: Path, journal: Journal
) -> None:
    """Restored from a copy, it would use numbers again that consumers have: what is new would look stored."""
    await journal.append(JournalBatch(captures=(record(1), record(2))))
    was = journal.uuid
    with Mosquitto(tmp_path / "m") as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal), connect(settings(broker, "asks")) as connection:
            await wait_cursor(journal, "mqtt", 2)
            acks = TOPICS.acks("edge-1")
            await say(connection, acks, Ack(journal=was, seq=2))
            await wait_for(lambda: journal.statistics().billing_acked == 2)
            await say(connection, acks, Ack(journal=was, seq=9))
            await wait_for(lambda: journal.uuid != was)
            assert journal.statistics().billing_acked == 0
            await say(connection, acks, Ack(journal=was, seq=2))
            await wait_for(lambda: edge.link.statistics().refused == 2)
            async with billing(broker) as consumer:
                replay = ReplayRequest(journal=journal.uuid, first=1, last=2)
                await say(connection, TOPICS.replay("edge-1"), replay)
                await wait_for(lambda: journal.uuid in consumer.state.journals)
    await journal.close()
    again = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    assert (again.uuid, again.last_seq) == (journal.uuid, 2)
    await again.close()


async def test_an_entry_whose_commit_was_not_told_is_still_delivered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit stands though the look at the file's size after it failed."""
    await journal.append(JournalBatch(captures=(record(1),)))
    store = journal._writer.store
    sizes, failed = store.used_bytes, []

    def once() -> int:
        if not failed:
            failed.append(1)
            raise JournalError("disk I/O error")
        return sizes()

    monkeypatch.setattr(store, "used_bytes", once)
    with contextlib.suppress(JournalError):
        await journal.append(JournalBatch(captures=(record(2),)))
    await journal.append(JournalBatch(captures=(record(3),)))
    assert failed
    seen: list[int] = []
    async for chunk in journal.follow("mqtt"):
        seen += [entry.seq for entry in chunk]
        if seen[-1] == 3:
            break
    assert seen == [1, 2, 3]


async def test_only_what_every_named_consumer_has_is_released(tmp_path: Path, journal: Journal) -> None:
    """Somebody who looks on with `listen --ack` must not release what central lacks."""
    await journal.append(JournalBatch(captures=(record(1), record(2), record(3))))
    with Mosquitto(tmp_path / "m") as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        edge.link._ack_consumers = frozenset({"central", "billing"})
        async with running(edge.sink, journal), connect(settings(broker, "asks")) as connection:
            await wait_cursor(journal, "mqtt", 3)
            acks = TOPICS.acks("edge-1")
            await say(connection, acks, Ack(journal=journal.uuid, seq=3, consumer="listen"))
            await say(connection, acks, Ack(journal=journal.uuid, seq=3, consumer="billing"))
            await wait_for(lambda: edge.link.statistics().acks == 1)
            assert journal.statistics().billing_acked == 0
            await say(connection, acks, Ack(journal=journal.uuid, seq=2))
            await wait_for(lambda: journal.statistics().billing_acked == 2)


def test_central_alone_releases_entries_unless_the_configuration_names_others() -> None:
    assert JournalSection().ack_consumers == ("central",)
