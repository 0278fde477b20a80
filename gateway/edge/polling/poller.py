"""The poller: one task a line, its meters in turn; dead ones are probed rarely and starve no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.changes import HealthChanges, Subject
from gateway.edge.polling.clock_corrections import ClockCorrections
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.doors import Doors
from gateway.edge.polling.health import LineHealth, MeterHealth, MeterReport, PollerStatistics, PollReport
from gateway.edge.polling.line import LinePoll, Turn
from gateway.edge.polling.means import OpenSession, PushingMeters
from gateway.edge.polling.meter import MeterPoll
from gateway.edge.polling.rests import Rests
from gateway.edge.polling.revivals import Revivals
from gateway.edge.polling.rhythm import Span
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.polling.turns import Claim
from gateway.edge.stamping.clocks import MeterClocks
from gateway.errors import JournalError
from protocols.line import Line
from protocols.meters.owed import answers_owed
from protocols.reading import ProfileName
from protocols.session import SessionContext

JOURNAL_RETRY = (2.0, 60.0)
"""While the journal takes nothing, each line tries again after 2 s … 60 s; the meters keep their history."""


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
        corrections: ClockCorrections | None = None,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._clocks = MeterClocks(self._clock)
        self._doors = doors or Doors()
        self.clocks = corrections or ClockCorrections(self._clock, {})
        self._collector = collector
        self._open_session = open_session
        self._schedule = schedule
        self._pushing = pushing
        self._meters: dict[str, MeterPoll] = {}
        self._lines: dict[str, LinePoll] = {}
        self._retries: dict[str, Backoff] = {}
        self._revivals = Revivals(self._clock)
        self._running: tuple[asyncio.TaskGroup, Rests] | None = None
        self.paused: str | None = None
        self.paused_since: datetime | None = None
        self.changes = HealthChanges()
        for name, line in lines.items():
            self.add_line(name, line)
        for meter in meters:
            self.add_meter(meter)

    async def run(self) -> None:
        """Poll until cancelled; raises nothing. Lines and meters may come and go meanwhile."""
        async with asyncio.TaskGroup() as group:
            self._running = group, Rests(self._clock, group)
            try:
                for state in self._lines.values():
                    self._serve(state)
                await asyncio.Event().wait()
            finally:
                self._running = None

    # -- what there is to poll

    @property
    def meters(self) -> Collection[str]:
        """The identities of all meters."""
        return self._meters.keys()

    @property
    def lines(self) -> Collection[str]:
        """The names of all lines."""
        return self._lines.keys()

    def line_of(self, meter: str) -> str:
        """Return the name of a meter's line; KeyError for an unknown meter."""
        return self._meters[meter].meter.line

    def add_line(self, name: str, line: Line) -> None:
        """Serve one more line; ValueError when there is one of this name."""
        if name in self._lines:
            raise ValueError(f"there is a line {name} already")
        state = self._lines[name] = LinePoll(
            name, line, clock=self._clock, doors=self._doors, poll=self._poll_due
        )
        self._retries[name] = Backoff(*JOURNAL_RETRY, chance=0.0)
        self.changes.note(Subject.LINE, name, state.told)
        self._serve(state)

    def add_meter(self, meter: PolledMeter) -> None:
        """Poll one more meter, at once; KeyError without its line, ValueError when it is polled already."""
        if meter.meter in self._meters:
            raise ValueError(f"{meter.meter} is polled already, on line {self.line_of(meter.meter)}")
        state = self._lines[meter.line]
        poll = self._meters[meter.meter] = MeterPoll(
            meter,
            partial(self._open_session, state.line, meter.spec, self._context),
            self._collector,
            clock=self._clock,
            schedule=self._schedule,
            learn=self._pushing.learn if meter.meter in self._pushing.meters else None,
            clocks=self._clocks,
            corrections=self.clocks,
            open_setter=None
            if meter.setter is None
            else partial(self._open_session, state.line, meter.setter, self._context),
            journaled=partial(self._journaled, state),
            owed=partial(answers_owed, state.line, meter.spec),
        )
        self.changes.note(Subject.METER, meter.meter, poll.told)
        state.add(poll)

    async def remove_meter(self, meter: str) -> PolledMeter:
        """Poll a meter no more; returns when nobody talks to it any more, and what was read of it is journaled.

        KeyError for an unknown one.
        """
        poll = self._meters.pop(meter)
        self._lines[poll.meter.line].remove(meter)
        self.changes.forget(Subject.METER, meter)
        self.clocks.forget(meter)
        async with poll.lock:
            await poll.settled()
            return poll.meter

    async def replace_meter(self, meter: PolledMeter) -> None:
        """Poll a meter in another way, or on another line; KeyError without the meter or the line."""
        if meter.line not in self._lines:
            raise KeyError(meter.line)
        await self.remove_meter(meter.meter)
        self.add_meter(meter)

    async def remove_line(self, name: str) -> Line:
        """Serve a line no more, with all its meters; returns it when nobody talks on it any more, for closing.

        KeyError for an unknown line. Those who wait for a turn get TurnMissed.
        """
        state = self._lines.pop(name)
        del self._retries[name]
        polls = list(state.meters.values())
        for meter in list(state.meters):
            del self._meters[meter]
            state.remove(meter)
            self.changes.forget(Subject.METER, meter)
            self.clocks.forget(meter)
        self.changes.forget(Subject.LINE, name)
        await state.close()
        for poll in polls:
            await poll.settled()
        return state.line

    # -- reading

    @asynccontextmanager
    async def turn(
        self,
        line: str,
        urgency: Urgency,
        reason: str,
        *,
        meter: str | None = None,
        within: float | None = None,
        worst: float = 10.0,
        about: datetime | None = None,
    ) -> AsyncIterator[Turn]:
        """Wait for a turn on a line: while the block runs nobody else talks there, nor to `meter`, if one is meant.

        `reason` says in a few words what for. `within` seconds is the longest wait (None: for ever): then TurnMissed,
        which says what the line is busy with. The block should take `worst` seconds at most: what is not ordered
        begins where that fits, so a long job takes many short turns. `about` is the instant of missing rows: the
        newest come first. KeyError for an unknown line, or a meter that is not on it.
        """
        state = self._lines[line]
        poll = None if meter is None else state.meters[meter]
        async with state.turn(urgency, reason, poll=poll, within=within, worst=worst, about=about) as turn:
            yield turn
            if poll is not None:
                poll.pace.reachable(self._clock.now())

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
        state, wanted = self._line_of(poll.meter.meter), profiles or poll.meter.profiles
        return await self._poll_asked(state, poll, wanted, Urgency.ORDERED)

    async def backfill(
        self, meter: str, profile: ProfileName, since: datetime, until: datetime
    ) -> MeterReport:
        """Read what a meter stored in a span once more and report; its turn comes when the line has nothing due.

        A span should be a few days: others wait for its end. Raises KeyError for an unknown meter, JournalError.
        """
        poll = self._meters[meter]
        state = self._line_of(poll.meter.meter)
        return await self._poll_asked(state, poll, (profile,), Urgency.BACKFILL, (since, until))

    def reads(self, meter: str, profile: ProfileName) -> bool:
        """Say whether a profile of a meter is read here."""
        return meter in self._meters and profile in self._meters[meter].meter.profiles

    @property
    def under_way(self) -> bool:
        """Whether readings of any meter are on their way into the journal."""
        return any(poll.under_way for poll in self._meters.values())

    def busy(self, line: str) -> object:
        """Return a mark that changes while a line's conversation makes progress; None when it has none."""
        state = self._lines[line]
        if state.talk is None:
            return None
        counts = state.line.statistics()  # of these what goes on by itself, like seconds, is no progress
        return state.conversations, counts.turns, counts.connects, counts.sent, counts.received

    def left_alone(self, meter: str) -> AbstractAsyncContextManager[None]:
        """Wait until the meter is not being read, and keep it so while the block runs; KeyError for an unknown one."""
        return self._meters[meter].lock

    def read_soon(self, meter: str, profile: ProfileName) -> bool:
        """Read a profile as soon as the line is free; False when it is not among the meter's profiles."""
        poll = self._meters[meter]
        wanted = poll.pace.wanted_now(profile, self._clock.now())
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
        lines = {name: state.health() for name, state in self._lines.items()}
        return PollerStatistics(
            meters={name: poll.health() for name, poll in self._meters.items()},
            lines=lines,
            polls=sum(poll.polls for poll in self._meters.values()),
            failures=sum(poll.failed_polls for poll in self._meters.values()),
            captures=sum(poll.captures for poll in self._meters.values()),
            paused=self.paused,
            paused_since=self.paused_since,
            sessions=self._doors.running,
            sessions_waiting=self._doors.waiting,
            dead_seconds=sum(line.dead_seconds for line in lines.values()),
            dead_cost_seconds=sum(line.dead_cost_seconds for line in lines.values()),
            clocks_off=len(self.clocks.off),
            clocks_corrected=self.clocks.corrected,
            clocks_not_corrected=self.clocks.refused,
        )

    def meter(self, name: str) -> MeterHealth:
        """Return one meter's health."""
        return self._meters[name].health()

    def line(self, name: str) -> LineHealth:
        """Return one line's health."""
        return self._lines[name].health()

    def _line_of(self, meter: str) -> LinePoll:
        return self._lines[self._meters[meter].meter.line]

    def _serve(self, state: LinePoll) -> None:
        if self._running is not None:
            group, rests = self._running
            group.create_task(state.serve(rests), name=f"line {state.name}")

    async def _round(self, state: LinePoll) -> list[MeterReport]:
        return [
            await self._poll_asked(state, poll, poll.meter.profiles, poll.pace.claim().urgency)
            for poll in list(state.meters.values())
        ]

    async def _poll_asked(
        self,
        state: LinePoll,
        poll: MeterPoll,
        profiles: Sequence[ProfileName],
        urgency: Urgency,
        span: Span | None = None,
    ) -> MeterReport:
        """Read a meter because somebody asked for it; raises JournalError."""
        report: MeterReport | None = None
        came_back = False
        while report is None:
            await poll.settled()  # here it holds no line
            about = None if span is None else span[1]
            async with state.turn(urgency, f"reading {poll.meter.meter}", poll=poll, about=about):
                if poll.under_way:
                    continue  # it was read while we waited for our turn
                before, was_dead = self._clock.now(), poll.dead
                report = await poll.attempt(profiles, span)
                came_back = state.heard(poll, before, was_dead=was_dead)
        if came_back:
            self._revivals.power_is_back(poll.meter.route, self._lines.values())
        self._tell(state, poll)
        await poll.durable()
        return report

    async def _poll_due(self, state: LinePoll, poll: MeterPoll, claim: Claim) -> None:
        """Read what is due of a meter whose turn it is."""
        clock = claim.urgency is Urgency.CLOCK
        with state.conversation(f"{'the clock of' if clock else 'reading'} {poll.meter.meter}"):
            async with poll.lock:
                before = self._clock.now()
                try:
                    if clock:
                        await poll.correct_clock()
                    else:
                        due = poll.pace.due(before, rests=claim.urgency is not Urgency.DUE)
                        await poll.attempt(due, more=state.lasts(poll, claim))
                except JournalError:
                    return  # `_journaled` hears it, too
            came_back = state.attempted(poll, claim, before)
        if came_back:
            self._revivals.power_is_back(poll.meter.route, self._lines.values())
        self._tell(state, poll)

    def _journaled(self, state: LinePoll, new: int, error: JournalError | None) -> None:
        """Note how a visit's readings fared in the journal: `new` captures are there, unless it refused them."""
        retry = self._retries.get(state.name)
        if error is not None:
            now = self._clock.now()
            self.paused, self.paused_since = str(error), self.paused_since or now
            if retry is not None:
                # Reading on would only throw away what is read; the meters keep it until there is room.
                state.hold(now + timedelta(seconds=retry.next()))
        else:
            if retry is not None:
                retry.reset()
            if new:
                self.paused = self.paused_since = None
        state.wake()

    def _tell(self, state: LinePoll, poll: MeterPoll) -> None:
        """Note the health of a meter and its line, unless they were taken away meanwhile."""
        if self._meters.get(poll.meter.meter) is poll:
            self.changes.note(Subject.METER, poll.meter.meter, poll.told)
        if self._lines.get(state.name) is state:
            self.changes.note(Subject.LINE, state.name, state.told)
