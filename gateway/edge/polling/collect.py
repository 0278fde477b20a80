"""Collecting: one profile of one meter from an open session, from its watermark on, for the journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import structlog

from gateway.edge.journal.entry import GapState, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.polling import gaps
from gateway.edge.polling.absences import Absences
from gateway.edge.polling.descent import Descent
from gateway.edge.polling.event_logs import EventLogs
from gateway.edge.polling.profile_reading import OVERLAP, ProfileReading, descent_key
from gateway.edge.polling.rhythm import DEFAULT_BLOCK, SETTLED, Span
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.polling.settling import Settlement
from gateway.edge.polling.takings import Settle, Takings
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence
from gateway.edge.stamping.remarks import event_of
from protocols.errors import IdentityMismatch
from protocols.known import Known
from protocols.modbus.belief.memories import remembered
from protocols.reading import ProfileName, Remark
from protocols.session import Clock, MeterSession, ModbusSettings, TellsEventNews, Visit

STORED = frozenset({ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS})
"""Profiles that the meter keeps; the others are read as they are now."""
PRESENT_MEMORY = timedelta(days=3)
"""Profiles that are read as they are now: after this long no read and no late push brings one again."""
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
            held = self._known.get(descent_key(meter, ProfileName.BLOCK_LOAD))
            if isinstance(held, Descent) and held.fits(self._journal.uuid, mark, now):
                mark = held.top
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
        reading = ProfileReading(
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
            known=self._known,
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

    async def _reread(self, reading: ProfileReading, since: datetime, until: datetime) -> None:
        rows = [(row.start, row.at) for row in await reading.reread(since, until)]
        if reading.profile not in SETTLED:
            return
        for gap in await self._journal.open_gaps(reading.meter, reading.profile.value):
            if gaps.covers(rows, gap, reading.zone):
                self._close(reading, gap, gaps.FILLED)

    async def _collect_events(self, reading: ProfileReading) -> None:
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

    async def _retry_gaps(self, reading: ProfileReading) -> None:
        now = self._clock.now()
        for gap in await self._journal.open_gaps(reading.meter, reading.profile.value):
            if (gap.after, gap.until) in reading.found:
                continue  # the same span as was told while the meter was away: it is not in its memory
            if reading.settles(gap):
                self._close(reading, gap, gaps.FILLED)
            elif gaps.retry_due(gap, self._retried.get(gap.gap_id), now):
                self._retried[gap.gap_id] = now
                await self._retry(reading, gap, now)

    async def _retry(self, reading: ProfileReading, gap: GapState, now: datetime) -> None:
        rows = await reading.reread(gap.after, gaps.reach(gap))
        if gaps.covers(((row.start, row.at) for row in rows), gap, reading.zone):
            self._close(reading, gap, gaps.FILLED)
        elif gaps.hopeless(gap, now):
            self._close(reading, gap, gaps.UNFILLABLE)

    def _close(self, reading: ProfileReading, gap: GapState, state: str) -> None:
        # After the rows themselves: what breaks off between them leaves a gap open that is full, and it is read
        # once more; the other way round it would be called full and stay empty.
        reading.takings.add(JournalBatch(gaps=(gaps.closed(gap, state),)), lambda _: None)
        reading.takings.finally_do(lambda: self._retried.pop(gap.gap_id, None))
