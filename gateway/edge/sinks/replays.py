"""Ranges of the journal that a consumer wants again: kept in a queue, sent beside the live readings."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace

from gateway.contract.messages import ReplayRequest
from gateway.contract.topics import Topics
from gateway.edge.journal.entry import Entry
from gateway.edge.sinks.base import MQTT_SINK, JournalReader
from gateway.edge.sinks.batching import Batcher, BatchLimits
from gateway.edge.sinks.denied import DeniedTopics
from gateway.edge.sinks.publisher import ENVELOPE, batch_message
from gateway.errors import ContractError, JournalError, PeerDeniesTopic, PeerRefusedData
from gateway.mqtt.connection import MqttConnection

ASKED_IN_VAIN = 3
"""Times that one range is sent again and asked for once more, before that is told as a loss on the way."""
MAX_REPLAYS = 100
"""Replay requests that may wait; more are refused (the consumer asks again while the hole is there)."""

DENIED_AGAIN = 60.0
"""Seconds after which a topic that the access rules deny is tried again."""


class ReplayQueue:
    """Replays that wait; they outlive a connection, since the consumer need not ask again.

    `on_refused` is told what the broker refuses for good, `on_sent` how many entries a message brought.
    """

    def __init__(
        self,
        topics: Topics,
        gateway: str,
        limits: BatchLimits,
        *,
        on_sent: Callable[[int], None],
        on_refused: Callable[[str, Exception], None],
    ) -> None:
        self._topics = topics
        self._gateway = gateway
        self._limits = limits
        self._on_sent = on_sent
        self._on_refused = on_refused
        self._waiting: deque[tuple[int, int]] = deque()
        self._sent: OrderedDict[int, int] = OrderedDict()
        self._wanted = asyncio.Event()

    def in_vain(self, stored: int) -> int | None:
        """Return the seq above `stored` that is asked for again and again though the broker took it each time.

        None where there is none. With MQTT 3.1.1 a broker acknowledges what its access rules or limits make it
        drop: only this shows it.
        """
        for first in [first for first in self._sent if first <= stored]:
            del self._sent[first]
        return next((first for first, times in self._sent.items() if times > ASKED_IN_VAIN), None)

    def add(self, wanted: ReplayRequest, journal: JournalReader) -> None:
        """Queue what the journal holds of a range; ContractError when that is nothing, or too many wait."""
        first, last = max(wanted.first, journal.first_seq), min(wanted.last, journal.last_seq)
        if first > last:
            raise ContractError(
                f"$.data: {wanted.first}..{wanted.last} is not held; the journal holds "
                f"{journal.first_seq}..{journal.last_seq}"
            )
        if (first, last) in self._waiting:
            return
        if len(self._waiting) >= MAX_REPLAYS:
            raise ContractError(f"$.data: {MAX_REPLAYS} replays are waiting already")
        self._waiting.append((first, last))
        self._sent[first] = self._sent.get(first, 0) + 1
        while len(self._sent) > MAX_REPLAYS:
            self._sent.popitem(last=False)
        self._wanted.set()

    async def send(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Send wanted ranges again, one message at a time, so that live data goes on beside it, for ever.

        Raises PeerUnavailable; the range in hand is then sent again from its part on.
        """
        while True:
            while not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            first, last = self._waiting[0]
            try:
                entries = await journal.read(first, last)
                if entries:
                    journal.note_sent(MQTT_SINK, entries[-1].last)
                await self._again(connection, journal, entries)
            except JournalError as error:
                # A full disk, for one: the live readings must not wait, and whoever lacks these asks again.
                self._on_refused(f"replay of {first}..{last}", error)
                self._waiting.popleft()
                continue
            # `read` gives so many at a time; an empty answer means that the range was trimmed meanwhile.
            if entries and entries[-1].last < last:
                self._waiting[0] = (entries[-1].last + 1, last)
            else:
                self._waiting.popleft()

    async def retry(
        self,
        connection: MqttConnection,
        journal: JournalReader,
        denied: DeniedTopics,
        on_change: Callable[[], None],
    ) -> None:
        """Try denied topics now and each minute, for ever; `on_change` is told when one is denied no longer.

        PeerUnavailable when the connection ends.
        """
        while True:
            for topic in denied.ranges():
                try:
                    while await self._retried(topic, connection, journal, denied):
                        on_change()
                except JournalError as error:
                    self._on_refused(f"{topic} (denied before)", error)
            await asyncio.sleep(DENIED_AGAIN)

    async def _retried(
        self, topic: str, connection: MqttConnection, journal: JournalReader, denied: DeniedTopics
    ) -> bool:
        """Send a piece of what was denied on a topic; False when it is denied still, or all was sent."""
        span = denied.ranges().get(topic)
        if span is None:
            return False
        entries = await journal.read(*span)
        if not await self._again(connection, journal, entries, only=topic):
            return False
        denied.taken(topic, entries[-1].last if entries else span[1])
        return True

    async def _again(
        self,
        connection: MqttConnection,
        journal: JournalReader,
        entries: list[Entry],
        only: str | None = None,
    ) -> bool:
        """Send entries, those of one topic alone where it is named; False when a topic is denied."""
        allowed = True
        most = min(self._limits.size, max(1, connection.largest - ENVELOPE))
        batcher = Batcher(self._topics, self._gateway, replace(self._limits, size=most))
        batcher.take(journal.deliverable(entries), now=0.0)
        while (batch := batcher.next(0.0, flush=True)) is not None:
            if only in (None, batch.topic):
                try:
                    await connection.publish(batch.topic, batch_message(batch, journal, self._gateway))
                except PeerDeniesTopic as error:
                    # Whoever asked asks again; the sink tells that the rules must be mended.
                    self._on_refused(f"{batch.topic} (replay of {batch.first})", error)
                    allowed = False
                except PeerRefusedData as error:
                    # Left out, lest one entry that the broker never takes ends every connection again.
                    if batch.count > 1:
                        batcher.again(batch)
                        continue
                    self._on_refused(f"{batch.topic} (replay of {batch.first})", error)
                    tombstone = await journal.bury(MQTT_SINK, batch.entries[0], str(error))
                    if tombstone is not None:
                        batcher.instead(batch, tombstone)
                        continue
                else:
                    self._on_sent(batch.count)
            batcher.done(batch)
        return allowed
