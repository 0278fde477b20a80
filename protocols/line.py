"""The waist between sessions and wires: a line has one talker at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

Framer = Callable[[bytes], bytes | None]
"""Puts the frame around an answer; None where there is no way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStatistics:
    """Counters since the line was made; bytes and counts, never reset.

    `turns` counts the talkers so far, `sends` the messages of ours: each is a round trip when it is answered.
    `quiet` is how many seconds from now no send may start (`LineIO.hold_quiet`).
    """

    sent: int = 0
    sends: int = 0
    received: int = 0
    drained: int = 0
    connects: int = 0
    turns: int = 0
    failures: int = 0
    timeouts: int = 0
    busy_seconds: float = 0.0
    quiet: float = 0.0
    open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePace:
    """How fast octets go over a wire.

    `octet` is seconds of an octet with start, parity and stop bits, `gap` of the least silence between frames (t3.5).
    """

    octet: float
    gap: float


@runtime_checkable
class HasPace(Protocol):
    """A line that may know how fast its wire is."""

    @property
    def pace(self) -> LinePace | None:
        """Its pace; None where the wire is not our own: a connection over a network."""


OnPush = Callable[[bytes, Framer | None], None]
"""Takes an APDU that a meter sent unasked, and what frames an answer to it (see `TakesPushes`)."""


Note = TypeVar("Note")


class LineMemory:
    """What a protocol must know of a line from turn to turn, one note of each type; it lives as long as the line.

    `redials` says that a new connection may work where the present one is closed or silent, `lossy` that a message may
    be lost on its way without anybody's fault (datagrams). `sends` counts the messages that have left: a talker that is
    cancelled while it sends learns from it whether its message did.
    """

    def __init__(self, *, redials: bool = False, lossy: bool = False) -> None:
        self.redials = redials
        self.lossy = lossy
        self.sends = 0
        self._notes: dict[type, object] = {}
        self._listeners: list[Callable[[bytes, float], None]] = []

    def note(self, kind: type[Note]) -> Note:
        """Return the line's note of this type, made with no arguments when it is asked for first."""
        found = self._notes.get(kind)
        if not isinstance(found, kind):
            found = self._notes[kind] = kind()
        return found

    def listen(self, listener: Callable[[bytes, float], None]) -> None:
        """Tell `listener` from now on of octets that were dropped, and the loop's time at which the last came."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def dropped(self, octets: bytes, at: float) -> None:
        """Tell the listeners of octets that nobody waited for."""
        for listener in self._listeners:
            listener(octets, at)


@runtime_checkable
class HasMemory(Protocol):
    """A line that keeps notes of protocols."""

    @property
    def memory(self) -> LineMemory:
        """The notes."""


def memory_of(line: object) -> LineMemory:
    """Return a line's own memory, or a new one where it has none."""
    return line.memory if isinstance(line, HasMemory) else LineMemory()


class LineIO(Protocol):
    """The line in the hands of its one talker; valid until the `exclusive` block ends."""

    async def send(self, data: bytes) -> None:
        """Write all of `data`, first waiting out any quiet time; raises LineClosed."""

    async def receive(self, timeout: float) -> bytes:
        """Return the next octets, at least one, as soon as they are there.

        Raises LineTimeout after `timeout` seconds of nothing, LineClosed when the far end went away.
        """

    async def drain(self, quiet: float) -> int:
        """Read and drop octets until `quiet` seconds pass without one; return how many were dropped.

        Raises LineClosed when the line does not fall silent.
        """

    def hold_quiet(self, seconds: float) -> None:
        """Let no send start before `seconds` from now have passed and what came meanwhile is dropped.

        Binds later talkers too: a late answer of one meter must not meet the next one's request.
        """

    async def hang_up(self) -> None:
        """Close the connection; the next `exclusive` opens it again."""

    async def reopen(self) -> None:
        """Close the connection and open a new one for the rest of the turn; raises LineUnavailable."""


@runtime_checkable
class TakesPushes(Protocol):
    """A line that wants what its meters send unasked, also in the middle of an exchange."""

    def take_push(self, octets: bytes, framed: Framer | None = None) -> None:
        """Take one APDU as it came; quick, never raises a ProtocolError.

        `framed` frames an answer to it, where one can be sent on the line.
        """


@runtime_checkable
class TakesDedicatedKeys(Protocol):
    """A line whose meter may push under the dedicated key of the association that stands."""

    def note_dedicated(self, keys: Any) -> None:
        """Keep the keys, or None where the association has none."""


class Line(Protocol):
    """One communication path: serial bus, TCP endpoint, RTU over TCP."""

    @property
    def name(self) -> str:
        """Name in configuration, logs and pages."""

    def exclusive(self) -> AbstractAsyncContextManager[LineIO]:
        """Wait for the turn (first come first served), connect if needed, hold the line.

        Raises LineUnavailable when it cannot be opened. Cancelling while waiting leaves the line usable.
        """

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters."""

    async def close(self) -> None:
        """Close for good; idempotent."""
