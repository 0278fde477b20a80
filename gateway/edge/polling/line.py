"""One line as the poller sees it: who waits for it and is given it, whether the line itself works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Route, Urgency
from gateway.edge.polling.doors import Doors, Knock
from gateway.edge.polling.health import LineHealth, health_code
from gateway.edge.polling.meter import MeterPoll
from gateway.edge.polling.rests import LOOK_UP, Rests
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE, PolledMeter
from gateway.edge.polling.turns import Claim, Decision, Turns
from gateway.errors import TurnMissed
from protocols.errors import AnswerOwed, LineUnavailable
from protocols.line import Line
from protocols.session import Clock

EVER = datetime.min.replace(tzinfo=UTC)
REVIVE_EVERY = timedelta(seconds=10)
"""Least time between two rounds in which all silent meters of a line are tried because one of them answered."""
ORDER_PATIENCE = timedelta(seconds=60)
"""Of two orders the one with the earlier deadline goes first; this is the deadline of one that names none."""
OLDEST_FIRST_AFTER = timedelta(days=1)
"""Missing rows are read newest first; those of this age or more in the order in which they were asked for."""

AHEAD = 2
"""Meters of a line whose readings may be on their way into the journal at once."""

Poll = Callable[["LinePoll", MeterPoll, Claim], Awaitable[None]]
"""Reads a meter whose turn it is; raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A line that is ours until the block ends, and the meter that was meant, if one was."""

    line: Line
    meter: PolledMeter | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """Somebody outside the poller who waits for a turn."""

    claim: Claim
    reason: str
    granted: asyncio.Future[None]
    done: asyncio.Event


class LinePoll:
    """One line: its meters, those who wait for a turn, its own back-off.

    `serve` gives the turns, one at a time. Dead meters are those that did not answer the last time.
    """

    def __init__(self, name: str, line: Line, *, clock: Clock, doors: Doors, poll: Poll) -> None:
        now = clock.now()
        self.name = name
        self.line = line
        self.meters: dict[str, MeterPoll] = {}
        self.conversations = 0
        self.talk: str | None = None
        self._clock = clock
        self._doors = doors
        self._poll = poll
        self._turns = Turns(now)
        self._requests: dict[int, _Request] = {}
        self._numbers = count(1)
        self._serving = asyncio.Lock()
        self._helpers: set[asyncio.Task[None]] = set()
        self._closed = False
        self._state = "new"
        self._since = now
        self._error: Exception | None = None
        self._backoff = Backoff(FIRST_PROBE, LAST_PROBE, chance=0.0)
        self._retry_at: datetime | None = None
        self._held_until: datetime | None = None
        self._revive_at = now
        self._busy = self._dead = 0.0
        self._resting: asyncio.Future[bool] | None = None

    # -- turns

    @asynccontextmanager
    async def turn(
        self,
        urgency: Urgency,
        reason: str,
        *,
        poll: MeterPoll | None = None,
        within: float | None = None,
        worst: float = 0.0,
        about: datetime | None = None,
    ) -> AsyncIterator[Turn]:
        """Wait for a turn and keep it while the block runs; TurnMissed after `within` seconds."""
        now = self._clock.now()
        wait = ORDER_PATIENCE if within is None else timedelta(seconds=within)
        if about is not None:
            wait += max(timedelta(0), min(now - about, OLDEST_FIRST_AFTER))
        claim = Claim(
            meter="" if poll is None else poll.meter.meter,
            number=next(self._numbers),
            urgency=urgency,
            ready=now,
            deadline=now + wait,
            worst=worst,
        )
        request = _Request(claim, reason, asyncio.get_running_loop().create_future(), asyncio.Event())
        if self._closed:
            raise TurnMissed(f"line {self.name} was taken out of the configuration: no turn for {reason}")
        self._requests[claim.number] = request
        self._look()
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(within):
                        await request.granted
                        if poll is not None:
                            await stack.enter_async_context(poll.lock)
                except TimeoutError:
                    raise TurnMissed(self._why_missed(reason, within)) from None
                with self.conversation(reason):
                    yield Turn(line=self.line, meter=None if poll is None else poll.meter)
        finally:
            del self._requests[claim.number]
            request.done.set()
            self.wake()

    def next(self, now: datetime, *, polls: bool = True) -> Decision:
        """Return whose turn it is; without `polls` only those who asked for one count."""
        return self._turns.next(self._claims(polls=polls), now)

    async def serve(self, rests: Rests | None) -> None:
        """Give turns until the line is closed; without `rests` only to those who wait for one now.

        Raises nothing.
        """
        async with self._serving:
            try:
                await self._serve(rests)
            finally:
                if rests is not None:
                    self._send_away(f"line {self.name} is not served any more")

    async def close(self) -> None:
        """Send away those who wait, and return when the conversation in hand is over."""
        self._closed = True
        self._send_away(f"line {self.name} was taken out of the configuration")
        self.wake()
        async with self._serving:
            pass

    async def _serve(self, rests: Rests | None) -> None:
        knock: Knock | None = None
        seen = self._clock.now()
        try:
            while not self._closed:
                now = self._clock.now()
                if seen - now > LOOK_UP:
                    # A gateway that started in 2036 and was set right: what is due "in ten years" is due now.
                    self.clock_went_back(now)
                seen = now
                decision = self.next(now, polls=rests is not None)
                claim = decision.claim
                if claim is None:
                    if knock is not None:
                        knock.leave()
                        knock = None
                    if rests is None:
                        return
                    await self._rest(rests, decision.until)
                    continue
                if knock is None:
                    knock = self._doors.knock(self.route, claim.urgency, self.wake)
                else:
                    knock.change(claim.urgency)
                if not knock.admitted:
                    # Whoever is more urgent and comes meanwhile goes first: it is decided anew.
                    await self._rest(rests, decision.until)
                    continue
                await self._give(claim)
                knock.leave()
                knock = None
        finally:
            if knock is not None:
                knock.leave()

    async def _give(self, claim: Claim) -> None:
        if not claim.number:
            await self._poll(self, self.meters[claim.meter], claim)
            return
        request = self._requests[claim.number]
        before = self._clock.now()
        request.granted.set_result(None)
        await request.done.wait()
        self._account(claim, before, self._clock.now(), claim.urgency)

    def _claims(self, *, polls: bool = True) -> Iterator[Claim]:
        for request in self._requests.values():
            if not request.granted.done():
                yield request.claim
        if polls:
            held = max(self._retry_at or EVER, self._held_until or EVER)
            now = self._clock.now()
            full = sum(poll.under_way for poll in self.meters.values()) >= AHEAD
            for poll in self.meters.values():
                claim = poll.claim(held)
                # The journal's commit holds no line: the next meter is read meanwhile. But a meter's own next visit
                # waits for it, and so do all when more than AHEAD would be lost by a journal that refuses.
                if claim.ready > now or not (full or poll.under_way):
                    yield claim

    def _look(self) -> None:
        """Let somebody serve who just came."""
        if self._serving.locked():
            self.wake()
            return
        helper = asyncio.create_task(self.serve(None), name=f"turns of {self.name}")
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)

    def _send_away(self, why: str) -> None:
        for request in self._requests.values():
            if not request.granted.done():
                request.granted.set_exception(TurnMissed(f"{why}: no turn for {request.reason}"))

    def _why_missed(self, reason: str, within: float | None) -> str:
        now = f"busy with {self.talk}" if self.talk else "waiting until admission control lets it begin"
        others = sum(not request.granted.done() for request in self._requests.values()) - 1
        more = f", and {others} more wait for it" if others > 0 else ""
        return (
            f"line {self.name} was not free for {reason} within {within:g} s: it is {now}{more};"
            " try again, or wait longer"
        )

    @contextmanager
    def conversation(self, reason: str) -> Iterator[None]:
        """Note that a meter is being talked to while the block runs."""
        self.conversations += 1
        self.talk = reason
        try:
            yield
        finally:
            self.talk = None

    # -- what came of them

    def attempted(self, poll: MeterPoll, claim: Claim, before: datetime) -> None:
        """Note a poll of our own that began at `before`: what it took of the line, and what it says of it."""
        now = self._clock.now()
        was_dead = claim.urgency is Urgency.SILENT
        if isinstance(poll.error, LineUnavailable) or (was_dead and not poll.dead):
            self._account(claim, before, now, Urgency.ORDERED)  # no silent meter's cost
        else:
            self._account(claim, before, now, Urgency.SILENT if poll.dead else claim.urgency)
        self.heard(poll, before, was_dead=was_dead)

    def heard(self, poll: MeterPoll, before: datetime, *, was_dead: bool) -> None:
        """Note what an attempt that began at `before` says of the line itself and of the other meters."""
        now = self._clock.now()
        if isinstance(poll.error, LineUnavailable):
            # The line failed, not the meter: all its meters wait together, none of them is charged for it.
            self._error = poll.error
            self._retry_at = now + timedelta(seconds=self._backoff.next())
            self._change("down", now)
            return
        was_down = self._state == "down"
        self._error = self._retry_at = None
        self._backoff.reset()
        self._change("ok", now)
        if poll.dead and not isinstance(poll.error, AnswerOwed):
            poll.silent_for(max(0.0, (now - before).total_seconds()))
        if was_down or (was_dead and not poll.dead):
            # While the line was down its meters may have been called silent for its fault; and what had taken
            # one meter away may have taken them all: a converter or a feeder without power.
            self.revive(now, but=poll)

    def revive(self, now: datetime, *, but: MeterPoll | None = None) -> None:
        """Try all silent meters at once: what had taken one of them away is over, and may have taken all.

        Not at each of two meters that come and go.
        """
        if now < self._revive_at:
            return
        self._revive_at = now + REVIVE_EVERY
        for other in self.meters.values():
            if other is not but and other.dead:
                other.resume(now)
        self.wake()

    def hold(self, until: datetime) -> None:
        """Poll nothing before `until`: the journal takes nothing. Orders go on."""
        self._held_until = until

    def connected(self, now: datetime) -> None:
        """Note that the far end opened the line: nothing waits for a back-off any more."""
        self._retry_at = None
        self._backoff.reset()
        for poll in self.meters.values():
            poll.reachable(now)
        self.wake()

    def clock_went_back(self, now: datetime) -> None:
        """Begin again, at once: times that were set by the wrong clock mean nothing."""
        self._revive_at = min(self._revive_at, now)
        self._held_until = None
        if self._retry_at is not None:
            self._retry_at = now
        for poll in self.meters.values():
            poll.due_now(now)

    def _account(self, claim: Claim, before: datetime, now: datetime, as_urgency: Urgency) -> None:
        seconds = max(0.0, (now - before).total_seconds())
        self._busy += seconds
        if as_urgency is Urgency.SILENT:
            self._dead += seconds
        others = (c for c in self._claims() if (c.number, c.meter) != (claim.number, claim.meter))
        self._turns.ended(as_urgency, before, now, others)

    # -- resting

    def wake(self) -> None:
        """Let the line look at once for what is due, should it rest."""
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(False)

    async def _rest(self, rests: Rests | None, until: datetime) -> None:
        """Return when `until` is there, when woken, or when the clock was set back."""
        if rests is None or any(poll.under_way for poll in self.meters.values()):
            # What the journal refuses is due again at once: its answer wakes us, before it `until` means nothing.
            self._resting = asyncio.get_running_loop().create_future()
        else:
            self._resting = rests.until(until)
        try:
            if await self._resting:
                self.clock_went_back(self._clock.now())
        finally:
            self._resting = None

    # -- telling

    @property
    def route(self) -> Route | None:
        """What its sessions share with those of other lines."""
        return next((poll.meter.route for poll in self.meters.values()), None)

    def _change(self, state: str, now: datetime) -> None:
        if state != self._state:
            self._state, self._since = state, now

    @property
    def told(self) -> str:
        """Its health in one word, as the status tells it: up, down, or idle before its first poll."""
        return {"new": "idle", "ok": "up"}.get(self._state, "down")

    def health(self) -> LineHealth:
        """Return the line's health, frozen."""
        return LineHealth(
            line=self.name,
            state=self._state,
            since=self._since,
            error_code=health_code(self._error),
            error=None if self._error is None else str(self._error),
            next_try=self._retry_at,
            meters=len(self.meters),
            silent_meters=sum(poll.dead for poll in self.meters.values()),
            busy_seconds=self._busy,
            dead_seconds=self._dead,
            dead_cost_seconds=self._turns.taken(Urgency.SILENT),
            talk=self.talk,
            waiting=sum(not request.granted.done() for request in self._requests.values()),
        )
