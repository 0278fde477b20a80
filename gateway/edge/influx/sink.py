"""The InfluxDB sink: own batches, synchronous v2 writes in a thread, bad points set aside by bisection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from gateway.backoff import Backoff
from gateway.edge.influx.points import PointLine, point
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import Entry
from gateway.edge.sinks.base import JournalReader
from gateway.errors import JournalError, PeerError, PeerRefusedData, PeerRefusedLogin, PeerUnavailable

log = structlog.get_logger()

SINK = "influx"
MAX_POINTS = 2_000
"""Points in one write: some 400 kB, well under every server's body limit."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
VERIFY_EVERY = 50
"""Of so many batches one is read back, the first among them."""
Verify = Callable[[Entry], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxStatistics:
    """Counters since start."""

    written: int = 0
    unverified: int = 0
    dead: int = 0
    failures: int = 0
    last_error: str | None = None
    connected: bool = False


class InfluxWriter:
    """Writes lines and says exactly what the server made of them. Blocking: call it in a thread."""

    def __init__(self, target: InfluxTarget) -> None:
        self._target = target
        self._client = InfluxDBClient(
            url=target.url, token=target.token, org=target.org, timeout=int(target.timeout * 1000)
        )
        self._write = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: Sequence[str]) -> None:
        """Write all lines.

        Raises PeerUnavailable (try again), PeerRefusedLogin, or PeerRefusedData with the server's words
        when it refuses some or all of the points.
        """
        try:
            self._write.write(bucket=self._target.bucket, record="\n".join(lines))
        except ApiException as error:
            raise _translated(error) from error
        except (HTTPError, OSError) as error:
            raise PeerUnavailable(f"InfluxDB at {self._target.url} cannot be reached: {error}") from error

    def ping(self) -> bool:
        """Say whether the server answers."""
        return bool(self._client.ping())

    def close(self) -> None:
        """Release the connections."""
        self._client.close()


def _translated(error: ApiException) -> Exception:
    reason = " ".join(str(error.body or error.reason).split())[:500]
    if error.status in (401, 403):
        return PeerRefusedLogin("InfluxDB refused the token: check [influx] token_ref")
    if error.status in (400, 413, 422):
        return PeerRefusedData(reason)
    return PeerUnavailable(f"InfluxDB answered {error.status}: {reason}")


def refused_points(writer: InfluxWriter, points: Sequence[PointLine]) -> list[tuple[PointLine, str]]:
    """Write `points`; where the server refuses, halve until each bad point stands alone with its reason.

    A partial write keeps the good points of a refused batch; writing them again is harmless (same series
    and time overwrite). PeerUnavailable and PeerRefusedLogin pass through.
    """
    try:
        writer.write([p.line for p in points])
    except PeerRefusedData as error:
        if len(points) == 1:
            return [(points[0], str(error))]
        middle = len(points) // 2
        return refused_points(writer, points[:middle]) + refused_points(writer, points[middle:])
    return []


class InfluxSink:
    """Follows the journal and writes its captures as points.

    `verify` says whether an entry's point can be read back; without it the server's answer is believed.
    """

    name = SINK

    def __init__(self, target: InfluxTarget, gateway: str, verify: Verify | None = None) -> None:
        self._writer = InfluxWriter(target)
        self._gateway = gateway
        self._verify = verify
        self._batches = self._unverified = 0
        self._written = self._dead = self._failures = 0
        self._last_error: str | None = None
        self._connected = False

    def statistics(self) -> InfluxStatistics:
        """Return a frozen copy of the counters."""
        return InfluxStatistics(
            written=self._written,
            unverified=self._unverified,
            dead=self._dead,
            failures=self._failures,
            last_error=self._last_error,
            connected=self._connected,
        )

    async def run(self, journal: JournalReader) -> None:
        """Deliver for ever; the cursor moves only past what was written or set aside. Cancel at will."""
        try:
            self._connected = await asyncio.to_thread(self._writer.ping)
            while not await self._follow(journal):
                await asyncio.sleep(FIRST_WAIT)
        finally:
            await asyncio.to_thread(self._writer.close)

    async def _follow(self, journal: JournalReader) -> bool:
        """Deliver from the cursor on; False when the journal's disk failed and it should begin again."""
        try:
            async for entries in journal.follow(SINK):
                for start in range(0, len(entries), MAX_POINTS):
                    await self._deliver(journal, entries[start : start + MAX_POINTS])
        except JournalError as error:
            self._failed(str(error), FIRST_WAIT)
            return False
        return True

    async def _deliver(self, journal: JournalReader, entries: Sequence[Entry]) -> None:
        points = [p for e in entries if (p := point(e, self._gateway)) is not None]
        refused = await self._write_until_answered(points) if points else []
        bodies = {e.seq: e.body for e in entries}
        for bad, reason in refused:
            await journal.dead_letter(SINK, bad.seq, reason, bodies[bad.seq])
            log.warning("point refused", sink=SINK, seq=bad.seq, reason=reason)
        self._dead += len(refused)
        self._written += len(points) - len(refused)
        bad_seqs = {bad.seq for bad, _ in refused}
        await self._look(entries, [p for p in points if p.seq not in bad_seqs])
        await journal.ack(SINK, entries[-1].seq)

    async def _look(self, entries: Sequence[Entry], points: Sequence[PointLine]) -> None:
        """Now and then read the last point back: VictoriaMetrics drops bad lines without a word.

        A miss raises the alarm and is counted; the cursor goes on, since the journal can be replayed.
        """
        self._batches += 1
        if self._verify is None or not points or self._batches % VERIFY_EVERY != 1:
            return
        last = next(e for e in reversed(entries) if e.seq == points[-1].seq)
        try:
            seen = await asyncio.to_thread(self._verify, last)
        except PeerError as error:
            self._failed(f"points could not be read back: {error}", 0)
            return
        if not seen:
            self._unverified += 1
            self._failed(f"the server took entry {last.seq} without a word and does not show it", 0)

    async def _write_until_answered(self, points: Sequence[PointLine]) -> list[tuple[PointLine, str]]:
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        while True:
            try:
                refused = await asyncio.to_thread(refused_points, self._writer, points)
            except (PeerUnavailable, PeerRefusedLogin) as error:
                wait = backoff.next()
                self._failed(str(error), wait)
                await asyncio.sleep(wait)
            else:
                self._connected, self._last_error = True, None
                return refused

    def _failed(self, text: str, wait: float) -> None:
        self._failures += 1
        self._connected = False
        if text != self._last_error:
            log.warning("InfluxDB write failed", error=text, next_try_within_s=wait)
        self._last_error = text
