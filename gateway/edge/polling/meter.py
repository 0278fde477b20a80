"""One meter as the poller sees it: what is due, what happened, when to try next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import (
    MeterHealth,
    MeterReport,
    PollState,
    health_code,
    may_lock_out,
    state_of,
)
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE, LAST_RETRY, PolledMeter, Schedule
from gateway.edge.polling.takings import Takings
from gateway.edge.polling.turns import NEVER, Claim
from gateway.edge.stamping.clocks import DRIFT_ALARM, MeterClocks, MeterEvidence
from gateway.errors import JournalError
from protocols.errors import (
    AnswerOwed,
    IdentityMismatch,
    MeterConfigError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.reading import MeterClock, ProfileName
from protocols.session import Clock, MeterSession, Visit

POLL_ATTEMPT = 1_800.0
"""Seconds after which one session is cut off: a meter that dribbles must not hold its line for ever."""
PROBE_WITHIN = timedelta(seconds=30)
"""Time after which a try of a dead meter is late: the one that waited longest goes first."""
FIRST_SILENCE = 2.0
"""Seconds that an attempt without an answer takes before one was seen."""
MARGIN = 1.1
"""How much longer the next one may take."""
UNSUPPORTED_PROBE = timedelta(days=1)
"""A profile that the meter lacks is asked for again this rarely: it may be empty yet, or come with new firmware."""
MISMATCH_PROBE = 900.0
"""Seconds: where another meter answers nothing is read; its identity is asked this rarely."""
log = structlog.get_logger("gateway.edge.polling")


class OpenMeter(Protocol):
    """Opens a session with this poll's meter."""

    def __call__(self, *, visit: Visit) -> AbstractAsyncContextManager[MeterSession]: ...


Learn = Callable[[str, MeterSession], Awaitable[None]]
"""What else an open session with a meter is good for, before its profiles are read."""
Journaled = Callable[[int, JournalError | None], None]


class MeterPoll:
    """One meter: its due profiles, back-off and health. `lock` is held while it is read.

    What was read is in the journal a moment later; `journaled` then hears how many captures of the visit were new, and
    what the journal said where it refused them. The next visit begins after that.
    """

    def __init__(
        self,
        meter: PolledMeter,
        open_meter: OpenMeter,
        collector: Collector,
        *,
        clock: Clock,
        schedule: Schedule,
        clocks: MeterClocks,
        journaled: Journaled,
        learn: Learn | None = None,
    ) -> None:
        self.meter = meter
        self.lock = asyncio.Lock()
        self.state = PollState.NEW
        self.polls = self.failed_polls = self._counted = 0
        self.error: Exception | None = None
        self._open_meter = open_meter
        self._collector = collector
        self._clock = clock
        self._schedule = schedule
        self._learn = learn
        self._clocks = clocks
        self._journaled = journaled
        self._since = clock.now()
        self._due = dict.fromkeys(meter.profiles, self._since)
        self._backoff = Backoff(FIRST_PROBE, LAST_RETRY, chance=0.0)
        self._silences: deque[float] = deque([FIRST_SILENCE], maxlen=2)
        self._retry_at: datetime | None = None
        self._last_success: datetime | None = None
        self._unsupported: set[ProfileName] = set()
        self._once_read: set[ProfileName] = set()
        self._has_clock = True
        self._seen_clock: MeterClock | None = None
        self._clock_trusted: bool | None = None
        self._doubted = False
        self._takings: Takings | None = None

    # -- when

    @property
    def dead(self) -> bool:
        """Whether it did not answer the last time: its next try may cost the line a whole timeout."""
        return self.state is PollState.SILENT

    def next_at(self) -> datetime:
        """Return when it wants to be asked next, the budget of dead meters aside.

        Where another meter answered, only its identity is asked now and then: the right one may be back.
        """
        return self._retry_at or min(self._due.values(), default=NEVER)

    def claim(self, not_before: datetime) -> Claim:
        """Return what it wants of its line, and from when: no earlier than `not_before`."""
        at = self.next_at()
        wait = PROBE_WITHIN if self.dead else self._patience(at)
        return Claim(
            meter=self.meter.meter,
            urgency=Urgency.SILENT if self.dead else Urgency.DUE,
            ready=max(at, not_before),
            deadline=at if at >= NEVER - wait else at + wait,
            worst=max(self._silences) * MARGIN,
        )

    def silent_for(self, seconds: float) -> None:
        """Note how long the line was taken by an attempt that it did not answer."""
        self._silences.append(seconds)

    def due(self, now: datetime) -> list[ProfileName]:
        """Return the profiles to read at `now`."""
        return [profile for profile, at in self._due.items() if at <= now]

    def _patience(self, at: datetime) -> timedelta:
        """Return how long after `at` the first of what is due then is overtaken by its next run."""
        due = [profile for profile, due in self._due.items() if due <= at]
        return min(map(self._schedule.period, due), default=timedelta(0))

    def resume(self, now: datetime) -> None:
        """Forget failures and a mismatch: try at once."""
        self._backoff.reset()
        if self.state is PollState.MISMATCH:
            self._change(PollState.NEW)
        self.due_now(now)

    def due_now(self, now: datetime) -> None:
        """Make everything due at `now` at the latest, but what the meter lacks."""
        if self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)
        for profile in self._due.keys() - self._unsupported:
            self._due[profile] = min(self._due[profile], now)

    def wanted_now(self, profile: ProfileName, now: datetime) -> bool:
        """Make one profile due at once (the meter said that there is something); False when it is not read."""
        if profile not in self._due or profile in self._unsupported:
            return False
        self._due[profile] = min(self._due[profile], now)
        return True

    def reachable(self, now: datetime) -> None:
        """Note that the meter is there again: what waits to be tried again is tried now."""
        if self.state is not PollState.MISMATCH and self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)

    @property
    def clock_trusted(self) -> bool | None:
        """Whether the meter's clock was found good; None while it was not looked at."""
        return self._clock_trusted

    # -- doing

    async def attempt(self, profiles: Sequence[ProfileName]) -> MeterReport:
        """Open a session and read these profiles; every failure but JournalError ends up in the report.

        What was read is on its way into the journal on return, and counted in the report once it is `durable`.
        A cancel leaves what was taken; the profile in hand is read again from its watermark.
        """
        await self.settled()
        profile: ProfileName | None = None
        self.polls += 1
        now = self._clock.now()
        wanted = [p for p in profiles if p not in self._unsupported or self._due[p] <= now]
        self._counted = self.captures
        was = self.state
        self._takings = takings = self._collector.takings(partial(self._settle, wanted))
        try:
            async with (
                asyncio.timeout(POLL_ATTEMPT),
                self._open_meter(visit=await self._collector.visit(self.meter.meter, wanted)) as session,
            ):
                # Who it is comes first (a meter was exchanged, an address given twice): nothing may be read
                # into another's account. Then its clock, on which hangs what the rows' times are worth.
                await self._recognise(session)
                clock = await self._check_clock(session)
                if self._learn is not None:
                    await self._learn(self.meter.meter, session)
                for profile in wanted:
                    await self._collect(session, profile, clock, takings)
        except JournalError as error:
            # Not the meter's fault, and the next meter would fare no better: the poller waits.
            takings.refuse(error)
            raise
        except Exception as error:  # noqa: BLE001 - a driver's bug with one meter must not stop the others
            self._failed(error, profile)
        else:
            self._succeeded()
        finally:
            takings.hand_over()
        await self._settle_identity(was)
        return MeterReport(
            meter=self.meter.meter,
            line=self.meter.line,
            captures=takings.captures,
            unsupported=tuple(sorted(self._unsupported)),
            error_code=health_code(self.error),
            error=None if self.error is None else str(self.error) or type(self.error).__name__,
        )

    async def _settle_identity(self, was: PollState) -> None:
        """Where another Modbus meter answers now, it may have given what was read since the last proof."""
        self._doubted = self._collector.doubted(self.meter.meter)
        if not isinstance(self.error, IdentityMismatch) or self.meter.spec.modbus is None:
            return
        await self.settled()
        news = was is not PollState.MISMATCH
        try:
            await self._collector.disproved(self.meter.meter, self.error, news=news)
        except JournalError as error:  # the next look at who answers tries again
            log.error("settling_refused", **self._where(), error=str(error))

    @property
    def under_way(self) -> bool:
        """Whether what the last visit read is on its way into the journal: watermarks and gaps are old ones."""
        return self._takings is not None and not self._takings.ended

    async def durable(self) -> None:
        """Wait until what the last visit read is in the journal.

        Raises JournalError where it was refused: then the profiles of that visit are due again.
        """
        if self._takings is not None:
            await self._takings.durable()

    async def settled(self) -> None:
        """Wait until what the last visit read is in the journal, or refused."""
        with suppress(JournalError):
            await self.durable()

    @property
    def captures(self) -> int:
        """How many new captures its visits brought into the journal."""
        return self._counted + (0 if self._takings is None else self._takings.captures.total())

    def _settle(self, profiles: Sequence[ProfileName], new: int, error: JournalError | None) -> None:
        if error is not None:
            log.error("journal_refused", **self._where(), error=str(error))
            for profile in self._due.keys() & profiles:
                self._due[profile] = min(self._due[profile], self._clock.now())
        self._journaled(new, error)

    async def _recognise(self, session: MeterSession) -> None:
        """Make sure that the right meter answers, before anything is read."""
        try:
            nameplate = await session.identify()
        except NotSupported:
            return  # a model without a serial register: the configuration stands for it
        expected = self.meter.meter.partition(":")[2]
        if expected and nameplate.serial and nameplate.serial.strip() != expected:
            raise IdentityMismatch(expected=self.meter.meter, found=nameplate.meter_id)

    async def _check_clock(self, session: MeterSession) -> MeterEvidence:
        """Look at the meter's clock; return what that says of its rows.

        A meter without a clock, or one that hides it, is trusted row by row.
        """
        if not self._has_clock:
            return MeterEvidence()
        try:
            seen = await session.clock()
        except NotSupported:
            self._has_clock = False
            return MeterEvidence()
        except MeterRefused:
            return MeterEvidence()
        evidence = self._clocks.seen(self.meter.meter, seen)
        if not self._clock.disciplined():
            # Whoever does not know the time cannot say whose clock is wrong, nor that one should be set.
            self._seen_clock = self._clock_trusted = None
            return evidence
        before = self._clock_trusted
        self._seen_clock, self._clock_trusted = seen, evidence.trusted
        if before is not False and not self._clock_trusted:
            log.warning("meter_clock_distrusted", **self._where(), drift=seen.drift, status=seen.status)
        return evidence

    async def _collect(
        self, session: MeterSession, profile: ProfileName, clock: MeterEvidence, takings: Takings
    ) -> None:
        try:
            await self._collector.collect(session, self.meter.meter, profile, clock=clock, takings=takings)
        except NotSupported as error:
            if profile in self._once_read:
                # It has the profile: whatever made it say no this time, the next poll asks again, and the
                # failure shows.
                raise MeterRefused(f"{profile} was read before: {error}") from error
            self._unsupported.add(profile)
            self._due[profile] = self._clock.now() + UNSUPPORTED_PROBE
            log.info("profile_unsupported", **self._where(), profile=profile.value)
            return
        self._once_read.add(profile)
        self._unsupported.discard(profile)
        takings.captures[profile.value] += 0  # to be told, whether anything of it is new or not
        if profile in self._due:
            now, zone = self._clock.now(), self.meter.spec.zone
            self._due[profile] = self._schedule.next_due(profile, now, zone, self.meter.meter)

    # -- outcome

    def _succeeded(self) -> None:
        self._backoff.reset()
        self.error = self._retry_at = None
        self._last_success = self._clock.now()
        lacks_all = self._unsupported.issuperset(self.meter.profiles)
        self._change(PollState.UNSUPPORTED if lacks_all else PollState.OK)

    def _failed(self, error: Exception, profile: ProfileName | None) -> None:
        self.failed_polls += 1
        self.error = error
        if profile in self._due:
            self._due[profile] = self._due.pop(profile)  # the last next time: the others must not wait for it
        self._change(state_of(error))
        mismatch = self.state is PollState.MISMATCH
        if mismatch:
            at_least = MISMATCH_PROBE
        elif may_lock_out(error) or isinstance(error, MeterConfigError):
            # Meters lock a client out after a few wrong passwords; and only a person mends a configuration.
            at_least = LAST_RETRY
        elif isinstance(error, AnswerOwed):
            at_least = error.seconds  # it was not asked at all: sooner would be the same
        else:
            at_least = 0.0
        wait = self._backoff.next(at_least=at_least)
        if self.dead:
            wait = min(wait, LAST_PROBE)
        self._retry_at = self._clock.now() + timedelta(seconds=wait)
        report = log.warning if isinstance(error, ProtocolError) else log.exception
        failures = self._backoff.failures
        if self.dead and failures & (failures - 1):
            report = (
                log.debug
            )  # a dead meter is tried every half minute: the 1st, 2nd, 4th, 8th … time is told
        report(
            "other_meter_answered" if mismatch else "poll_failed",
            **self._where(),
            profile=profile.value if profile else None,
            code=health_code(error),
            error=str(error),
            next_try=self._retry_at.isoformat(),
        )

    def _change(self, state: PollState) -> None:
        if state is not self.state:
            self.state, self._since = state, self._clock.now()

    def _where(self) -> dict[str, str]:
        return {"meter": self.meter.meter, "line": self.meter.line}

    @property
    def told(self) -> str:
        """Its health in one word, as the status tells it: new, ok, or the stable code of what is wrong.

        `meter_clock` is told by a gateway that knows the time, of a meter that has no other fault, and
        `readings_suspect` of one that gives values that are not believed.
        """
        if self.state is PollState.NEW:
            return "new"
        doubtful = "readings_suspect" if self._doubted else "ok"
        doubtful = "meter_clock" if self._clock_trusted is False else doubtful
        return health_code(self.error) or doubtful

    def health(self) -> MeterHealth:
        """Return the meter's health, frozen."""
        drift = None if self._seen_clock is None else self._seen_clock.drift
        next_at = self.next_at()
        return MeterHealth(
            meter=self.meter.meter,
            line=self.meter.line,
            state=self.state,
            since=self._since,
            last_success=self._last_success,
            error_code=health_code(self.error),
            error=None if self.error is None else str(self.error),
            failures=self._backoff.failures,
            next_try=None if next_at == NEVER else next_at,
            drift=drift,
            drift_alarm=self._seen_clock is not None and self._seen_clock.is_off(DRIFT_ALARM.total_seconds()),
            clock_trusted=self._clock_trusted,
            captures=self.captures,
            unsupported=tuple(sorted(self._unsupported)),
        )
