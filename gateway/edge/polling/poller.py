"""The poller: one task a line, its meters in turn; dead ones are probed rarely and starve no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from gateway.backoff import Backoff
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import MeterReport, PollerStatistics, PollReport
from gateway.edge.polling.meter import Learn, LineState, MeterPoll
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.stamping.stamp import DirectoryLike
from gateway.errors import JournalError
from protocols.line import Line
from protocols.reading import ProfileName
from protocols.session import MeterSession, MeterSpec, SessionContext

JOURNAL_RETRY = (2.0, 60.0)
"""While the journal takes nothing, each line tries again after 2 s … 60 s; the meters keep their history."""

LOOK_UP = timedelta(seconds=60)
"""An idle line looks up at least this often, for a meter that was resumed meanwhile."""

__all__ = ["PolledMeter", "Poller", "Schedule"]


class OpenSession(Protocol):
    """How to open a conversation with a meter (`protocols.meters.open.open_session`)."""

    def __call__(
        self, line: Line, spec: MeterSpec, context: SessionContext, /
    ) -> AbstractAsyncContextManager[MeterSession]: ...


class Poller:
    """Reads every meter's profiles when they are due and journals what is new.

    `run` goes on until it is cancelled, which leaves nothing half done: what was appended is durable, what
    was not is read again. No fault of a meter, a line or the journal ends it.
    """

    def __init__(
        self,
        lines: Mapping[str, Line],
        meters: Sequence[PolledMeter],
        *,
        journal: Journal,
        directory: Callable[[], DirectoryLike],
        open_session: OpenSession,
        context: SessionContext,
        schedule: Schedule | None = None,
        learn: Learn | None = None,
        woken_by: Collection[str] = (),
    ) -> None:
        self._clock = clock = context.clock
        self._schedule = schedule or Schedule()
        self.collector = collector = Collector(
            journal=journal, directory=directory, schedule=self._schedule, clock=clock
        )

        def session_on(line: Line, spec: MeterSpec) -> AbstractAsyncContextManager[MeterSession]:
            return open_session(line, spec, context)

        self._meters = {
            meter.meter: MeterPoll(
                meter,
                lines[meter.line],
                collector,
                session_on,
                clock=clock,
                schedule=self._schedule,
                learn=learn if meter.meter in woken_by else None,
            )
            for meter in meters
        }
        self._lines = {
            name: LineState(line, [m for m in self._meters.values() if m.meter.line == name], now=clock.now())
            for name, line in lines.items()
        }
        for meter in woken_by:
            self._lines[self._meters[meter].meter.line].woken = asyncio.Event()
        self._paused: str | None = None
        self._paused_since: datetime | None = None

    async def run(self) -> None:
        """Poll for ever."""
        if not self._meters:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for state in self._lines.values():
                if state.meters:
                    group.create_task(self._run_line(state), name=f"line {state.line.name}")

    async def poll_once(self) -> PollReport:
        """Read each profile of each meter once, lines side by side; raises JournalError."""
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
        """Read one meter now (an order, commissioning); KeyError for an unknown one, JournalError."""
        poll = self._meters[meter]
        return await self._attempt(self._lines[poll.meter.line], poll, profiles or poll.meter.profiles)

    def resume(self, meter: str) -> None:
        """Let a meter that was stopped (another one answered) be tried again now."""
        self._meters[meter].resume(self._clock.now())

    def read_soon(self, meter: str, profile: ProfileName) -> bool:
        """Read a profile as soon as the line is free; False when it is not among the meter's profiles."""
        poll = self._meters[meter]
        wanted = poll.wanted_now(profile, self._clock.now())
        if wanted:
            self._lines[poll.meter.line].wake()
        return wanted

    def connected(self, line: str) -> None:
        """A meter dialled in on `line`: try at once what waits."""
        self._lines[line].connected(self._clock.now())

    def clock_trusted(self, meter: str) -> bool | None:
        """Whether the meter's clock was found good, or not yet found bad."""
        return self._meters[meter].clock_trusted

    def statistics(self) -> PollerStatistics:
        """Return a frozen copy of every meter's and line's health."""
        meters = {name: poll.health() for name, poll in self._meters.items()}
        return PollerStatistics(
            meters=meters,
            lines={name: state.health() for name, state in self._lines.items()},
            polls=sum(poll.polls for poll in self._meters.values()),
            failures=sum(poll.failed_polls for poll in self._meters.values()),
            captures=sum(poll.captures for poll in self._meters.values()),
            paused=self._paused,
            paused_since=self._paused_since,
        )

    async def _round(self, state: LineState) -> list[MeterReport]:
        return [await self._attempt(state, poll, poll.meter.profiles) for poll in state.meters]

    async def _run_line(self, state: LineState) -> None:
        retry = Backoff(*JOURNAL_RETRY, chance=0.0)
        seen = self._clock.now()
        while True:
            now = self._clock.now()
            if seen - now > LOOK_UP:
                state.clock_went_back(now)
            seen = now
            poll, at = state.next(now)
            if poll is None or at > now:
                await state.rest(self._clock, min(at, now + LOOK_UP))
                continue
            try:
                await self._attempt(state, poll, poll.due(now))
                retry.reset()
            except JournalError:
                await self._clock.sleep_until(self._clock.now() + timedelta(seconds=retry.next()))

    async def _attempt(
        self, state: LineState, poll: MeterPoll, profiles: Sequence[ProfileName]
    ) -> MeterReport:
        async with poll.lock:
            before = self._clock.now()
            try:
                report = await poll.attempt(profiles)
            except JournalError as error:
                self._paused, self._paused_since = str(error), self._paused_since or self._clock.now()
                raise
            state.attempted(poll, before, self._clock.now())
        if any(report.captures.values()):
            self._paused = self._paused_since = None
        return report
