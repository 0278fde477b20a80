"""A billing system for tests: a lasting subscriber that keeps the consumer's rule and acks by hand."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from gateway.contract.batches import parse_batch
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import Parsed, parse
from gateway.contract.messages import Batch, Status, StatusChanges
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import PeerError
from gateway.mqtt.connection import MqttMessage, MqttSettings, connect
from tests.support.waiting import PATIENCE


@dataclass
class Billing:
    """Subscribes to all readings, events, gaps and status; survives the broker's restarts."""

    settings: MqttSettings
    password: bytes | None = None
    state: ConsumerState = field(default_factory=ConsumerState)
    arrived: list[str] = field(default_factory=list)
    raw: list[tuple[str, bytes]] = field(default_factory=list)
    batches: list[Parsed[Batch]] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    changes: list[StatusChanges] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Billing:
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self.ready.wait(), PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        topics = Topics(self.settings.root)
        kinds = (
            TopicKind.READINGS,
            TopicKind.EVENTS,
            TopicKind.GAPS,
            TopicKind.STATUS,
            TopicKind.STATUS_CHANGES,
        )
        while True:
            try:
                async with connect(self.settings, password=self.password, manual_ack=True) as connection:
                    await connection.subscribe(*(topics.filter(kind) for kind in kinds))
                    self.ready.set()
                    async for message in connection.messages():
                        self._take(topics, message)
                        connection.ack(message)
            except PeerError:
                await asyncio.sleep(0.05)

    def _take(self, topics: Topics, message: MqttMessage) -> None:
        self.raw.append((message.topic, message.payload))
        if topics.parse(message.topic).kind is TopicKind.STATUS:
            self.statuses.append(parse(message.payload, Status).data)
            return
        if topics.parse(message.topic).kind is TopicKind.STATUS_CHANGES:
            self.changes.append(parse(message.payload, StatusChanges).data)
            return
        batch = parse_batch(message.payload)
        self.batches.append(batch)
        self.state.apply(batch.data)
        self.arrived += [capture.capture_id for capture in batch.data.captures]
