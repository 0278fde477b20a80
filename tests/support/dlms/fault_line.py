"""A line in memory with a served meter behind it, which fails after given numbers of octets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from protocols.dlms.server.connection import SendCounter, ServerSettings
from protocols.dlms.server.links import HdlcBus, ServedMeter, WrapperServer
from protocols.errors import LineClosed, LineTimeout, LineUnavailable
from protocols.line import LineStatistics
from tests.support.dlms.bench import SmallMeter


@dataclass(frozen=True, slots=True)
class Fault:
    """After `octets` more of the meter's octets: close, reboot, silence (until the line is used anew), flip."""

    octets: int
    kind: str


class FaultLine:
    """One meter behind a line; after the last fault all goes well."""

    name = "faulty"

    def __init__(self, meter: SmallMeter, framing: str, faults: Sequence[Fault], max_pdu: int = 200) -> None:
        self._served = ServedMeter(model=meter, counter=SendCounter())
        self._framing = framing
        self._limits = ServerSettings(max_pdu=max_pdu)
        self._faults = list(faults)
        self._lock = asyncio.Lock()
        self._left = faults[0].octets if faults else 0
        self._server: WrapperServer | HdlcBus | None = None
        self._silent = False
        self.refuse: Callable[[], bool] = lambda: False
        self.buffer = b""
        self.received = self.connects = self.turns = 0

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[FaultLine]:
        async with self._lock:
            if self.refuse():
                raise LineUnavailable("refused")
            if self._server is None:
                self.connects += 1
                self._boot()
            self.turns += 1
            self._silent = False
            self.buffer = b""
            yield self

    def _boot(self) -> None:
        if self._framing == "hdlc":
            self._server = HdlcBus({17: self._served}, self._limits)
        else:
            self._server = WrapperServer({1: self._served}, self._limits)

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            received=self.received, connects=self.connects, turns=self.turns, open=self._server is not None
        )

    async def send(self, data: bytes) -> None:
        if self._server is None:
            raise LineClosed("closed")
        answer = self._server.receive_data(data)
        self.buffer += b"" if self._silent else self._damaged(answer)

    def _damaged(self, answer: bytes) -> bytes:
        if not self._faults or self._left > len(answer):
            self._left -= len(answer)
            return answer
        fault, at = self._faults.pop(0), self._left
        self._left = self._faults[0].octets if self._faults else 0
        match fault.kind:
            case "close":
                self._server = None
            case "silence":
                self._silent = True
            case "reboot":
                self._boot()
                return answer[:at]
            case "flip":
                return answer[:at] + bytes(b ^ 0x55 for b in answer[at : at + 1]) + answer[at + 1 :]
        return answer[:at]

    async def receive(self, timeout: float) -> bytes:
        data, self.buffer = self.buffer, b""
        self.received += len(data)
        if data:
            return data
        if self._server is None:
            raise LineClosed("the far end closed")
        raise LineTimeout("nothing came")

    async def drain(self, quiet: float) -> int:
        dropped, self.buffer = len(self.buffer), b""
        return dropped

    def hold_quiet(self, seconds: float) -> None:
        self.buffer = b""

    async def hang_up(self) -> None:
        self._server = None

    async def reopen(self) -> None:
        self._boot()

    async def close(self) -> None:
        self._server = None
