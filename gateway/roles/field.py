"""A running edge as the field meets it: lines lent by turns of the poller, counters, and a record of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from gateway.acts.audit import BEGUN, ActRecord
from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.edge.field.connection import Handler
from gateway.edge.field.giver import FieldLimits, TurnGiver
from gateway.edge.field.messages import Wire
from gateway.edge.field.server import FieldServer
from gateway.edge.field.statistics import TurnNote
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.poller import Poller
from gateway.errors import TurnMissed
from gateway.roles.lines import make_line
from gateway.roles.reach import place_of
from protocols.dlms.client.association_pool import AssociationPool
from protocols.errors import MeterConfigError
from protocols.line import Line, LineIO
from protocols.modbus.belief.memories import Memories
from protocols.session import CounterStore


class EdgeLender:
    """Lends the lines of a running edge: `sections` are those of its configuration as it is now.

    While somebody works at a line its meters may be exchanged and nobody here sees them go: `memories` ask each of
    them who it is at its next visit.
    """

    def __init__(
        self,
        poller: Poller,
        associations: AssociationPool,
        lines: Mapping[str, Line],
        sections: Callable[[], Mapping[str, LineSection]],
        memories: Memories,
    ) -> None:
        self._poller = poller
        self._lines = lines
        self._associations = associations
        self._sections = sections
        self._memories = memories

    def place(self, line: str) -> str | None:
        """Return where a line leads, in words; None where there is no such line."""
        section = self._sections().get(line)
        return None if section is None else place_of(section)

    def stays_open(self, line: str) -> bool:
        """Say whether the meters of a line do not notice that it is hung up: a bus."""
        section = self._sections().get(line)
        return section is not None and section.kind == "serial"

    def talk(self, line: str) -> str | None:
        """Return what is going on on a line, in a few words; None when nothing is."""
        return self._poller.line(line).talk if line in self._poller.lines else None

    def usual_visit(self, line: str) -> float | None:
        """Return how many seconds the edge usually has the line for; None before its first visit."""
        held = self._lines.get(line)
        counted = None if held is None else held.statistics()
        return counted.busy_seconds / counted.turns if counted is not None and counted.turns else None

    @asynccontextmanager
    async def lend(self, line: str, reason: str, *, meter: str | None, within: float) -> AsyncIterator[Line]:
        """Wait for the line and keep everybody else from it; TurnMissed when it does not come in time."""
        if line not in self._poller.lines:
            raise TurnMissed(f"line {line} is no line of the edge any more")
        here = meter is not None and meter in self._poller.meters and self._poller.line_of(meter) == line
        known = meter if here else None
        async with self._poller.turn(line, Urgency.ORDERED, reason, meter=known, within=within) as turn:
            try:
                yield turn.line
            finally:
                for other in [one for one in self._poller.meters if self._poller.line_of(one) == line]:
                    self._memories.shake(other)

    @asynccontextmanager
    async def held(self, line: Line) -> AsyncIterator[LineIO]:
        """Take a lent line, with no association of the edge's open on it; raises LineUnavailable."""
        lease = self._associations.lease(line)
        await lease.acquire()
        try:
            await self._associations.end_on(lease)
            yield lease.io
        finally:
            await lease.release()

    def rewired(self, line: str, wire: Wire) -> Line:
        """Make a line to the same place with other settings; MeterConfigError where they fit no port."""
        section = self._sections()[line]
        if section.kind != "serial":
            raise MeterConfigError(f"line {line} is no serial line: it has no speed to be set")
        other = section.model_dump() | wire.model_dump(exclude_none=True) | {"trace": None}
        try:
            return make_line(LineSection.model_validate(other))
        except ValidationError as error:
            raise MeterConfigError(f"line {line}: {error.errors()[0]['msg']}") from error


class FieldRecord:
    """Keeps in the gateway's record of acts who had a line to change something."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self._record = ActRecord(folder)
        self._now = now

    def __call__(self, note: TurnNote) -> None:
        """Note a turn that begins or ended; JournalError when that cannot be done."""
        self._record.note(
            at=self._now(),
            by=note.by,
            meter=note.meter or "",
            act=f"{note.purpose} (line {note.line}, process {note.pid})",
            before="",
            after="",
            outcome=BEGUN if note.ending is None else _came_of(note),
        )


def _came_of(note: TurnNote) -> str:
    wrote = ", wrote to a Modbus meter" if note.wrote else ""
    return (
        f"{note.ending} after {note.seconds:.1f} s{wrote}: {note.sent} octets sent, {note.received} received"
    )


def field_server(
    config: Config,
    lender: EdgeLender,
    *,
    counters: CounterStore,
    now: Callable[[], datetime],
    calls: Mapping[str, Handler],
) -> FieldServer:
    """Make the server of an edge's socket; nothing listens before its `start`."""
    limits = FieldLimits(turn=float(config.field.turn_seconds))
    giver = TurnGiver(lender, limits=limits, record=FieldRecord(config.gateway.data, now))
    return FieldServer(config.field_socket, config.field.group, giver=giver, counters=counters, calls=calls)
