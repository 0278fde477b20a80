"""Sink and link against the in-process broker of the demo (amqtt, MQTT 3.1.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from amqtt.broker import Broker

from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import Ack, ReplayRequest, Status
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.acknowledgements import Acknowledgements
from gateway.edge.sinks.link import EdgeLink
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.stamping.stored_part import HeldPart, StoredPart
from gateway.mqtt.connection import MqttSettings, connect
from protocols.clock import SystemClock
from tests.support.billing import Billing
from tests.support.check_sink import running, wait_cursor
from tests.support.journal_records import records
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import free_port
from tests.support.waiting import until

NOW = datetime(2026, 11, 23, tzinfo=UTC)


async def test_delivery_acks_and_replay_over_amqtt(tmp_path: Path) -> None:
    port = free_port()
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    journal = await Journal.open(tmp_path / "j.db", clock=SystemClock())
    try:
        await _exchange(port, journal, tmp_path)
    finally:
        await journal.close()
        await broker.shutdown()


async def _exchange(port: int, journal: Journal, folder: Path) -> None:
    def settings(name: str) -> MqttSettings:
        return MqttSettings(port=port, client_id=name, version="3.1.1", timeout=5.0)

    async def apply(_: HeldPart) -> None: ...

    def status() -> Status:
        return Status(gateway="edge-1", online=True, version="0", journal=journal.uuid, at=NOW)

    link = EdgeLink(
        "edge-1",
        root="meters",
        directory=PartRequests(
            "edge-1",
            root="meters",
            stored=StoredPart(folder / "edge", "edge-1", [PUBLIC]),
            apply=apply,
            clock=SystemClock(),
        ),
        acknowledgements=Acknowledgements([PUBLIC], frozenset({"central"})),
    )
    sink = MqttSink(settings("edge-1"), "edge-1", status=status, partners=[link])
    topics = Topics("meters")
    await journal.append(records(1500, profiles=("block_load", "daily")))
    async with Billing(settings("billing")) as consumer, running(sink, journal):
        await wait_cursor(journal, "mqtt", 1500)
        await until(lambda: consumer.state.journals[journal.uuid].contiguous == 1500)
        async with connect(settings("asks")) as asks:
            replay = ReplayRequest(journal=journal.uuid, first=1, last=300, consumer="central")
            ack = Ack(journal=journal.uuid, seq=1500, consumer="central")
            for topic, message in (
                (topics.replay("edge-1", "central"), replay),
                (topics.acks("edge-1", "central"), ack),
            ):
                await asks.publish(
                    topic, wrap_signed(message, key=PRIVATE, id="1", source="/central", time=NOW)
                )
            await until(lambda: len(consumer.arrived) == 1800)
            await until(lambda: journal.statistics().billing_acked == 1500)
        assert consumer.statuses
        assert sink.statistics().version == "3.1.1"
