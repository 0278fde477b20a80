"""A line's account kept true while somebody else speaks RTU on it: a command in a turn that was lent to it."""

from __future__ import annotations

import asyncio
from collections import deque

from protocols.errors import LineTimeout
from protocols.line import Line, LineIO
from protocols.modbus.client.account import account_of
from protocols.modbus.client.outstanding import MAX_OWED
from protocols.modbus.framing.frames import RtuFrames
from protocols.modbus.framing.hunt import Hunt, as_request, frame_at
from protocols.modbus.framing.requests import Request

LATE_ANSWER_MAX = 10.0
"""Seconds after which an answer of which a command did not hear is no more to be expected."""


class LentWatch:
    """Looks on at the messages of one lent turn; other protocols, and functions beside 1 to 4, pass unnoticed.

    What the turn leaves unanswered is owed to the next talker, and what the line owes holds a request back.
    """

    def __init__(self, line: Line) -> None:
        self._account = account_of(line)
        self._frames = RtuFrames()
        self._waiting: tuple[Request, float, Hunt] | None = None
        self._unanswered: deque[tuple[Request, float]] = deque(maxlen=MAX_OWED)

    async def clear_the_way(self, io: LineIO, octets: bytes) -> None:
        """Wait until no answer that is owed could be taken for this message's; raises what `receive` raises."""
        loop, request = asyncio.get_running_loop(), _request(octets)
        if request is None:
            return
        while (until := self._account.outstanding.barred(request, loop.time())) is not None:
            try:
                heard = await io.receive(max(until - loop.time(), 0.0))
            except LineTimeout:
                continue
            self._account.overhear(heard, loop.time())

    def sent(self, octets: bytes) -> None:
        """Take note of a message that left."""
        self._give_up()
        if (request := _request(octets)) is not None:
            now = asyncio.get_running_loop().time()
            self._account.talks(self._frames, request.unit, now)
            self._waiting = request, now, self._frames.hunt(request)

    def received(self, octets: bytes) -> None:
        """Take note of octets that came."""
        if self._waiting is not None and self._waiting[2].feed(octets) is not None:
            self._waiting = None

    def end(self) -> None:
        """Owe what was not answered, now that the turn is over: within it the command keeps its own account."""
        self._give_up()
        until = asyncio.get_running_loop().time() + LATE_ANSWER_MAX
        for request, asked in self._unanswered:
            self._account.outstanding.owe(request, asked=asked, until=until)
        self._unanswered.clear()

    def _give_up(self) -> None:
        if self._waiting is not None:
            self._unanswered.append(self._waiting[:2])
            self._waiting = None


def _request(octets: bytes) -> Request | None:
    frame, size = frame_at(octets, 0) if octets else (None, 0)
    return as_request(frame) if frame is not None and size == len(octets) else None
