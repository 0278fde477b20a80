"""The octets of one connection, whatever carries it: a bounded buffer, and an event for each change."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

RECEIVE_BUFFER = 64 * 1024
"""Octets kept for a talker; beyond it the far end is made to wait (TCP) or the kernel drops (serial)."""

SEND_TIMEOUT = 10.0
"""Seconds in which a message must have left; no meter message needs more at 300 baud and above."""

HANG_UP_TIMEOUT = 1.0
"""Seconds given to a connection to close in order before it is dropped."""


class LineConnection(asyncio.Protocol):
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
        """Wake whoever waits for octets or for the end."""
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
        """Return what is there, perhaps nothing, and forget it."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused and self.transport is not None and not self.lost:
            self.transport.resume_reading()
        self._paused = False
        return data

    def take_message(self) -> bytes:
        """Return what a talker gets at once, and forget it: everything, where octets are a stream."""
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
        """Close in order, then by force; return when the descriptor is free."""
        self.lost = True
        self.changed()
        if self.transport is None or self._gone.is_set():
            return
        if not self.transport.is_closing():
            self.transport.close()
        try:
            await self._wait_gone()
        finally:
            self.transport.abort()  # the peer took no FIN in time, or we were cancelled while we waited

    async def _wait_gone(self) -> None:
        """Wait until the event loop has let go of the descriptor, HANG_UP_TIMEOUT at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_TIMEOUT):
                await self._gone.wait()
