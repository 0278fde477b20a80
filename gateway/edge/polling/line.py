"""One line as the poller sees it: who waits for it and is given it, whether the line itself works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from gateway.edge.polling.admission import Route, Urgency
from gateway.edge.polling.doors import Doors, Knock
from gateway.edge.polling.health import LineHealth, health_code
from gateway.edge.polling.line_state import Came, LineState
from gateway.edge.polling.meter import MeterPoll
from gateway.edge.polling.rests import LOOK_UP, Rests
from gateway.edge.polling.schedule import PolledMeter
from gateway.edge.polling.turns import Claim
from gateway.errors import TurnMissed
from protocols.errors import AnswerOwed, LineUnavailable
from protocols.line import Line
from protocols.session import Clock

ORDER_PATIENCE = timedelta(seconds=60)
"""Of two orders the one with the earlier deadline goes first; this is the deadline of one that names none."""
OLDEST_FIRST_AFTER = timedelta(days=1)
"""Missing rows are read newest first; those of this age or more in the order in which they were asked for."""


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
    """One line: its meters and those who wait for a turn.

    `serve` gives the turns, one at a time, as `LineState` decides.
    """

    def __init__(self, name: str, line: Line, *, clock: Clock, doors: Doors, poll: Poll) -> None:
        self.name = name
        self.line = line
        self.meters: dict[str, MeterPoll] = {}
        self.conversations = 0
        self.talk: str | None = None
        self._clock = clock
        self._doors = doors
        self._poll = poll
        self._state = LineState(clock.now())
        self._error: Exception | None = None
        self._requests: dict[int, _Request] = {}
        self._numbers = count(1)
        self._serving = asyncio.Lock()
        self._helpers: set[asyncio.Task[None]] = set()
        self._closed = False
        self._resting: asyncio.Future[bool] | None = None

    def add(self, poll: MeterPoll) -> None:
        """Serve one more meter, at once."""
        self.meters[poll.meter.meter] = poll
        self._state.paces[poll.meter.meter] = poll.pace
        self.wake()

    def remove(self, meter: str) -> None:
        """Serve a meter no more."""
        del self.meters[meter], self._state.paces[meter]

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
            wanted_by=now + wait,
            worst=worst,
        )
        request = _Request(claim, reason, asyncio.get_running_loop().create_future(), asyncio.Event())
        if self._closed:
            raise TurnMissed(f"line {self.name} was taken out of the configuration: no turn for {reason}")
        self._requests[claim.number] = request
        self._state.waiting[claim.number] = claim
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
            self._state.waiting.pop(claim.number, None)
            request.done.set()
            self.wake()

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
                    self._state.clock_went_back(now)
                seen = now
                decision = self._state.next(now, polls=rests is not None)
                claim = decision.claim
                if claim is None:
                    if knock is not None:
                        knock.leave()
                        knock = None
                    if rests is not None:
                        await self._rest(rests, decision.until)
                    elif self._state.waiting:  # for the end of a quiet time
                        await self._clock.sleep_until(decision.until)
                    else:
                        return
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
        began = self._clock.now()
        del self._state.waiting[claim.number]
        request.granted.set_result(None)
        await request.done.wait()
        self._state.lent(claim, began, self._free_at())

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
        others = len(self._state.waiting) - 1
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

    def attempted(self, poll: MeterPoll, claim: Claim, began: datetime) -> bool:
        """Note a poll of our own that began at `began`; return whether a meter came back that had not answered."""
        came = self._came(poll)
        return self._state.polled(claim, began, self._free_at(), came)

    def heard(self, poll: MeterPoll, began: datetime, *, was_dead: bool) -> bool:
        """Note what an attempt in somebody's turn says of the line and the other meters; return as `attempted`."""
        came = self._came(poll)
        return self._state.heard(poll.meter.meter, began, self._free_at(), came, was_dead=was_dead)

    def is_wanted(self, meter: str) -> bool:
        """Say whether anybody beside a meter waits for the line."""
        return self._state.is_wanted(self._clock.now(), meter)

    def lasts(self, poll: MeterPoll, claim: Claim) -> Callable[[], bool]:
        """Return what says whether one more part of a meter's memory may be read in its turn.

        Where nobody else waits; and a turn that was given for the memory reads a part of it at least.
        """
        given = claim.urgency is Urgency.BACKFILL

        def more() -> bool:
            nonlocal given
            first, given = given, False
            return first or not self.is_wanted(poll.meter.meter)

        return more

    def revive(self) -> None:
        """Try all silent meters at once."""
        if self._state.revive(self._clock.now()):
            self.wake()

    def hold(self, until: datetime) -> None:
        """Poll nothing before `until`: the journal takes nothing. Orders go on."""
        self._state.hold(until)

    def connected(self, now: datetime) -> None:
        """Note that the far end opened the line: nothing waits for a back-off any more."""
        self._state.connected(now)
        self.wake()

    def _came(self, poll: MeterPoll) -> Came:
        failed = isinstance(poll.error, LineUnavailable)
        self._error = poll.error if failed else None
        if failed:
            return Came.LINE_FAILED
        if isinstance(poll.error, AnswerOwed):
            return Came.OWED
        return Came.SILENCE if poll.dead else Came.ANSWER

    def _free_at(self) -> datetime:
        """Return when the line can be used again: after a silence it is kept quiet for a while."""
        return self._clock.now() + timedelta(seconds=self.line.statistics().quiet)

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
                self._state.clock_went_back(self._clock.now())
        finally:
            self._resting = None

    # -- telling

    @property
    def route(self) -> Route | None:
        """What its sessions share with those of other lines."""
        return next((poll.meter.route for poll in self.meters.values()), None)

    @property
    def told(self) -> str:
        """Its health in one word, as the status tells it: up, down, or idle before its first poll."""
        return {"new": "idle", "ok": "up"}.get(self._state.state, "down")

    def health(self) -> LineHealth:
        """Return the line's health, frozen."""
        return LineHealth(
            line=self.name,
            state=self._state.state,
            since=self._state.since,
            error_code=health_code(self._error),
            error=None if self._error is None else str(self._error),
            next_try=self._state.retry_at,
            meters=len(self.meters),
            silent_meters=sum(poll.dead for poll in self.meters.values()),
            busy_seconds=self._state.busy,
            dead_seconds=self._state.dead,
            dead_cost_seconds=self._state.dead_cost,
            talk=self.talk,
            waiting=len(self._state.waiting),
        )
