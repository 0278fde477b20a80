"""What all lines share.

A line is lazily connected, has one talker at a time, first come first served, keeps late octets of one talker
away from the next (`hold_quiet`), and outlives its connection: what the far end closes is opened anew.
"""

from __future__ import annotations

import asyncio
import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocols.errors import LineClosed, LineError, LineTimeout, LineUnavailable, LocalError
from protocols.line import LineIO, LineMemory, LinePace, LineStatistics
from protocols.lines.connection import SEND_TIMEOUT, LineConnection
from protocols.unused import UnusedCounter

DRAIN_LIMIT = 10.0
"""Seconds after which a line that never falls silent is hung up."""

SETTLE_SILENCE = 0.02
"""Seconds of silence wanted at the end of a quiet time, so that a late answer is not cut in two."""

TIMER_STEP = 0.001
"""Seconds to which the event loop rounds its waits, upwards."""

CLOSED_HERE = "the line was closed by this program"


class _TurnIO:
    """`LineIO` for one turn; after the turn every call is a LocalError."""

    def __init__(self, line: BaseLine, connection: LineConnection) -> None:
        self._line = line
        self._connection = connection
        self._over = False

    def end(self) -> None:
        """Refuse further calls: the turn is over."""
        self._over = True

    async def send(self, data: bytes) -> None:
        self._check()
        if not self._connection.usable:
            raise self._line.closed_error(self._connection)
        await self._line.send_octets(self._connection, data)

    async def receive(self, timeout: float) -> bytes:
        self._check()
        return await self._line.receive_octets(self._connection, timeout)

    async def drain(self, quiet: float) -> int:
        self._check()
        return await self._line.drain_octets(self._connection, quiet)

    def hold_quiet(self, seconds: float) -> None:
        self._check()
        self._line.hold_quiet(seconds)

    async def hang_up(self) -> None:
        self._check()
        await self._line.hang_up(self._connection)

    async def reopen(self) -> None:
        self._check()
        self._connection = await self._line.reopen(self._connection)

    def _check(self) -> None:
        if self._over:
            raise LocalError("the line was used after its exclusive block").with_context(line=self._line.name)


class BaseLine(ABC):
    """What all lines share; a kind of line says how to connect and how long the wire needs between frames."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.unused = UnusedCounter()
        self.memory = LineMemory()
        self._character = 0.0  # seconds that one octet takes on the wire after the system took it
        self._gap = 0.0  # seconds of silence that the wire needs before a frame
        self._turn = asyncio.Lock()
        self._connection: LineConnection | None = None
        self._closed = False
        self._quiet_until: float | None = None
        self._free_at = 0.0
        self._sent = self._sends = self._drained = self._connects = self._turns = self._failures = (
            self._timeouts
        ) = 0
        self._received_before = 0
        self._busy = 0.0
        self._busy_since: float | None = None

    @property
    def name(self) -> str:
        """Name in configuration, logs and pages."""
        return self._name

    @property
    def pace(self) -> LinePace | None:
        """How fast octets go over its wire; None where that is not known (see `protocols.line.HasPace`)."""
        return LinePace(octet=self._character, gap=self._gap) if self._character else None

    @abstractmethod
    async def _connect(self) -> LineConnection:
        """Return a new connection; OSError or ValueError (TimeoutError is an OSError) when there is none."""

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait for the turn, connect if needed, hold the line (see `protocols.line.Line`)."""
        async with self._turn:
            connection = await self._ensure_connection()
            self._drop(connection)  # what came since the last turn was asked for by nobody
            io = _TurnIO(self, connection)
            self._turns += 1
            self._busy_since = asyncio.get_running_loop().time()
            try:
                yield io
            finally:
                io.end()
                self._busy += asyncio.get_running_loop().time() - self._busy_since
                self._busy_since = None

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters."""
        connection = self._connection
        running = 0.0
        if self._busy_since is not None:
            running = asyncio.get_running_loop().time() - self._busy_since
        return LineStatistics(
            sent=self._sent,
            sends=self._sends,
            received=self._received_before + (connection.received if connection else 0),
            drained=self._drained,
            connects=self._connects,
            turns=self._turns,
            failures=self._failures,
            timeouts=self._timeouts,
            busy_seconds=self._busy + running,
            quiet=self._quiet_left(),
            open=connection is not None and connection.usable,
        )

    async def close(self) -> None:
        """Close for good; a talker in his turn gets LineClosed. Idempotent."""
        self._closed = True
        await self.hang_up()

    async def hang_up(self, only: LineConnection | None = None) -> None:
        """Close the connection; the next turn opens it again. Another one than `only` is left alone.

        A meter that dials in again replaces the connection in the middle of a turn on the old one.
        """
        if only is not None and only is not self._connection:
            await only.shut()
            return
        connection = self._forget()
        if connection is not None:
            await connection.shut()

    async def reopen(self, connection: LineConnection) -> LineConnection:
        """Return a new connection in the place of this one; LineUnavailable when there is none."""
        self._drop(connection)
        await self.hang_up(connection)
        return await self._ensure_connection()

    def hold_quiet(self, seconds: float) -> None:
        """Let no send start before `seconds` from now have passed; the longest hold counts."""
        until = asyncio.get_running_loop().time() + seconds
        self._quiet_until = max(until, self._quiet_until or 0.0)

    def _quiet_left(self) -> float:
        """Return for how many seconds from now no send may start."""
        if self._quiet_until is None:
            return 0.0
        return max(0.0, self._quiet_until - asyncio.get_running_loop().time())

    async def send_octets(self, connection: LineConnection, data: bytes) -> None:
        """Write all of `data` when quiet time and frame gap are over."""
        await self._settle(connection)
        await self._pace(connection)
        self.memory.sends += 1
        try:
            await connection.write(data)
        except TimeoutError:
            # Part of the message has left: whoever comes next must not send into the middle of it.
            await self.hang_up(connection)
            self._timeouts += 1
            raise self._error(LineTimeout(f"the line took no data for {SEND_TIMEOUT:g} s")) from None
        if connection.lost:  # `write` is done when the connection is lost, too
            raise self.closed_error(connection)
        self._sent += len(data)
        self._sends += 1
        # A serial port takes octets faster than the wire does; the frame gap begins when the last one is out.
        self._free_at = asyncio.get_running_loop().time() + len(data) * self._character

    async def receive_octets(self, connection: LineConnection, timeout: float) -> bytes:
        """Return the next octets, at least one."""
        if await connection.wait_octets(timeout):
            return connection.take_message()  # also of a lost connection: what came before its end counts
        if connection.lost:
            raise self.closed_error(connection)
        self._timeouts += 1
        raise self._error(LineTimeout(f"nothing came in {timeout:g} s"))

    async def drain_octets(self, connection: LineConnection, quiet: float) -> int:
        """Drop octets until `quiet` seconds pass without one."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + quiet + DRAIN_LIMIT
        dropped = self._drop(connection)
        while await connection.wait_octets(quiet):
            dropped += self._drop(connection)
            if loop.time() > limit:  # a babbling meter, or an adapter that feeds back: it would never end
                await self.hang_up(connection)
                raise self._error(LineClosed(f"hung up: the line did not fall silent in {DRAIN_LIMIT:g} s"))
        return dropped

    def closed_error(self, connection: LineConnection) -> LineError:
        """Return the error that says that the far end went away."""
        return self._error(LineClosed(f"the connection is closed{connection.reason}"))

    async def _settle(self, connection: LineConnection) -> None:
        """Wait out a quiet time and drop what came; a frame in progress may end first."""
        loop = asyncio.get_running_loop()
        if self._quiet_until is None:
            return
        # Octets are taken while we wait: a full buffer would make the far end wait, and its rest come later still.
        while (left := self._quiet_until - loop.time()) > 0 and not connection.lost:
            await connection.wait_octets(left)
            self._drop(connection)
        # Where the program was held up, the time is over and a late answer lies in the system, unread: the loop
        # reads it in its next round, and the round after that comes back here.
        for _ in range(2):
            await asyncio.sleep(0)
        if loop.time() - connection.last_octet < SETTLE_SILENCE:  # a late answer is just coming in
            await self.drain_octets(connection, SETTLE_SILENCE)
        self._drop(connection)
        if connection.lost:
            raise self.closed_error(connection)
        self._quiet_until = (
            None  # only now: a talker that is cancelled while it waits leaves the rest to the next
        )

    def _drop(self, connection: LineConnection) -> int:
        """Drop what is there, tell those who listen, and return how many octets it was."""
        octets = connection.take()
        if octets:
            self._drained += len(octets)
            self.memory.dropped(octets, connection.last_octet)
        return len(octets)

    async def _pace(self, connection: LineConnection) -> None:
        """Keep the frame gap after the last octet seen or sent on this wire."""
        while self._gap:  # again, when an octet came while we slept
            last = max(self._free_at, connection.last_octet)
            left = last + self._gap - asyncio.get_running_loop().time()
            if left <= 0:
                return
            # Timers run out up to TIMER_STEP late, which would be lost at each frame: the rest is waited awake.
            await asyncio.sleep(max(0.0, left - TIMER_STEP))

    async def _ensure_connection(self) -> LineConnection:
        """Return the connection, made anew when the last one is gone; LineUnavailable when that fails."""
        if self._closed:
            raise self._error(LineUnavailable(CLOSED_HERE))
        if self._connection is not None and self._connection.usable:
            return self._connection
        await self.hang_up()  # frees the descriptor of a dead connection: a serial port opens once only
        try:
            self._connection = await self._connect()
        except (OSError, ValueError) as error:
            self._failures += 1
            raise self._error(LineUnavailable(_reason(error))) from error
        self._connects += 1
        if self._closed:  # by somebody else, while we connected
            await self.close()
            raise self._error(LineUnavailable(CLOSED_HERE))
        return self._connection

    def _forget(self) -> LineConnection | None:
        """Take the connection, if there is one, out of the line's hands; its counts stay."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._received_before += connection.received
        return connection

    def _error(self, error: LineError) -> LineError:
        error.with_context(line=self._name)
        return error


def _reason(error: Exception) -> str:
    """Say in words why a connection could not be made; a bare errno says little."""
    if isinstance(error, ConnectionError | TimeoutError) and error.errno and error.strerror:
        return f"{error.strerror}: {os.strerror(error.errno).lower()}"
    if held := re.search(r"Could not exclusively lock port (.+?): ", str(error)):
        return f"another program uses {held[1]}: stop the edge, or whoever has it"
    return str(error) or type(error).__name__
