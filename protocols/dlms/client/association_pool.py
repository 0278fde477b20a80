"""Associations that stay open between polls, while their line is in other hands or idle."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.line_lease import LineLease
from protocols.errors import LocalError, ProtocolError
from protocols.line import Line
from protocols.reading import Nameplate
from protocols.session import DlmsSettings, MeterSpec

HDLC_INACTIVITY = 120.0
WRAPPER_INACTIVITY = 180.0
"""Seconds of silence after which meters end an association unless set otherwise (class 23 #8, class 41 #6)."""
MAX_POOLED = 4096
"""Associations pooled at a time; above it an association ends with its poll, as without a pool."""
CLOSE_LIMIT = 5.0
"""Seconds that ending all pooled associations may take: the meters end them by themselves too."""

_Address = tuple[str, str, int, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledAssociation:
    """An association that waits for the next poll, and what must not have changed until then."""

    line: Line
    spec: MeterSpec
    exchange: Exchange
    nameplate: Nameplate | None
    connects: int
    foreign_leases: int
    since: float


class AssociationPool:
    """The idle associations of one program, at most one for each meter.

    One is used again when the same spec is opened within `keep_open` and the meter's inactivity time, over
    the same connection, and nobody without this pool talked on the line meanwhile. `now` gives seconds that
    only rise; `capacity` is the number of associations that may wait.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic, capacity: int = MAX_POOLED) -> None:
        self._now = now
        self._capacity = capacity
        self._pooled: dict[_Address, PooledAssociation] = {}
        self._leases: Counter[str] = Counter()
        self._closed = False

    def __len__(self) -> int:
        return len(self._pooled)

    def lease(self, line: Line) -> LineLease:
        """Return a lease of `line` that this pool counts as its own each time it is acquired."""

        def count() -> None:
            self._leases[line.name] += 1

        return LineLease(line, count)

    async def take(self, lease: LineLease, spec: MeterSpec) -> PooledAssociation | None:
        """Return the association pooled for `spec`, on the line we hold; end or forget one that cannot be used.

        Another association with the same meter (another client, other settings) is ended first. Raises
        LineUnavailable when the line had to be hung up and cannot be opened again.
        """
        pooled = self._pooled.pop(_address(lease.line, spec), None)
        if pooled is None or not self._alive(pooled, lease.line):
            return None
        exchange = pooled.exchange
        exchange.use(lease.io)
        if pooled.spec == spec and self._now() - pooled.since <= _settings(spec).keep_open:
            return pooled
        # many meters hold one association at a time: this one must go before another client may come
        await exchange.close()
        if not exchange.clean:
            await lease.renew()
        return None

    async def end_on(self, lease: LineLease) -> None:
        """End what is pooled on a line that we hold, because a stranger comes: it is left as after a goodbye.

        Raises LineUnavailable when the line had to be hung up and cannot be opened again.
        """
        for at, pooled in list(self._pooled.items()):
            if pooled.line is not lease.line:
                continue
            del self._pooled[at]
            if not self._alive(pooled, lease.line):
                continue
            pooled.exchange.use(lease.io)
            await pooled.exchange.close()
            if not pooled.exchange.clean:
                await lease.renew()

    def put(
        self, lease: LineLease, spec: MeterSpec, exchange: Exchange, *, nameplate: Nameplate | None
    ) -> bool:
        """Pool an association for the next poll, while we still hold the line; False when it cannot stay."""
        if self._closed or _settings(spec).keep_open <= 0:
            return False
        if len(self._pooled) >= self._capacity:
            self._pooled = {at: one for at, one in self._pooled.items() if self._alive(one, one.line)}
        if len(self._pooled) >= self._capacity:
            return False
        self._pooled[_address(lease.line, spec)] = PooledAssociation(
            line=lease.line,
            spec=spec,
            exchange=exchange,
            nameplate=nameplate,
            connects=lease.line.statistics().connects,
            foreign_leases=self._foreign_leases(lease.line),
            since=self._now(),
        )
        return True

    async def close(self) -> None:
        """End what is pooled, before the lines are closed. Never raises a ProtocolError."""
        self._closed = True
        lines: dict[str, list[PooledAssociation]] = {}
        for pooled in self._pooled.values():
            lines.setdefault(pooled.line.name, []).append(pooled)
        self._pooled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await asyncio.gather(*(self._end(waiting) for waiting in lines.values()))

    async def _end(self, waiting: list[PooledAssociation]) -> None:
        """End the associations of one line, one after the other: a bus has one talker at a time."""
        with suppress(ProtocolError):
            for pooled in waiting:
                # a goodbye to a meter that has let go already costs its whole timeout
                if not self._alive(pooled, pooled.line):
                    continue
                lease = self.lease(pooled.line)
                await lease.acquire()
                try:
                    pooled.exchange.use(lease.io)
                    await pooled.exchange.close()
                finally:
                    await lease.release()

    def _alive(self, pooled: PooledAssociation, line: Line) -> bool:
        """Say whether the meter should still know the association."""
        counted = line.statistics()
        inactivity = HDLC_INACTIVITY if _settings(pooled.spec).framing == "hdlc" else WRAPPER_INACTIVITY
        return (
            pooled.line is line
            and counted.open
            and counted.connects == pooled.connects  # a new TCP connection knows nothing of the old one's
            and self._foreign_leases(line) == pooled.foreign_leases  # a stranger may have associated since
            and self._now() - pooled.since <= inactivity
        )

    def _foreign_leases(self, line: Line) -> int:
        """Count how often a line was held without this pool."""
        return line.statistics().turns - self._leases[line.name]


def _settings(spec: MeterSpec) -> DlmsSettings:
    if spec.dlms is None:
        raise LocalError("only DLMS associations are pooled")
    return spec.dlms


def _address(line: Line, spec: MeterSpec) -> _Address:
    settings = _settings(spec)
    return line.name, settings.framing, settings.server, settings.physical
