"""Collecting: one profile of one meter from an open session into the journal, from its watermark on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.edge.journal.entry import CaptureRecord, GapRecord, JournalBatch
from gateway.edge.journal.journal import MAX_BODY, GapState, Journal
from gateway.edge.polling import gaps
from gateway.edge.polling.health import DRIFT_ALARM
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.stamping.stamp import DirectoryLike, stamp
from protocols.errors import MeterProtocolError
from protocols.reading import PROFILE_KIND, ProfileKind, ProfileName, ReadingSet
from protocols.session import Clock, MeterSession

STORED = frozenset({ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS})
"""Profiles that the meter keeps; the others are read as they are now."""
WINDOW = timedelta(days=5)
"""Span asked for at once: what a broken read repeats stays small."""
FLUSH_ROWS = 200
MAX_ROWS = 50_000
"""Rows of one profile in one poll: 50 times a full block load of 35 days; more is a meter gone wrong."""
OVERLAP = {
    ProfileName.BLOCK_LOAD: timedelta(hours=2),
    ProfileName.EVENTS: timedelta(days=1),
    ProfileName.DAILY: timedelta(days=2),
    ProfileName.BILLING: timedelta(days=35),
}
"""Read again before the watermark: rows that came late or twice (clock set back). Repeats cost nothing."""
SETTLED = {ProfileName.BLOCK_LOAD: timedelta(hours=2)}
"""After this long without a row, the row is not expected any more."""


class Collector:
    """Reads profiles and appends them; every append carries captures, watermark and gaps together."""

    def __init__(
        self,
        *,
        journal: Journal,
        directory: Callable[[], DirectoryLike],
        schedule: Schedule,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._directory = directory
        self._schedule = schedule
        self._clock = clock
        self._retried: dict[str, datetime] = {}

    async def collect(
        self, session: MeterSession, meter: PolledMeter, profile: ProfileName, *, clock_trusted: bool
    ) -> int:
        """Read one profile; gives how many captures were new.

        Raises what the session raises (what was read before it is journaled), JournalError.
        """
        task = _Task(self, session, meter.meter, profile, clock_trusted)
        if profile in STORED:
            await task.stored(self._schedule.backfill)
        else:
            await task.present()
        if PROFILE_KIND[profile] is ProfileKind.INTERVAL:
            await self._retry_gaps(task)
        return task.captures

    async def _retry_gaps(self, task: _Task) -> None:
        now = self._clock.now()
        for gap in await self._journal.open_gaps(task.meter, task.profile.value):
            if gaps.retry_due(gap, self._retried.get(gap.gap_id), now):
                self._retried[gap.gap_id] = now
                await self._retry(task, gap, now)

    async def _retry(self, task: _Task, gap: GapState, now: datetime) -> None:
        rows = await task.reread(gap.after, gap.until)
        if gaps.covers(((r.start or r.at, r.at) for r in rows), gap):
            state = gaps.FILLED
        elif gaps.hopeless(gap, now):
            state = gaps.UNFILLABLE
        else:
            return
        await self._journal.append(JournalBatch(gaps=(gaps.closed(gap, state),)))
        self._retried.pop(gap.gap_id, None)

    async def append(self, task: _Task, rows: list[ReadingSet], mark: datetime | None) -> int:
        """Stamp and journal rows with the gaps found so far."""
        now, directory = self._clock.now(), self._directory()
        disciplined = self._clock.disciplined()
        captures = tuple(
            stamp(
                row,
                task.meter,
                directory,
                disciplined=disciplined,
                # A gateway that does not know the time cannot call a row one of the future.
                clock_trusted=task.clock_trusted and not (disciplined and _ahead(row, now)),
            )
            for row in rows
        )
        _check_length(captures)
        found: tuple[GapRecord, ...] = ()
        if task.coverage is not None:
            found = gaps.opened(task.meter, task.profile.value, task.coverage.take(), now)
        marks = ((task.meter, task.profile.value, mark),) if mark is not None else ()
        if not (captures or marks or found):
            return 0
        span = await self._journal.append(JournalBatch(captures=captures, watermarks=marks, gaps=found))
        return max(0, span.last - span.first + 1 - len(found))

    async def pushed(self, meter: str, rows: Sequence[ReadingSet], *, clock_trusted: bool) -> int:
        """Stamp and journal what a meter sent by itself; gives how many captures were new.

        No watermark moves and no gap closes: what came unasked proves nothing about what lies before it.
        A row that was read already is not revised. Raises JournalError, MeterProtocolError for a row that is
        too long.
        """
        now, directory = self._clock.now(), self._directory()
        disciplined = self._clock.disciplined()
        captures = tuple(
            replace(
                stamp(
                    row,
                    meter,
                    directory,
                    disciplined=disciplined,
                    clock_trusted=clock_trusted and not (disciplined and _ahead(row, now)),
                ),
                if_new=True,
            )
            for row in rows
        )
        _check_length(captures)
        span = await self._journal.append(JournalBatch(captures=captures))
        return max(0, span.last - span.first + 1)

    async def watermark(self, task: _Task) -> datetime | None:
        """The durable watermark of the task's profile."""
        return await self._journal.watermark(task.meter, task.profile.value)

    def trusted_now(self) -> datetime | None:
        """The present, None while the gateway's own time cannot be trusted."""
        return self._clock.now() if self._clock.disciplined() else None


class _Task:
    """One profile of one meter in one poll."""

    def __init__(
        self,
        collector: Collector,
        session: MeterSession,
        meter: str,
        profile: ProfileName,
        clock_trusted: bool,
    ) -> None:
        self._collector = collector
        self._session = session
        self.meter = meter
        self.profile = profile
        self.clock_trusted = clock_trusted
        self.coverage: gaps.Coverage | None = None
        self.captures = 0
        self._rows = 0
        self._mark: datetime | None = None

    async def present(self) -> None:
        """Read a snapshot of now."""
        rows = [row async for row in self._counted(None, None)]
        now = self._collector.trusted_now()
        mark = min(max(row.at for row in rows), now) if rows and now is not None else None
        self.captures += await self._collector.append(self, rows, mark)

    async def stored(self, backfill: timedelta) -> None:
        """Read what the meter stored since the watermark, window by window, oldest first."""
        self._mark = await self._collector.watermark(self)
        now = self._collector.trusted_now()
        if self.profile is ProfileName.BLOCK_LOAD and self.clock_trusted and now is not None:
            self.coverage = gaps.Coverage(self._mark)
        if now is None:
            await self._window(self._since(None), None, None)
            return
        since = self._since(now - backfill)
        while since is None or since < now:
            until = now if since is None else min(since + WINDOW, now)
            await self._window(since, until, now)
            since = until

    def _since(self, first: datetime | None) -> datetime | None:
        return first if self._mark is None else self._mark - OVERLAP[self.profile]

    async def _window(self, since: datetime | None, until: datetime | None, now: datetime | None) -> None:
        rows: list[ReadingSet] = []
        try:
            async for row in self._counted(since, until):
                rows.append(row)
                if self.coverage is not None and row.start is not None and _stamped_well(row, now):
                    self.coverage.row(row.start, row.at)
                if len(rows) >= FLUSH_ROWS:
                    await self._flush(rows, now)
                    rows = []
        except Exception:
            await self._flush(rows, now)  # what came before the fault is not read again
            raise
        self._settle(until, now)
        await self._flush(rows, now, whole=until)

    def _settle(self, until: datetime | None, now: datetime | None) -> None:
        """Expect no more rows before a time long past: gaps are opened and the watermark passes it."""
        wait = SETTLED.get(self.profile)
        if self.coverage is not None and wait is not None and until is not None and now is not None:
            self.coverage.settled(min(until, now - wait))

    async def _flush(
        self, rows: list[ReadingSet], now: datetime | None, whole: datetime | None = None
    ) -> None:
        """Journal rows; the watermark moves to the last one, or to `whole`, up to which all was read."""
        mark = None
        if now is not None and self.clock_trusted:
            reached = whole or max((row.at for row in rows), default=None)
            if self.coverage is not None:
                reached = self.coverage.upto  # a block may still be stored: only rows or gaps pass it
            reached = None if reached is None else min(reached, now)
            if reached is not None and (self._mark is None or reached > self._mark):
                self._mark = mark = reached
        self.captures += await self._collector.append(self, rows, mark)

    async def reread(self, since: datetime, until: datetime) -> list[ReadingSet]:
        """Read a span again and journal what is new; the watermark stays."""
        self.coverage = None
        rows = [row async for row in self._counted(since, until)]
        self.captures += await self._collector.append(self, rows, None)
        return rows

    async def _counted(self, since: datetime | None, until: datetime | None) -> AsyncIterator[ReadingSet]:
        async for row in self._session.read(self.profile, since, until):
            self._rows += 1
            if self._rows > MAX_ROWS:
                raise MeterProtocolError(f"more than {MAX_ROWS} rows of {self.profile} in one poll")
            yield row


def _check_length(captures: Sequence[CaptureRecord]) -> None:
    for capture in captures:
        if len(capture.body) > MAX_BODY:
            raise MeterProtocolError(f"{capture.capture_id} is longer than {MAX_BODY} octets as a message")


def _ahead(row: ReadingSet, now: datetime) -> bool:
    """Whether the row's time is still to come."""
    return row.at > now + DRIFT_ALARM


def _stamped_well(row: ReadingSet, now: datetime | None) -> bool:
    """Whether the row's time can be believed: a wrong one would show gaps that are none."""
    if now is not None and _ahead(row, now):
        return False
    return row.meter_time is None or row.meter_time.trusted
