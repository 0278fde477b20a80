"""What every sink is: it follows the journal and moves its cursor only past what its peer has taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import Entry
from gateway.edge.journal.generation import Former

MQTT_SINK = "mqtt"
"""Name of the cursor of what the broker has taken: what consumers can have."""


class JournalReader(Protocol):
    """What sinks need of the journal (see `gateway.edge.journal.journal.Journal`)."""

    @property
    def uuid(self) -> str:
        """The journal's name; another one when it was set back."""

    @property
    def generation(self) -> Generation:
        """The generation of this run."""

    @property
    def former(self) -> tuple[Former, ...]:
        """Where former runs and uuids ended, newest first."""

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

    async def consumer_ack(self, consumer: str, seq: int, proof: str, *, anew: bool = False) -> None:
        """Note that a consumer stored everything up to `seq`; it counts up to what was sent.

        `proof` is kept with it. With `anew` the consumer's store began anew: `seq` counts though it is lower.
        """

    def ack_proof(self, consumer: str) -> str | None:
        """Return the proof of the acknowledgement of a consumer that counted last."""

    async def heard(self, generation: Generation, seq: int) -> bool:
        """Take a peer's proof of a generation of this journal; return whether it goes on under another uuid."""

    def note_sent(self, sink: str, seq: int) -> None:
        """Note that entries up to `seq` were handed to the sink's peer."""

    async def bury(self, sink: str, entry: Entry, reason: str) -> Entry | None:
        """Keep an entry that the broker refuses for good; return the tombstone to deliver in its place.

        None where there is nothing to deliver: consumers have it, or its tombstone stands already.
        """

    def deliverable(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries with tombstones in place of those that were buried."""

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
    """One way out of the journal. `tests.support.check_sink` checks what every sink must do.

    Everything is delivered at least once and in the order of the journal, but for what comes again after a
    failure; the cursor never passes an entry that the peer has not taken or that was not kept as a dead
    letter. `name` is that of the cursor.
    """

    name: str

    async def run(self, journal: JournalReader) -> None:
        """Deliver until cancelled or the journal closes, reconnecting by itself.

        Raises no PeerError and no JournalError. What a cancel leaves without a receipt is delivered again.
        """

    def statistics(self) -> SinkStatistics:
        """Return the counters since start, frozen."""
