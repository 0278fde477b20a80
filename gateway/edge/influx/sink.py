"""The InfluxDB sink: own batches, synchronous v2 writes in a thread, bad points set aside by bisection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from gateway.backoff import Backoff
from gateway.bisection import refused_alone
from gateway.edge.influx.points import PointLine, points
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.cuts import singles_of
from gateway.edge.journal.entry import Entry
from gateway.edge.sinks.base import JournalReader
from gateway.errors import JournalError, PeerError, PeerRefusedData, PeerRefusedLogin, PeerUnavailable
from gateway.statistics import counted

log = structlog.get_logger("gateway.edge.influx")

SINK = "influx"
MAX_POINTS = 2_000
"""Points in one write: some 400 kB, well under every server's body limit."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds between tries while the server is away."""
MAX_LAG = 1_000_000
"""Entries that the journal keeps for a server that is away."""
VERIFY_EVERY = 50
"""Of so many batches one is read back, the first among them."""
Verify = Callable[[Entry], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxStatistics:
    """Counters since start.

    `corrected` points were written since the directory changed, those of the series `holding` among them.
    `skipped` entries were given up since the server was away for too long, `skipped_span` is the last of them.
    """

    written: int = 0
    unverified: int = 0
    dead: int = 0
    failures: int = 0
    last_error: str | None = None
    connected: bool = False
    corrected: int = 0
    skipped: int = 0
    skipped_span: str | None = None


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


class _GivenUp(Exception):
    """The cursor was moved past entries in hand."""


class InfluxSink:
    """Follows the journal and writes its captures as points.

    While the server is away, what is more than `max_lag` entries behind the journal's end is given up, oldest
    first, counted and told: a sink must not hold the journal until reading stops.

    `verify` says whether an entry's point can be read back; without it the server's answer is believed.
    `account_tag`: points carry the account that they stand under.
    """

    name = SINK

    def __init__(
        self,
        target: InfluxTarget,
        gateway: str,
        verify: Verify | None = None,
        *,
        max_lag: int = MAX_LAG,
        account_tag: bool = True,
    ) -> None:
        self._account_tag = account_tag
        self._max_lag = max_lag
        self._given_up = 0
        self._writer = InfluxWriter(target)
        self._gateway = gateway
        self._verify = verify
        self._batches = 0
        self._statistics = InfluxStatistics()
        self._delivering = False
        self._tries = 0

    @property
    def busy(self) -> object:
        """A mark that changes while delivery makes progress or tries anew; None when all is delivered."""
        return self._tries if self._delivering else None

    def statistics(self) -> InfluxStatistics:
        """Return the counters since start, frozen."""
        return self._statistics

    async def run(self, journal: JournalReader) -> None:
        """Deliver until cancelled or the journal closes; the cursor moves only past what was taken.

        Waits for a server that is away, for ever; no PeerError and no JournalError leaves it. What a cancel
        leaves unacknowledged is written again by the next run, over the same points.
        """
        try:
            reached = await asyncio.to_thread(self._writer.ping)
            self._statistics = replace(self._statistics, connected=reached)
            while not await self._follow(journal):
                await asyncio.sleep(FIRST_WAIT)
        finally:
            await asyncio.to_thread(self._writer.close)

    async def _follow(self, journal: JournalReader) -> bool:
        """Deliver from the cursor on; False when it should begin again: the disk failed, or entries were given up."""
        try:
            async with contextlib.aclosing(journal.follow(SINK)) as chunks:
                async for chunk in chunks:
                    if entries := [entry for entry in chunk if entry.last > self._given_up]:
                        await self._deliver(journal, entries)
        except _GivenUp:
            return False
        except JournalError as error:
            self._failed(str(error), retry_in=FIRST_WAIT)
            return False
        return True

    async def _deliver(self, journal: JournalReader, entries: Sequence[Entry]) -> None:
        self._delivering = True
        try:
            await self._deliver_all(journal, entries)
        finally:
            self._delivering = False

    async def _deliver_all(self, journal: JournalReader, entries: Sequence[Entry]) -> None:
        lines = [line for entry in entries for line in self._points(entry)]
        refused: list[tuple[PointLine, PeerRefusedData]] = []
        for start in range(0, len(lines), MAX_POINTS):
            part = lines[start : start + MAX_POINTS]
            refused += await self._write_until_answered(part, journal, entries)
        for bad, error in refused:
            [entry] = (e for e in entries if e.seq <= bad.seq <= e.last)
            [one] = (single for single in singles_of(entry) if single.seq == bad.seq)
            await journal.dead_letter(SINK, bad.seq, str(error), one.body)
            log.warning("point_refused", seq=bad.seq, error=str(error))
        self._statistics = counted(self._statistics, dead=len(refused), written=len(lines) - len(refused))
        refused_seqs = {bad.seq for bad, _ in refused}
        await self._read_one_back(entries, {line.seq for line in lines} - refused_seqs)
        # Last of all: a crash before this writes the same points again, which changes nothing in a series.
        await journal.ack(SINK, entries[-1].last)

    def _points(self, entry: Entry) -> list[PointLine]:
        return points(entry, self._gateway, account=self._account_tag)

    async def _write_until_answered(
        self, points: Sequence[PointLine], journal: JournalReader, entries: Sequence[Entry]
    ) -> list[tuple[PointLine, PeerRefusedData]]:
        """Write all points, however long the server is away; return those that it refuses for good.

        Raises _GivenUp when the server was away for so long that some of them are given up.
        """

        def write(part: Sequence[PointLine]) -> None:
            self._writer.write([p.line for p in part])

        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        while points:
            self._tries += 1
            try:
                # A partial write keeps the good points of a refused batch: they are written over themselves.
                refused = await asyncio.to_thread(refused_alone, points, write, PeerRefusedData)
            except (PeerUnavailable, PeerRefusedLogin) as error:
                wait = backoff.next()
                self._failed(str(error), retry_in=wait)
                await self._give_up(journal, entries[0].seq)
                await asyncio.sleep(wait)
            else:
                self._statistics = replace(self._statistics, connected=True, last_error=None)
                return refused
        return []

    async def _give_up(self, journal: JournalReader, first: int) -> None:
        """Give up what is too far behind the journal's end, from `first` on."""
        upto = journal.last_seq - self._max_lag
        if upto < first:
            return
        await journal.ack(SINK, upto)
        self._given_up = upto
        self._statistics = replace(
            counted(self._statistics, skipped=upto - first + 1), skipped_span=f"{first}..{upto}"
        )
        log.error("influx_skipped", first=first, last=upto, max_lag=self._max_lag)
        raise _GivenUp

    async def _read_one_back(self, entries: Sequence[Entry], taken: set[int]) -> None:
        """Now and then read the last point back: VictoriaMetrics drops bad lines without a word.

        A miss raises the alarm and is counted; the cursor goes on, since the journal can be replayed.
        """
        self._batches += 1
        if self._verify is None or not taken or self._batches % VERIFY_EVERY != 1:
            return
        seq = max(taken)
        [entry] = (e for e in entries if e.seq <= seq <= e.last)
        [last] = (single for single in singles_of(entry) if single.seq == seq)
        try:
            found = await asyncio.to_thread(self._verify, last)
        except PeerError as error:
            self._failed(f"points could not be read back: {error}")
            return
        if not found:
            self._statistics = counted(self._statistics, unverified=1)
            self._failed(f"the server took entry {last.seq} without a word and does not show it")

    def _failed(self, error: str, retry_in: float = 0.0) -> None:
        if error != self._statistics.last_error:  # once for each cause, not once for each try
            log.warning("influx_write_failed", error=error, retry_in=round(retry_in, 1))
        self._statistics = replace(counted(self._statistics, failures=1), connected=False, last_error=error)
