"""InfluxDB beside the directory: writes points, and moves them when they belong to another account."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from gateway.edge.influx.move import InfluxMover
from gateway.edge.influx.sink import InfluxSink, InfluxStatistics
from gateway.edge.sinks.base import JournalReader
from gateway.errors import PeerError, PeerRefusedData
from mapping.snapshot import DirectorySnapshot
from protocols.clock import SystemClock
from protocols.durable import replace_file

log = structlog.get_logger("gateway.edge.influx")

RETRY = 5.0
"""Seconds between tries of a move while the server is away."""
SETTLE = 1.0
"""Seconds after a change by which everything that was stamped with the former part is journaled."""
LOOK = 0.2
"""Seconds between looks at the sink's cursor."""
_FILE = "influx-directory"
WALL_CLOCK = SystemClock()
"""The machine's present: points of simulated time are never later."""


class CursorSource(JournalReader, Protocol):
    """A journal that also tells how far its sinks are."""

    async def cursors(self) -> dict[str, int]:
        """Return every sink's cursor."""


class InfluxFollower:
    """The sink together with its mover: points are written, and follow the directory when it changes.

    `folder` keeps the digest of the directory part that all points follow: after a crash, or when the part
    is another one, every meter is looked at again, which moves only what stands wrong.
    """

    name = InfluxSink.name

    def __init__(self, sink: InfluxSink, mover: InfluxMover, meters: Sequence[str], folder: Path) -> None:
        self._sink = sink
        self._mover = mover
        self._meters = tuple(meters)
        self._digest_file = folder / _FILE
        self._wanted: DirectorySnapshot | None = None
        self._followed: DirectorySnapshot | None = None
        self._changed = asyncio.Event()
        self._fault: str | None = None
        self.moved = 0

    def directory_changed(self, snapshot: DirectorySnapshot) -> None:
        """Let all points follow `snapshot`, soon."""
        self._wanted = snapshot
        self._changed.set()

    @property
    def busy(self) -> object:
        """A mark that changes while delivery makes progress or tries anew; None when all is delivered."""
        return self._sink.busy

    def statistics(self) -> InfluxStatistics:
        """Return the sink's counters, frozen; a move that failed shows as the last error."""
        counters = self._sink.statistics()
        return replace(counters, last_error=counters.last_error or self._fault)

    async def run(self, journal: CursorSource) -> None:
        """Write and move until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sink.run(journal))
                group.create_task(self._follow_directory(journal))
        finally:
            await asyncio.to_thread(self._mover.close)

    async def _follow_directory(self, journal: CursorSource) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted
            if wanted is None or await asyncio.to_thread(self._is_followed, wanted):
                continue
            # What was stamped with the former part may still be on its way: first let it be journaled, then
            # written, or it would appear under the old account behind the back of the move.
            await asyncio.sleep(SETTLE)
            await self._caught_up(journal, journal.last_seq)
            before, self._followed = self._followed, None
            # Half moved, points follow neither part: a crash from here on must look at every meter again.
            await asyncio.to_thread(self._digest_file.unlink, missing_ok=True)
            if await self._move_all(before, wanted):
                self._followed = wanted
                await asyncio.to_thread(self._keep_digest, wanted)

    async def _caught_up(self, journal: CursorSource, seq: int) -> None:
        while (await journal.cursors()).get(self.name, 0) < seq:
            await asyncio.sleep(LOOK)

    async def _move_all(self, before: DirectorySnapshot | None, snapshot: DirectorySnapshot) -> bool:
        good = True
        for meter in self._meters:
            # After a start nobody knows what the points follow, so every meter is looked at; later only
            # those whose accounts changed, or each re-key of one meter would read all points of all.
            if before is None or _whose(before, meter) != _whose(snapshot, meter):
                good = await self._move(meter, snapshot) and good
        if good:
            self._fault = None
        return good

    async def _move(self, meter: str, snapshot: DirectorySnapshot) -> bool:
        """Move one meter's points, however long the server is away; False when it refuses for good."""
        while True:
            try:
                self.moved += await asyncio.to_thread(self._mover.move, meter, snapshot, WALL_CLOCK.now())
            except PeerRefusedData as error:
                self._failed(meter, error)
                return False
            except PeerError as error:
                self._failed(meter, error)
                await asyncio.sleep(RETRY)
            else:
                return True

    def _failed(self, meter: str, error: PeerError) -> None:
        self._fault = f"points of {meter} could not be moved to another account: {error}"
        log.warning("influx_move_failed", meter=meter, error=str(error))

    def _is_followed(self, snapshot: DirectorySnapshot) -> bool:
        try:
            return self._digest_file.read_text(encoding="ascii") == _digest(snapshot)
        except (OSError, UnicodeDecodeError):
            return False

    def _keep_digest(self, snapshot: DirectorySnapshot) -> None:
        try:
            replace_file(self._digest_file, _digest(snapshot).encode("ascii"))
        except OSError as error:  # then all meters are looked at again after the next start
            log.warning("influx_digest_not_kept", error=str(error))


def _whose(snapshot: DirectorySnapshot, meter: str) -> list[object]:
    """Return all that decides under which numbers a meter's points stand."""
    return [(segment, snapshot.names(segment.account_id)) for segment in snapshot.timeline(meter)]


def _digest(snapshot: DirectorySnapshot) -> str:
    return hashlib.blake2b(snapshot.to_json().encode(), digest_size=16).hexdigest()
