"""Notifications that wait for their consumer: a full queue makes TCP senders wait instead of growing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from protocols.dlms.push.dial_in import Answer, DialInConnection
from protocols.dlms.push.receiver import Notification

Promise = Callable[[], Answer]
"""Gives the way back for one answer, which is owed from then on."""


def answerable(found: Notification, promise: Promise | None) -> Notification:
    """Give a push that wants to be confirmed the way back; others have none."""
    return found if found.confirms is None or promise is None else replace(found, answer=promise())


@dataclass(slots=True, eq=False)
class TcpSender:
    """A connection that can be made to wait, with what it pushed and the queue has no room for."""

    connection: DialInConnection
    waiting: deque[Notification] = field(default_factory=deque)


class NotificationQueue:
    """Notifications in the order in which they were judged, at most `limit` beside what one read held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Notification] = deque()
        self._stalled: deque[TcpSender] = deque()
        self._not_empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Say whether there is no room for one more."""
        return len(self._queue) >= self._limit

    def put(self, found: Notification) -> bool:
        """Append a notification; False when the queue is full."""
        if self.full:
            return False
        self._queue.append(found)
        self._not_empty.set()
        return True

    def put_from(self, sender: TcpSender, found: Notification) -> None:
        """Append a notification of a TCP sender; where there is no room, nothing more is read of it."""
        # one segment may hold many pushes: those behind the first that found no room keep their order
        if not sender.waiting and self.put(found):
            return
        if not sender.waiting:
            self._stalled.append(sender)
            if sender.connection.transport is not None:
                sender.connection.transport.pause_reading()
        sender.waiting.append(found)

    async def batch(self, most: int) -> list[Notification]:
        """Wait for notifications and return up to `most`, oldest first. Cancelling loses none."""
        while not self._queue:
            self._not_empty.clear()
            await self._not_empty.wait()
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self._resume_senders()
        return taken

    def _resume_senders(self) -> None:
        # first come, first served: a sender with much to say does not pass one that waits
        while self._stalled and not self.full:
            sender = self._stalled[0]
            while sender.waiting and self.put(sender.waiting[0]):
                sender.waiting.popleft()
            if sender.waiting:
                return
            self._stalled.popleft()
            if sender.connection.usable and sender.connection.transport is not None:
                sender.connection.transport.resume_reading()
