"""Central's ear for master systems: their change sets from the broker to the office, and signed answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from gateway.backoff import Backoff
from gateway.central.keys.fair_queue import FairQueue
from gateway.central.office.inbox import SystemsInbox
from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import ChangesAnswered
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import ContractError, JournalError
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection
from gateway.threads import in_thread
from mapping.errors import DirectoryFault

SOURCE = "/central"
DECIDED_EVERY = 2.0
"""Seconds between looks for what a second person decided."""
log = structlog.get_logger("gateway.central.intake")


class Systems:
    """Serves `systems/+/changes`. A message is acknowledged when its answer is on the disk; in order, one at a time."""

    def __init__(
        self, inbox: SystemsInbox, topics: Topics, *, key: bytes, now: Callable[[], datetime]
    ) -> None:
        self._inbox = inbox
        self._topics = topics
        self._key = key
        self._now = now
        self._waiting: FairQueue[tuple[str, MqttMessage]] = FairQueue()

    def filter(self) -> str:
        """Return what central subscribes to for this."""
        return self._topics.filter(TopicKind.SYSTEM_CHANGES)

    def begin(self) -> None:
        """Forget what waits: it came over another connection, and the broker brings it again."""
        self._waiting = FairQueue()

    def takes(self, message: MqttMessage, connection: MqttConnection) -> bool:
        """Put a message of a system with those that wait; False for any other.

        Of a system that sends more than can wait the newest go: the next is then a hole, and it sends them again.
        """
        try:
            name = self._topics.parse(message.topic)
        except ContractError:
            return False
        if name.kind is not TopicKind.SYSTEM_CHANGES or name.system is None:
            return False
        gone = self._waiting.put(name.system, (name.system, message))
        if gone is not None:
            system, dropped = gone
            connection.ack(dropped)
            log.warning("systems_flood", system=system, dropped=self._waiting.dropped[system])
        return True

    async def serve(self, connection: MqttConnection) -> None:
        """Answer until the connection ends (PeerError)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer(connection))
            tasks.create_task(self._tell_decisions(connection))

    async def _answer(self, connection: MqttConnection) -> None:
        while True:
            system, message = await self._waiting.get()
            answered = await self._answered(system, message.payload)
            connection.ack(message)
            if answered is not None:
                await self._publish(connection, answered)

    async def _answered(self, system: str, payload: bytes) -> ChangesAnswered | None:
        """Return the answer; while a store fails, wait and try again: nothing is acknowledged meanwhile."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                return await in_thread(self._inbox.answer, system, payload)
            except ContractError as error:
                log.error("system_message_refused", system=system, error=str(error))
                return None
            except (JournalError, DirectoryFault) as error:
                log.error("office_failed", error=str(error))
                await asyncio.sleep(backoff.next())

    async def _tell_decisions(self, connection: MqttConnection) -> None:
        while True:
            try:
                for answered in await in_thread(self._inbox.decided):
                    await self._publish(connection, answered)
            except (JournalError, DirectoryFault) as error:
                log.error("office_failed", error=str(error))
            await asyncio.sleep(DECIDED_EVERY)

    async def _publish(self, connection: MqttConnection, answered: ChangesAnswered) -> None:
        payload = wrap_signed(
            answered,
            key=self._key,
            id=f"systems/{answered.system}/{answered.sequence}/{answered.state}",
            source=SOURCE,
            time=self._now(),
        )
        await connection.offer(self._topics.system_results(answered.system), payload)
