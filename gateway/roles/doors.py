"""Meters of the configuration as long work opens them: beside a running edge, under a client of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config.file import Config
from gateway.config.meters import LineSection, MeterSection
from gateway.errors import UsageError
from gateway.roles.beside_edge import ClientBesideEdge, OpenCounters, client_beside_edge
from gateway.roles.key_ring import key_ring
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.session import Clock, MeterSpec, SessionContext


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    meter: MeterSection
    line: LineSection


class Doors:
    """Opens the DLMS meters of a configuration for one kind of work (`program`).

    Its system title and its file of invocation counters are this work's own: the running edge is met by no counter
    that it does not expect. `firmware` opens the association that takes images.
    """

    def __init__(self, config: Config, program: str, clock: Clock, *, firmware: bool = False) -> None:
        self._config = config
        self._program = program
        self._firmware = firmware
        self._lines = {line.name: line for line in config.lines}
        self._meters = {meter.meter: meter for meter in config.meters}
        self._counters: dict[Path, OpenCounters] = {}
        self._ring = key_ring(config, clock)
        self._clock = clock

    def refuse_unreachable(self, meters: Iterable[str]) -> None:
        """Raise UsageError for a meter that this work cannot reach: none of DLMS, or on a line that is held."""
        for name in meters:
            door = self._door(name)
            if door.meter.dlms is None:
                raise UsageError(f"{name} is no DLMS meter")
            client = client_beside_edge(self._config, self._section(door.meter), self._program)
            if door.line.kind == "dial-in" and client.way.socket is None:
                raise UsageError(f"{name} dials in: only the running edge hears it (line {door.line.name})")

    def close(self) -> None:
        """Let go of the counters and keys."""
        for counters in self._counters.values():
            counters.close()
        self._ring.close()

    @asynccontextmanager
    async def open(self, meter: str) -> AsyncIterator[tuple[DlmsSession, MeterSpec]]:
        """Open a session on a line of its own; raises what `open_dlms` raises.

        UsageError where an edge that has started meanwhile holds what it takes.
        """
        door = self._door(meter)
        section = self._section(door.meter)
        client = client_beside_edge(self._config, section, self._program)
        line = client.way.line(f"{self._program} {meter}", meter=meter, changes=True)
        try:
            async with open_dlms(line, client.spec, self._context(client)) as session:
                yield session, client.spec
        finally:
            await line.close()

    def _door(self, name: str) -> _Door:
        meter = self._meters.get(name)
        if meter is None:
            raise UsageError(f"{name} is not in the configuration any more")
        return _Door(meter=meter, line=self._lines[meter.line])

    def _section(self, meter: MeterSection) -> MeterSection:
        """Return the meter with the association that this work opens."""
        own = meter.firmware if self._firmware and meter.firmware is not None else meter.dlms
        return meter.model_copy(update={"dlms": own})

    def _context(self, client: ClientBesideEdge) -> SessionContext:
        path = client.ask_edge or client.counters
        if path not in self._counters:
            self._counters[path] = client.open_counters()
        return SessionContext(secrets=self._ring, counters=self._counters[path], clock=self._clock)
