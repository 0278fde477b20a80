"""A line that plays a trace back: checks what is sent, answers what was received. Record one with `--trace`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from protocols.capture.trace_file import Piece, read_trace
from protocols.dlms.trace.mask import PasswordMask
from protocols.errors import LineTimeout
from protocols.line import LineIO, LineStatistics


class ReplayLine:
    """`Line` over a trace. `finished` says whether everything in it was asked for.

    Passwords are compared as the trace has them: masked. What is sent otherwise than recorded, or too much,
    is an AssertionError; a wait for more than was recorded is a LineTimeout, at once.
    """

    def __init__(self, trace: Path) -> None:
        self._pieces = deque(read_trace(trace.read_text(encoding="ascii")))
        self._name = trace.stem

    @property
    def name(self) -> str:
        return self._name

    @property
    def finished(self) -> bool:
        return not self._pieces

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        yield _ReplayIO(self._pieces)

    def statistics(self) -> LineStatistics:
        return LineStatistics()

    async def close(self) -> None:
        pass


class _ReplayIO:
    def __init__(self, pieces: deque[Piece]) -> None:
        self._pieces = pieces
        self._mask = PasswordMask()

    async def send(self, data: bytes) -> None:
        assert self._pieces, f"nothing more was sent in the trace, now {data.hex()}"
        recorded = self._pieces.popleft()
        assert recorded.sent, f"line {recorded.line}: an answer came here, now {data.hex()} is sent"
        assert self._mask(data).hex() == recorded.octets.hex(), f"line {recorded.line}"

    async def receive(self, timeout: float) -> bytes:
        if not self._pieces or self._pieces[0].sent:
            raise LineTimeout("the trace has no answer here")
        return self._pieces.popleft().octets

    async def drain(self, quiet: float) -> int:
        return 0

    def hold_quiet(self, seconds: float) -> None:
        pass

    async def hang_up(self) -> None:
        pass

    async def reopen(self) -> None:
        pass
