"""One turn of a command on a line: its acts, and what is put in order when it ends without a goodbye."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.edge.field.messages import MAX_OCTETS, Act, Done
from gateway.edge.field.open_links import OpenLinks
from gateway.edge.field.statistics import TurnCounts
from protocols.errors import LineError
from protocols.line import Line, LineIO, TakesPushes
from protocols.modbus.client.lent import LentWatch

MAX_QUIET = 60.0
"""Seconds that a command may keep the line quiet beyond its turn: for a slow meter's answer."""
LATE_ANSWER = 3.0
"""Seconds that the line is kept quiet behind a command that died: its meter may answer yet."""
FAREWELL = 1.0
"""Seconds in which a meter may answer the DISC that ends a dead command's link."""
TIDY = 5.0
"""Seconds that putting a line in order may take; then it is hung up."""


class LentTurn:
    """The line in a command's hands, by way of the edge.

    `stays_open` says that hanging up ends no conversation (a bus): its meters are told goodbye and it is kept quiet.
    """

    def __init__(self, line: Line, io: LineIO, *, stays_open: bool) -> None:
        self.counts = TurnCounts()
        self._line = line
        self._io = io
        self._stays_open = stays_open
        self._links = OpenLinks()
        self._modbus = LentWatch(line)
        self._rest = b""
        self._spoken = False

    @property
    def connects(self) -> int:
        """How often the line was connected so far."""
        return self._line.statistics().connects

    async def act(self, act: Act) -> Done:
        """Do what a command asks for; raises LineError."""
        match act.do:
            case "send":
                octets = bytes.fromhex(act.octets)
                await self._modbus.clear_the_way(self._io, octets)
                self._spoken = True
                self._links.sent(
                    octets
                )  # before they leave: a cut in the middle may still have opened a link
                self.counts.wrote = self._links.wrote
                self._modbus.sent(octets)
                await self._io.send(octets)
                self.counts.sent += len(octets)
            case "receive":
                if not self._rest:
                    self._rest = await self._io.receive(act.seconds)
                    self.counts.received += len(self._rest)
                    self._modbus.received(self._rest)
                octets, self._rest = self._rest[:MAX_OCTETS], self._rest[MAX_OCTETS:]
                return Done(number=act.number, octets=octets.hex(), connects=self.connects)
            case "drain":
                dropped, self._rest = len(self._rest), b""
                dropped += await self._io.drain(act.seconds)
                return Done(number=act.number, count=dropped, connects=self.connects)
            case "hold_quiet":
                self._io.hold_quiet(min(act.seconds, MAX_QUIET))
            case "hang_up":
                self._rest = b""
                self._links = OpenLinks()
                await self._io.hang_up()
            case "push":
                if isinstance(self._line, TakesPushes):
                    self._line.take_push(bytes.fromhex(act.octets))
            case "reopen":
                self._rest = b""
                self._links = OpenLinks()
                await self._io.reopen()
        return Done(number=act.number, connects=self.connects)

    async def tidy(self, *, released: bool) -> None:
        """Leave a line that the next talker can use; never a LineError.

        A command that gave its turn back has said its goodbyes, or knows that there is nobody to hear them.
        """
        self._modbus.end()
        if released or not self._spoken:
            return
        farewells = self._links.farewells()
        with suppress(LineError):
            try:
                async with asyncio.timeout(TIDY):
                    for frame in farewells:
                        await self._io.send(frame)
                        await self._await_answer()
                    if not self._stays_open:
                        await self._io.hang_up()
                    else:
                        self._io.hold_quiet(LATE_ANSWER)
            except TimeoutError:
                await self._io.hang_up()

    async def _await_answer(self) -> None:
        with suppress(LineError):
            await self._io.receive(FAREWELL)
            await self._io.drain(FAREWELL / 10)
