"""The edge's control side: acknowledgements of billing, replays, its part of the directory, orders."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.contract.envelope import TYPE_OF, event_type, parse
from gateway.contract.messages import CarriedOver, ReadAgain, Status, StatusRequest
from gateway.contract.topics import TopicKind, Topics, gateway_name
from gateway.edge.keys.link import KeysLink
from gateway.edge.sinks.acknowledgements import AckFate, Acknowledgements, AckRefused
from gateway.edge.sinks.base import JournalReader
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.carried import CarriedLife
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.sinks.read_again import ReadAgainOrders
from gateway.edge.sinks.replays import ReplayQueue
from gateway.edge.sinks.tasks import first_ended
from gateway.edge.sinks.time_requests import TimeRequests
from gateway.edge.sinks.twins import TwinWatch
from gateway.errors import ContractError, GatewayError, PeerDeniesTopic, PeerError
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection
from gateway.statistics import counted
from mapping.errors import MappingError

GOODBYE = 1.0
"""Seconds that the end of a subscription may take."""
log = structlog.get_logger("gateway.edge.sinks")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """Counters since start: `replayed` entries, `refused` messages of all kinds.

    `acks` counted; `acks_ignored` came from consumers that are not named; `acks_refused` were forged, foreign,
    replayed or beyond the journal's end, the last of which `ack_fault` tells.
    """

    acks: int = 0
    acks_ignored: int = 0
    acks_refused: int = 0
    ack_fault: str | None = None
    replayed: int = 0
    directory_parts: int = 0
    refused: int = 0
    last_refusal: str | None = None


class EdgeLink:
    """Listens on the sink's connection: acknowledgements, replays, `directory`, `status/request` and `orders`.

    It also hears its own `status`, on which another edge of its name would speak (`TwinWatch`).

    `on_order` gets the octets of an order's message; `time` asks for central's where our clock is judged;
    `acknowledgements` says whose word counts. A message that cannot be taken is counted and logged; it ends
    nothing.
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        directory: PartRequests,
        acknowledgements: Acknowledgements,
        on_order: Callable[[bytes], Awaitable[None]] | None = None,
        on_status_request: Callable[[], None] | None = None,
        limits: BatchLimits | None = None,
        time: TimeRequests | None = None,
        read_again: ReadAgainOrders | None = None,
        carried: CarriedLife | None = None,
        keys: KeysLink | None = None,
    ) -> None:
        self._gateway = gateway_name(gateway)
        self._topics = Topics(root)
        self._directory = directory
        self._on_order = on_order
        self._acknowledgements = acknowledgements
        self._time = time
        self._read_again = read_again
        self._carried = carried
        self._keys = keys
        self._on_status_request = on_status_request
        self._replays = ReplayQueue(
            self._topics,
            self._gateway,
            limits or BatchLimits(),
            on_sent=lambda entries: self._count(replayed=entries),
            on_refused=self._refused,
        )
        self._twins = TwinWatch()
        self._statistics = LinkStatistics()

    def lost_on_the_way(self, stored: int) -> int | None:
        """Return the seq above `stored` (what all have) that is asked for in vain though the broker takes it."""
        return self._replays.in_vain(stored)

    @property
    def twin_fault(self) -> str | None:
        """What to do about another edge under our name; None where there is none."""
        return self._twins.fault

    @property
    def directory_version(self) -> int:
        """The version of the directory that is applied and stored; 0 before the first."""
        return self._directory.version

    def statistics(self) -> LinkStatistics:
        """Return the counters since start, frozen."""
        return self._statistics

    async def load(self) -> None:
        """Apply the stored directory. Call it first.

        One that cannot be applied any more is counted as refused; central is asked for another.
        """
        try:
            await self._directory.load()
        except (MappingError, GatewayError) as error:
            self._refused("the stored directory", error)

    async def serve(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Work until the connection ends, which raises PeerError."""
        names = [*self._topics.from_consumers(self._gateway), self._topics.directory(self._gateway)]
        if self._on_order is not None or self._read_again is not None:
            names.append(self._topics.orders(self._gateway))
        if self._time is not None:
            names.append(self._topics.time(self._gateway))
        if self._on_status_request is not None:
            names.append(self._topics.status_request(self._gateway))
        if self._keys is not None:
            names += self._keys.topics()
        self._twins.connected(journal)
        names.append(self._topics.status(self._gateway))
        missing: Sequence[str] = names
        with contextlib.suppress(PeerDeniesTopic):  # whoever may hear nothing can deliver all the same
            missing = await connection.subscribe(*names)
        try:
            await first_ended(
                self._listen(connection, journal),
                self._replays.send(connection, journal),
                self._directory.ask(connection),
                connection.keep_asking(missing),
                *([] if self._time is None else [self._time.ask(connection)]),
                *([] if self._read_again is None else [self._read_again.work(connection)]),
                *([] if self._carried is None else [self._carried.tell(connection)]),
                *(() if self._keys is None else self._keys.workers(connection)),
            )
        finally:
            # Nobody takes our own farewell any more: a broker would wait for a receipt of it that never comes.
            with contextlib.suppress(PeerError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await connection.unsubscribe(self._topics.status(self._gateway))

    async def _listen(self, connection: MqttConnection, journal: JournalReader) -> None:
        async for message in connection.messages():
            try:
                await self._handle(message, journal)
            except (ContractError, MappingError) as error:
                self._refused(message.topic, error)

    async def _handle(self, message: MqttMessage, journal: JournalReader) -> None:
        name = self._topics.parse(message.topic)
        if name.kind is TopicKind.ACKS and name.consumer is not None:
            await self._acknowledge(name.consumer, message.payload, journal)
        elif name.kind is TopicKind.REPLAY and name.consumer is not None:
            wanted = self._acknowledgements.replay(name.consumer, message.payload, journal)
            self._replays.add(wanted, journal)
        elif name.kind is TopicKind.DIRECTORY:
            await self._directory.take(message.payload)
            self._count(directory_parts=1)
        elif name.kind is TopicKind.STATUS:
            status = parse(message.payload, Status).data
            await self._twins.heard(status, retained=message.retained, journal=journal)
        elif name.kind is TopicKind.TIME and self._time is not None:
            self._time.take(message.payload)
        elif name.kind is TopicKind.STATUS_REQUEST and self._on_status_request is not None:
            parse(message.payload, StatusRequest)
            self._on_status_request()
        elif name.kind is TopicKind.KEYS and self._keys is not None:
            await self._keys.take(message.payload)
        elif name.kind is TopicKind.KEYS_RECEIPTS and self._keys is not None:
            self._keys.take_receipt(message.payload)
        elif name.kind is TopicKind.ORDERS:
            await self._order(message.payload)

    async def _order(self, payload: bytes) -> None:
        ours = self._read_again is not None or self._carried is not None
        kind = event_type(payload) if ours else None
        if self._read_again is not None and kind == TYPE_OF[ReadAgain]:
            self._read_again.take(payload)
        elif self._carried is not None and kind == TYPE_OF[CarriedOver]:
            await self._carried.take(payload)
        elif self._on_order is not None:
            await self._on_order(payload)

    async def _acknowledge(self, consumer: str, payload: bytes, journal: JournalReader) -> None:
        try:
            fate = await self._acknowledgements.take(consumer, payload, journal)
        except AckRefused as error:
            self._count(acks_refused=1)
            self._statistics = replace(self._statistics, ack_fault=str(error))
            raise
        self._count(**{"acks": 1} if fate is AckFate.COUNTED else {"acks_ignored": 1})

    def _refused(self, topic: str, error: Exception) -> None:
        self._count(refused=1)
        self._statistics = replace(self._statistics, last_refusal=f"{topic}: {error}")
        log.warning("message_refused", topic=topic, error=str(error))

    def _count(self, **more: int) -> None:
        self._statistics = counted(self._statistics, **more)
