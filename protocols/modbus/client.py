"""Asking for registers over a line: deadlines, late answers, exceptions as errors that say who acts."""

from __future__ import annotations

import asyncio

from protocols.errors import (
    LineError,
    LineTimeout,
    MeterBusy,
    MeterConfigError,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
)
from protocols.line import LineIO
from protocols.modbus.frames import MAX_FRAME, Frames, Request, RtuFrames, TcpFrames

OCTET_GAP = 0.25
"""Least pause that ends an answer; operating systems and converters stretch t1.5 by far."""

SLOWEST_FRAME = 3.0
"""Seconds that the longest frame may take after its beginning (1200 baud: 2.4 s)."""

GARBAGE_SILENCE = 0.03
"""Silence that ends garbage, in seconds: above t3.5 at 1200 baud."""

BUSY_TRIES, BUSY_WAIT = 3, 0.2
"""How often and after how many seconds a meter that says "busy" (6) is asked again."""

BUFFER_LIMIT = 4 * MAX_FRAME
"""Octets that may come for one request before they are called garbage."""

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}
DEVICE_BUSY = 6
REFUSED_ADDRESS = (1, 2, 3)
"""Exceptions that a smaller or other request may avoid (function, address, count)."""


def frames_for(framing: str) -> Frames:
    """Return the framing of that name; MeterConfigError names those that exist."""
    if framing == "tcp":
        return TcpFrames()
    if framing == "rtu":
        return RtuFrames()
    raise MeterConfigError(f"there is no Modbus framing {framing!r}; known: tcp, rtu")


class ModbusClient:
    """Asks the meters behind one held line; one object for one turn.

    `timeout` is the wait for an answer to begin. `worst_latency` is how long after that an answer may still
    come: without transaction numbers (RTU) the line is kept quiet for so long after every request that was
    not answered to the end, so that no late answer is taken for the next one's.
    """

    def __init__(self, io: LineIO, frames: Frames, *, timeout: float, worst_latency: float) -> None:
        self._io = io
        self._frames = frames
        self._timeout = timeout
        self._worst_latency = worst_latency
        self._buffer = bytearray()
        self._has_answered = False
        """Whether the last request was answered: a unit that just answered is worth a second request."""
        self.round_trip = 0.0
        """Seconds from the first octet of the last answered request to the last of its answer."""

    @property
    def framing(self) -> str:
        """Name of its framing: tcp or rtu."""
        return self._frames.name

    @property
    def sequenced(self) -> bool:
        """Whether answers carry the number of their request, so that none is taken for another."""
        return self._frames.sequenced

    async def read_registers(self, unit: int, function: int, address: int, count: int) -> list[int]:
        """Read `count` words from wire address `address` with function 3 or 4.

        Raises MeterSilent (no answer in time, exceptions 10 and 11), MeterProtocolError (garbage, foreign
        unit, wrong length or check sum), MeterBusy (5, 6), MeterRefused with `reason_code` (other exceptions)
        and the errors of the line. A meter that has answered in this turn is asked a second time when its
        answer was broken or did not come.
        """
        for _ in range(BUSY_TRIES - 1):
            try:
                return await self._ask_again_once(unit, function, address, count)
            except MeterBusy as busy:
                if busy.reason_code != DEVICE_BUSY:  # "acknowledge" (5): it is at work for long
                    raise
            await asyncio.sleep(BUSY_WAIT)
        return await self._ask_again_once(unit, function, address, count)

    async def _ask_again_once(self, unit: int, function: int, address: int, count: int) -> list[int]:
        had_answered, self._has_answered = self._has_answered, False
        try:
            return await self._ask(unit, function, address, count)
        except (MeterProtocolError, MeterSilent):
            # A unit that has not answered yet is probably not there: a second timeout for each would double
            # the time that a bus with dead meters takes.
            if not had_answered:
                raise
        return await self._ask(unit, function, address, count)

    async def _ask(self, unit: int, function: int, address: int, count: int) -> list[int]:
        request = Request(unit=unit, function=function, address=address, count=count)
        try:
            if not self._frames.sequenced:
                # RTU has no transaction numbers: what is there before we ask must not be taken for the answer.
                self._buffer.clear()
                await self._io.drain(0)
            await self._io.send(self._frames.encode(request))
            begun = asyncio.get_running_loop().time()
            words = await self._answer(request)
            self.round_trip = asyncio.get_running_loop().time() - begun
        except (LineError, MeterError) as error:
            error.with_context(doing=f"unit {unit}, function {function}, {count} registers from {address}")
            raise
        except asyncio.CancelledError:
            self._keep_quiet()  # the answer is still to come, and the next talker must not have it
            raise
        self._has_answered = True
        return words

    async def _answer(self, request: Request) -> list[int]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        gap = max(OCTET_GAP, self._worst_latency)
        try:
            while (words := self._take_words(request)) is None:
                begun = bool(self._buffer)
                if len(self._buffer) > BUFFER_LIMIT:  # late answers that are dropped one by one, without end
                    raise MeterProtocolError("more octets came than any answer has")
                # `timeout` is for the beginning; once begun, an answer may take as long as the slowest frame,
                # but no pause in it may be longer than `gap`.
                left = end - loop.time()
                self._buffer += await self._io.receive(max(min(gap, left) if begun else left, 0.0))
                if not begun:
                    end = max(end, loop.time() + SLOWEST_FRAME)
            return words
        except LineTimeout as error:
            self._keep_quiet()
            begun_octets = len(self._buffer)
            self._buffer.clear()
            if begun_octets:
                raise MeterProtocolError(f"the answer broke off after {begun_octets} octets") from error
            raise MeterSilent(f"no answer in {self._timeout:g} s") from error
        except MeterProtocolError:
            # Garbage may go on: the next request waits until the line is silent, or it is lost in it.
            self._buffer.clear()
            self._keep_quiet()
            await self._io.drain(GARBAGE_SILENCE)
            raise

    def _take_words(self, request: Request) -> list[int] | None:
        """Take the answer out of the buffer, dropping late ones; None while octets are wanting."""
        while (answer := self._frames.decode(bytes(self._buffer), request)) is not None:
            del self._buffer[: answer.used]
            if answer.exception is not None:
                self._has_answered = True
                raise _exception(answer.exception)
            if answer.words is not None:
                return answer.words
        return None

    def _keep_quiet(self) -> None:
        """Keep the line silent until no late answer can come; TCP framing knows late answers by their number."""
        if not self._frames.sequenced:
            self._io.hold_quiet(self._worst_latency)


def _exception(code: int) -> MeterRefused | MeterSilent:
    text = f"Modbus exception {code} ({EXCEPTIONS.get(code, 'not a standard code')})"
    if code in (5, 6):
        return MeterBusy(text, reason_code=code)
    if code in (10, 11):  # a gateway says for a meter behind it that it does not answer
        return MeterSilent(text)
    return MeterRefused(text, reason_code=code)
