"""Lines that meters open themselves: a cellular meter dials in, and its connection is polled like any other.

While nobody holds the line, what comes on the connection is pushes, and goes to `on_push`. While a session holds
it the octets are the session's, which hands on the pushes among them (`take_push`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from protocols.dlms.apdu import notification
from protocols.dlms.push.framing import PushStream, ReceivedApdu
from protocols.dlms.security.suites import Keys
from protocols.line import Framer, LineIO, LineStatistics
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

PARTIAL_WAIT = 2.0
"""Seconds that a session waits for the rest of a push that has begun."""
MAX_UNSENT = 1 << 16
"""Octets of answers that may wait for a far end to read them."""
ANSWER_WAIT = 5.0
"""Seconds that a far end which has said all is given to be answered; most have just gone."""
_LOOK_AGAIN = 0.01
"""Seconds after which it looks whether the push is whole."""


Answer = Callable[[bytes], bool]
"""Sends an APDU back to a sender; says whether it could be sent."""


class DialInConnection(LineConnection):
    """A connection that the far end opened. While `on_octets` is set, octets go there and none are kept.

    A far end that has said all and waits for an answer gets it before the connection is closed.
    """

    def __init__(self, stream: PushStream | None = None) -> None:
        super().__init__()
        self.stream = stream or PushStream()
        self.on_made: Callable[[], None] | None = None
        self.on_octets: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._owed = 0
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and call `on_made`."""
        super().connection_made(transport)
        if self.on_made is not None:
            self.on_made()

    def data_received(self, data: bytes) -> None:
        """Hand octets on, or keep them for the talker."""
        if self.on_octets is None:
            super().data_received(data)
            return
        self.received += len(data)
        self.last_octet = asyncio.get_running_loop().time()
        self.on_octets(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits, and call `on_lost`."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def eof_received(self) -> bool:
        """Keep our direction open for a while where an answer is owed."""
        self._ended = True
        if self._owed and self.transport is not None:
            asyncio.get_running_loop().call_later(ANSWER_WAIT, self.transport.close)
        return self._owed > 0

    def owe(self, framed: Framer) -> Answer:
        """Return the way back for one answer to the far end, which is owed from now on."""
        self._owed += 1

        def answer(apdu: bytes) -> bool:
            self._owed -= 1
            try:
                octets = framed(apdu)
                return octets is not None and self.send_back(octets)
            finally:
                if self._ended and not self._owed and self.transport is not None:
                    self.transport.close()

        return answer

    def abort(self) -> None:
        """Drop the connection now."""
        if self.transport is not None:
            self.transport.abort()

    def receive_pushes(self, data: bytes) -> list[ReceivedApdu]:
        """Return the APDUs that octets complete, after answering blocks that ask for it; see `PushStream.broken`."""
        found = self.stream.receive(data)
        if answers := self.stream.take_answers():
            self.send_back(answers)
        return found

    def send_back(self, octets: bytes) -> bool:
        """Send octets to the far end; False when it is gone, or takes nothing more."""
        transport = self.transport
        if not isinstance(transport, asyncio.WriteTransport) or not self.usable or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > MAX_UNSENT:  # it pushes and does not read
            return False
        transport.write(octets)
        return True


class DialInLine(BaseLine):
    """The line of a meter that dials in: LineUnavailable while it is not connected.

    `adopt` gives it a connection; a new one replaces the old, whose session gets LineClosed. Octets that cannot be
    followed while nobody holds the line end the connection: the meter dials again.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.on_push: Callable[[bytes, Callable[[], Answer] | None], object] | None = None
        self.dedicated: Keys | None = None
        self.on_connected: Callable[[], None] | None = None
        self.broken = 0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Say whether the meter is connected."""
        return self._connection is not None and self._connection.usable

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters."""
        return replace(super().statistics(), open=self.connected)

    def adopt(self, connection: DialInConnection) -> None:
        """Take over a connection; the old one, if any, is closed."""
        old = self._forget()
        self._connection = connection
        self.dedicated = None
        self._connects += 1
        connection.on_octets = lambda data: self._take_pushes(connection, data)
        if old is not None and old is not connection:
            # a meter that lost supply or coverage dials in anew, and its old connection looks open yet
            closing = asyncio.get_running_loop().create_task(old.shut())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if self.on_connected is not None:
            self.on_connected()

    def give_up(self) -> DialInConnection | None:
        """Let go of the connection without closing it (it turned out to be another line's)."""
        connection = self._forget()
        return connection if isinstance(connection, DialInConnection) else None

    def take_push(self, octets: bytes, framed: Framer | None = None) -> None:
        """Hand a push on to `on_push`, as a session gives it, with the way back for an answer to it."""
        connection = self._connection
        if self.on_push is None:
            return
        for apdu in notification.parts(octets)[0]:
            if framed is None or not isinstance(connection, DialInConnection):
                self.on_push(apdu, None)
            else:
                self.on_push(apdu, partial(connection.owe, framed))

    def note_dedicated(self, keys: Keys | None) -> None:
        """Keep the dedicated keys of the association that stands, under which the meter may push, too."""
        self.dedicated = keys

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait until the line is free and for the rest of a push that has begun; hold the connection."""
        async with super().exclusive() as io:
            connection = self._connection
            if not isinstance(connection, DialInConnection):
                yield io
                return
            await self._wait_for_whole_push(connection)
            on_octets, connection.on_octets = connection.on_octets, None
            try:
                yield io
            finally:
                connection.on_octets = on_octets
                # a push that came behind the last answer, which the session did not read any more
                if on_octets is not None and (rest := connection.take()):
                    on_octets(rest)

    async def _connect(self) -> LineConnection:
        raise OSError("the meter has not dialled in")

    async def _wait_for_whole_push(self, connection: DialInConnection) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + PARTIAL_WAIT
        while connection.stream.pending and connection.usable and loop.time() < limit:
            await asyncio.sleep(_LOOK_AGAIN)

    def _take_pushes(self, connection: DialInConnection, data: bytes) -> None:
        for apdu in connection.receive_pushes(data):
            if self.on_push is not None:
                self.on_push(apdu.octets, partial(connection.owe, apdu.way.framed))
        if connection.stream.broken:
            self.broken += 1
            connection.abort()
