"""Keeps associations open between polls, while the line is in other hands or idle."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from protocols.dlms.client.opening import Opened
from protocols.dlms.client.turn import Turn
from protocols.errors import LocalError, ProtocolError
from protocols.line import Line
from protocols.reading import Nameplate
from protocols.session import DlmsSettings, MeterSpec

HDLC_INACTIVITY = 120.0
WRAPPER_INACTIVITY = 180.0
"""Seconds of silence after which meters end an association unless set otherwise (class 23 #8, class 41 #6)."""
MAX_KEPT = 4096
"""Associations kept at a time; above it a conversation ends with its poll, as without keeping."""
CLOSE_LIMIT = 5.0
"""Seconds that ending all kept associations may take: the meters end them by themselves too."""

_Address = tuple[str, str, int, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An association that waits for the next poll, and what must not have changed until then."""

    line: Line
    spec: MeterSpec
    opened: Opened
    nameplate: Nameplate | None
    connects: int
    strangers: int
    since: float


class Keeper:
    """The associations kept by one program, at most one for each meter.

    One is used again when the same spec is opened within `keep_open` and the meter's inactivity time, over
    the same connection, and nobody without this keeper talked on the line meanwhile. `now` gives seconds
    that only rise.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic, most: int = MAX_KEPT) -> None:
        self._now = now
        self._most = most
        self._kept: dict[_Address, Kept] = {}
        self._turns: Counter[str] = Counter()
        self._closed = False

    def __len__(self) -> int:
        return len(self._kept)

    def entered(self, line: Line) -> None:
        """Be told of each turn on a line that is taken with this keeper."""
        self._turns[line.name] += 1

    async def take(self, turn: Turn, spec: MeterSpec) -> Kept | None:
        """Return the association kept for `spec`, in our turn; end or forget one that cannot be used.

        Another association with the same meter (another client, other settings) is ended first. Raises
        LineUnavailable when the line had to be hung up and cannot be opened again.
        """
        kept = self._kept.pop(_address(turn.line, spec), None)
        if kept is None or not self._alive(kept, turn.line):
            return None
        exchange = kept.opened.exchange
        exchange.use(turn.io)
        if kept.spec == spec and self._now() - kept.since <= _settings(spec).keep_open:
            return kept
        await exchange.close()
        if not exchange.clean:
            await turn.renew()
        return None

    def put(self, turn: Turn, spec: MeterSpec, opened: Opened, *, nameplate: Nameplate | None) -> bool:
        """Keep an association for the next poll, at the end of our turn; False when it is not to be kept."""
        if self._closed or _settings(spec).keep_open <= 0:
            return False
        if len(self._kept) >= self._most:
            self._forget_ended()
        if len(self._kept) >= self._most:
            return False
        self._kept[_address(turn.line, spec)] = Kept(
            line=turn.line,
            spec=spec,
            opened=opened,
            nameplate=nameplate,
            connects=turn.line.statistics().connects,
            strangers=self._strangers(turn.line),
            since=self._now(),
        )
        return True

    async def close(self) -> None:
        """End what is kept, line by line, in order; before the lines are closed. Never raises ProtocolError."""
        self._closed = True
        lines: dict[str, list[Kept]] = {}
        for kept in self._kept.values():
            lines.setdefault(kept.line.name, []).append(kept)
        self._kept.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await asyncio.gather(*(self._end(waiting) for waiting in lines.values()))

    async def _end(self, waiting: list[Kept]) -> None:
        with suppress(ProtocolError):
            for kept in waiting:
                if not self._alive(kept, kept.line):
                    continue
                turn = Turn(kept.line, partial(self.entered, kept.line))
                await turn.begin()
                try:
                    kept.opened.exchange.use(turn.io)
                    await kept.opened.exchange.close()
                finally:
                    await turn.end()

    def _forget_ended(self) -> None:
        self._kept = {at: kept for at, kept in self._kept.items() if self._alive(kept, kept.line)}

    def _alive(self, kept: Kept, line: Line) -> bool:
        """Whether the meter should still know the association."""
        counted = line.statistics()
        return (
            kept.line is line
            and counted.open
            and counted.connects == kept.connects
            and self._strangers(line) == kept.strangers
            and self._now() - kept.since <= _inactivity(kept.spec)
        )

    def _strangers(self, line: Line) -> int:
        """Count the turns on a line that were taken without this keeper."""
        return line.statistics().turns - self._turns[line.name]


def _settings(spec: MeterSpec) -> DlmsSettings:
    if spec.dlms is None:
        raise LocalError("only DLMS associations are kept")
    return spec.dlms


def _inactivity(spec: MeterSpec) -> float:
    return HDLC_INACTIVITY if _settings(spec).framing == "hdlc" else WRAPPER_INACTIVITY


def _address(line: Line, spec: MeterSpec) -> _Address:
    settings = _settings(spec)
    return line.name, settings.framing, settings.server, settings.physical
