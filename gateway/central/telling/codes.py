"""One-time codes by the queue that all messages take."""

from __future__ import annotations

import asyncio
import secrets

from gateway.central.portal.otp import CodeMessage, SendKind
from gateway.central.telling.messages import NewMessage
from gateway.central.telling.queue import SmsQueue
from protocols.session import Clock

LOGIN = "login-code"
VERIFY = "verify-mobile"


class QueuedCodes:
    """Puts codes, and notices that a mobile must be verified again, into the queue."""

    def __init__(self, queue: SmsQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock

    async def send(self, message: CodeMessage) -> None:
        """Queue a message; PeopleFault or ValueRefused when it cannot be."""
        values = {"ending": message.ending or "XXXX"}
        if message.kind is SendKind.CODE:
            values["code"] = message.code
        new = NewMessage(
            template=LOGIN if message.kind is SendKind.CODE else VERIFY,
            contact_id=message.contact.id,
            values=values,
            dedupe_key=f"code {secrets.token_hex(16)}",
            batch="codes",
        )
        await asyncio.to_thread(self._queue.put, new, now=self._clock.now())
