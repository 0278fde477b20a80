"""What is not read when it is due: declared while the meter is away, and where it keeps nothing, at once for good."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from gateway.edge.journal.entry import GapRecord, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.polling import gaps
from gateway.edge.polling.rhythm import SETTLED, Rhythm, Snapshots, Span, stored_rhythm
from gateway.edge.polling.schedule import PolledMeter, Schedule
from protocols.reading import ProfileName
from protocols.session import Clock

MOST_APART = timedelta(days=1)
"""Time between two words on one absence, which doubles from the profile's period on: a dead meter costs few of them."""
SNAPSHOTS = frozenset({ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT})


@dataclass(slots=True)
class _Absence:
    """One profile of a meter that is away: up to when it was declared, when to look again, and after how long then."""

    told: datetime | None
    look_at: datetime
    wait: timedelta


class Absences:
    """Declares what is due and absent. `counted` are the snapshots that matter for every meter.

    Of a meter that is read for nothing that it keeps, the instantaneous values matter always: without them its
    outage would leave no trace among the readings.
    """

    def __init__(
        self, journal: Journal, clock: Clock, schedule: Schedule, counted: Collection[ProfileName] = ()
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._schedule = schedule
        self._counted = frozenset(counted)
        self._away: dict[tuple[str, ProfileName], _Absence] = {}

    def counts(self, meter: PolledMeter, profile: ProfileName) -> bool:
        """Say whether snapshots of this profile that are not read matter."""
        if profile in self._counted:
            return profile in SNAPSHOTS
        return profile is ProfileName.INSTANTANEOUS and SETTLED.keys().isdisjoint(meter.profiles)

    def before(
        self, meter: PolledMeter, profile: ProfileName, last: datetime, at: datetime
    ) -> tuple[GapRecord, ...]:
        """Return the gaps between the last snapshot and one that was read now."""
        away = self._away.get((meter.meter, profile))
        told = None if away is None else away.told
        rhythm = self._snapshots(meter, profile, last if told is None else max(last, told))
        rhythm.row(None, at)
        return self._lost(meter, profile, rhythm.take())

    def is_back(self, meter: PolledMeter, profile: ProfileName) -> None:
        """Note that a profile was read: its next absence is told at once."""
        self._away.pop((meter.meter, profile), None)

    async def batch(self, meter: PolledMeter) -> JournalBatch:
        """Return what is to be declared of a meter that could not be read now; raises JournalError."""
        if not self._clock.disciplined():
            return JournalBatch()
        now, zone = self._clock.now(), ZoneInfo(meter.spec.zone)
        found: list[GapRecord] = []
        for profile in meter.profiles:
            snapshot = self.counts(meter, profile)
            if not snapshot and profile not in SETTLED:
                continue
            away = self._away.setdefault(
                (meter.meter, profile), _Absence(None, now, self._schedule.period(profile))
            )
            if now < away.look_at:
                continue
            away.look_at = now + self._schedule.period(profile)
            since = await self._declared_upto(meter.meter, profile, away)
            rhythm: Rhythm | None = (
                self._snapshots(meter, profile, since) if snapshot else stored_rhythm(profile, since, zone)
            )
            if since is None or rhythm is None:
                continue
            rhythm.settled(now - SETTLED.get(profile, timedelta(0)))
            spans = rhythm.take()
            if not spans:
                continue
            away.told = spans[-1][1]
            away.look_at = now + away.wait
            away.wait = min(2 * away.wait, max(MOST_APART, self._schedule.period(profile)))
            whole = [(since, away.told)]
            if snapshot:
                found += self._lost(meter, profile, whole)
            else:
                found += gaps.records(meter.meter, profile.value, whole, noticed_at=now, reason=gaps.NOT_READ)
        return JournalBatch(gaps=tuple(found))

    async def _declared_upto(self, meter: str, profile: ProfileName, away: _Absence) -> datetime | None:
        """Return up to when what is missing was read or declared; None where nothing was read ever."""
        mark = await self._journal.watermark(meter, profile.value)
        if mark is None:
            return None
        if away.told is None:
            told = [gap.until for gap in await self._journal.open_gaps(meter, profile.value)]
            away.told = max(told, default=mark)
        return max(mark, away.told)

    def _snapshots(self, meter: PolledMeter, profile: ProfileName, upto: datetime | None) -> Rhythm:
        boundary = partial(self._boundary, meter, profile)
        return Snapshots(upto, boundary, self._schedule.period(profile))

    def _boundary(self, meter: PolledMeter, profile: ProfileName, at: datetime) -> datetime:
        return self._schedule.boundary(profile, at, meter.spec.zone, meter.meter)

    def _lost(self, meter: PolledMeter, profile: ProfileName, spans: Iterable[Span]) -> tuple[GapRecord, ...]:
        return gaps.records(
            meter.meter,
            profile.value,
            spans,
            noticed_at=self._clock.now(),
            state=gaps.UNFILLABLE,
            reason=gaps.NO_MEMORY,
        )
