"""Lines to one host that takes few connections at once: a serial server, a gateway of a meter room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary

ROOM_TIME = 30.0
"""Seconds that a line waits until another one to the same host gives its connection up."""


class Guest(Protocol):
    """A line to a host, as `HostConnections` sees it."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""

    @property
    def in_turn(self) -> bool:
        """Whether somebody talks on it."""

    async def hang_up(self) -> None:
        """Close the connection; the next turn opens it again."""


class HostConnections:
    """The lines to one host; at most so many of them are connected as each of them allows."""

    def __init__(self) -> None:
        self._guests: WeakSet[Guest] = WeakSet()
        self._entry = asyncio.Lock()
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, guest: Guest) -> None:
        """Count a line to this host, whether it has a limit of its own or not."""
        self._guests.add(guest)

    @asynccontextmanager
    async def entered(self, guest: Guest, most: int) -> AsyncIterator[None]:
        """Make room for one more connection and hold the entry while it is made.

        A line that nobody talks on is hung up for it. OSError when all are in use for ROOM_TIME.
        """
        if self._loop is not asyncio.get_running_loop():  # a program may run one loop after the other
            self._loop = asyncio.get_running_loop()
            self._entry, self._freed = asyncio.Lock(), asyncio.Event()
        async with self._entry:
            try:
                async with asyncio.timeout(ROOM_TIME):
                    await self._make_room(guest, most)
            except TimeoutError:
                raise OSError(
                    f"the host takes {most} connections at once, and all are in use for {ROOM_TIME:g} s"
                ) from None
            yield

    def freed(self) -> None:
        """Take note that a turn ended: its connection may be given up now."""
        self._freed.set()

    async def _make_room(self, guest: Guest, most: int) -> None:
        while len(others := [one for one in self._guests if one is not guest and one.connected]) >= most:
            idle = next((one for one in others if not one.in_turn), None)
            if idle is not None:
                await idle.hang_up()
                continue
            self._freed.clear()
            await self._freed.wait()


_HOSTS: WeakValueDictionary[str, HostConnections] = WeakValueDictionary()


def connections_to(host: str) -> HostConnections:
    """Return what all lines to this host share; it is there as long as one of them is."""
    found = _HOSTS.get(host)
    if found is None:
        found = _HOSTS[host] = HostConnections()
    return found
