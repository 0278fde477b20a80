"""MQTT sinks as their tests make them, and a billing system that hears them."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.backoff import Backoff
from gateway.contract.messages import Status
from gateway.contract.messages.generation import NO_GENERATION
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.mqtt import MqttSink
from gateway.mqtt.connection import MqttSettings
from tests.support.billing import Billing
from tests.support.mosquitto import Mosquitto, login


def settings(broker: Mosquitto, client_id: str = "edge-1", **more: object) -> MqttSettings:
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


def billing(broker: Mosquitto) -> Billing:
    return Billing(settings(broker, "billing", session_expiry=3600))


def status_of(journal: Journal | None = None) -> Status:
    return Status(
        gateway="edge-1",
        online=True,
        version="0.1.0",
        journal=journal.uuid if journal else "none",
        generation=journal.generation if journal else NO_GENERATION,
        last_seq=journal.last_seq if journal else 0,
        at=datetime.now(UTC),
    )


def sink(broker: Mosquitto, **more: object) -> MqttSink:
    options: dict[str, object] = {"status": status_of, "backoff": Backoff(0.05, 0.3), **more}
    use = options.pop("settings", settings(broker))
    return MqttSink(use, "edge-1", **options)  # type: ignore[arg-type]
