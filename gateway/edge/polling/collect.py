"""Collecting: one profile of one meter from an open session, from its watermark on, for the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from gateway.edge.journal.entry import GapRecord, GapState, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.polling import gaps
from gateway.edge.polling.absences import Absences
from gateway.edge.polling.event_logs import EventLogs
from gateway.edge.polling.rhythm import DEFAULT_BLOCK, SETTLED, Rhythm, Span, stored_rhythm
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.polling.settling import Settlement
from gateway.edge.polling.takings import Settle, Takings
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence, is_ahead
from gateway.edge.stamping.remarks import event_of
from protocols.errors import IdentityMismatch, MeterProtocolError
from protocols.known import Known
from protocols.modbus.belief.memories import remembered
from protocols.reading import ProfileName, ReadingSet, Remark
from protocols.session import Clock, MeterSession, ModbusSettings, TellsEventNews, Visit

STORED = frozenset({ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS})
"""Profiles that the meter keeps; the others are read as they are now."""
WINDOW = timedelta(days=5)
"""Span asked for at once: what a broken read repeats stays small."""
STAMP_ROWS = 200
"""Rows after which what was read is stamped, though the meter is still sending."""
MAX_ROWS = 50_000
"""Rows of one profile in one poll: 50 times a full block load of 35 days; more is a meter gone wrong."""
OVERLAP = {
    ProfileName.BLOCK_LOAD: timedelta(hours=2),
    ProfileName.EVENTS: timedelta(days=1),
    ProfileName.DAILY: timedelta(days=2),
    ProfileName.BILLING: timedelta(days=35),
}
"""Read again before the watermark: rows that came late or twice (clock set back). Repeats cost nothing."""
PRESENT_MEMORY = timedelta(days=3)
"""Profiles that are read as they are now: after this long no read and no late push brings one again."""
MOST_AHEAD = 35 * 86_400.0
"""Seconds that a meter's clock is followed ahead: beyond, its rows are as good as lost to any range."""
DAY = timedelta(days=1)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 1, tzinfo=UTC)
log = structlog.get_logger("gateway.edge.polling")


class Collector:
    """Reads profiles for the journal; captures, watermark and gaps go together.

    `backfill` is how far back the first read of a stored profile goes. `known` keeps how the event logs stood. What is
    due by `schedule` and absent is declared; `counted` are the snapshots that matter (see `Absences`), `pushing` the
    meters that push.
    """

    def __init__(
        self,
        journal: Journal,
        appender: ReadingAppender,
        *,
        clock: Clock,
        backfill: timedelta = timedelta(days=35),
        known: Known | None = None,
        schedule: Schedule | None = None,
        counted: Collection[ProfileName] = (),
        pushing: Collection[str] = (),
    ) -> None:
        self._pushing = frozenset(pushing)
        self._absences = Absences(journal, clock, schedule or Schedule(), counted)
        self._journal = journal
        self._appender = appender
        self._clock = clock
        self._backfill = backfill
        self._retried: dict[str, datetime] = {}
        known = {} if known is None else known
        self._event_logs = EventLogs(known)
        self._known = known
        self._periods: dict[str, timedelta] = {}
        self._settlement = Settlement(journal, appender, known, clock)

    def doubted(self, meter: str) -> bool:
        """Return whether a meter gives values that are not believed now."""
        memory = remembered(self._known, meter)
        return memory is not None and bool(memory.doubted)

    def period(self, meter: PolledMeter) -> timedelta | None:
        """Return how long the meter's intervals are, as the last ones that were read; None before.

        A meter whose intervals are not read counts as one of half hours.
        """
        unread = DEFAULT_BLOCK if ProfileName.BLOCK_LOAD not in meter.profiles else None
        return self._periods.get(meter.meter, unread)

    async def tell(self, meter: str, remark: Remark) -> None:
        """Journal an event of a meter, of now; raises JournalError."""
        event = event_of(remark, self._clock.now().replace(microsecond=0))
        await self._appender.append(meter, [event], clock=MeterEvidence())

    async def disproved(
        self, meter: str, modbus: ModbusSettings, error: IdentityMismatch, *, news: bool
    ) -> int:
        """Settle what was read of a Modbus meter before another one answered; see `Settlement`."""
        return await self._settlement.disproved(meter, modbus, error, news=news)

    async def visit(self, meter: str, profiles: Sequence[ProfileName]) -> Visit:
        """Return what a poll is about to read, for the opening of its session; raises JournalError."""
        now, since = self._clock.now(), dict[ProfileName, datetime]()
        if ProfileName.BLOCK_LOAD in profiles and self._clock.disciplined():
            mark = await self._journal.watermark(meter, ProfileName.BLOCK_LOAD.value)
            if mark is not None:
                since[ProfileName.BLOCK_LOAD] = mark - OVERLAP[ProfileName.BLOCK_LOAD]
        return Visit(
            profiles=tuple(profiles), since=since, seen=self._event_logs.seen(meter, self._journal.uuid, now)
        )

    def takings(self, settle: Settle) -> Takings:
        """Return what a visit's readings go into; `settle` hears at the end how they fared in the journal.

        The meter's next visit begins after that: before, watermarks and gaps are old ones.
        """
        return Takings(self._journal, settle)

    async def absent(self, meter: PolledMeter, takings: Takings) -> None:
        """Declare what is due of a meter that could not be read; raises JournalError."""
        takings.add(await self._absences.batch(meter), lambda _: None)

    async def collect(
        self,
        session: MeterSession,
        meter: PolledMeter,
        profile: ProfileName,
        *,
        clock: MeterEvidence,
        takings: Takings,
        span: Span | None = None,
        more: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Read one profile; what is new of it goes into `takings`.

        With a `span` that is read from the meter's memory once more, whatever the watermark says.
        A long memory is read window by window: `more` is asked before each whether the line may be held on. Returns
        whether all was read; else the rest is read from the watermark on, as after a fault.

        Raises what the session raises (what was read before it is in the takings) and JournalError. A cancel
        leaves what was taken; the rest is read again from the watermark.
        """
        reading = _ProfileReading(
            journal=self._journal,
            appender=self._appender,
            takings=takings,
            session=session,
            polled=meter,
            profile=profile,
            seen=clock,
            clock=self._clock,
            absences=self._absences,
            periods=self._periods,
            # What a pushing meter has pushed first may hold less than what is read of it.
            stored=meter.meter not in self._pushing,
        )
        if span is not None:
            await self._reread(reading, *span)
            return True
        if profile is ProfileName.EVENTS:
            await self._collect_events(reading)
        elif profile in STORED:
            if not await reading.read_stored(self._backfill, more):
                return False
        else:
            await reading.read_present()
        self._absences.is_back(meter, profile)
        if profile in SETTLED:
            await self._retry_gaps(reading)
        return True

    async def _reread(self, reading: _ProfileReading, since: datetime, until: datetime) -> None:
        rows = [(row.start, row.at) for row in await reading.reread(since, until)]
        if reading.profile not in SETTLED:
            return
        for gap in await self._journal.open_gaps(reading.meter, reading.profile.value):
            if gaps.covers(rows, gap, reading.zone):
                self._close(reading, gap, gaps.FILLED)

    async def _collect_events(self, reading: _ProfileReading) -> None:
        """Read the event logs that may have news; the watermark moves up to when all of them were read."""
        news = reading.session.event_news if isinstance(reading.session, TellsEventNews) else None
        if news is None:
            await reading.read_stored(self._backfill)
            return
        meter, journal = reading.meter, self._journal.uuid
        now = self._clock.now() if self._clock.disciplined() else None
        if news.none:
            self._event_logs.stood(meter, journal, news, now)
            return
        if now is not None:
            reading.complete = self._event_logs.complete(meter, journal, news, now)
            reading.partial = reading.complete is None
        await reading.read_stored(self._backfill)

        def took() -> None:
            if self._event_logs.took(meter, journal, news, now, new=reading.new):
                log.warning("event_marks_lied", meter=meter, new=reading.new)

        reading.takings.finally_do(took)

    async def _retry_gaps(self, reading: _ProfileReading) -> None:
        now = self._clock.now()
        for gap in await self._journal.open_gaps(reading.meter, reading.profile.value):
            if reading.settles(gap):
                self._close(reading, gap, gaps.FILLED)
            elif gaps.retry_due(gap, self._retried.get(gap.gap_id), now):
                self._retried[gap.gap_id] = now
                await self._retry(reading, gap, now)

    async def _retry(self, reading: _ProfileReading, gap: GapState, now: datetime) -> None:
        rows = await reading.reread(gap.after, gaps.reach(gap))
        if gaps.covers(((row.start, row.at) for row in rows), gap, reading.zone):
            self._close(reading, gap, gaps.FILLED)
        elif gaps.hopeless(gap, now):
            self._close(reading, gap, gaps.UNFILLABLE)

    def _close(self, reading: _ProfileReading, gap: GapState, state: str) -> None:
        # After the rows themselves: what breaks off between them leaves a gap open that is full, and it is read
        # once more; the other way round it would be called full and stay empty.
        reading.takings.add(JournalBatch(gaps=(gaps.closed(gap, state),)), lambda _: None)
        reading.takings.finally_do(lambda: self._retried.pop(gap.gap_id, None))


@dataclass(slots=True, kw_only=True)
class _ProfileReading:
    """One profile of one meter in one poll; `new` counts its new captures, once they are durable.

    `complete` is up to when all event logs were read, where only some are read now: the watermark goes no further.
    `partial` says that one was never read: then it stays.
    """

    journal: Journal
    appender: ReadingAppender
    takings: Takings
    session: MeterSession
    polled: PolledMeter
    profile: ProfileName
    seen: MeterEvidence
    clock: Clock
    absences: Absences
    periods: dict[str, timedelta]
    stored: bool
    rows: list[gaps.Row] = field(default_factory=list)
    new: int = 0
    partial: bool = False
    complete: datetime | None = None
    _now: datetime | None = None
    _mark: datetime | None = None
    _coverage: Rhythm | None = None
    _rows: int = 0

    @property
    def meter(self) -> str:
        """The meter's identity."""
        return self.polled.meter

    @property
    def zone(self) -> ZoneInfo:
        """The meter's zone."""
        return ZoneInfo(self.polled.spec.zone)

    def settles(self, gap: GapState) -> bool:
        """Say whether this poll read all of a gap; what is lacking where a meter was away is a gap of its own."""
        if gaps.was_not_read(gap) and self._coverage is not None and self._coverage.upto is not None:
            return self._coverage.upto >= gap.until
        return gaps.covers(self.rows, gap, self.zone)

    async def read_present(self) -> None:
        """Read a snapshot of now."""
        rows = [row async for row in self._read(None, None)]
        now = self._trusted_now()
        mark = min(max(row.at for row in rows), now) if rows and now is not None else None
        missed: tuple[GapRecord, ...] = ()
        if mark is not None and self.absences.counts(self.polled, self.profile):
            last = await self.journal.watermark(self.meter, self.profile.value)
            if last is not None:
                missed = self.absences.before(self.polled, self.profile, last, mark)
        await self._append(rows, mark, missed)

    async def read_stored(self, backfill: timedelta, more: Callable[[], bool] = lambda: True) -> bool:
        """Read what the meter stored since the watermark, window by window, oldest first.

        Returns False where it ended early because `more` said no; never without having moved the watermark.
        """
        self._mark = begun_at = await self.journal.watermark(self.meter, self.profile.value)
        self._now = now = self._trusted_now()
        if now is None:
            # Without a trusted present there is no window and no gap: everything since the watermark is taken as
            # it comes, and the watermark stays.
            present = self._meters_present()
            first = None if present is None else present - backfill
            last = None if present is None or present <= self.clock.now() else present + DAY
            await self._read_window(self._since(first), last)
            return True
        if self.seen.trusted:
            self._coverage = stored_rhythm(self.profile, self._mark, self.zone)
        since = self._since(now - backfill)
        # A clock that runs ahead dates its newest rows ahead: they are read while it is known how far.
        end = now + timedelta(seconds=min(max(self.seen.drift or 0.0, 0.0), MOST_AHEAD))
        while since is None or since < end:
            until = end if since is None else min(since + WINDOW, end)
            await self._read_window(since, until)
            since = until
            if since < end and self._mark != begun_at and not more():
                return False
        return True

    def _meters_present(self) -> datetime | None:
        """Return what the meter's clock shows now, by which its rows are dated; None where it was not looked at."""
        if self.seen.drift is None:
            return None
        now = self.clock.now()
        ahead = min(self.seen.drift, (LATEST - now).total_seconds())
        return now + timedelta(seconds=max(ahead, (EARLIEST - now).total_seconds()))

    def _since(self, first: datetime | None) -> datetime | None:
        return first if self._mark is None else self._mark - OVERLAP[self.profile]

    async def _read_window(self, since: datetime | None, until: datetime | None) -> None:
        rows: list[ReadingSet] = []
        try:
            async for row in self._read(since, until):
                rows.append(row)
                if row.start is not None:
                    self.periods[self.meter] = row.at - row.start
                if self._coverage is not None and self._is_stamped_well(row):
                    self._coverage.row(row.start, row.at)
                    self.rows.append((row.start, row.at))
                if len(rows) >= STAMP_ROWS:
                    await self._flush(rows)
                    rows = []
        except Exception:
            # A meter that falls silent in the middle of a window: what it sent before is not read again.
            await self._flush(rows)
            raise
        if self._coverage is not None and until is not None and self._now is not None:
            # The whole window was read: what is missing in it, long past, will not come by itself.
            self._coverage.settled(min(until, self._now - SETTLED[self.profile]))
        await self._flush(rows, whole=until)

    async def _flush(self, rows: list[ReadingSet], whole: datetime | None = None) -> None:
        """Take rows; the watermark moves to the last one, or to `whole`, up to which all was read."""
        mark = None
        if self._now is not None and self.seen.trusted and not self.partial:
            reached = whole or max((row.at for row in rows), default=None)
            if self._coverage is not None:
                # A row that is due may be stored a moment later: only rows and gaps move the watermark. Days and months
                # of which there is none yet are not asked for from the beginning each time.
                nothing_yet = None if self.profile is ProfileName.BLOCK_LOAD else whole
                reached = self._coverage.upto or nothing_yet
            # Never past now: a row that the meter dated ahead would hide all that come before it.
            reached = None if reached is None else min(reached, self._now, self.complete or self._now)
            if reached is not None and (self._mark is None or reached > self._mark):
                self._mark = mark = reached
        await self._append(rows, mark)

    async def reread(self, since: datetime, until: datetime) -> list[ReadingSet]:
        """Read a span again and take what is new; the watermark stays and no gap opens."""
        self._coverage = None
        rows = [row async for row in self._read(since, until)]
        await self._append(rows, None)
        return rows

    async def _append(
        self, rows: list[ReadingSet], mark: datetime | None, opened: tuple[GapRecord, ...] = ()
    ) -> None:
        if self._coverage is not None:
            found = self._coverage.take()
            opened = gaps.records(self.meter, self.profile.value, found, noticed_at=self.clock.now())
        batch = self.appender.batch(
            self.meter,
            rows,
            clock=self.seen,
            watermarks=() if mark is None else ((self.meter, self.profile.value, mark),),
            gaps=opened,
            stored=self.stored,
        )
        self.takings.add(batch, self._journaled)
        await self.takings.make_room()

    def _journaled(self, new: int) -> None:
        self.new += new
        self.takings.captures[self.profile.value] += new

    async def _read(self, since: datetime | None, until: datetime | None) -> AsyncIterator[ReadingSet]:
        async for row in self.session.read(self.profile, since, until):
            self._rows += 1
            if self._rows > MAX_ROWS:
                raise MeterProtocolError(f"more than {MAX_ROWS} rows of {self.profile} in one poll")
            yield row

    def _is_stamped_well(self, row: ReadingSet) -> bool:
        """Whether the row's time can be believed: a wrong one would show gaps that are none."""
        if self._now is not None and is_ahead(row, self._now):
            return False
        return self.seen.trusts(row) and (row.meter_time is None or row.meter_time.trusted)

    def _trusted_now(self) -> datetime | None:
        return self.clock.now() if self.clock.disciplined() else None
