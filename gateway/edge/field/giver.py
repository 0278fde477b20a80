"""Gives turns on the edge's lines to commands: one at a time on each line, first come first served, within a share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.edge.field.messages import Ask, Wire
from gateway.edge.field.peers import Peer
from gateway.edge.field.share import FieldShare
from gateway.edge.field.statistics import Ending, TurnNote
from gateway.edge.field.turn import LentTurn
from gateway.errors import GatewayError, TurnMissed
from protocols.errors import LineError, ProtocolError
from protocols.line import Line, LineIO

TELL_FIRST, TELL_EVERY = 0.5, 15.0
"""Seconds after which a command that waits is told why, and then again and again."""
MAX_WAITING = 128
"""Commands that may wait for one line."""
log = structlog.get_logger("gateway.edge.field")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldLimits:
    """Bounds of field work: seconds of a turn, seconds that it may go without an act, connections at once."""

    turn: float = 300.0
    idle: float = 60.0
    connections: int = 128


class Lender(Protocol):
    """The edge's lines as they are now."""

    def place(self, line: str) -> str | None:
        """Return where a line leads, in words; None where there is no such line."""

    def stays_open(self, line: str) -> bool:
        """Say whether the meters of a line do not notice that it is hung up: a bus."""

    def talk(self, line: str) -> str | None:
        """Return what is going on on a line, in a few words; None when nothing is."""

    def usual_visit(self, line: str) -> float | None:
        """Return how many seconds the edge usually has the line for; None before its first visit."""

    def lend(
        self, line: str, reason: str, *, meter: str | None, within: float
    ) -> AbstractAsyncContextManager[Line]:
        """Wait for the line and keep everybody else from it; TurnMissed when it does not come `within` seconds."""

    def held(self, line: Line) -> AbstractAsyncContextManager[LineIO]:
        """Take a lent line, with no association of the edge's open on it; raises LineUnavailable."""

    def rewired(self, line: str, wire: Wire) -> Line:
        """Make a line to the same place with other settings; MeterConfigError where they fit no port."""


class TurnRefused(Exception):
    """There is no turn; `code` says why to a program."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class GivenTurn:
    """A turn that began: what is done in it, and how it ended, as whoever ends it says."""

    lent: LentTurn
    ending: Ending = Ending.DIED


Tell = Callable[[float | None, str], None]
"""Told to a command that waits: seconds until its turn, where that is known, and why."""
Record = Callable[[TurnNote], None]
"""Keeps durably that a command which changes a meter has the line (no ending) and had it; may raise."""


class _Queue:
    """Who waits for one line."""

    def __init__(self, share: FieldShare) -> None:
        self.lock = asyncio.Lock()
        self.share = share
        self.waiting = 0
        self.holder: TurnNote | None = None


class TurnGiver:
    """`async with giver.turn(...)`: the line is the command's until the block ends."""

    def __init__(self, lender: Lender, *, limits: FieldLimits, record: Record) -> None:
        self.limits = limits
        self._lender = lender
        self._record = record
        self._queues: dict[str, _Queue] = {}
        self.ended: list[TurnNote] = []
        self.turns = self.refused = 0
        self.endings = dict.fromkeys(Ending, 0)
        self.seconds = 0.0
        self.sent = self.received = 0

    @property
    def waiting(self) -> int:
        """Commands that wait."""
        return sum(queue.waiting for queue in self._queues.values())

    def running(self) -> list[TurnNote]:
        """Return the turns that go on."""
        return [queue.holder for queue in self._queues.values() if queue.holder is not None]

    @asynccontextmanager
    async def turn(self, ask: Ask, peer: Peer, tell: Tell) -> AsyncIterator[GivenTurn]:
        """Wait for a turn on a line and hold it; TurnRefused where there will be none.

        When the block ends, however it does, the line is put in order before anybody else gets it.
        """
        try:
            self._look(ask)
            queue = self._queues.setdefault(ask.line, _Queue(FieldShare(self.limits.turn)))
            if queue.waiting >= MAX_WAITING:
                raise TurnRefused("usage", f"{MAX_WAITING} commands wait for line {ask.line} already")
            async with self._entered(ask, peer, queue, tell) as line:
                async with self._held(ask, line) as (io, used):
                    yielded = GivenTurn(LentTurn(used, io, stays_open=self._lender.stays_open(ask.line)))
                    async with self._noted(ask, peer, queue, yielded):
                        yield yielded
        except TurnRefused:
            self.refused += 1
            raise

    def _look(self, ask: Ask) -> None:
        place = self._lender.place(ask.line)
        if place is None:
            raise TurnRefused(
                "usage", f"the running edge has no line {ask.line}: `reload` it after a change of its file"
            )
        if place != ask.place:
            raise TurnRefused(
                "usage",
                f"line {ask.line} of the running edge leads to {place}, not to {ask.place}: `reload` the edge first",
            )

    @asynccontextmanager
    async def _entered(self, ask: Ask, peer: Peer, queue: _Queue, tell: Tell) -> AsyncIterator[Line]:
        """Wait in the queue, then for the line; hold it while the block runs."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + ask.wait
        ahead = queue.waiting + queue.lock.locked()
        telling = asyncio.create_task(self._keep_telling(ask, queue, ahead, tell))
        queue.waiting += 1
        inside = False
        try:
            async with asyncio.timeout_at(limit) as patience:
                await queue.lock.acquire()
                try:
                    await asyncio.sleep(queue.share.wait(loop.time()))
                    lending = self._lender.lend(
                        ask.line,
                        f"{ask.purpose}, for {peer.name}",
                        meter=ask.meter,
                        within=max(0.0, limit - loop.time()),
                    )
                    async with lending as line:
                        patience.reschedule(None)
                        telling.cancel()
                        queue.waiting -= 1
                        inside = True
                        yield line
                finally:
                    queue.lock.release()
        except TimeoutError:
            if inside:
                raise
            raise TurnRefused("line_unavailable", self._in_vain(ask)) from None
        except TurnMissed as error:
            if inside:
                raise
            raise TurnRefused("line_unavailable", str(error)) from error
        finally:
            telling.cancel()
            if not inside:
                queue.waiting -= 1

    @asynccontextmanager
    async def _held(self, ask: Ask, line: Line) -> AsyncIterator[tuple[LineIO, Line]]:
        """Take the line, with the settings that are wanted."""
        entered = False
        try:
            async with self._lender.held(line) as io:
                if ask.wire is None:
                    entered = True
                    yield io, line
                    return
                other = self._lender.rewired(ask.line, ask.wire)
                await io.hang_up()  # a port is opened once: ours is free while the turn lasts
                try:
                    async with other.exclusive() as theirs:
                        entered = True
                        yield theirs, other
                finally:
                    await other.close()
        except ProtocolError as error:
            if entered:
                raise
            code = error.code if isinstance(error, LineError) else "usage"
            raise TurnRefused(code, str(Exception.__str__(error))) from error

    @asynccontextmanager
    async def _noted(self, ask: Ask, peer: Peer, queue: _Queue, given: GivenTurn) -> AsyncIterator[None]:
        """Record, count and log a turn, and put the line in order at its end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        note = TurnNote(
            line=ask.line, purpose=ask.purpose, meter=ask.meter, by=peer.name, pid=peer.pid, began=began
        )
        if ask.changes:
            try:
                await asyncio.to_thread(self._record, note)
            except GatewayError as error:
                raise TurnRefused("usage", f"nothing is changed: {error}") from error
        queue.holder = note
        self.turns += 1
        try:
            yield
        finally:
            try:
                await given.lent.tidy(released=given.ending is Ending.RELEASED)
            finally:
                queue.holder = None
                counts, seconds = given.lent.counts, loop.time() - began
                queue.share.charge(seconds, loop.time())
                ended = note.ended(given.ending, seconds, counts)
                self._count(ended)
                if ask.changes or counts.wrote:
                    await self._record_end(ended)

    def _count(self, ended: TurnNote) -> None:
        self.endings[ended.ending or Ending.DIED] += 1
        self.seconds += ended.seconds
        self.sent += ended.sent
        self.received += ended.received
        report = log.info if ended.ending is Ending.RELEASED else log.warning
        report(
            "field_turn",
            line=ended.line,
            purpose=ended.purpose,
            by=ended.by,
            pid=ended.pid,
            ended=ended.ending,
            seconds=round(ended.seconds, 3),
            sent=ended.sent,
            received=ended.received,
            wrote=ended.wrote,
        )

    async def _record_end(self, ended: TurnNote) -> None:
        try:
            await asyncio.to_thread(self._record, ended)
        except GatewayError as error:
            log.error(
                "field_turn_not_recorded",
                line=ended.line,
                purpose=ended.purpose,
                by=ended.by,
                error=str(error),
            )

    async def _keep_telling(self, ask: Ask, queue: _Queue, ahead: int, tell: Tell) -> None:
        await asyncio.sleep(TELL_FIRST)
        while True:
            tell(*self._outlook(ask, queue, ahead))
            await asyncio.sleep(TELL_EVERY)

    def _outlook(self, ask: Ask, queue: _Queue, ahead: int) -> tuple[float | None, str]:
        """Return how long it may take, and why."""
        ahead = min(ahead, max(0, queue.waiting - 1) + (queue.holder is not None))
        if queue.holder is not None:
            text = f"line {ask.line} is lent to {queue.holder.by} for `{queue.holder.purpose}`"
        else:
            text = f"the edge uses line {ask.line} ({self._lender.talk(ask.line) or 'it polls'})"
        if ahead > 1:
            text += f", and {ahead - 1} more wait before you"
        visit = self._lender.usual_visit(ask.line)
        ended = sum(self.endings.values())
        if visit is None:
            return None, f"{text}; your turn comes next" if ahead < 2 else text
        # Between two commands the edge has the line for a visit of its own.
        lent = self.seconds / ended if ended else visit
        seconds = queue.share.wait(asyncio.get_running_loop().time()) + ahead * lent + (ahead + 1) * visit
        return seconds, f"{text}; your turn comes in about {max(1, round(seconds))} s"

    def _in_vain(self, ask: Ask) -> str:
        return f"no turn on line {ask.line} in {ask.wait:g} s: {self._lender.talk(ask.line) or 'it is busy'}"
