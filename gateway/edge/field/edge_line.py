"""The command's end of the edge's socket: a line that a running edge lends turn by turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

from gateway.edge.field.messages import (
    LINE_ERRORS,
    MAX_OCTETS,
    MAX_PURPOSE,
    MAX_WAIT,
    Act,
    Answer,
    Ask,
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
    Wire,
    answer_of,
    packed,
    read_body,
)
from gateway.edge.field.socket_file import connected_socket
from gateway.errors import UsageError
from protocols.errors import LineClosed, LineTimeout, LineUnavailable, LocalError, ProtocolError
from protocols.line import Framer, LineIO, LineMemory, LineStatistics
from protocols.unused import UnusedCounter

ANSWER_TIME = 30.0
"""Seconds beyond its own time in which the edge answers an act; it writes to disks and waits for meters."""
TELL_EVERY = 30.0
"""Seconds between two words about why we wait."""
GONE = "the edge stopped in the middle: give the command again"
_CHUNK = MAX_OCTETS


class EdgeLine:
    """`protocols.line.Line` on which a running edge gives turns; `name` and `place` are the edge's.

    `purpose` is what the edge tells of us, `on_wait` is told in plain words why we wait. A turn that the edge takes
    back is LineClosed with the reason. `redials` says that the edge may open the line's connection anew (TCP).
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        place: str,
        purpose: str,
        on_wait: Callable[[str], None],
        meter: str | None = None,
        changes: bool = False,
        wire: Wire | None = None,
        wait: float = MAX_WAIT,
        redials: bool = False,
    ) -> None:
        self._name = name
        self._path = path
        self._ask = Ask(
            turn=0,
            line=name,
            place=place,
            purpose=purpose[:MAX_PURPOSE],
            meter=meter,
            changes=changes,
            wire=wire,
            wait=wait,
        )
        self._on_wait = on_wait
        self._mine = asyncio.Lock()
        self._numbers = count(1)
        self._link: _Link | None = None
        self._closed = False
        self._tell_at = 0.0
        self.unused = UnusedCounter()
        self.memory = LineMemory(redials=redials)
        self.counts = _Counts()

    @property
    def name(self) -> str:
        """Name in configuration, logs and pages."""
        return self._name

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Wait for a turn and hold it (see `protocols.line.Line`)."""
        async with self._mine:
            if self._closed:
                raise LineUnavailable("the line was closed by this program").with_context(line=self._name)
            turn = next(self._numbers)
            link = self._link = self._link or await self._connected()
            try:
                await self._granted(link, turn)
            except BaseException:
                self._hang_up()  # whoever asks no more must not be given the line
                raise
            io = _TurnIO(self, link, turn)
            self.counts.turns += 1
            try:
                yield io
            finally:
                io.end()

    def statistics(self) -> LineStatistics:
        """Return a frozen copy of the counters: those of our turns."""
        counts = self.counts
        return LineStatistics(
            sent=counts.sent,
            sends=counts.sends,
            received=counts.received,
            drained=counts.drained,
            connects=counts.connects,
            turns=counts.turns,
            timeouts=counts.timeouts,
            open=self._link is not None,
        )

    async def close(self) -> None:
        """Close for good; a turn that goes on ends. Idempotent."""
        self._closed = True
        link = self._hang_up()
        if link is not None:
            await link.wait_closed()

    async def _connected(self) -> _Link:
        try:
            return await _Link.open(self._path)
        except OSError as error:
            text = f"the edge does not answer at {self._path}: {error.strerror or error}"
            raise LineUnavailable(text).with_context(line=self._name) from error

    async def _granted(self, link: _Link, turn: int) -> None:
        link.send(self._ask.model_copy(update={"turn": turn}))
        while True:
            answer = await self.heard(link)
            match answer:
                case Waiting(turn=number, text=text) if number == turn:
                    self._tell(text)
                case Granted(turn=number, connects=connects) if number == turn:
                    self.counts.connects = connects
                    return
                case Refused(turn=number, code=code, text=text) if number in (0, turn):
                    if code in LINE_ERRORS:
                        raise LINE_ERRORS[code](text).with_context(line=self._name)
                    raise UsageError(text)
                case _:
                    continue  # what belongs to an earlier turn

    def _tell(self, text: str) -> None:
        """Tell why we wait, now and then: a scan of many short turns waits for each of them."""
        now = asyncio.get_running_loop().time()
        if self._tell_at <= now:
            self._tell_at = now + TELL_EVERY
            self._on_wait(text)

    async def heard(self, link: _Link, within: float | None = None) -> Answer:
        """Return the edge's next message; LineClosed when it is gone or says nothing `within` seconds."""
        try:
            async with asyncio.timeout(within):
                answer = await link.receive()
        except (FieldMessageError, ConnectionError) as error:
            self._hang_up()
            raise LineClosed(f"{GONE} ({error})").with_context(line=self._name) from error
        except TimeoutError:
            self._hang_up()
            raise LineClosed(f"the edge does not answer for {within:g} s").with_context(
                line=self._name
            ) from None
        if answer is None:
            self._hang_up()
            raise LineClosed(GONE).with_context(line=self._name)
        return answer

    def _hang_up(self) -> _Link | None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        return link


class DialInEdgeLine(EdgeLine):
    """`EdgeLine` that a meter dials in on: what it pushes in our turn is the edge's, and goes back to it.

    A push that wants to be confirmed is not: the meter sends it again when the edge has the line.
    """

    def take_push(self, octets: bytes, framed: Framer | None = None) -> None:  # noqa: ARG002 - see the docstring
        """Hand a push on to the edge."""
        if self._link is not None and not self._link.closed:
            self._link.send(Act(number=0, do="push", octets=octets.hex()))


class _Counts:
    """What our turns came to."""

    def __init__(self) -> None:
        self.sent = self.sends = self.received = self.drained = 0
        self.connects = self.turns = self.timeouts = 0


class _TurnIO:
    """`LineIO` of one turn that the edge gave."""

    def __init__(self, line: EdgeLine, link: _Link, turn: int) -> None:
        self._line = line
        self._link = link
        self._turn = turn
        self._numbers = count(1)
        self._unanswered: int | None = None
        self._early = b""
        self._ended = False
        self._over: str | None = None

    def end(self) -> None:
        """Give the turn back; the next act is a LocalError."""
        self._ended = True
        if self._over is None and not self._link.closed:
            self._link.send(Release())

    async def send(self, data: bytes) -> None:
        self._line.memory.sends += 1
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK]
            await self._act("send", octets=piece)
            self._line.counts.sent += len(piece)
        self._line.counts.sends += 1

    async def receive(self, timeout: float) -> bytes:
        await self._settle()
        if not self._early:
            done = await self._act("receive", seconds=timeout)
            self._early = bytes.fromhex(done.octets)
        octets, self._early = self._early, b""
        self._line.counts.received += len(octets)
        return octets

    async def drain(self, quiet: float) -> int:
        await self._settle()
        dropped, self._early = len(self._early), b""
        dropped += (await self._act("drain", seconds=quiet)).count
        self._line.counts.drained += dropped
        return dropped

    def hold_quiet(self, seconds: float) -> None:
        self._check()
        # No answer is waited for: the edge does what it is told in order, and this is not asynchronous.
        self._link.send(Act(number=0, do="hold_quiet", seconds=min(seconds, MAX_WAIT)))

    async def hang_up(self) -> None:
        self._early = b""
        await self._act("hang_up")

    async def reopen(self) -> None:
        self._early = b""
        await self._act("reopen")

    async def _act(self, do: str, *, octets: bytes = b"", seconds: float = 0.0) -> Done:
        await self._settle()
        number = next(self._numbers)
        seconds = min(max(seconds, 0.0), MAX_WAIT)
        request = Act.model_validate({"number": number, "do": do, "octets": octets.hex(), "seconds": seconds})
        self._link.send(request)
        try:
            return await self._answer(number, seconds + ANSWER_TIME)
        except asyncio.CancelledError:
            if not self._link.closed:
                self._link.send(StopAct(number=number))
                self._unanswered = number
            raise

    async def _settle(self) -> None:
        """Take the answer to an act that was cancelled: octets that came with it are the next ones received."""
        self._check()
        if self._unanswered is None:
            return
        number, self._unanswered = self._unanswered, None
        with suppress(ProtocolError):
            self._early += bytes.fromhex((await self._answer(number, ANSWER_TIME)).octets)
        self._check()

    async def _answer(self, number: int, within: float) -> Done:
        while True:
            answer = await self._line.heard(self._link, within)
            match answer:
                case Done(number=done) if done == number:
                    self._line.counts.connects = answer.connects
                    return answer
                case Failed(number=done) if done == number:
                    raise self._error(answer)
                case Over(turn=turn) if turn == self._turn:
                    self._over = answer.text
                    self._check()
                case _:
                    continue  # an answer to what nobody waits for

    def _error(self, failed: Failed) -> ProtocolError:
        kind: type[ProtocolError] = LINE_ERRORS.get(failed.code, LineClosed)
        if kind is LineTimeout:
            self._line.counts.timeouts += 1
        return kind(failed.text).with_context(line=self._line.name)

    def _check(self) -> None:
        if self._ended:
            raise LocalError("the line was used after its exclusive block").with_context(line=self._line.name)
        if self._over is not None:
            raise LineClosed(self._over).with_context(line=self._line.name)


class _Link:
    """Messages over one connected socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> _Link:
        """Connect; OSError."""
        connected = connected_socket(path)  # a local socket: at once, or not at all
        connected.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=connected))

    @property
    def closed(self) -> bool:
        return self._writer.transport.is_closing()

    def send(self, request: Request) -> None:
        """Send a request; what a gone edge does not take shows when its answer is waited for."""
        self._writer.write(packed(request))

    async def receive(self) -> Answer | None:
        """Return the next answer, None at the end."""
        body = await read_body(self._reader)
        return None if body is None else answer_of(body)

    def close(self) -> None:
        self._writer.close()

    async def wait_closed(self) -> None:
        with suppress(OSError):
            await self._writer.wait_closed()
