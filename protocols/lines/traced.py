"""A line that writes down what passes over it: any line inside, any protocol above."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from protocols.errors import LineError
from protocols.line import HasPace, Line, LineIO, LineMemory, LinePace, LineStatistics, memory_of
from protocols.unused import UnusedCounter, unused_of


class TraceSink(Protocol):
    """Where a trace goes. Neither method may raise for a full disk: a trace never stops a reading."""

    def octets(self, *, sent: bool, octets: bytes) -> None:
        """Note octets that were sent, or that came."""

    def remark(self, text: str) -> None:
        """Note what else happened: a turn, a hang-up, an error."""

    def close(self) -> None:
        """Close for good; idempotent."""


class LineMask(Protocol):
    """What is written in place of octets: as many as they are, the received ones perhaps somewhat later."""

    def sent(self, octets: bytes) -> bytes:
        """Return what is written for a piece that is sent."""

    def received(self, octets: bytes) -> bytes:
        """Return what is written for a piece that came; nothing while it is held back."""

    def rest(self) -> bytes:
        """Return what is held back: something is sent now, or the turn is over."""


class Unmasked:
    """Writes all octets as they are."""

    def sent(self, octets: bytes) -> bytes:
        return octets

    def received(self, octets: bytes) -> bytes:
        return octets

    def rest(self) -> bytes:
        return b""


class TracedLine:
    """`Line` around another line, `inner`; octets go to `sink`, through a mask for each turn.

    Octets are noted before they are sent, so that a trace ends with what a meter did not answer.
    """

    def __init__(self, line: Line, sink: TraceSink, *, mask: Callable[[], LineMask] = Unmasked) -> None:
        self.inner = line
        self._sink = sink
        self._mask = mask

    @property
    def name(self) -> str:
        """Name in configuration, logs and pages."""
        return self.inner.name

    @property
    def pace(self) -> LinePace | None:
        """How fast octets go over the wire of the line inside (see `protocols.line.HasPace`)."""
        return self.inner.pace if isinstance(self.inner, HasPace) else None

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait for the turn and hold the line (see `protocols.line.Line`)."""
        try:
            async with self.inner.exclusive() as io:
                self._sink.remark(f"line {self.inner.name}")
                traced = _TracedIO(io, self._sink, self._mask())
                try:
                    yield traced
                finally:
                    traced.note_rest()
        except LineError as error:
            self._sink.remark(str(error))
            raise

    @property
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause."""
        return unused_of(self.inner)

    @property
    def memory(self) -> LineMemory:
        """The notes that protocols keep of the line."""
        return memory_of(self.inner)

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters."""
        return self.inner.statistics()

    async def close(self) -> None:
        """Close line and trace for good; idempotent."""
        try:
            await self.inner.close()
        finally:
            self._sink.close()


class _TracedIO:
    """`LineIO` of one turn."""

    def __init__(self, io: LineIO, sink: TraceSink, mask: LineMask) -> None:
        self._io = io
        self._sink = sink
        self._mask = mask

    def note_rest(self) -> None:
        if rest := self._mask.rest():
            self._sink.octets(sent=False, octets=rest)

    async def send(self, data: bytes) -> None:
        self.note_rest()
        self._sink.octets(sent=True, octets=self._mask.sent(data))
        await self._io.send(data)

    async def receive(self, timeout: float) -> bytes:
        data = await self._io.receive(timeout)
        if noted := self._mask.received(data):
            self._sink.octets(sent=False, octets=noted)
        return data

    async def drain(self, quiet: float) -> int:
        dropped = await self._io.drain(quiet)
        if dropped:
            self._sink.remark(f"{dropped} octets dropped")
        return dropped

    def hold_quiet(self, seconds: float) -> None:
        self._sink.remark(f"quiet for {seconds:g} s")
        self._io.hold_quiet(seconds)

    async def hang_up(self) -> None:
        self._sink.remark("hung up")
        await self._io.hang_up()

    async def reopen(self) -> None:
        self._sink.remark("hung up and opened again")
        await self._io.reopen()
