"""What a connection needs of the framing below it: the wrapper and HDLC both give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """The link layer is connected (HDLC: UA came; wrapper: at once)."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The far end confirmed the end of the link, or is in disconnected mode."""


@dataclass(frozen=True, slots=True)
class ApduReceived:
    """A whole APDU came. `unasked`: outside the exchange with us (a UI frame, other wPorts), so a push."""

    apdu: bytes
    unasked: bool = False


LinkEvent = LinkOpened | LinkClosed | ApduReceived


class ClientLink(Protocol):
    """One client's framing towards one logical device; sans-IO."""

    def open(self) -> list[LinkEvent]:
        """Begin to connect; LinkOpened comes now or from `receive_data`."""

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""

    def close(self) -> list[LinkEvent]:
        """Begin to disconnect; LinkClosed comes now or from `receive_data`."""

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets from the wire; MeterProtocolError when they break the framing."""

    def data_to_send(self) -> bytes:
        """Give and forget what must go out now."""

    @property
    def noise(self) -> int:
        """Octets received that belonged to no frame for us."""
