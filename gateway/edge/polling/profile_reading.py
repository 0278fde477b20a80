"""One profile of one meter in one poll: what is new, with watermark and gaps, into the takings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.edge.journal.entry import GapRecord, GapState
from gateway.edge.journal.journal import Journal
from gateway.edge.polling import gaps
from gateway.edge.polling.absences import Absences
from gateway.edge.polling.descent import WINDOW, Descent
from gateway.edge.polling.rhythm import SETTLED, Rhythm, Span, stored_rhythm
from gateway.edge.polling.schedule import PolledMeter
from gateway.edge.polling.takings import Takings
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence, is_ahead
from protocols.errors import MeterProtocolError
from protocols.known import Known, keep
from protocols.reading import ProfileName, ReadingSet
from protocols.session import Clock, MeterSession

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
MOST_AHEAD = 35 * 86_400.0
"""Seconds that a meter's clock is followed ahead: beyond, its rows are as good as lost to any range."""
DAY = timedelta(days=1)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 1, tzinfo=UTC)
NEWEST_FIRST = frozenset({ProfileName.BLOCK_LOAD, ProfileName.DAILY})
"""Of these a long memory is read newest first; billing rows are few, and events are numbered upwards."""


@dataclass(slots=True, kw_only=True)
class ProfileReading:
    """One profile of one meter in one poll; `new` counts its new captures, once they are durable.

    `found` are spans of which it saw that they are missing.

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
    known: Known
    rows: list[gaps.Row] = field(default_factory=list)
    found: set[Span] = field(default_factory=set)
    new: int = 0
    partial: bool = False
    complete: datetime | None = None
    _now: datetime | None = None
    _mark: datetime | None = None
    _coverage: Rhythm | None = None
    _rows: int = 0
    _descends: bool = False

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
        """Read what the meter stored since the watermark; a long memory window by window, the newest first.

        Returns False where it ended early because `more` said no; never without having read something.
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
        if since is not None and self.seen.trusted and self.profile in NEWEST_FIRST:
            descent = self.descent(end)
            if descent is not None or end - since > WINDOW + OVERLAP[self.profile]:
                return await self._descend(descent, since, end, more)
        while since is None or since < end:
            until = end if since is None else min(since + WINDOW, end)
            await self._read_window(since, until)
            since = until
            if since < end and self._mark != begun_at and not more():
                return False
        return True

    def descent(self, end: datetime) -> Descent | None:
        """Return how far a long memory was read newest first, where that can be gone on with."""
        held = self.known.get(descent_key(self.meter, self.profile))
        fits = isinstance(held, Descent) and held.fits(self.journal.uuid, self._mark, end)
        return held if fits else None

    async def _descend(
        self, held: Descent | None, since: datetime, end: datetime, more: Callable[[], bool]
    ) -> bool:
        """Read what came since the last visit, then window by window down to `since`; the watermark moves at the end.

        What breaks off is gone on with at the next visit, or begun anew: rows that are there cost nothing.
        """
        self._descends = True
        if held is None:
            going = Descent(journal=self.journal.uuid, mark=self._mark, low=end, top=end)
        else:
            going = await self._rise(held, end)
        may_ask = held is not None
        while going.low > since:
            if may_ask and not more():
                return False
            may_ask = True
            going = await self._fall(going, since)
        self._coverage = stored_rhythm(self.profile, going.upto, self.zone)
        assert self._now is not None
        # Days of which there is none yet are not asked for from the beginning each time.
        reached = going.upto or (end if self.profile is ProfileName.DAILY else None)
        mark = None if reached is None else min(reached, self._now)
        if mark is not None and (self._mark is None or mark > self._mark):
            self._mark = mark
            await self._append([], mark)
        self.takings.finally_do(lambda: self.known.pop(descent_key(self.meter, self.profile), None))
        return True

    async def _rise(self, going: Descent, end: datetime) -> Descent:
        """Read what is newer than all that was read."""
        rhythm = self._coverage = stored_rhythm(self.profile, going.upto, self.zone)
        assert rhythm is not None
        rows = await self._part(going.top - OVERLAP[self.profile], end)
        return await self._joined(going.risen(end, self._settled(rhythm, end), rows[0] if rows else None))

    async def _fall(self, going: Descent, since: datetime) -> Descent:
        """Read the next window below; the last one begins where the watermark stands."""
        low = max(since, going.low - going.window)
        rhythm = self._coverage = stored_rhythm(self.profile, self._mark if low == since else None, self.zone)
        assert rhythm is not None
        try:
            rows = await self._part(low, going.low)
        except Exception:
            self._keep(going.broken())
            raise
        upto = going.upto
        if going.oldest is not None:
            rhythm.row(*going.oldest)  # what is missing between this window and those above
        else:
            upto = self._settled(rhythm, going.top)
        return await self._joined(going.fallen(low, upto, rows[0] if rows else None))

    async def _part(self, since: datetime, until: datetime) -> list[gaps.Row]:
        """Take the rows of a span; return those that are stamped well, oldest first."""
        before = len(self.rows)
        await self._read_window(since, until)
        return sorted(self.rows[before:], key=lambda row: row[1])

    def _settled(self, rhythm: Rhythm, top: datetime) -> datetime | None:
        """Note what is missing at the top, long past; return up to where all is there or missing."""
        assert self._now is not None
        rhythm.settled(min(top, self._now - SETTLED[self.profile]))
        return rhythm.upto

    async def _joined(self, going: Descent) -> Descent:
        """Take the gaps that were found, and keep how far it went."""
        await self._append([], None)
        self._keep(going)
        return going

    def _keep(self, going: Descent) -> None:
        """Keep how far it went, once that is durable."""
        self.takings.finally_do(lambda: keep(self.known, descent_key(self.meter, self.profile), going))

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
        if self._coverage is not None and until is not None and self._now is not None and not self._descends:
            # The whole window was read: what is missing in it, long past, will not come by itself.
            self._coverage.settled(min(until, self._now - SETTLED[self.profile]))
        await self._flush(rows, whole=until)

    async def _flush(self, rows: list[ReadingSet], whole: datetime | None = None) -> None:
        """Take rows; the watermark moves to the last one, or to `whole`, up to which all was read."""
        mark = None
        if self._now is not None and self.seen.trusted and not self.partial and not self._descends:
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
        coverage, self._coverage = self._coverage, None
        try:
            rows = [row async for row in self._read(since, until)]
            await self._append(rows, None)
        finally:
            self._coverage = coverage  # by it, what was told while the meter was away is settled
        return rows

    async def _append(
        self, rows: list[ReadingSet], mark: datetime | None, opened: tuple[GapRecord, ...] = ()
    ) -> None:
        if self._coverage is not None:
            found = self._coverage.take()
            self.found.update(found)
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


def descent_key(meter: str, profile: ProfileName) -> tuple[str, str, str]:
    """Return under which key it is known how far a memory was read newest first."""
    return meter, "", f"descent/{profile}"
