"""When a meter wants its line: what is due, what is tried again and when, how long its silence takes; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE, LAST_RETRY, PolledMeter, Schedule
from gateway.edge.polling.turns import NEVER, Claim
from protocols.reading import ProfileName

EVER = datetime.min.replace(tzinfo=UTC)
JITTER = 0.1
"""Part of each delay that is left to chance."""
PROBE_WITHIN = timedelta(seconds=30)
"""Time after which a try of a dead meter is late: the one that waited longest goes first."""
MOST_PATIENCE = timedelta(minutes=30)
"""Time after which anything due is late, though it be read once a week."""
FIRST_SILENCE = 2.0
"""Seconds that an attempt without an answer takes before one was seen."""
CLOCK_WITHIN = timedelta(hours=1)
"""Time after which the correction of a clock is late: of several the one that waited longest goes first."""
CLOCK_TAKES = 10.0
"""Seconds that the correction of a clock may take."""
BACKFILL_WITHIN = timedelta(hours=1)
"""Time after which the rest of a memory is late: of several the one that waited longest goes first."""
FIRST_WINDOW = 20.0
"""Seconds that a visit for such a rest takes before one was seen."""
MARGIN = 1.1
"""How much longer the next one may take."""
UNSUPPORTED_PROBE = timedelta(days=1)
"""A profile that the meter lacks is asked for again this rarely: it may be empty yet, or come with new firmware."""


class MeterPace:
    """The due profiles of one meter, its back-off, and what it wants of the line (`claim`).

    `dead` says that it did not answer the last time: its next try may cost the line a whole time-out.
    """

    def __init__(self, meter: PolledMeter, schedule: Schedule, now: datetime) -> None:
        self.dead = False
        self.failures = 0
        self.under_way = False
        """Whether what the last visit read is on its way into the journal."""
        self.unsupported: set[ProfileName] = set()
        self._meter = meter
        self._schedule = schedule
        self._due = dict.fromkeys(meter.profiles, now)
        # Meters that failed together do not come back together; each keeps its own rhythm in every run.
        self._backoff = Backoff(FIRST_PROBE, LAST_RETRY, chance=JITTER, rng=Random(meter.meter))
        self._retry_at: datetime | None = None
        self._barred_until = EVER
        self._patient = False
        self._silences: deque[float] = deque([FIRST_SILENCE], maxlen=2)
        self._behind: set[ProfileName] = set()
        self._behind_since = EVER
        self._windows: deque[float] = deque([FIRST_WINDOW], maxlen=2)
        self.clock_at: datetime | None = None
        """When the meter's clock is to be corrected, None where it is not."""
        self._claim: Claim | None = None
        self._claimed_for = EVER

    # -- when

    def next_at(self) -> datetime:
        """Return when it wants to be asked next."""
        return max(self._retry_at or min(self._due.values(), default=NEVER), self._barred_until)

    def due(self, now: datetime, *, rests: bool = True) -> list[ProfileName]:
        """Return the profiles to read at `now`; with `rests` those of which a part of the memory is left, too."""
        return [p for p, at in self._due.items() if at <= now or (rests and p in self._behind)]

    def wanted(self, profiles: Sequence[ProfileName], now: datetime) -> list[ProfileName]:
        """Return those of some profiles that are worth asking for: not what the meter lacks."""
        return [p for p in profiles if p not in self.unsupported or self._due[p] <= now]

    def claims(self, not_before: datetime = EVER) -> Iterator[Claim]:
        """Yield what it wants of its line, and from when: no earlier than `not_before`.

        Beside what is due that is the rest of a long memory, and a clock to be corrected, for which idle wire will do.
        """
        yield self.claim(not_before)
        if self.clock_at is not None and self._retry_at is None:
            at = max(self.clock_at, self._barred_until, not_before)
            yield Claim(
                meter=self._meter.meter,
                urgency=Urgency.CLOCK,
                ready=at,
                wanted_by=at + CLOCK_WITHIN,
                worst=CLOCK_TAKES,
            )
        if self._behind and self._retry_at is None:
            at = max(self._behind_since, self._barred_until, not_before)
            yield Claim(
                meter=self._meter.meter,
                urgency=Urgency.BACKFILL,
                ready=at,
                wanted_by=at + BACKFILL_WITHIN,
                worst=max(self._windows) * MARGIN,
            )

    def claim(self, not_before: datetime = EVER) -> Claim:
        """Return what it wants of its line for what is due or to be tried again."""
        if self._claim is not None and self._claimed_for == not_before:
            return self._claim  # asked for at each turn of the line, and changed by few
        at = self.next_at()
        wait = PROBE_WITHIN if self.dead else self._patience(at)
        self._claimed_for = not_before
        self._claim = Claim(
            meter=self._meter.meter,
            urgency=Urgency.SILENT if self.dead else Urgency.DUE,
            ready=max(at, not_before),
            wanted_by=at if at >= NEVER - wait else at + wait,
            worst=max(self._silences) * MARGIN,
        )
        return self._claim

    def _patience(self, at: datetime) -> timedelta:
        """Return how long after `at` the first of what is due then is overtaken by its next run."""
        due = [profile for profile, due in self._due.items() if due <= at]
        return min([*map(self._schedule.period, due), MOST_PATIENCE])

    # -- wishes

    def resume(self, now: datetime) -> None:
        """Forget failures: try at once."""
        self._backoff.reset()
        self.due_now(now)

    def due_now(self, now: datetime) -> None:
        """Make everything due at `now` at the latest, but what the meter lacks."""
        self._claim = None
        if self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)
        for profile in self._due.keys() - self.unsupported:
            self._due[profile] = min(self._due[profile], now)

    def due_again(self, profiles: Sequence[ProfileName], now: datetime) -> None:
        """Make some profiles due at `now` at the latest."""
        self._claim = None
        for profile in self._due.keys() & set(profiles):
            self._due[profile] = min(self._due[profile], now)

    def wanted_now(self, profile: ProfileName, now: datetime) -> bool:
        """Make one profile due at once (the meter said that there is something); False when it is not read."""
        self._claim = None
        if profile not in self._due or profile in self.unsupported:
            return False
        self._due[profile] = min(self._due[profile], now)
        return True

    def reachable(self, now: datetime) -> None:
        """Note that the meter is there again: what waits to be tried again is tried now.

        Not where it answered and nothing was to be gained by asking soon.
        """
        self._claim = None
        if not self._patient and self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)

    # -- outcome

    def read(self, profile: ProfileName, now: datetime) -> None:
        """Note that a profile was read: it is due at its next time."""
        self._claim = None
        self.unsupported.discard(profile)
        self._behind.discard(profile)
        self._next(profile, now)

    def _next(self, profile: ProfileName, now: datetime) -> None:
        if profile in self._due:
            self._due[profile] = self._schedule.next_due(
                profile, now, self._meter.spec.zone, self._meter.meter
            )

    def behind(self, profile: ProfileName, now: datetime) -> None:
        """Note that a stored profile was read in part: the rest can wait for idle wire, what is new is due as ever."""
        self._claim = None
        self._behind.add(profile)
        self._behind_since = now
        self._next(profile, now)

    def window_took(self, seconds: float) -> None:
        """Note how long a visit for such a rest took the line."""
        self._windows.append(seconds)

    def lacks(self, profile: ProfileName, now: datetime) -> None:
        """Note that the meter has no such profile."""
        self._claim = None
        self.unsupported.add(profile)
        self._due[profile] = now + UNSUPPORTED_PROBE

    def succeeded(self) -> None:
        """Note that the meter answered and gave what was asked for."""
        self._claim = None
        self._backoff.reset()
        self.failures = 0
        self.dead = self._patient = False
        self._retry_at = None
        self._barred_until = EVER

    def failed(
        self, now: datetime, *, dead: bool, at_least: float = 0.0, profile: ProfileName | None = None
    ) -> datetime:
        """Note that an attempt failed, at `profile`, if at one; return when it is tried again.

        `dead` says that nothing answered: then that is soon, at the latest. `at_least` seconds are waited in any case.
        """
        self._claim = None
        self.dead = dead
        self._patient = at_least > 0
        if profile in self._due:
            self._due[profile] = self._due.pop(profile)  # the last next time: the others must not wait for it
        wait = self._backoff.next(at_least=at_least)
        self.failures = self._backoff.failures
        self._retry_at = now + timedelta(seconds=min(wait, LAST_PROBE) if dead else wait)
        return self._retry_at

    def barred(self, until: datetime) -> None:
        """Note that nothing may be asked before `until`: an earlier answer could be taken for that to a new request."""
        self._claim = None
        self._barred_until = until

    def silent_for(self, seconds: float) -> None:
        """Note how long the line was taken by an attempt that it did not answer."""
        self._claim = None
        self._silences.append(seconds)
