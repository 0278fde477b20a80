"""What every sink is: it follows the journal and moves its cursor only past what its peer has taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.edge.journal.entry import Entry


class JournalReader(Protocol):
    """What sinks need of the journal (see `gateway.edge.journal.journal.Journal`)."""

    @property
    def uuid(self) -> str:
        """The journal's name for ever."""

    @property
    def first_seq(self) -> int:
        """The oldest sequence number that is still held."""

    @property
    def last_seq(self) -> int:
        """The newest durable sequence number."""

    def follow(self, sink: str) -> AsyncGenerator[list[Entry], None]:
        """Yield entries after the sink's cursor, in rising seq, for ever; ends when the journal closes."""

    async def ack(self, sink: str, seq: int) -> None:
        """Move the sink's cursor: everything up to `seq` was taken by the peer."""

    async def read(self, first: int, last: int, limit: int = ...) -> list[Entry]:
        """Return entries first..last that are still held, at most `limit`."""

    async def billing_ack(self, seq: int) -> None:
        """Note that billing stored everything up to `seq`."""

    async def renew(self) -> None:
        """Take another uuid, since the file was set back."""

    async def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        """Keep an entry that the peer refuses for good."""


class SinkStatistics(Protocol):
    """The least that every sink tells about itself; each adds its own counters."""

    @property
    def connected(self) -> bool:
        """Whether the peer takes data now."""

    @property
    def failures(self) -> int:
        """Failed attempts since start."""

    @property
    def last_error(self) -> str | None:
        """What went wrong last, None while all is well."""


class Sink(Protocol):
    """One way out. `run` lasts until it is cancelled or the journal closes; it never raises a PeerError."""

    name: str

    async def run(self, journal: JournalReader) -> None:
        """Deliver for ever, reconnecting by itself."""

    def statistics(self) -> SinkStatistics:
        """Return a frozen copy of the counters."""
