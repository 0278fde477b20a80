"""An edge's field socket over one line of a test's own, which the test may keep busy as polling does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.edge.field.edge_line import EdgeLine
from gateway.edge.field.giver import FieldLimits, TurnGiver
from gateway.edge.field.messages import Called, Wire
from gateway.edge.field.server import FieldServer
from gateway.edge.field.statistics import TurnNote
from gateway.errors import TurnMissed
from protocols.line import Line, LineIO
from tests.support.fakes import Counters


@dataclass
class OneLine:
    """`gateway.edge.field.giver.Lender` of the line `bus-1`; whoever holds `polling` keeps it busy."""

    line: Line
    bus: bool = False
    other: Line | None = None
    visit: float | None = None
    polling: asyncio.Lock = field(default_factory=asyncio.Lock)
    wires: list[Wire] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def place(self, line: str) -> str | None:
        return "here" if line == "bus-1" else None

    def stays_open(self, line: str) -> bool:
        return self.bus

    def talk(self, line: str) -> str | None:
        return "reading GEN:7" if self.polling.locked() else None

    def usual_visit(self, line: str) -> float | None:
        return self.visit

    @asynccontextmanager
    async def lend(self, line: str, reason: str, *, meter: str | None, within: float) -> AsyncIterator[Line]:
        self.reasons.append(reason)
        try:
            async with asyncio.timeout(within):
                await self.polling.acquire()
        except TimeoutError:
            raise TurnMissed(f"line {line} is busy") from None
        try:
            yield self.line
        finally:
            self.polling.release()

    def held(self, line: Line) -> AbstractAsyncContextManager[LineIO]:
        return line.exclusive()

    def rewired(self, line: str, wire: Wire) -> Line:
        self.wires.append(wire)
        assert self.other is not None
        return self.other


@dataclass
class FieldSite:
    """The edge's side, and commands beside it."""

    path: Path
    lender: OneLine
    server: FieldServer
    counters: Counters
    notes: list[TurnNote]
    waits: list[str] = field(default_factory=list)
    reloads: list[str] = field(default_factory=list)

    def command(self, purpose: str = "read GEN:1", **more: Any) -> EdgeLine:
        words = {"place": "here", "on_wait": self.waits.append, **more}
        return EdgeLine(words.pop("name", "bus-1"), self.path, purpose=purpose, **words)


@asynccontextmanager
async def field_site(
    folder: Path, line: Line, *, limits: FieldLimits | None = None, **lender: Any
) -> AsyncIterator[FieldSite]:
    """Serve `folder`/field.sock for the block."""
    notes: list[TurnNote] = []
    lending, counters = OneLine(line, **lender), Counters()
    giver = TurnGiver(lending, limits=limits or FieldLimits(), record=notes.append)
    site: FieldSite

    async def reload(by: str, words: Sequence[str]) -> Called:
        site.reloads.append(by)
        return Called(done=True, about="edge.toml", lines=("nothing changed",))

    server = FieldServer(
        folder / "field.sock", None, giver=giver, counters=counters, calls={"reload": reload}
    )
    site = FieldSite(folder / "field.sock", lending, server, counters, notes)
    await server.start()
    try:
        yield site
    finally:
        await server.close()
