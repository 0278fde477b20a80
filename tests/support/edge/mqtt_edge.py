"""An edge's MQTT sink and its link to central on one connection, for tests against a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gateway.backoff import Backoff
from gateway.contract.envelope import wrap
from gateway.contract.messages import Message, Status
from gateway.contract.signing import new_key_pair
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.link import EdgeLink
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.sinks.status_report import HealthSource
from gateway.edge.sinks.time_requests import TimeRequests
from gateway.edge.stamping.stored_part import HeldPart, StoredPart
from gateway.mqtt.connection import MqttConnection, MqttSettings
from mapping.errors import ChangeRefused
from protocols.clock import SystemClock
from tests.support.mosquitto import Mosquitto

TOPICS = Topics("kanpur")

PRIVATE, PUBLIC = new_key_pair()

OTHER_PRIVATE, _ = new_key_pair()

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def settings(broker: Mosquitto, client_id: str, **more: object) -> MqttSettings:
    return MqttSettings.model_validate(
        {"port": broker.port, "client_id": client_id, "timeout": 5.0, "root": "kanpur", **more}
    )


class Edge:
    """A sink and a link on one connection, with what the link was given."""

    def __init__(
        self,
        broker: Mosquitto,
        journal: Journal,
        folder: Path,
        *,
        health: HealthSource | None = None,
        time: TimeRequests | None = None,
    ) -> None:
        self.parts: list[HeldPart] = []
        self.orders: list[bytes] = []
        self.refuse = False
        self.journal = journal
        self.link = EdgeLink(
            "edge-1",
            root="kanpur",
            directory=PartRequests(
                "edge-1",
                root="kanpur",
                stored=StoredPart(folder, "edge-1", [PUBLIC]),
                apply=self._apply,
                clock=SystemClock(),
            ),
            on_order=self._order,
            time=time,
            on_status_request=lambda: self.sink.reporter.want_listing(),
        )
        self.sink = MqttSink(
            settings(broker, "edge-1"),
            "edge-1",
            status=self._status,
            health=health,
            partners=[self.link],
            limits=BatchLimits(count=10),
            backoff=Backoff(0.05, 0.3),
        )

    async def _apply(self, part: HeldPart) -> None:
        if self.refuse:
            raise ChangeRefused("TEST", "the rows contradict each other")
        self.parts.append(part)

    async def _order(self, payload: bytes) -> None:
        self.orders.append(payload)

    def _status(self) -> Status:
        return Status(
            gateway="edge-1",
            online=True,
            version="0.1.0",
            journal=self.journal.uuid,
            generation=self.journal.generation,
            first_seq=self.journal.first_seq,
            last_seq=self.journal.last_seq,
            at=datetime.now(UTC),
        )


async def say(connection: MqttConnection, topic: str, message: Message, kind: str | None = None) -> None:
    await connection.publish(topic, wrap(message, id="t/1", source="/central", time=NOW, type=kind))
