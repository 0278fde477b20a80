"""One-time codes by the queue that all messages take."""

from __future__ import annotations

import asyncio
import secrets

from gateway.central.portal.otp import CodeMessage, SendKind
from gateway.central.telling.messages import NewMessage
from gateway.central.telling.queue import SmsQueue
from protocols.session import Clock

TEMPLATES = {
    SendKind.CODE: "login-code",
    SendKind.NUMBER: "asked-account-number",
    SendKind.REVERIFY: "verify-mobile",
}


class QueuedCodes:
    """Puts into the queue what somebody asked for: a code, the new number, or the notice to verify the mobile again."""

    def __init__(self, queue: SmsQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock

    async def send(self, message: CodeMessage) -> None:
        """Queue a message; PeopleFault or ValueRefused when it cannot be."""
        values = {"ending": message.ending or "XXXX"}
        if message.kind is SendKind.CODE:
            values["code"] = message.code
        if message.kind is SendKind.NUMBER:
            values["number"] = message.number
        new = NewMessage(
            template=TEMPLATES[message.kind],
            contact_id=message.contact.id,
            values=values,
            dedupe_key=f"code {secrets.token_hex(16)}",
            batch="codes",
        )
        await asyncio.to_thread(self._queue.put, new, now=self._clock.now())
