"""A billing system on MQTT: the consumer that was written from the text alone, with its acknowledgements and replays.

Of the product only the envelope is used, to write what it sends.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes

from gateway.contract.envelope import wrap
from gateway.contract.messages import Ack, Message, ReplayRequest
from gateway.mqtt.client import make_properties
from tests.support.text_consumer import TextConsumer

NAME = "billing"
BASE = "kesco/v2"
HEARD = ("+/readings/+", "+/events", "+/gaps", "+/status", "attributions", "verdicts")
EXPIRY = 7 * 86_400


class TextBilling:
    """Hears everything, and every second asks for what is missing and acknowledges what is whole."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.consumer = TextConsumer()
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.refused = 0
        self._journals: dict[str, tuple[str, str]] = {}
        self._tails: dict[str, int] = {}
        self._client: paho.Client | None = None
        self._ticks: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Connect, and again whenever the broker is back."""
        self._ended.clear()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=NAME, protocol=paho.MQTTv5, reconnect_on_failure=True
        )
        client.username_pw_set(NAME)
        client.on_connect = self._subscribe
        client.on_message = lambda _client, _data, message: self._hear(message.topic, bytes(message.payload))
        client.reconnect_delay_set(1, 1)
        kept = make_properties(PacketTypes.CONNECT, SessionExpiryInterval=EXPIRY)
        client.connect_async("127.0.0.1", self._port, clean_start=False, properties=kept)
        client.loop_start()
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        self._ticks.start()

    @staticmethod
    def _subscribe(client: paho.Client, *_: object) -> None:
        client.subscribe([(f"{BASE}/{topic}", 1) for topic in HEARD])

    def stop(self) -> None:
        """Be away: what comes meanwhile waits at the broker."""
        self._ended.set()
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
        if self._ticks is not None:
            self._ticks.join()

    def ledger(self) -> dict[str, Any]:
        """Return the ledger as scenarios have it."""
        with self._lock:
            return self.consumer.ledger()

    def in_doubt(self) -> list[str]:
        """Return the captures that wait for a verdict on their time: those that were given up do not."""
        with self._lock:
            return self.consumer.in_doubt()

    def _hear(self, topic: str, payload: bytes) -> None:
        try:
            self._take(topic, json.loads(payload))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            self.refused += 1  # anybody may say anything in a branch of his own

    def _take(self, topic: str, message: dict[str, Any]) -> None:
        gateway = topic.split("/")[2]
        with self._lock:
            if topic.endswith("/status"):
                data = message["data"]
                self._journals[data["journal"]] = (gateway, data.get("generation", ""))
                self._tails[data["journal"]] = data.get("last_seq", 0) - data.get("backlog", 0)
                return
            if "journal" in message["data"] and message["data"].get("gateway") == gateway:
                self._journals[message["data"]["journal"]] = (gateway, message["data"].get("generation", ""))
                self.taken.append((topic, message))
            self.consumer.take(message)

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                for journal, (gateway, generation) in self._journals.items():
                    self._answer(journal, gateway, generation)

    def _answer(self, journal: str, gateway: str, generation: str) -> None:
        came = self.consumer.came.setdefault(journal, set())
        upto = max(max(came, default=0), self._tails.get(journal, 0))
        missing = [number for number in range(1, upto + 1) if number not in came]
        whole = missing[0] - 1 if missing else upto
        if missing:
            last = next((n for n in range(missing[0], upto + 1) if n in came), upto + 1) - 1
            wanted = ReplayRequest(journal=journal, first=missing[0], last=last, consumer=NAME)
            self._send(f"{gateway}/replay/{NAME}", wanted)
        if whole:
            named = {"generation": generation} if generation else {}
            ack = Ack.model_validate({"journal": journal, "seq": whole, "consumer": NAME, **named})
            self._send(f"{gateway}/acks/{NAME}", ack)

    def _send(self, topic: str, message: Message) -> None:
        assert self._client is not None
        now = datetime.now(UTC)
        payload = wrap(message, id=f"{NAME}/{topic}/{now.timestamp()}", source="/billing", time=now)
        self._client.publish(f"{BASE}/{topic}", payload, 1)
