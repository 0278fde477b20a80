"""The edge's control side: acknowledgements of billing, replays, its part of the directory, orders."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import monotonic

import structlog

from gateway.backoff import Backoff
from gateway.contract.envelope import MAX_DIRECTORY_MESSAGE, gateway_source, parse, wrap
from gateway.contract.messages import Ack, DirectoryPart, DirectoryRequest, ReplayRequest, Signed
from gateway.contract.topics import Topics, gateway_name
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.sinks.base import JournalReader
from gateway.edge.sinks.batching import ENVELOPE, BatchLimits, Outgoing, halves, outgoing
from gateway.edge.sinks.mqtt import encode, first_ended
from gateway.edge.stamping.directory_store import DirectoryHole, DirectoryStore
from gateway.errors import ContractError, GatewayError, PeerRefusedData
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection
from mapping.errors import MappingError
from protocols.session import Clock

log = structlog.get_logger()

MAX_REPLAYS = 100
"""Replay requests that may wait; more are refused (the consumer asks again while the hole is there)."""
ASK_FIRST, ASK_MOST = 30.0, 600.0
"""Seconds after which an unanswered directory request is repeated."""
ASK_CALM = 5.0
"""Least seconds between a request and the next that a bad answer causes."""


@dataclass(slots=True)
class LinkStatistics:
    """Counters since start."""

    acks: int = 0
    replayed: int = 0
    directory_parts: int = 0
    refused: int = 0
    last_refusal: str | None = None


class EdgeLink:
    """Listens on the sink's connection to `{gateway}/acks`, `replay`, `directory` and `orders`.

    `on_directory` applies a verified part (it may raise MappingError or GatewayError: the part is then
    not stored and a snapshot is asked for). `meters` names the meters that this edge polls. `on_order`
    gets the octets of an order's message. `ack_consumers`: whose acknowledgements count, the least of
    theirs (empty: anybody's).
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        folder: Path,
        directory_keys: Sequence[bytes],
        meters: Callable[[], Sequence[str]],
        on_directory: Callable[[DirectoryPart], Awaitable[None]],
        clock: Clock,
        on_order: Callable[[bytes], Awaitable[None]] | None = None,
        ack_consumers: frozenset[str] = frozenset(),
        limits: BatchLimits | None = None,
    ) -> None:
        self._gateway = gateway_name(gateway)
        self._topics = Topics(root)
        self._store = DirectoryStore(folder, gateway, directory_keys)
        self._meters = meters
        self._on_directory = on_directory
        self._clock = clock
        self._on_order = on_order
        self._ack_consumers = ack_consumers
        self._acked: dict[str, dict[str, int]] = {}
        self._limits = limits or BatchLimits()
        self._replays: deque[tuple[int, int]] = deque()
        self._replay_wanted = asyncio.Event()
        self._ask = asyncio.Event()
        self._ask_whole = False
        self._asked_at = -ASK_CALM
        self._answered = False
        self._statistics = LinkStatistics()

    @property
    def directory_version(self) -> int:
        """The version of the directory that is applied and stored; 0 before the first."""
        return self._store.version

    @property
    def statistics(self) -> LinkStatistics:
        """The counters."""
        return self._statistics

    async def load(self) -> None:
        """Apply the stored directory, so that the edge stamps before it reaches central. Call it first.

        A stored part that can no longer be applied (another version of the program wrote it) is asked
        for again instead of stopping the edge.
        """
        for part in await asyncio.to_thread(self._store.load):
            try:
                await self._on_directory(part)
            except (MappingError, GatewayError) as error:
                self._store.expect_snapshot()
                self._ask_whole = True
                self._refused("the stored directory", error)
                return

    def request_directory(self, *, whole: bool = False) -> None:
        """Ask central soon, for example after the meters changed; `whole` asks for a snapshot."""
        self._ask_whole = self._ask_whole or whole
        self._answered = False
        self._ask.set()

    async def serve(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Work until the connection ends, which raises PeerError."""
        names = [self._topics.acks, self._topics.replay, self._topics.directory]
        if self._on_order is not None:
            names.append(self._topics.orders)
        await connection.subscribe(*(name(self._gateway) for name in names))
        self._answered = False
        await first_ended(
            self._listen(connection, journal), self._replay(connection, journal), self._inquire(connection)
        )

    # -- received

    async def _listen(self, connection: MqttConnection, journal: JournalReader) -> None:
        async for message in connection.messages():
            try:
                await self._handle(message, journal)
            except (ContractError, MappingError) as error:
                self._refused(message.topic, error)

    async def _handle(self, message: MqttMessage, journal: JournalReader) -> None:
        if message.topic == self._topics.acks(self._gateway):
            await self._acknowledged(parse(message.payload, Ack).data, journal)
        elif message.topic == self._topics.replay(self._gateway):
            self._enqueue(parse(message.payload, ReplayRequest).data, journal)
        elif message.topic == self._topics.directory(self._gateway):
            await self._directory_part(message.payload)
        elif self._on_order is not None:
            await self._on_order(message.payload)

    async def _acknowledged(self, ack: Ack, journal: JournalReader) -> None:
        _same_journal(ack.journal, journal)
        if self._ack_consumers and ack.consumer not in self._ack_consumers:
            return
        if ack.seq > journal.last_seq:
            was, last = journal.uuid, journal.last_seq
            await journal.renew()
            log.error("journal_set_back", was=was, now=journal.uuid, acknowledged=ack.seq, last_seq=last)
            raise ContractError(
                f"$.data.seq: {ack.seq} was acknowledged, but journal {was} ends at {last}: its file was set"
                f" back (restored from a copy?), so it goes on as journal {journal.uuid}"
            )
        self._statistics.acks += 1
        await journal.billing_ack(self._agreed(ack))

    def _agreed(self, ack: Ack) -> int:
        """What all that count have stored; one that has not spoken yet holds everything back."""
        if not self._ack_consumers:
            return ack.seq
        stored = self._acked.setdefault(ack.journal, {})
        stored[ack.consumer] = max(ack.seq, stored.get(ack.consumer, 0))
        return min(stored.get(consumer, 0) for consumer in self._ack_consumers)

    def _enqueue(self, wanted: ReplayRequest, journal: JournalReader) -> None:
        _same_journal(wanted.journal, journal)
        first, last = max(wanted.first, journal.first_seq), min(wanted.last, journal.last_seq)
        if first > last:
            raise ContractError(
                f"$.data: {wanted.first}..{wanted.last} is not held; the journal holds "
                f"{journal.first_seq}..{journal.last_seq}"
            )
        if (first, last) in self._replays:
            return
        if len(self._replays) >= MAX_REPLAYS:
            raise ContractError(f"$.data: {MAX_REPLAYS} replays are waiting already")
        self._replays.append((first, last))
        self._replay_wanted.set()

    async def _directory_part(self, payload: bytes) -> None:
        jws = parse(payload, Signed, limit=MAX_DIRECTORY_MESSAGE).data.jws
        try:
            part = await asyncio.to_thread(self._store.check, jws)
        except DirectoryHole:
            self._ask_again(whole=self._store.full)
            raise
        try:
            await self._on_directory(part)
            await asyncio.to_thread(self._store.store, jws, part)
        except (MappingError, GatewayError, OSError) as error:
            self._ask_again(whole=True)
            raise ContractError(f"$.rows: the directory part cannot be applied: {error}") from error
        self._answered = True
        self._statistics.directory_parts += 1
        log.info("directory_applied", version=part.version, kind=part.kind)

    def _ask_again(self, *, whole: bool) -> None:
        """Ask at once unless we asked a moment ago; then the timer does, lest two sides drive each other."""
        self._answered = False
        self._ask_whole = self._ask_whole or whole
        if monotonic() - self._asked_at > ASK_CALM:
            self._ask.set()

    def _refused(self, topic: str, error: Exception) -> None:
        self._statistics.refused += 1
        self._statistics.last_refusal = f"{topic}: {error}"
        log.warning("message_refused", topic=topic, error=str(error))

    # -- sent

    async def _replay(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Send wanted ranges again: the same bodies, one message at a time, so live data goes on."""
        while True:
            if not self._replays:
                self._replay_wanted.clear()
                await self._replay_wanted.wait()
            first, last = self._replays[0]
            entries = await journal.read(first, last)
            for batch in self._batches(entries):
                await self._send_again(connection, journal.uuid, batch)
            if entries and entries[-1].seq < last:
                self._replays[0] = (entries[-1].seq + 1, last)
            else:
                self._replays.popleft()

    async def _send_again(self, connection: MqttConnection, journal: str, batch: Outgoing) -> None:
        """Send one batch; what the broker refuses is left out, lest it end the connection for ever."""
        payload = encode(batch, journal, self._gateway)
        largest = connection.maximum_packet
        try:
            if largest is not None and len(payload) + ENVELOPE > largest:
                raise PeerRefusedData(f"larger than the broker's {largest} octets")
            await connection.publish(batch.topic, payload)
        except PeerRefusedData as error:
            if len(batch.entries) > 1:
                for half in halves(batch):
                    await self._send_again(connection, journal, half)
                return
            self._refused(f"{batch.topic} (replay of {batch.first})", error)
        else:
            self._statistics.replayed += len(batch.entries)

    def _batches(self, entries: list[Entry]) -> list[Outgoing]:
        def topic(entry: Entry) -> tuple[EntryKind, str]:
            return entry.kind, entry.profile if entry.kind is EntryKind.CAPTURE else ""

        batches = []
        for key, group in groupby(sorted(entries, key=lambda e: (*topic(e), e.seq)), topic):
            waiting = [outgoing(self._topics, self._gateway, key, list(group))]
            while waiting:
                batch = waiting.pop(0)
                size = sum(len(entry.body) for entry in batch.entries)
                if len(batch.entries) > self._limits.count or (
                    size > self._limits.size and len(batch.entries) > 1
                ):
                    waiting[:0] = halves(batch)
                else:
                    batches.append(batch)
        return batches

    async def _inquire(self, connection: MqttConnection) -> None:
        """Ask for the directory when the connection opens, when told to, and again while nobody answers."""
        backoff = Backoff(ASK_FIRST, ASK_MOST)
        while True:
            self._ask.clear()
            have = 0 if self._ask_whole else self._store.version
            self._ask_whole = False
            request = DirectoryRequest(
                gateway=self._gateway, have_version=have, meters=tuple(sorted(self._meters()))
            )
            self._asked_at = monotonic()
            payload = wrap(
                request,
                id=f"{self._gateway}/directory/{int(self._asked_at * 1000)}/{have}",
                source=gateway_source(self._gateway),
                time=self._clock.now(),
            )
            await connection.publish(self._topics.directory_request(self._gateway), payload)
            await self._until_asked(backoff)

    async def _until_asked(self, backoff: Backoff) -> None:
        while True:
            try:
                async with asyncio.timeout(backoff.next()):
                    await self._ask.wait()
            except TimeoutError:
                if self._answered:
                    continue
            return


def _same_journal(named: str, journal: JournalReader) -> None:
    if named != journal.uuid:
        raise ContractError(f"$.data.journal: {named!r} is not our journal {journal.uuid!r}")
