"""One meter and one line as the poller sees them: what is due, what happened, when to try next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import structlog

from gateway.backoff import Backoff
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import (
    DRIFT_ALARM,
    LineHealth,
    MeterHealth,
    MeterReport,
    MeterState,
    clock_is_trusted,
    may_lock_out,
    state_of,
)
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE, DeadBudget, PolledMeter, Schedule
from gateway.errors import JournalError
from protocols.errors import (
    IdentityMismatch,
    LineUnavailable,
    MeterConfigError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.line import Line
from protocols.reading import MeterClock, ProfileName
from protocols.session import Clock, MeterSession, MeterSpec

POLL_ATTEMPT = 1_800.0
"""Seconds after which one conversation is cut off: a meter that dribbles must not hold its line for ever."""
FORGIVE_EVERY = timedelta(minutes=30)
NEVER = datetime.max.replace(tzinfo=UTC)
UNSUPPORTED_PROBE = timedelta(days=1)
"""A profile that the meter lacks is asked for again this rarely: it may be empty yet, or come with new firmware."""
MISMATCH_PROBE = 900.0
"""Seconds: where another meter answers nothing is read; its identity is asked this rarely."""
_log = structlog.get_logger("poller")

Learn = Callable[[str, MeterSession], Awaitable[None]]
"""What else an open session with a meter is good for, before its profiles are read."""
SessionOn = Callable[[Line, MeterSpec], AbstractAsyncContextManager[MeterSession]]


class MeterPoll:
    """One meter: its due profiles, back-off and health."""

    def __init__(
        self,
        meter: PolledMeter,
        line: Line,
        collector: Collector,
        session_on: SessionOn,
        *,
        clock: Clock,
        schedule: Schedule,
        learn: Learn | None = None,
    ) -> None:
        self.meter = meter
        self.lock = asyncio.Lock()
        self.state = MeterState.NEW
        self.polls = self.failed_polls = self.captures = 0
        self.error: Exception | None = None
        self._line = line
        self._collector = collector
        self._session_on = session_on
        self._clock = clock
        self._schedule = schedule
        self._learn = learn
        self._since = clock.now()
        self._due = dict.fromkeys(meter.profiles, self._since)
        self._backoff = Backoff(FIRST_PROBE, LAST_PROBE, chance=0.0)
        self._retry_at: datetime | None = None
        self._last_success: datetime | None = None
        self._unsupported: set[ProfileName] = set()
        self._worked: set[ProfileName] = set()
        self._has_clock = True
        self._seen_clock: MeterClock | None = None
        self._clock_trusted: bool | None = None

    # -- when

    @property
    def dead(self) -> bool:
        """Whether it did not answer the last time."""
        return self.state is MeterState.SILENT

    def next_at(self) -> datetime:
        """When it wants to be asked next, the budget of dead meters aside.

        Where another meter answered, only its identity is asked now and then: the right one may be back.
        """
        return self._retry_at or min(self._due.values(), default=NEVER)

    def due(self, now: datetime) -> list[ProfileName]:
        """Profiles to read at `now`."""
        return [profile for profile, at in self._due.items() if at <= now]

    def resume(self, now: datetime) -> None:
        """Forget failures and a mismatch: try at once."""
        self._backoff.reset()
        if self.state is MeterState.MISMATCH:
            self._change(MeterState.NEW)
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
        """The meter is there again: what waits to be tried again is tried now."""
        if self.state is not MeterState.MISMATCH and self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)

    @property
    def clock_trusted(self) -> bool | None:
        """Whether the meter's clock was found good; None while it was not looked at."""
        return self._clock_trusted

    # -- doing

    async def attempt(self, profiles: Sequence[ProfileName]) -> MeterReport:
        """Open a session and read these profiles; every failure but the journal's ends up in the report."""
        done: dict[str, int] = {}
        doing: ProfileName | None = None
        self.polls += 1
        now = self._clock.now()
        wanted = [p for p in profiles if p not in self._unsupported or self._due[p] <= now]
        try:
            async with (
                asyncio.timeout(POLL_ATTEMPT),
                self._session_on(self._line, self.meter.spec) as session,
            ):
                await self._recognise(session)
                trusted = await self._check_clock(session)
                if self._learn is not None:
                    await self._learn(self.meter.meter, session)
                for doing in wanted:
                    await self._profile(session, doing, trusted, done)
        except JournalError as error:
            _log.error("journal takes nothing", **self._where(), error=str(error))
            raise
        except Exception as error:  # noqa: BLE001 - a driver's bug with one meter must not stop the others
            self._failed(error, doing)
        else:
            self._succeeded()
        return self._report(done)

    async def _recognise(self, session: MeterSession) -> None:
        """Make sure that the right meter answers, before anything is read."""
        try:
            nameplate = await session.identify()
        except NotSupported:
            return  # a model without a serial register: the configuration stands for it
        expected = self.meter.meter.partition(":")[2]
        if expected and nameplate.serial and nameplate.serial.strip() != expected:
            raise IdentityMismatch(expected=self.meter.meter, found=nameplate.meter_id)

    async def _check_clock(self, session: MeterSession) -> bool:
        """Measure the drift; a meter without a clock, or one that hides it, is trusted row by row."""
        if not self._has_clock:
            return True
        try:
            seen = await session.clock()
        except NotSupported:
            self._has_clock = False
            return True
        except MeterRefused:
            return True
        was = self._clock_trusted
        self._seen_clock, self._clock_trusted = seen, clock_is_trusted(seen)
        if self._clock_trusted is not was and not self._clock_trusted:
            _log.warning("meter clock not trusted", **self._where(), drift=seen.drift, status=seen.status)
        return self._clock_trusted or not self._clock.disciplined()

    async def _profile(
        self, session: MeterSession, profile: ProfileName, trusted: bool, done: dict[str, int]
    ) -> None:
        try:
            new = await self._collector.collect(session, self.meter, profile, clock_trusted=trusted)
        except NotSupported as error:
            if profile in self._worked:  # it has it: what failed now is tried again, and seen
                raise MeterRefused(f"{profile} was read before: {error}") from error
            self._unsupported.add(profile)
            self._due[profile] = self._clock.now() + UNSUPPORTED_PROBE
            _log.info("profile not supported", **self._where(), profile=profile.value)
            return
        self._worked.add(profile)
        self._unsupported.discard(profile)
        done[profile.value] = new
        self.captures += new
        if profile in self._due:
            self._due[profile] = self._schedule.next_due(profile, self._clock.now(), self.meter.spec.zone)

    # -- outcome

    def _succeeded(self) -> None:
        self._backoff.reset()
        self.error = self._retry_at = None
        self._last_success = self._clock.now()
        every = self._unsupported.issuperset(self.meter.profiles)
        self._change(MeterState.UNSUPPORTED if every else MeterState.OK)

    def _failed(self, error: Exception, doing: ProfileName | None) -> None:
        self.failed_polls += 1
        self.error = error
        if doing in self._due:
            self._due[doing] = self._due.pop(doing)  # the last next time: the others must not wait for it
        self._change(state_of(error))
        slow = may_lock_out(error) or isinstance(error, MeterConfigError)
        stopped = self.state is MeterState.MISMATCH
        at_least = MISMATCH_PROBE if stopped else LAST_PROBE if slow else 0.0
        self._retry_at = self._clock.now() + timedelta(seconds=self._backoff.next(at_least=at_least))
        log = _log.warning if isinstance(error, ProtocolError) else _log.exception
        log(
            "meter stopped: another one answers" if stopped else "poll failed",
            **self._where(),
            profile=doing.value if doing else None,
            code=code_of(error),
            error=str(error),
            next_try=self._retry_at.isoformat(),
        )

    def _change(self, state: MeterState) -> None:
        if state is not self.state:
            self.state, self._since = state, self._clock.now()

    def _where(self) -> dict[str, str]:
        return {"meter": self.meter.meter, "line": self.meter.line}

    def _report(self, done: dict[str, int]) -> MeterReport:
        return MeterReport(
            meter=self.meter.meter,
            line=self.meter.line,
            captures=done,
            unsupported=tuple(sorted(self._unsupported)),
            error_code=code_of(self.error),
            error=None if self.error is None else str(self.error) or type(self.error).__name__,
        )

    def health(self) -> MeterHealth:
        """Return a frozen copy."""
        drift = None if self._seen_clock is None else self._seen_clock.drift
        next_at = self.next_at()
        return MeterHealth(
            meter=self.meter.meter,
            line=self.meter.line,
            state=self.state,
            since=self._since,
            last_success=self._last_success,
            error_code=code_of(self.error),
            error=None if self.error is None else str(self.error),
            failures=self._backoff.failures,
            next_try=None if next_at == NEVER else next_at,
            drift=drift,
            drift_alarm=drift is not None and abs(drift) > DRIFT_ALARM.total_seconds(),
            clock_trusted=self._clock_trusted,
            captures=self.captures,
            unsupported=tuple(sorted(self._unsupported)),
        )


class LineState:
    """One line: whose turn it is, and what its dead meters may use."""

    def __init__(self, line: Line, meters: list[MeterPoll], *, now: datetime) -> None:
        self.line = line
        self.meters = meters
        self._budget = DeadBudget(now)
        self._state = "new"
        self._since = now
        self._error: Exception | None = None
        self._backoff = Backoff(FIRST_PROBE, LAST_PROBE, chance=0.0)
        self._retry_at: datetime | None = None
        self._all_dead = False
        self._forgive_at = now
        self._busy = 0.0
        self.woken: asyncio.Event | None = None
        self._served: dict[str, datetime] = {}

    def next(self, now: datetime) -> tuple[MeterPoll | None, datetime]:
        """The meter whose turn comes first and when; while others live, dead ones wait for the budget."""
        if not self.meters:
            return None, NEVER
        alive = any(not poll.dead for poll in self.meters)
        ready = self._budget.ready_at(now) if alive else now
        line_at = self._retry_at or now

        def key(poll: MeterPoll) -> tuple[datetime, datetime]:
            at = poll.next_at()
            if poll.dead:
                at = max(at, ready)
            return max(at, line_at, now), self._served.get(poll.meter.meter, datetime.min.replace(tzinfo=UTC))

        best = min(self.meters, key=key)
        return best, key(best)[0]

    def attempted(self, poll: MeterPoll, before: datetime, now: datetime) -> None:
        """Note what an attempt used and whether the line itself works."""
        seconds = max(0.0, (now - before).total_seconds())
        self._busy += seconds
        self._served[poll.meter.meter] = now
        if isinstance(poll.error, LineUnavailable):
            self._error = poll.error
            self._retry_at = now + timedelta(seconds=self._backoff.next())
            self._change("down", now)
            return
        self._error = self._retry_at = None
        self._backoff.reset()
        if self._state == "down":
            self._try_silent_ones(poll, now)
        self._change("ok", now)
        if poll.dead:
            self._budget.charge(seconds, now)
            self._all_dead = all(other.dead for other in self.meters)
        elif self._all_dead:
            self._all_dead = False
            self._recovered(poll, now)

    def connected(self, now: datetime) -> None:
        """The far end opened the line: nothing waits for a back-off any more."""
        self._retry_at = None
        self._backoff.reset()
        for poll in self.meters:
            poll.reachable(now)
        self.wake()

    def wake(self) -> None:
        """Let the line look at once for what is due."""
        if self.woken is not None:
            self.woken.set()

    async def rest(self, clock: Clock, until: datetime) -> None:
        """Return when `until` is there, or when woken."""
        if self.woken is None:
            await clock.sleep_until(until)
            return
        waits = [asyncio.ensure_future(clock.sleep_until(until)), asyncio.ensure_future(self.woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.woken.clear()

    def clock_went_back(self, now: datetime) -> None:
        """Times that were set by the wrong clock mean nothing: begin again, at once."""
        self._forgive_at = min(self._forgive_at, now)
        if self._retry_at is not None:
            self._retry_at = now
        for poll in self.meters:
            poll.due_now(now)

    def _recovered(self, first: MeterPoll, now: datetime) -> None:
        """The whole line was silent and one answers: the others get a try at once, not in half an hour."""
        if now < self._forgive_at:
            return
        self._forgive_at = now + FORGIVE_EVERY
        self._budget.forgive(now)
        self._try_silent_ones(first, now)

    def _try_silent_ones(self, first: MeterPoll, now: datetime) -> None:
        for other in self.meters:
            if other is not first and other.dead:
                other.resume(now)

    def _change(self, state: str, now: datetime) -> None:
        if state != self._state:
            self._state, self._since = state, now

    def health(self) -> LineHealth:
        """Return a frozen copy."""
        return LineHealth(
            line=self.line.name,
            state=self._state,
            since=self._since,
            error_code=code_of(self._error),
            error=None if self._error is None else str(self._error),
            next_try=self._retry_at,
            meters=len(self.meters),
            silent_meters=sum(poll.dead for poll in self.meters),
            busy_seconds=self._busy,
            dead_seconds=self._budget.spent,
        )


def code_of(error: Exception | None) -> str | None:
    """Stable name of an error for messages and pages."""
    if error is None:
        return None
    return error.code if isinstance(error, ProtocolError) else "internal"
