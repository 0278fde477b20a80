"""One command at the edge's socket: what it asks for is done in order, and its end ends its turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from gateway.edge.field.giver import GivenTurn, TurnGiver, TurnRefused
from gateway.edge.field.messages import (
    Act,
    Answer,
    Ask,
    Call,
    Called,
    Count,
    Done,
    Failed,
    FieldMessageError,
    Granted,
    Over,
    Refused,
    Release,
    Request,
    StopAct,
    Waiting,
    packed,
    read_body,
    request_of,
)
from gateway.edge.field.peers import Peer
from gateway.edge.field.statistics import Ending
from protocols.errors import LocalError, ProtocolError
from protocols.session import CounterStore

IDLE_CONNECTION = 900.0
"""Seconds that a command may be connected without a turn and without a word."""
MAX_ACTS = 8
"""Acts that may wait: a command asks for one at a time, and for quiet besides."""
MAX_UNSENT = 1 << 20
"""Octets that may wait for a command that does not read."""

log = structlog.get_logger("gateway.edge.field")

Handler = Callable[[str, Sequence[str]], Awaitable[Called]]
"""Does what was called for, given by whom and with which words; raises nothing."""


class FieldConnection:
    """A command's connection; `serve` returns at its end and raises FieldMessageError for a stranger's words."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        *,
        giver: TurnGiver,
        counters: CounterStore,
        calls: Mapping[str, Handler],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._giver = giver
        self._counters = counters
        self._calls = calls
        self._turn: asyncio.Task[None] | None = None
        self._given: GivenTurn | None = None
        self._ending = False
        self._acts: asyncio.Queue[Act | None] = asyncio.Queue(maxsize=MAX_ACTS)
        self._acting: tuple[int, asyncio.Task[Done]] | None = None
        self._stopping = False

    async def serve(self) -> None:
        """Do what the command asks until it goes, or says what is no message."""
        try:
            while True:
                idle = self._turn is None or self._turn.done()
                async with asyncio.timeout(IDLE_CONNECTION if idle else None):
                    body = await read_body(self._reader)
                if body is None:
                    return
                await self._take(request_of(body))
        finally:
            if self._turn is not None:
                if not self._ending:  # one that gave its turn back and went has done all that it should
                    self._turn.cancel()
                await asyncio.gather(self._turn, return_exceptions=True)

    def stop(self) -> None:
        """Note that the edge stops: whoever is in a turn is told."""
        self._stopping = True

    async def _take(self, request: Request) -> None:
        match request:
            case Ask():
                await self._ask(request)
            case Act():
                self._act(request)
            case StopAct():
                if self._acting is not None and self._acting[0] == request.number:
                    self._acting[1].cancel()
            case Release():
                if self._given is not None and not self._ending:
                    self._ending = True
                    await self._acts.put(None)
            case Count():
                self._send(await self._count(request))
            case Call():
                self._send(await self._called(request))

    async def _ask(self, ask: Ask) -> None:
        if self._turn is not None:
            if not self._turn.done() and not self._ending:
                raise FieldMessageError("a turn is asked for in the middle of another")
            await asyncio.gather(self._turn, return_exceptions=True)
        self._ending, self._acts, self._given = False, asyncio.Queue(maxsize=MAX_ACTS), None
        self._turn = asyncio.create_task(self._have_turn(ask), name=f"field turn {ask.line}")

    def _act(self, act: Act) -> None:
        if self._given is None or self._ending:
            self._send(Failed(number=act.number, code="line_closed", text="the turn is over"))
        elif self._acts.full():
            raise FieldMessageError(f"more than {MAX_ACTS} acts wait to be done")
        else:
            self._acts.put_nowait(act)

    async def _have_turn(self, ask: Ask) -> None:
        def tell(seconds: float | None, text: str) -> None:
            self._send(Waiting(turn=ask.turn, seconds=seconds, text=text))

        try:
            async with self._giver.turn(ask, self._peer, tell) as given:
                limits = self._giver.limits
                self._given = given
                self._send(Granted(turn=ask.turn, seconds=limits.turn, connects=given.lent.connects))
                try:
                    await self._use(given)
                except asyncio.CancelledError:
                    given.ending = Ending.STOPPED if self._stopping else Ending.DIED
                    if self._stopping:
                        self._send(
                            Over(turn=ask.turn, text="the edge stops: give the command again when it runs")
                        )
                    raise
                finally:
                    self._given = None
                if given.ending is not Ending.RELEASED:
                    self._send(Over(turn=ask.turn, text=self._why_over(ask, given)))
        except TurnRefused as refusal:
            self._send(Refused(turn=ask.turn, code=refusal.code, text=str(refusal)[:2_000]))
        except Exception as error:
            log.exception("field_turn_failed", line=ask.line, purpose=ask.purpose, by=self._peer.name)
            self._send(
                Over(turn=ask.turn, text=f"the edge failed in this turn, its log says how: {error}"[:2_000])
            )

    def _why_over(self, ask: Ask, given: GivenTurn) -> str:
        limits = self._giver.limits
        if given.ending is Ending.IDLE:
            return f"the command did nothing on line {ask.line} for {limits.idle:g} s: its turn is over"
        return (
            f"the turn of {limits.turn:g} s on line {ask.line} is over, the edge polls there again: ask for less at"
            " once, or give the command again"
        )

    async def _use(self, given: GivenTurn) -> None:
        """Do acts until the command gives the turn back, or the edge takes it."""
        limits = self._giver.limits
        over = asyncio.get_running_loop().time() + limits.turn
        try:
            async with asyncio.timeout_at(over):
                while (act := await self._next_act(limits.idle)) is not None:
                    self._send(await self._answer(given, act))
        except TimeoutError:
            given.ending = Ending.OVERTIME
        except _Idle:
            given.ending = Ending.IDLE
        else:
            given.ending = Ending.RELEASED

    async def _next_act(self, idle: float) -> Act | None:
        try:
            async with asyncio.timeout(idle):
                return await self._acts.get()
        except TimeoutError:
            raise _Idle from None

    async def _answer(self, given: GivenTurn, act: Act) -> Done | Failed:
        """Do one act; what stops it in the middle (the command, the turn's end) leaves nothing running."""
        task = asyncio.create_task(given.lent.act(act))
        self._acting = (act.number, task)
        try:
            await asyncio.wait({task})
        finally:
            self._acting = None
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            return Failed(number=act.number, code="stopped", text="the command did not wait for it")
        error = task.exception()
        if isinstance(error, ProtocolError):
            return Failed(number=act.number, code=error.code, text=Exception.__str__(error)[:2_000])
        return task.result()

    async def _count(self, request: Count) -> Done | Failed:
        """Ask the edge's counters, for those who could read them from the disk anyway."""
        if not self._peer.is_ours:
            text = "the edge's invocation counters are for its own user and root: this meter's title is the edge's"
            return Failed(number=request.number, code="local_error", text=text)
        counters, key, counter = self._counters, request.key, request.counter
        found = 0
        try:
            match request.do:
                case "next":
                    found = await asyncio.to_thread(counters.next, key, counter)
                case "believes":
                    found = int(await asyncio.to_thread(counters.believes, key, counter))
                case "confirm":
                    counters.confirm(key, counter)
                case "proven":
                    found = int(counters.proven(key))
                case "failed":
                    counters.failed(key)
        except LocalError as error:
            return Failed(number=request.number, code=error.code, text=str(error)[:2_000])
        return Done(number=request.number, count=found)

    async def _called(self, call: Call) -> Called:
        """Do what the edge does itself, for those who could stop it, too."""
        if not self._peer.is_ours:
            return Called(done=False, lines=("only root and the edge's own user may ask this of it",))
        if call.name not in self._calls:
            return Called(done=False, lines=(f"this edge knows no `{call.name}`: it is of another version",))
        return await self._calls[call.name](self._peer.name, call.words)

    def _send(self, answer: Answer) -> None:
        """Send; a command that does not read is let go of."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(packed(answer))
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()


class _Idle(Exception):
    """A command in its turn said nothing for too long."""


def socket_of(writer: asyncio.StreamWriter) -> socket.socket:
    """Return the connection's own socket."""
    found: socket.socket = writer.get_extra_info("socket")
    return found
