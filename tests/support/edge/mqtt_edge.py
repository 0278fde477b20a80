"""An edge's MQTT sink and its link to central on one connection, for tests against a broker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from gateway.backoff import Backoff
from gateway.contract.central_word import CENTRAL, wrap_signed
from gateway.contract.envelope import wrap
from gateway.contract.messages import Ack, Message, ReplayRequest, Status
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.acknowledgements import Acknowledgements
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.carried import CarriedLife
from gateway.edge.sinks.link import EdgeLink
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.sinks.read_again import ReadAgainOrders
from gateway.edge.sinks.status_report import HealthSource
from gateway.edge.sinks.time_requests import TimeRequests
from gateway.edge.stamping.stored_part import HeldPart, StoredPart
from gateway.mqtt.connection import MqttConnection, MqttSettings
from mapping.errors import ChangeRefused
from protocols.clock import SystemClock
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto, login

TOPICS = Topics("kanpur")

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def settings(broker: Mosquitto, client_id: str, **more: object) -> MqttSettings:
    return MqttSettings.model_validate(
        {
            "port": broker.port,
            "client_id": client_id,
            "username": login(client_id),
            "timeout": 5.0,
            "root": "kanpur",
            **more,
        }
    )


class Edge:
    """A sink and a link on one connection, with what the link was given."""

    def __init__(
        self,
        broker: Mosquitto,
        journal: Journal,
        folder: Path,
        counting: tuple[str, ...] = (CENTRAL,),
        *,
        login: Mapping[str, str] | None = None,
        health: HealthSource | None = None,
        time: TimeRequests | None = None,
        read_again: ReadAgainOrders | None = None,
        carried: CarriedLife | None = None,
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
            acknowledgements=Acknowledgements([PUBLIC], frozenset(counting)),
            on_order=self._order,
            time=time,
            read_again=read_again,
            carried=carried,
            on_status_request=lambda: self.sink.reporter.want_listing(),
        )
        self.sink = MqttSink(
            settings(broker, "edge-1"),
            "edge-1",
            password=login["edge-1"].encode() if login else None,
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
            acknowledged=self.journal.ack_proof(CENTRAL),
            at=datetime.now(UTC),
        )


async def say(connection: MqttConnection, topic: str, message: Message, kind: str | None = None) -> None:
    await connection.publish(topic, wrap(message, id="t/1", source="/central", time=NOW, type=kind))


LEDGER = "ledger-1"
LIFE = Generation(1, "aaaaaaaa")


async def central_says(
    connection: MqttConnection, message: Ack | ReplayRequest, key: bytes = PRIVATE, life: Generation = LIFE
) -> None:
    """Publish a word of central, signed, on its topic."""
    if isinstance(message, Ack):
        named = {"ledger": LEDGER, "ledger_generation": life}
        topic, message = TOPICS.acks("edge-1", CENTRAL), message.model_copy(update=named)
    else:
        topic = TOPICS.replay("edge-1", CENTRAL)
    await connection.publish(topic, wrap_signed(message, key=key, id="t/1", source="/central", time=NOW))
