"""One line as the poller sees it: whose turn it is, what dead meters may use, whether the line itself works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from gateway.backoff import Backoff
from gateway.edge.polling.health import LineHealth, health_code
from gateway.edge.polling.meter import NEVER, MeterPoll
from gateway.edge.polling.rests import Rests
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE, DeadBudget
from protocols.errors import LineUnavailable
from protocols.line import Line

FORGIVE_EVERY = timedelta(minutes=30)
"""Least time between two rounds in which all silent meters of a line get a try at once."""
_NEVER_SERVED = datetime.min.replace(tzinfo=UTC)


class LinePoll:
    """One line: its meters' turns, the budget of its dead meters, its own back-off.

    Dead meters are those that did not answer the last time (`MeterPoll.dead`).
    """

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
        self._resting: asyncio.Future[bool] | None = None
        self._served: dict[str, datetime] = {}
        self.conversations = self.talking = 0

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Note that a meter is being talked to while the block runs."""
        self.conversations += 1
        self.talking += 1
        try:
            yield
        finally:
            self.talking -= 1

    def next(self, now: datetime) -> tuple[MeterPoll | None, datetime]:
        """Return the meter whose turn comes first and when; (None, NEVER) for a line without meters.

        Of those that are due the one that was served longest ago comes first.
        """
        if not self.meters:
            return None, NEVER
        # Each try of a dead meter costs its whole timeout. While others live it must not cost them their
        # time; where all are dead nobody is harmed, and the first to come back should be found soon.
        alive = any(not poll.dead for poll in self.meters)
        ready = self._budget.ready_at(now) if alive else now
        line_at = self._retry_at or now

        def turn(poll: MeterPoll) -> tuple[datetime, datetime]:
            at = max(poll.next_at(), ready) if poll.dead else poll.next_at()
            return max(at, line_at, now), self._served.get(poll.meter.meter, _NEVER_SERVED)

        first = min(self.meters, key=turn)
        return first, turn(first)[0]

    def attempted(self, poll: MeterPoll, before: datetime, now: datetime) -> None:
        """Note what an attempt used (it began at `before`) and whether the line itself works."""
        seconds = max(0.0, (now - before).total_seconds())
        self._busy += seconds
        self._served[poll.meter.meter] = now
        if isinstance(poll.error, LineUnavailable):
            # The line failed, not the meter: all its meters wait together, none of them is charged for it.
            self._error = poll.error
            self._retry_at = now + timedelta(seconds=self._backoff.next())
            self._change("down", now)
            return
        self._error = self._retry_at = None
        self._backoff.reset()
        if self._state == "down":
            # While it was down its meters may have been called silent for the line's fault.
            self._try_silent_ones(poll, now)
        self._change("ok", now)
        if poll.dead:
            self._budget.charge(seconds, now)
            self._all_dead = all(other.dead for other in self.meters)
        elif self._all_dead:
            self._all_dead = False
            if now >= self._forgive_at:
                # All were silent and one answers: a converter lost its power, for one. The others get a
                # try at once; but not at each of two meters that come and go, or the budget means nothing.
                self._forgive_at = now + FORGIVE_EVERY
                self._budget.forgive(now)
                self._try_silent_ones(poll, now)

    def connected(self, now: datetime) -> None:
        """Note that the far end opened the line: nothing waits for a back-off any more."""
        self._retry_at = None
        self._backoff.reset()
        for poll in self.meters:
            poll.reachable(now)
        self.wake()

    def wake(self) -> None:
        """Let the line look at once for what is due, should it rest."""
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(False)

    async def rest(self, rests: Rests, until: datetime) -> bool:
        """Return when `until` is there, or when woken; True says that the clock was set back."""
        self._resting = rests.until(until)
        try:
            return await self._resting
        finally:
            self._resting = None

    def clock_went_back(self, now: datetime) -> None:
        """Begin again, at once: times that were set by the wrong clock mean nothing."""
        self._forgive_at = min(self._forgive_at, now)
        if self._retry_at is not None:
            self._retry_at = now
        for poll in self.meters:
            poll.due_now(now)

    def _try_silent_ones(self, answered: MeterPoll, now: datetime) -> None:
        for other in self.meters:
            if other is not answered and other.dead:
                other.resume(now)

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
            line=self.line.name,
            state=self._state,
            since=self._since,
            error_code=health_code(self._error),
            error=None if self._error is None else str(self._error),
            next_try=self._retry_at,
            meters=len(self.meters),
            silent_meters=sum(poll.dead for poll in self.meters),
            busy_seconds=self._busy,
            dead_seconds=self._budget.spent,
        )
