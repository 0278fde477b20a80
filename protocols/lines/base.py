"""The lines that exist: TCP endpoints (Modbus TCP, DLMS wrapper, RTU over TCP) and serial buses.

A line is lazily connected, has one talker at a time, first come first served, keeps late octets of one talker
away from the next (`hold_quiet`), and outlives its connection: what the far end closes is opened anew.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import serial
from serial.serialposix import Serial
from serial_asyncio_fast import SerialTransport

from protocols.errors import (
    LineClosed,
    LineError,
    LineTimeout,
    LineUnavailable,
    LocalError,
    MeterConfigError,
)
from protocols.line import LineIO, LineStatistics

RECEIVE_BUFFER = 64 * 1024
"""Octets kept for a talker; beyond it the far end is made to wait (TCP) or the kernel drops (serial)."""

SEND_TIMEOUT = 10.0
"""Seconds in which a message must have left; no meter message needs more at 300 baud and above."""

DRAIN_LIMIT = 10.0
"""Seconds after which a line that never falls silent is hung up."""

SETTLE_SILENCE = 0.02
"""Seconds of silence wanted at the end of a quiet time, so that a late answer is not cut in two."""

DEAD_PEER_SECONDS = 20
"""Seconds without acknowledgement after which a TCP peer counts as gone; the system would try for minutes."""

HANG_UP_TIMEOUT = 1.0
"""Seconds given to a connection to close in order before it is dropped."""

CLOSED_HERE = "the line was closed by this program"
PARITIES = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}


class _Connection(asyncio.Protocol):
    """Octets of one connection, bounded, with an event for each change."""

    def __init__(self) -> None:
        self.received = 0
        self.last_octet = 0.0
        self.lost = False
        self.reason = ""
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self.received += len(data)
        self.last_octet = asyncio.get_running_loop().time()
        if len(self._buffer) >= RECEIVE_BUFFER and self.transport is not None:
            self.transport.pause_reading()
            self._paused = True
        self.changed()

    def changed(self) -> None:
        """Wake who waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.reason = self.reason or (f": {exc}" if exc else "")
        self.changed()
        for event in (self._writable, self._gone):
            event.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def take(self) -> bytes:
        """Return and forget what is there, perhaps nothing."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused and self.transport is not None and not self.lost:
            self.transport.resume_reading()
        self._paused = False
        return data

    def take_message(self) -> bytes:
        """Return and forget what a talker gets at once: everything, where octets are a stream."""
        return self.take()

    @property
    def has_octets(self) -> bool:
        """Say whether there is something to take."""
        return bool(self._buffer)

    async def wait_octets(self, seconds: float) -> bool:
        """Wait until octets are there; False when `seconds` passed or the connection is lost first."""
        if not self.has_octets and not self.lost:
            # One future and one timer: every answer passes here, and a task's timeout costs several times that.
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(max(seconds, 0.0), self.changed)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self.has_octets

    @property
    def usable(self) -> bool:
        """Say whether octets can still be sent."""
        return not self.lost and self.transport is not None and not self.transport.is_closing()

    async def write(self, data: bytes) -> None:
        """Return when the operating system has taken all of `data`; TimeoutError after SEND_TIMEOUT."""
        if self.transport is not None:
            self.transport.write(data)
        if self._writable.is_set():  # the system took it at once, as it nearly always does
            return
        async with asyncio.timeout(SEND_TIMEOUT):
            await self._writable.wait()

    async def shut(self) -> None:
        """Close in order, then by force; returns when the descriptor is free."""
        serial_port = isinstance(self.transport, SerialTransport)
        self.lost = True
        self.changed()
        if self.transport is None or self._gone.is_set():
            return
        if not self.transport.is_closing():
            # A serial transport must be told once only; everything sent has left its buffer already.
            (self.transport.abort if serial_port else self.transport.close)()
        try:
            async with asyncio.timeout(HANG_UP_TIMEOUT):
                await self._gone.wait()
        except TimeoutError:
            pass
        finally:
            if not serial_port:
                self.transport.abort()


class _TurnIO:
    """`LineIO` for one turn; after the turn every call is a LocalError."""

    def __init__(self, line: BaseLine, connection: _Connection) -> None:
        self._line = line
        self._connection = connection
        self._over = False

    def end(self) -> None:
        """The turn is over."""
        self._over = True

    async def send(self, data: bytes) -> None:
        self._check()
        await self._line.send_octets(self._live(), data)

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

    def _check(self) -> None:
        if self._over:
            raise LocalError("the line was used after its exclusive block").with_context(line=self._line.name)

    def _live(self) -> _Connection:
        if not self._connection.usable:
            raise self._line.closed_error(self._connection)
        return self._connection


class BaseLine(ABC):
    """What all lines share; a kind of line says how to connect and how long the wire needs between frames."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._character = 0.0  # seconds that one octet takes on the wire after the system took it
        self._gap = 0.0  # seconds of silence that the wire needs before a frame
        self._turn = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        self._quiet_until: float | None = None
        self._free_at = 0.0
        self._sent = self._drained = self._connects = self._turns = self._failures = self._timeouts = 0
        self._received_before = 0
        self._busy = 0.0
        self._busy_since: float | None = None

    @property
    def name(self) -> str:
        """Name in configuration, logs and pages."""
        return self._name

    @abstractmethod
    async def _connect(self) -> _Connection:
        """Open the path; OSError, ValueError or TimeoutError when that fails."""

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait for the turn, connect if needed, hold the line (see `protocols.line.Line`)."""
        async with self._turn:
            connection = await self._opened()
            self._drained += len(connection.take())
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
            received=self._received_before + (connection.received if connection else 0),
            drained=self._drained,
            connects=self._connects,
            turns=self._turns,
            failures=self._failures,
            timeouts=self._timeouts,
            busy_seconds=self._busy + running,
            open=connection is not None and connection.usable,
        )

    async def close(self) -> None:
        """Close for good; a talker in his turn gets LineClosed. Idempotent."""
        self._closed = True
        await self.hang_up()

    async def hang_up(self, only: _Connection | None = None) -> None:
        """Close the connection; the next turn opens it again. Another one than `only` is left alone.

        A meter that dials in again replaces the connection in the middle of a turn on the old one.
        """
        if only is not None and only is not self._connection:
            await only.shut()
            return
        connection = self._forget()
        if connection is not None:
            await connection.shut()

    def hold_quiet(self, seconds: float) -> None:
        """Let no send start before `seconds` from now have passed; the longest hold counts."""
        until = asyncio.get_running_loop().time() + seconds
        self._quiet_until = max(until, self._quiet_until or 0.0)

    async def send_octets(self, connection: _Connection, data: bytes) -> None:
        """Write all of `data` when quiet time and frame gap are over."""
        await self._settle(connection)
        await self._pace(connection)
        try:
            await connection.write(data)
        except TimeoutError:
            await self.hang_up(connection)
            self._timeouts += 1
            raise self._error(LineTimeout(f"the line took no data for {SEND_TIMEOUT:g} s")) from None
        if connection.lost:
            raise self.closed_error(connection)
        self._sent += len(data)
        self._free_at = asyncio.get_running_loop().time() + len(data) * self._character

    async def receive_octets(self, connection: _Connection, timeout: float) -> bytes:
        """Return the next octets, at least one."""
        if await connection.wait_octets(timeout):
            return connection.take_message()
        if connection.lost:
            raise self.closed_error(connection)
        self._timeouts += 1
        raise self._error(LineTimeout(f"nothing came in {timeout:g} s"))

    async def drain_octets(self, connection: _Connection, quiet: float) -> int:
        """Drop octets until `quiet` seconds pass without one."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + quiet + DRAIN_LIMIT
        dropped = len(connection.take())
        while await connection.wait_octets(quiet):
            dropped += len(connection.take())
            if loop.time() > limit:
                self._drained += dropped
                await self.hang_up(connection)
                raise self._error(LineClosed(f"hung up: the line did not fall silent in {DRAIN_LIMIT:g} s"))
        self._drained += dropped
        return dropped

    def closed_error(self, connection: _Connection) -> LineError:
        """Say that the far end went away."""
        return self._error(LineClosed(f"the connection is closed{connection.reason}"))

    async def _settle(self, connection: _Connection) -> None:
        """Wait out a quiet time and drop what came; a frame in progress may end first."""
        loop = asyncio.get_running_loop()
        if self._quiet_until is None:
            return
        while (left := self._quiet_until - loop.time()) > 0 and not connection.lost:
            await connection.wait_octets(left)
            self._drained += len(connection.take())
        if loop.time() - connection.last_octet < SETTLE_SILENCE:
            await self.drain_octets(connection, SETTLE_SILENCE)
        self._drained += len(connection.take())
        if connection.lost:
            raise self.closed_error(connection)
        self._quiet_until = None

    async def _pace(self, connection: _Connection) -> None:
        """Keep the frame gap after the last octet seen or sent on this wire."""
        while self._gap:
            last = max(self._free_at, connection.last_octet)
            left = last + self._gap - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _opened(self) -> _Connection:
        if self._closed:
            raise self._error(LineUnavailable(CLOSED_HERE))
        if self._connection is not None and self._connection.usable:
            return self._connection
        await self.hang_up()
        try:
            self._connection = await self._connect()
        except (OSError, ValueError) as error:
            self._failures += 1
            raise self._error(LineUnavailable(_why(error))) from error
        self._connects += 1
        if self._closed:
            await self.close()
            raise self._error(LineUnavailable(CLOSED_HERE))
        return self._connection

    def _forget(self) -> _Connection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._received_before += connection.received
        return connection

    def _error(self, error: LineError) -> LineError:
        error.with_context(line=self._name)
        return error


class TcpLine(BaseLine):
    """A TCP endpoint: a meter on IP, a Modbus gateway, or a converter with a serial bus behind it."""

    def __init__(self, name: str, host: str, port: int, *, connect_timeout: float = 5) -> None:
        super().__init__(name)
        self._host = host
        self._port = port
        self._connect_timeout = connect_timeout

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except TimeoutError:
            text = f"{self._host}:{self._port} did not accept in {self._connect_timeout:g} s"
            raise OSError(text) from None
        raw = cast("asyncio.Transport", connection.transport).get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3 * DEAD_PEER_SECONDS)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * DEAD_PEER_SECONDS)
        return connection


class SerialLine(BaseLine):
    """A serial bus (RS-485, RS-232, optical probe, pty); keeps t3.5 before each frame."""

    def __init__(
        self, name: str, device: str, *, baud: int = 9600, parity: str = "N", stop_bits: int = 1
    ) -> None:
        super().__init__(name)
        if parity not in PARITIES or stop_bits not in (1, 2) or baud <= 0:
            allowed = "parity is N, E or O, stop_bits 1 or 2, baud above 0"
            raise MeterConfigError(f"line {name}: serial settings {baud} 8{parity}{stop_bits}: {allowed}")
        self._device = device
        self._settings = {"baudrate": baud, "parity": PARITIES[parity], "stopbits": stop_bits}
        self.set_pace(baud, 9 + stop_bits + (parity != "N"))

    def set_pace(self, baud: int, bits: int) -> None:
        """Reckon with this speed and these bits for each octet from now on."""
        self._character = bits / baud
        self._gap = 3.5 * self._character if baud <= 19200 else 0.00175

    async def _connect(self) -> _Connection:
        return self.open_port(**self._settings)[0]

    def open_port(self, **settings: object) -> tuple[_Connection, Serial]:
        """Open the device with pyserial's settings; OSError or ValueError when that fails."""
        make: Callable[..., Serial] = Serial
        connection = _Connection()
        port: Serial | None = None
        try:
            port = make(self._device, exclusive=True, timeout=0, write_timeout=0, **settings)
            transport = SerialTransport(asyncio.get_running_loop(), connection, port)
        except termios.error as error:  # no OSError: the driver does not take these settings
            if port is not None:
                port.close()
            raise OSError(f"{self._device} does not take these settings: {error}") from error
        connection.connection_made(transport)
        return connection, port


def _why(error: Exception) -> str:
    """Say in words why a connection could not be made; a bare errno says little."""
    if isinstance(error, ConnectionError | TimeoutError) and error.errno and error.strerror:
        return f"{error.strerror}: {os.strerror(error.errno).lower()}"
    text = str(error).replace("Could not exclusively lock port", "another program uses")
    return text or type(error).__name__
