"""Sending to the broker in order, with a few messages on the way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

WINDOW: Final = 20
"""Messages in flight at once."""


class Publisher(Protocol):
    """What is needed of a connection; errors are PeerError."""

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Send at QoS 1; the future is the broker's receipt."""


async def send_all(publisher: Publisher, topic: str, payloads: Iterable[bytes]) -> None:
    """Send in order, at most WINDOW at once; return when the broker has taken all."""
    window: list[asyncio.Future[None]] = []
    for payload in payloads:
        if len(window) >= WINDOW:
            await window.pop(0)
        window.append(publisher.send(topic, payload))
    for receipt in window:
        await receipt
