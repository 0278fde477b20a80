"""InfluxDB beside the directory: writes points, and lets the server follow when meters change hands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from gateway.edge.influx.holding import rest
from gateway.edge.influx.move import MOVED_FILE
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
WALL_CLOCK = SystemClock()
"""The machine's present: points of simulated time are never later."""


class CursorSource(JournalReader, Protocol):
    """A journal that also tells how far its sinks are."""

    async def cursors(self) -> dict[str, int]:
        """Return every sink's cursor."""


class Corrector(Protocol):
    """What makes a server say what the directory says: it moves points, or keeps the series `holding`. Blocking."""

    file: str | None
    """Where it is noted which directory the server follows; None: all is looked at once a day and after each start."""
    at_once: int
    """Meters of one call of `correct`."""
    after_sink: bool
    """Whether what was stamped with the former directory must be written first."""

    def correct(self, meters: Sequence[str], snapshot: DirectorySnapshot, now: datetime) -> int:
        """Correct what stands of these meters; return the points written. Raises PeerError; a repeat goes on."""

    def close(self) -> None:
        """Release the connections."""


class InfluxFollower:
    """The sink together with its corrector: points are written, and follow the directory when it changes.

    `folder` keeps the digest of the directory part that moved points follow: after a crash, or when the part
    is another one, every meter is looked at again, which corrects only what stands wrong.
    """

    name = InfluxSink.name

    def __init__(self, sink: InfluxSink, corrector: Corrector, meters: Sequence[str], folder: Path) -> None:
        self._sink = sink
        self.corrector = corrector
        self._meters = tuple(meters)
        self._digest_file = None if corrector.file is None else folder / corrector.file
        self._moved_file = folder / MOVED_FILE
        self._wanted: DirectorySnapshot | None = None
        self._followed: DirectorySnapshot | None = None
        self._changed = asyncio.Event()
        self._rest: float | None = None
        self._fault: str | None = None
        self.corrected = 0

    def directory_changed(self, snapshot: DirectorySnapshot) -> None:
        """Let the server follow `snapshot`, soon."""
        self._wanted = snapshot
        self._changed.set()

    @property
    def busy(self) -> object:
        """A mark that changes while delivery makes progress or tries anew; None when all is delivered."""
        return self._sink.busy

    def statistics(self) -> InfluxStatistics:
        """Return the sink's counters, frozen; a correction that failed shows as the last error."""
        counters = self._sink.statistics()
        return replace(counters, corrected=self.corrected, last_error=counters.last_error or self._fault)

    async def run(self, journal: CursorSource) -> None:
        """Write and correct until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sink.run(journal))
                group.create_task(self._follow_directory(journal))
        finally:
            await asyncio.to_thread(self.corrector.close)

    async def _follow_directory(self, journal: CursorSource) -> None:
        if self._digest_file is None:  # whoever goes back to moving points must look at every meter
            await asyncio.to_thread(self._moved_file.unlink, missing_ok=True)
        while True:
            asked = await self._asked()
            wanted = self._wanted
            if wanted is None:
                continue
            if await asyncio.to_thread(self._is_followed, wanted):
                self._followed = wanted
                continue
            if self.corrector.after_sink:
                # What was stamped with the former part may still be on its way: first let it be journaled, then
                # written, or it would appear under the old account behind the back of the move.
                await asyncio.sleep(SETTLE)
                await self._caught_up(journal, journal.last_seq)
            before, self._followed = self._followed if asked else None, None
            # Half corrected, the server follows neither part: a crash from here on must look at every meter again.
            await asyncio.to_thread(self._forget_digest)
            if await self._correct_all(before, wanted):
                self._followed = wanted
                await asyncio.to_thread(self._keep_digest, wanted)
            if self._digest_file is None:
                pause = await asyncio.to_thread(rest, wanted, self._known(wanted), WALL_CLOCK.now())
                self._rest = pause.total_seconds()

    async def _asked(self) -> bool:
        """Wait for another directory; False when it is time to look at all once more."""
        try:
            async with asyncio.timeout(self._rest):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _caught_up(self, journal: CursorSource, seq: int) -> None:
        while (await journal.cursors()).get(self.name, 0) < seq:
            await asyncio.sleep(LOOK)

    def _known(self, snapshot: DirectorySnapshot) -> list[str]:
        """Return the meters that the part speaks of: the others are read by another edge now, which follows them."""
        return [meter for meter in self._meters if snapshot.rows.installations(meter)]

    async def _correct_all(self, before: DirectorySnapshot | None, snapshot: DirectorySnapshot) -> bool:
        # After a start nobody knows what the server follows, so every meter is looked at; later only those whose
        # accounts changed, or each re-key of one meter would read all points of all.
        concerned = [
            meter
            for meter in self._known(snapshot)
            if before is None or _whose(before, meter) != _whose(snapshot, meter)
        ]
        good, at_once = True, self.corrector.at_once
        for begin in range(0, len(concerned), at_once):
            good = await self._correct(concerned[begin : begin + at_once], snapshot) and good
        if good:
            self._fault = None
        return good

    async def _correct(self, meters: Sequence[str], snapshot: DirectorySnapshot) -> bool:
        """Correct some meters' points, however long the server is away; False when it refuses for good."""
        while True:
            try:
                now = WALL_CLOCK.now()
                self.corrected += await asyncio.to_thread(self.corrector.correct, meters, snapshot, now)
            except PeerRefusedData as error:
                self._failed(meters, error)
                return False
            except PeerError as error:
                self._failed(meters, error)
                await asyncio.sleep(RETRY)
            else:
                return True

    def _failed(self, meters: Sequence[str], error: PeerError) -> None:
        others = f" and {len(meters) - 1} more" if len(meters) > 1 else ""
        self._fault = f"what stands of {meters[0]}{others} could not follow the directory: {error}"
        log.warning("influx_correction_failed", meter=meters[0], others=len(meters) - 1, error=str(error))

    def _is_followed(self, snapshot: DirectorySnapshot) -> bool:
        if self._digest_file is None:
            return False
        try:
            return self._digest_file.read_text(encoding="ascii") == _digest(snapshot)
        except (OSError, UnicodeDecodeError):
            return False

    def _forget_digest(self) -> None:
        if self._digest_file is not None:
            self._digest_file.unlink(missing_ok=True)

    def _keep_digest(self, snapshot: DirectorySnapshot) -> None:
        if self._digest_file is None:
            return
        try:
            replace_file(self._digest_file, _digest(snapshot).encode("ascii"))
        except OSError as error:  # then all meters are looked at again after the next start
            log.warning("influx_digest_not_kept", error=str(error))


def _whose(snapshot: DirectorySnapshot, meter: str) -> list[object]:
    """Return all that decides under which numbers a meter's points stand."""
    return [(segment, snapshot.names(segment.account_id)) for segment in snapshot.timeline(meter)]


def _digest(snapshot: DirectorySnapshot) -> str:
    return hashlib.blake2b(snapshot.to_json().encode(), digest_size=16).hexdigest()
