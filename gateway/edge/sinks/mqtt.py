"""The MQTT sink: journal entries out in batches at QoS 1, the retained status, one shared connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Protocol

import structlog

from gateway.backoff import Backoff
from gateway.contract.messages import Status
from gateway.contract.topics import Topics, gateway_name
from gateway.edge.sinks.base import MQTT_SINK, JournalReader
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.denied import DeniedTopics
from gateway.edge.sinks.publisher import JournalPublisher, Progress
from gateway.edge.sinks.replays import ReplayQueue
from gateway.edge.sinks.status_report import HealthSource, StatusReporter
from gateway.edge.sinks.tasks import first_ended
from gateway.errors import GatewayError, JournalError, PeerError, PeerRefusedLogin
from gateway.mqtt.connection import MqttConnection, MqttSettings, Will, connect
from gateway.mqtt.refusals import Refusals
from gateway.statistics import counted

STEADY = 30.0
"""A connection that lasted this long, in seconds, starts the back-off anew."""
FAREWELL = 2.0
"""Seconds that the last status may take, when the edge ends or the connection is given up."""
log = structlog.get_logger("gateway.edge.sinks")


class ConnectionPartner(Protocol):
    """Something that shares the sink's connection, such as `gateway.edge.sinks.link.EdgeLink`."""

    async def serve(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Work until the connection ends (raises PeerError) or it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttStatistics:
    """Counters since start; `delivered` counts entries, `messages` their messages.

    `refused` counts messages and subscriptions that the broker did not take or grant, `refusal` says which.
    """

    connected: bool = False
    version: str | None = None
    delivered: int = 0
    messages: int = 0
    dead: int = 0
    failures: int = 0
    last_error: str | None = None
    in_flight: int = 0
    cursor: int = 0
    refused: int = 0
    refusal: str | None = None


class MqttSink:
    """Follows the journal and publishes it; keeps the retained status and its last will.

    `status` gives the present summary (cheap; it is asked every few seconds), `health` what changed with meters and
    lines. `partners` share the connection. `reporter` tells both.
    """

    name = MQTT_SINK

    def __init__(
        self,
        settings: MqttSettings,
        gateway: str,
        *,
        status: Callable[[], Status],
        health: HealthSource | None = None,
        password: bytes | None = None,
        partners: Sequence[ConnectionPartner] = (),
        limits: BatchLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._gateway = gateway_name(gateway)
        self._topics = Topics(settings.root)
        self._password = password
        self.reporter = StatusReporter(self._topics, self._gateway, status=status, health=health)
        self._partners = tuple(partners)
        self._limits = limits or BatchLimits()
        self._backoff = backoff or Backoff()
        self.refusals = Refusals()
        self._denied = DeniedTopics()
        self._retries = ReplayQueue(
            self._topics,
            self._gateway,
            self._limits,
            on_sent=lambda entries: self._count(delivered=entries, messages=1),
            on_refused=lambda topic, error: log.warning("still_refused", topic=topic, error=str(error)),
        )
        self._statistics = MqttStatistics()
        self.turns = 0

    def turned(self) -> None:
        """Note that delivery came round, with something to do or nothing: `turns` counts."""
        self.turns += 1

    def statistics(self) -> MqttStatistics:
        """Return the counters since start, frozen."""
        return replace(self._statistics, refused=self.refusals.total, refusal=self.refusals.fault)

    async def run(self, journal: JournalReader) -> None:
        """Deliver until cancelled, or until the journal is closed and all of it was taken.

        Reconnects by itself, for ever; no PeerError and no JournalError leaves it. A cancel says goodbye to
        the broker, at most FAREWELL seconds long; what had no receipt by then is sent again by the next run.
        """
        while True:
            began = monotonic()
            self.turned()
            try:
                await self._session(journal)
            except PeerRefusedLogin as error:
                # Somebody must mend a password or an access rule first: asking again soon changes nothing.
                wait = self._backoff.next(at_least=self._backoff.most)
                self._failed(error, wait)
            except PeerError as error:
                if monotonic() - began > STEADY:  # it worked for a while, though perhaps nothing was due
                    self._backoff.reset()
                wait = self._backoff.next()
                self._failed(error, wait)
            except JournalError as error:  # a disk that is full or fails: what is not acked is sent again
                wait = self._backoff.next()
                self._failed(error, wait)
            else:
                return
            await asyncio.sleep(wait)

    async def _session(self, journal: JournalReader) -> None:
        topic = self._topics.status(self._gateway)
        farewell = self.reporter.farewell()
        will = None if farewell is None else Will(topic, farewell)
        async with connect(
            self._settings, password=self._password, will=will, refusals=self.refusals
        ) as connection:
            self._statistics = replace(
                self._statistics, connected=True, version=connection.version, last_error=None
            )
            log.info("mqtt_connected", broker=connection.broker, version=connection.version)
            publisher = JournalPublisher(
                MQTT_SINK,
                connection,
                journal,
                topics=self._topics,
                gateway=self._gateway,
                limits=self._limits,
                on_progress=self._progressed,
                denied=self._denied,
                on_turn=self.turned,
            )
            try:
                await first_ended(
                    publisher.run(),
                    self._retries.retry(connection, journal, self._denied, publisher.denials_changed),
                    self.reporter.run(connection),
                    *(partner.serve(connection, journal) for partner in self._partners),
                )
            finally:
                self._statistics = replace(self._statistics, connected=False, in_flight=0)
                # The will speaks only when the connection breaks: who leaves in order says so himself.
                farewell = self.reporter.farewell()
                with contextlib.suppress(PeerError, TimeoutError):
                    async with asyncio.timeout(FAREWELL):
                        if farewell is not None:
                            await connection.send(topic, farewell, retain=True)

    def _progressed(self, progress: Progress) -> None:
        self._backoff.reset()  # a broker that takes data is no longer one that fails
        raised = counted(
            self._statistics, delivered=progress.entries, messages=progress.messages, dead=progress.dead
        )
        self._statistics = replace(raised, in_flight=progress.in_flight, cursor=progress.cursor)

    def _count(self, **more: int) -> None:
        self._statistics = counted(self._statistics, **more)

    def _failed(self, error: GatewayError, wait: float) -> None:
        self._statistics = replace(counted(self._statistics, failures=1), last_error=str(error))
        log.warning("mqtt_failed", error=str(error), code=type(error).__name__, retry_in=round(wait, 1))
