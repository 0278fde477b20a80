"""Lines that meters open themselves: a cellular meter dials in, and its connection is polled like any other.

Between turns what comes on the connection is pushes, which go to whoever takes them; within a turn the
talker has the octets, and his protocol hands pushes on (`take_push`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from protocols.dlms.push.framing import PushStream
from protocols.errors import MeterProtocolError
from protocols.line import LineIO, LineStatistics
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

PARTIAL_WAIT = 2.0
"""Seconds that a turn waits for the rest of a push that has begun."""
_LOOK_AGAIN = 0.01


class DialInConnection(LineConnection):
    """A connection that the far end opened. While `on_octets` is set, octets go there and none are kept."""

    def __init__(self, stream: PushStream | None = None) -> None:
        super().__init__()
        self.stream = stream or PushStream()
        self.on_octets: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Hand octets on, or keep them for the talker."""
        if self.on_octets is None:
            super().data_received(data)
            return
        self.received += len(data)
        self.last_octet = asyncio.get_running_loop().time()
        self.on_octets(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits, and `on_lost`."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def abort(self) -> None:
        """Drop the connection now."""
        if self.transport is not None:
            self.transport.abort()


class DialInLine(BaseLine):
    """The line of a meter that dials in: LineUnavailable while it is not connected.

    `adopt` gives it a connection; a new one replaces the old, whose talker gets LineClosed. A partial or
    broken frame between turns ends the connection: the meter dials again.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.on_push: Callable[[bytes], None] | None = None
        self.on_connected: Callable[[], None] | None = None
        self.broken = 0
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether the meter is there."""
        return self._connection is not None and self._connection.usable

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters."""
        return replace(super().statistics(), open=self.connected)

    def adopt(self, connection: DialInConnection) -> None:
        """Take over a connection; the old one, if any, is closed."""
        old = self._forget()
        self._connection = connection
        self._connects += 1
        connection.on_octets = lambda data: self._between_turns(connection, data)
        if old is not None and old is not connection:
            farewell = asyncio.get_running_loop().create_task(old.shut())
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)
        if self.on_connected is not None:
            self.on_connected()

    def give_up(self) -> DialInConnection | None:
        """Let go of the connection without closing it (it turned out to be another line's)."""
        connection = self._forget()
        return connection if isinstance(connection, DialInConnection) else None

    def take_push(self, octets: bytes) -> None:
        """Hand on what the meter sent unasked."""
        if self.on_push is not None:
            self.on_push(octets)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait for the turn and for the rest of a push that has begun; hold the connection."""
        async with super().exclusive() as io:
            connection = self._connection
            if not isinstance(connection, DialInConnection):
                yield io
                return
            await self._whole_push(connection)
            between, connection.on_octets = connection.on_octets, None
            try:
                yield io
            finally:
                connection.on_octets = between
                if between is not None and (rest := connection.take()):
                    between(rest)

    async def _connect(self) -> LineConnection:
        raise OSError("the meter has not dialled in")

    async def _whole_push(self, connection: DialInConnection) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + PARTIAL_WAIT
        while connection.stream.pending and connection.usable and loop.time() < limit:
            await asyncio.sleep(_LOOK_AGAIN)

    def _between_turns(self, connection: DialInConnection, data: bytes) -> None:
        try:
            for apdu in connection.stream.receive_data(data):
                self.take_push(apdu)
        except MeterProtocolError:
            self.broken += 1
            connection.abort()
