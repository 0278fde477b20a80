"""One meter as the poller sees it: what is due, what happened, when to try next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from gateway.edge.polling.clock_corrections import ClockCorrections
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import (
    MeterHealth,
    MeterReport,
    PollState,
    health_code,
    may_lock_out,
    state_of,
)
from gateway.edge.polling.pace import MeterPace
from gateway.edge.polling.recognise import recognise
from gateway.edge.polling.rhythm import DEFAULT_BLOCK, Span
from gateway.edge.polling.schedule import LAST_RETRY, PolledMeter, Schedule
from gateway.edge.polling.takings import Takings
from gateway.edge.polling.turns import NEVER
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
CLOCK_ATTEMPT = 60.0
"""Seconds after which the correction of a clock is cut off."""
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
    what the journal said where it refused them. The next visit begins after that. `owed` tells for how many seconds
    earlier answers of it may still come.
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
        corrections: ClockCorrections,
        open_setter: OpenMeter | None = None,
        journaled: Journaled,
        owed: Callable[[], float] = lambda: 0.0,
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
        self._learn = learn
        self._clocks = clocks
        self._corrections = corrections
        self._open_setter = open_setter or open_meter
        self._journaled = journaled
        self._owed = owed
        self._since = clock.now()
        self.pace = MeterPace(meter, schedule, self._since)
        self._last_success: datetime | None = None
        self._once_read: set[ProfileName] = set()
        self._has_clock = True
        self._seen_clock: MeterClock | None = None
        self._clock_trusted: bool | None = None
        self._doubted = False
        self._takings: Takings | None = None

    @property
    def dead(self) -> bool:
        """Whether it did not answer the last time: its next try may cost the line a whole timeout."""
        return self.pace.dead

    def resume(self, now: datetime) -> None:
        """Forget failures and a mismatch: try at once."""
        if self.state is PollState.MISMATCH:
            self._change(PollState.NEW)
        self.pace.resume(now)

    @property
    def clock_trusted(self) -> bool | None:
        """Whether the meter's clock was found good; None while it was not looked at."""
        return self._clock_trusted

    # -- doing

    async def attempt(
        self,
        profiles: Sequence[ProfileName],
        span: Span | None = None,
        *,
        more: Callable[[], bool] = lambda: True,
    ) -> MeterReport:
        """Open a session and read these profiles; every failure but JournalError ends up in the report.

        With a `span` their rows of that are read once more, and when they are due stays as it is. Of a long memory a
        part is read at least; `more` is asked whether the line may be held on for the rest.

        What was read is on its way into the journal on return, and counted in the report once it is `durable`.
        A cancel leaves what was taken; the profile in hand is read again from its watermark.
        """
        await self.settled()
        profile: ProfileName | None = None
        self.polls += 1
        now = self._clock.now()
        wanted = self.pace.wanted(profiles, now)
        self._counted = self.captures
        was = self.state
        self._takings = takings = self._collector.takings(partial(self._settle, wanted))
        self.pace.under_way = True
        try:
            async with (
                asyncio.timeout(POLL_ATTEMPT),
                self._open_meter(visit=await self._collector.visit(self.meter.meter, wanted)) as session,
            ):
                # Who it is comes first (a meter was exchanged, an address given twice): nothing may be read
                # into another's account. Then its clock, on which hangs what the rows' times are worth.
                await recognise(session, self.meter.meter)
                clock = await self._check_clock(session)
                if self._learn is not None:
                    await self._learn(self.meter.meter, session)
                for profile in wanted:
                    await self._collect(session, profile, clock, takings, span, more)
        except JournalError as error:
            # Not the meter's fault, and the next meter would fare no better: the poller waits.
            takings.refuse(error)
            raise
        except Exception as error:  # noqa: BLE001 - a driver's bug with one meter must not stop the others
            self._failed(error, profile)
            await self._declare_absence(takings)
        else:
            self._succeeded()
        finally:
            takings.hand_over()
        await self._settle_identity(was)
        return MeterReport(
            meter=self.meter.meter,
            line=self.meter.line,
            captures=takings.captures,
            unsupported=tuple(sorted(self.pace.unsupported)),
            error_code=health_code(self.error),
            error=None if self.error is None else str(self.error) or type(self.error).__name__,
        )

    async def correct_clock(self) -> None:
        """Open a session and put the meter's clock right by a little, if that is still wanted; raises nothing."""
        self.pace.clock_at = None
        meter, again = self.meter, None
        try:
            async with asyncio.timeout(CLOCK_ATTEMPT), self._open_setter(visit=Visit()) as session:
                await recognise(session, meter.meter)
                told, again = await self._corrections.correct(
                    session, meter.meter, meter.spec.time_zone(), self._period()
                )
            if told is not None:
                await self._collector.tell(meter.meter, told)
        except JournalError as error:
            log.error("clock_correction_not_kept", **self._where(), error=str(error))
        except IdentityMismatch:
            self.pace.due_now(self._clock.now())  # its poll settles that
        except Exception as error:  # noqa: BLE001 - a driver's bug with one meter must not stop the others
            self._failed(error, None)
        self.pace.clock_at = again

    def _period(self) -> timedelta | None:
        if ProfileName.BLOCK_LOAD in self.pace.unsupported:
            return DEFAULT_BLOCK
        return self._collector.period(self.meter)

    async def _settle_identity(self, was: PollState) -> None:
        """Where another Modbus meter answers now, it may have given what was read since the last proof."""
        self._doubted = self._collector.doubted(self.meter.meter)
        modbus = self.meter.spec.modbus
        if not isinstance(self.error, IdentityMismatch) or modbus is None:
            return
        await self.settled()
        news = was is not PollState.MISMATCH
        try:
            await self._collector.disproved(self.meter.meter, modbus, self.error, news=news)
        except JournalError as error:  # the next look at who answers tries again
            log.error("settling_refused", **self._where(), error=str(error))

    async def _declare_absence(self, takings: Takings) -> None:
        """Say what is due of the meter and was not read."""
        try:
            await self._collector.absent(self.meter, takings)
        except JournalError as error:  # the next attempt says it
            log.error("absence_refused", **self._where(), error=str(error))

    @property
    def under_way(self) -> bool:
        """Whether what the last visit read is on its way into the journal: watermarks and gaps are old ones."""
        return self.pace.under_way

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
        self.pace.under_way = False
        if error is not None:
            log.error("journal_refused", **self._where(), error=str(error))
            self.pace.due_again(profiles, self._clock.now())
        self._journaled(new, error)

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
        self.pace.clock_at = self._corrections.seen(
            self.meter.meter, seen, self.meter.spec.time_zone(), self._period()
        )
        before = self._clock_trusted
        self._seen_clock, self._clock_trusted = seen, evidence.trusted
        if before is not False and not self._clock_trusted:
            log.warning("meter_clock_distrusted", **self._where(), drift=seen.drift, status=seen.status)
        return evidence

    async def _collect(
        self,
        session: MeterSession,
        profile: ProfileName,
        clock: MeterEvidence,
        takings: Takings,
        span: Span | None,
        more: Callable[[], bool],
    ) -> None:
        try:
            whole = await self._collector.collect(
                session, self.meter, profile, clock=clock, takings=takings, span=span, more=more
            )
        except NotSupported as error:
            if profile in self._once_read:
                # It has the profile: whatever made it say no this time, the next poll asks again, and the
                # failure shows.
                raise MeterRefused(f"{profile} was read before: {error}") from error
            self.pace.lacks(profile, self._clock.now())
            log.info("profile_unsupported", **self._where(), profile=profile.value)
            return
        self._once_read.add(profile)
        takings.captures[profile.value] += 0  # to be told, whether anything of it is new or not
        if not whole:
            self.pace.behind(profile, self._clock.now())
        elif span is None:
            self.pace.read(profile, self._clock.now())

    # -- outcome

    def _succeeded(self) -> None:
        self.pace.succeeded()
        self.error = None
        self._last_success = self._clock.now()
        lacks_all = self.pace.unsupported.issuperset(self.meter.profiles)
        self._change(PollState.UNSUPPORTED if lacks_all else PollState.OK)

    def _failed(self, error: Exception, profile: ProfileName | None) -> None:
        self.failed_polls += 1
        self.error = error
        self._change(state_of(error))
        mismatch = self.state is PollState.MISMATCH
        if mismatch:
            at_least = MISMATCH_PROBE
        elif may_lock_out(error) or isinstance(error, MeterConfigError):
            # Meters lock a client out after a few wrong passwords; and only a person mends a configuration.
            at_least = LAST_RETRY
        else:
            at_least = 0.0
        now, dead = self._clock.now(), self.state is PollState.SILENT
        retry_at = self.pace.failed(now, dead=dead, at_least=at_least, profile=profile)
        if isinstance(error, AnswerOwed):
            self.pace.barred(now + timedelta(seconds=error.seconds))
        elif dead and self.pace.failures > 1:
            # The first failure may be one late answer, beside which others can be asked for. A meter that is dead
            # is left alone until nothing of it can come any more: a try before would only wait on the line.
            self.pace.barred(now + timedelta(seconds=self._owed()))
        report = log.warning if isinstance(error, ProtocolError) else log.exception
        failures = self.pace.failures
        if dead and failures & (failures - 1):
            # A dead meter is tried every half minute or so: the 1st, 2nd, 4th, 8th … time is told.
            report = log.debug
        report(
            "other_meter_answered" if mismatch else "poll_failed",
            **self._where(),
            profile=profile.value if profile else None,
            code=health_code(error),
            error=str(error),
            next_try=max(retry_at, self.pace.next_at()).isoformat(),
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
        next_at = self.pace.next_at()
        return MeterHealth(
            meter=self.meter.meter,
            line=self.meter.line,
            state=self.state,
            since=self._since,
            last_success=self._last_success,
            error_code=health_code(self.error),
            error=None if self.error is None else str(self.error),
            failures=self.pace.failures,
            next_try=None if next_at == NEVER else next_at,
            drift=drift,
            drift_alarm=self._seen_clock is not None and self._seen_clock.is_off(DRIFT_ALARM.total_seconds()),
            clock_trusted=self._clock_trusted,
            captures=self.captures,
            unsupported=tuple(sorted(self.pace.unsupported)),
        )
