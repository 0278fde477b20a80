"""Messages of many gateways, one of each in turn: whoever floods waits behind himself, and delays nobody else."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

EACH = 200
"""Messages of one gateway that wait: an edge that offers all its changes again sends some twenty a second."""
ALL = 5_000
"""Messages that wait at all; above it the gateway with the most of them loses its newest."""
T = TypeVar("T")


class FairQueue(Generic[T]):
    """Waiting messages by gateway. What does not fit is given back to whoever puts, and counted in `dropped`."""

    def __init__(self, *, each: int = EACH, most: int = ALL) -> None:
        self._each = each
        self._most = most
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0
        self._some = asyncio.Event()
        self.dropped: dict[str, int] = {}

    def put(self, gateway: str, message: T) -> T | None:
        """Let a message wait its turn; return the one that has to go for it, if any."""
        mine = self._waiting.setdefault(gateway, deque())
        if len(mine) >= self._each:
            self._drop(gateway)
            return message
        mine.append(message)
        self._count += 1
        self._some.set()
        if self._count <= self._most:
            return None
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        self._drop(longest)
        return self._taken(longest, newest=True)

    async def get(self) -> T:
        """Wait for a message; each gateway that has any gets its turn. Cancelling loses none."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        gateway = next(iter(self._waiting))
        self._waiting.move_to_end(gateway)
        return self._taken(gateway, newest=False)

    def _taken(self, gateway: str, *, newest: bool) -> T:
        mine = self._waiting[gateway]
        message = mine.pop() if newest else mine.popleft()
        self._count -= 1
        if not mine:
            del self._waiting[gateway]
        return message

    def _drop(self, gateway: str) -> None:
        self.dropped[gateway] = self.dropped.get(gateway, 0) + 1
