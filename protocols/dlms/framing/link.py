"""What a connection needs of the framing below it: the wrapper and HDLC both offer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from protocols.unused import UnusedCounter


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """The link layer is connected (HDLC: UA came; wrapper: at once)."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The far end confirmed the end of the link, or is in disconnected mode."""


@dataclass(frozen=True, slots=True)
class ApduReceived:
    """A whole APDU came. `unasked`: outside the exchange with us (a UI frame, other wPorts), so a push.

    `back` frames an answer to where it came from, for what may be answered outside the exchange.
    """

    apdu: bytes = field(repr=False)
    unasked: bool = False
    back: Callable[[bytes], bytes] | None = field(default=None, repr=False, compare=False)


LinkEvent = LinkOpened | LinkClosed | ApduReceived


class ClientLink(Protocol):
    """One client's framing towards one logical device; sans-IO."""

    def open(self) -> list[LinkEvent]:
        """Begin to connect; LinkOpened comes now or from `receive_data`."""

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""

    def expect(self) -> None:
        """Take note that an APDU is awaited although the last one was taken and nothing was sent for it.

        A meter that sends several APDUs in a row (block streaming, a push before its answer) must be polled
        for the next one on a bus.
        """

    def close(self) -> list[LinkEvent]:
        """Begin to disconnect; LinkClosed comes now or from `receive_data`."""

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets from the wire; MeterProtocolError when they break the framing beyond recovery."""

    def data_to_send(self) -> bytes:
        """Return and forget what must go out now."""

    def timed_out(self) -> bool:
        """Act on a reply time in which nothing (whole) came.

        Returns True when a repetition was queued that cannot make the meter do anything twice; False when there is
        none (the wrapper) or the retries are used up: the meter is silent.
        """

    @property
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause; the connection above counts into it, too."""

    @property
    def progress(self) -> int:
        """A count that rises with each frame or APDU that came in order: the rest has new time then."""

    @property
    def busy(self) -> bool:
        """Whether the far side asks for patience: what goes out next is a poll that should wait a moment."""

    @property
    def noise(self) -> int:
        """Octets received that belonged to no frame for us."""

    @property
    def complaint(self) -> str:
        """What was last received that was no answer, in words; "" when nothing was."""
