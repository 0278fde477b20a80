"""Delivery goes on when the journal's disk fails for a moment and when the broker refuses what is replayed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.messages import ReplayRequest
from gateway.edge.influx.sink import InfluxSink
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.errors import JournalError, JournalFull
from gateway.mqtt.connection import connect
from tests.support.check_sink import running, wait_cursor
from tests.support.edge.mqtt_edge import Edge, central_says, settings
from tests.support.edge.mqtt_sink import billing, sink
from tests.support.journal_records import record
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until


def fail_once(journal: Journal, name: str, error: JournalError, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let one method of the journal fail at its first call, as a full disk makes it."""
    works, failed = getattr(journal, name), list[str]()

    async def wrapped(*arguments: Any) -> Any:
        if not failed:
            failed.append(name)
            raise error
        return await works(*arguments)

    monkeypatch.setattr(journal, name, wrapped)
    return failed


@pytest.mark.mosquitto
@pytest.mark.parametrize("name", ["ack", "bury"])
async def test_a_journal_that_fails_for_a_moment_does_not_end_mqtt_delivery(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await journal.append(JournalBatch(blocks=(record(1), record(2, pad=40_000), record(3))))
    failed = fail_once(journal, name, JournalFull("no space"), monkeypatch)
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        async with running(sink(broker), journal):
            await wait_cursor(journal, "mqtt", 3)
    assert failed


async def test_a_journal_that_fails_for_a_moment_does_not_end_influx(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append(JournalBatch(blocks=(record(1),)))
    one = InfluxSink(InfluxTarget(url="http://127.0.0.1:9", org="o", bucket="b"), "edge-1")
    monkeypatch.setattr(one._writer, "write", lambda lines: None)
    failed = fail_once(journal, "ack", JournalFull("no space"), monkeypatch)
    async with running(one, journal):
        await wait_cursor(journal, "influx", 1)
    assert failed


@pytest.mark.mosquitto
async def test_a_replay_that_the_broker_refuses_does_not_stop_delivery(
    tmp_path: Path, journal: Journal
) -> None:
    await journal.append(JournalBatch(blocks=(record(1), record(2, pad=40_000), record(3))))
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        async with billing(broker) as consumer, running(edge.sink, journal):
            await wait_cursor(journal, "mqtt", 3)
            async with connect(settings(broker, "asks")) as connection:
                await central_says(
                    connection, ReplayRequest(journal=journal.uuid, first=1, last=3, consumer="central")
                )
                await until(lambda: edge.link.statistics().replayed == 3)
                await asyncio.sleep(0)
            await journal.append(JournalBatch(blocks=(record(10),)))
            await wait_cursor(journal, "mqtt", 4)
            await until(lambda: len(set(consumer.arrived)) == 3)
        assert edge.sink.statistics().failures == 0
