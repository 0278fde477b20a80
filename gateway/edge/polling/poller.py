"""The poller: one task a line, its meters in turn; dead ones are probed rarely and starve no other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.changes import HealthChanges, Subject
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.doors import Doors
from gateway.edge.polling.health import LineHealth, MeterHealth, MeterReport, PollerStatistics, PollReport
from gateway.edge.polling.line import LinePoll
from gateway.edge.polling.meter import MeterPoll
from gateway.edge.polling.rests import LOOK_UP, Rests
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.stamping.clocks import MeterClocks
from gateway.errors import JournalError
from protocols.line import Line
from protocols.reading import ProfileName
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit

JOURNAL_RETRY = (2.0, 60.0)
"""While the journal takes nothing, each line tries again after 2 s … 60 s; the meters keep their history."""


class OpenSession(Protocol):
    """How to open a session with a meter (`protocols.meters.open.open_session`)."""

    def __call__(
        self, line: Line, spec: MeterSpec, context: SessionContext, /, *, visit: Visit
    ) -> AbstractAsyncContextManager[MeterSession]: ...


class PushingMeters(Protocol):
    """The meters that push or dial in: their lines are woken, and their sessions teach how pushes are read."""

    @property
    def meters(self) -> Collection[str]:
        """Their identities, `GEN:12345678`."""

    async def learn(self, meter: str, session: MeterSession) -> None:
        """Use an open session with one of them, before its profiles are read."""


class Poller:
    """Reads every meter's profiles when they are due and journals what is new.

    One task a line, since a line carries one conversation; lines go side by side. `run` goes on until it is
    cancelled, which leaves nothing half done: what was appended is durable, what was not is read again. No
    fault of a meter, a line or the journal ends it.

    >>> poller = Poller(  # doctest: +SKIP
    ...     {"bus1": line},
    ...     [PolledMeter(meter="GEN:1", line="bus1", spec=spec, profiles=(ProfileName.DAILY,))],
    ...     collector=Collector(journal, appender, clock=clock),
    ...     open_session=open_session,
    ...     context=context,
    ...     schedule=Schedule(),
    ...     pushing=PushLayouts(clock),
    ... )
    >>> report = await poller.poll_once()  # doctest: +SKIP
    """

    def __init__(
        self,
        lines: Mapping[str, Line],
        meters: Sequence[PolledMeter],
        *,
        collector: Collector,
        open_session: OpenSession,
        context: SessionContext,
        schedule: Schedule,
        pushing: PushingMeters,
        doors: Doors | None = None,
    ) -> None:
        self._clock = clock = context.clock
        clocks = MeterClocks(clock)
        self._doors = doors or Doors()
        self._meters = {
            meter.meter: MeterPoll(
                meter,
                partial(open_session, lines[meter.line], meter.spec, context),
                collector,
                clock=clock,
                schedule=schedule,
                learn=pushing.learn if meter.meter in pushing.meters else None,
                clocks=clocks,
            )
            for meter in meters
        }
        self._lines = {
            name: LinePoll(line, [m for m in self._meters.values() if m.meter.line == name], now=clock.now())
            for name, line in lines.items()
        }
        self.paused: str | None = None
        self.paused_since: datetime | None = None
        self.changes = HealthChanges(
            [
                *((Subject.LINE, name, line.told) for name, line in self._lines.items()),
                *((Subject.METER, name, meter.told) for name, meter in self._meters.items()),
            ]
        )

    async def run(self) -> None:
        """Poll until cancelled; raises nothing."""
        if not self._meters:
            await asyncio.Event().wait()  # an edge that only delivers: the task group must not end with us
        async with asyncio.TaskGroup() as group:
            rests = Rests(self._clock, group)
            for state in self._lines.values():
                if state.meters:
                    group.create_task(self._run_line(state, rests), name=f"line {state.line.name}")

    async def poll_once(self) -> PollReport:
        """Read each profile of each meter once, lines side by side.

        Returns a report of each meter, failed ones too. Raises JournalError when the journal takes nothing.
        """
        rounds = await asyncio.gather(
            *(self._round(state) for state in self._lines.values()), return_exceptions=True
        )
        reports: list[MeterReport] = []
        for part in rounds:
            if isinstance(part, BaseException):
                raise part
            reports.extend(part)
        return PollReport(meters=tuple(reports))

    async def poll_meter(self, meter: str, profiles: Sequence[ProfileName] | None = None) -> MeterReport:
        """Read some profiles of one meter now, all by default, and report.

        Waits for a poll of the same meter that is running. Raises KeyError for an unknown meter, JournalError.
        """
        poll = self._meters[meter]
        line, wanted = self._line_of(poll.meter.meter), profiles or poll.meter.profiles
        try:
            report = await self._attempt(line, poll, wanted, Urgency.ORDERED)
            await self._durable(poll)
            return report
        finally:
            line.wake()  # what its meters want next may have changed

    def reads(self, meter: str, profile: ProfileName) -> bool:
        """Say whether a profile of a meter is read here."""
        return meter in self._meters and profile in self._meters[meter].meter.profiles

    def busy(self, line: str) -> object:
        """Return a mark that changes while a line's conversation makes progress; None when it has none."""
        state = self._lines[line]
        return (state.conversations, state.line.statistics()) if state.talking else None

    def left_alone(self, meter: str) -> AbstractAsyncContextManager[None]:
        """Wait until the meter is not being read, and keep it so while the block runs; KeyError for an unknown one."""
        return self._meters[meter].lock

    def read_soon(self, meter: str, profile: ProfileName) -> bool:
        """Read a profile as soon as the line is free; False when it is not among the meter's profiles."""
        poll = self._meters[meter]
        wanted = poll.wanted_now(profile, self._clock.now())
        if wanted:
            self._line_of(poll.meter.meter).wake()
        return wanted

    def connected(self, line: str) -> None:
        """Note that a meter dialled in on `line`: what waits is tried at once."""
        self._lines[line].connected(self._clock.now())

    def clock_trusted(self, meter: str) -> bool | None:
        """Say whether the meter's clock was found good; None while it was not looked at."""
        return self._meters[meter].clock_trusted

    def statistics(self) -> PollerStatistics:
        """Return every meter's and line's health, frozen."""
        meters = {name: poll.health() for name, poll in self._meters.items()}
        return PollerStatistics(
            meters=meters,
            lines={name: state.health() for name, state in self._lines.items()},
            polls=sum(poll.polls for poll in self._meters.values()),
            failures=sum(poll.failed_polls for poll in self._meters.values()),
            captures=sum(poll.captures for poll in self._meters.values()),
            paused=self.paused,
            paused_since=self.paused_since,
            sessions=self._doors.running,
            sessions_waiting=self._doors.waiting,
        )

    def meter(self, name: str) -> MeterHealth:
        """Return one meter's health."""
        return self._meters[name].health()

    def line(self, name: str) -> LineHealth:
        """Return one line's health."""
        return self._lines[name].health()

    def _line_of(self, meter: str) -> LinePoll:
        return self._lines[self._meters[meter].meter.line]

    async def _round(self, state: LinePoll) -> list[MeterReport]:
        reports: list[MeterReport] = []
        for poll in state.meters:
            reports.append(await self._attempt(state, poll, poll.meter.profiles))
            await self._durable(poll)
        return reports

    async def _run_line(self, state: LinePoll, rests: Rests) -> None:
        retry = Backoff(*JOURNAL_RETRY, chance=0.0)
        seen = self._clock.now()
        behind: MeterPoll | None = None
        while True:
            now = self._clock.now()
            if seen - now > LOOK_UP:
                # A gateway that started in 2036 and was set right: all that is due "in ten years" is due now.
                state.clock_went_back(now)
            seen = now
            poll, at = state.next(now)
            try:
                if poll is not None and at <= now:
                    await self._attempt(state, poll, poll.due(now))
                    # The journal's commit holds no line: the next meter is read meanwhile. It is one visit ahead.
                    before, behind = behind, poll
                elif behind is not None:
                    before, behind = (
                        behind,
                        None,
                    )  # what is refused is due again: nothing rests before that is known
                else:
                    if await state.rest(rests, at):
                        state.clock_went_back(self._clock.now())
                    continue
                if before is not None:
                    await self._durable(before)
                    retry.reset()
            except JournalError:
                # Reading on would only throw away what is read; the meters keep it until there is room.
                await self._clock.sleep_until(self._clock.now() + timedelta(seconds=retry.next()))

    async def _attempt(
        self,
        state: LinePoll,
        poll: MeterPoll,
        profiles: Sequence[ProfileName],
        urgency: Urgency | None = None,
    ) -> MeterReport:
        if urgency is None:
            urgency = Urgency.SILENT if poll.dead else Urgency.LIVING
        async with poll.lock:
            with suppress(JournalError):  # which is another's to hear: what was refused is read again now
                await poll.durable()
            async with self._doors.session(poll.meter.route, urgency):
                before = self._clock.now()
                with self._pausing(), state.conversation():
                    report = await poll.attempt(profiles)
                state.attempted(poll, before, self._clock.now())
        self.changes.note(Subject.METER, poll.meter.meter, poll.told)
        self.changes.note(Subject.LINE, state.line.name, state.told)
        return report

    async def _durable(self, poll: MeterPoll) -> None:
        """Wait until what was read of a meter is in the journal; raises JournalError where it is not."""
        with self._pausing():
            if await poll.durable():
                self.paused = self.paused_since = None

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        """Note that reading stands still where the journal refuses what was read."""
        try:
            yield
        except JournalError as error:
            self.paused, self.paused_since = str(error), self.paused_since or self._clock.now()
            raise
