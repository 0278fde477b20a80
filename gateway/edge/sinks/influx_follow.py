"""InfluxDB beside the directory: writes points, and moves them when they belong to another account."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import structlog

from gateway.edge.sinks.influx import InfluxSink, InfluxStatistics, JournalReader
from gateway.edge.sinks.influx_move import InfluxMover, Move
from gateway.edge.sinks.influx_points import UNASSIGNED
from gateway.errors import PeerError
from mapping.snapshot import DirectorySnapshot

log = structlog.get_logger("gateway.edge")

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
NEWEST = datetime(2100, 1, 1, tzinfo=UTC)
RETRY = 5.0
STEP = timedelta(microseconds=1)


class InfluxFollower:
    """The sink together with its mover; moves are repeated until the server has taken them."""

    def __init__(self, sink: InfluxSink, mover: InfluxMover, meters: Sequence[str]) -> None:
        self._sink = sink
        self._mover = mover
        self._meters = tuple(meters)
        self._waiting: deque[Move] = deque()
        self._wanted = asyncio.Event()
        self._fault: str | None = None
        self.moved = 0

    def directory_changed(self, old: DirectorySnapshot, new: DirectorySnapshot) -> None:
        """Queue what must move from the tags of `old` to those of `new`."""
        for meter in self._meters:
            self._waiting.extend(moves(meter, old, new))
        if self._waiting:
            self._wanted.set()

    def statistics(self) -> InfluxStatistics:
        """The sink's counters; a failed move shows as the last error."""
        counters = self._sink.statistics()
        return replace(counters, last_error=counters.last_error or self._fault)

    async def run(self, journal: JournalReader) -> None:
        """Write and move until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sink.run(journal))
                group.create_task(self._move())
        finally:
            await asyncio.to_thread(self._mover.close)

    async def _move(self) -> None:
        while True:
            await self._wanted.wait()
            while self._waiting:
                try:
                    self.moved += await asyncio.to_thread(self._mover.move, self._waiting[0])
                except PeerError as error:
                    self._fault = f"points could not be moved to another account: {error}"
                    log.warning("influx_move_failed", error=str(error), waiting=len(self._waiting))
                    await asyncio.sleep(RETRY)
                else:
                    self._fault = None
                    self._waiting.popleft()
            self._wanted.clear()


def moves(meter: str, old: DirectorySnapshot, new: DirectorySnapshot) -> Iterator[Move]:
    """Give the spans of one meter whose account tag differs between two snapshots."""
    edges = sorted({OLDEST, NEWEST, *_boundaries(meter, old), *_boundaries(meter, new)})
    for after, until in pairwise(edges):
        before, now = _tag(meter, old, after), _tag(meter, new, after)
        if before != now:
            yield Move(meter=meter, after=after, until=until - STEP, old=before, new=now)


def _boundaries(meter: str, snapshot: DirectorySnapshot) -> Iterator[datetime]:
    for segment in snapshot.timeline(meter):
        for at in (segment.start, segment.end):
            if OLDEST < at < NEWEST:
                yield at


def _tag(meter: str, snapshot: DirectorySnapshot, at: datetime) -> str:
    accounts = snapshot.attributions(meter, None, at + STEP).accounts
    number = accounts[0].account_number if len(accounts) == 1 else None
    return number or UNASSIGNED
