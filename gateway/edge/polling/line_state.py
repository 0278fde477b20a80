"""What a line does next, and what its turns came to: its meters' paces, those who wait, its own back-off; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum

from gateway.backoff import Backoff
from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.pace import EVER, MeterPace
from gateway.edge.polling.schedule import FIRST_PROBE, LAST_PROBE
from gateway.edge.polling.turns import Claim, Decision, Turns

AHEAD = 2
"""Meters of a line whose readings may be on their way into the journal at once."""
REVIVE_EVERY = timedelta(seconds=10)
"""Least time between two rounds in which all silent meters of a line are tried because one of them answered."""


class Came(Enum):
    """What an attempt to talk to a meter came to: somebody answered, nobody did, or the line itself failed.

    OWED is a silent meter that could not be asked yet: an earlier answer of it may still come.
    """

    ANSWER = "answer"
    SILENCE = "silence"
    OWED = "owed"
    LINE_FAILED = "line_failed"


class LineState:
    """Decides with `next`, and is told of each turn when it is over; has no clock and waits for nothing.

    `paces` are those of the line's meters by name, `waiting` the claims of others by number; both are kept by the
    caller. `state` is new, ok or down.
    """

    def __init__(self, now: datetime) -> None:
        self.paces: dict[str, MeterPace] = {}
        self.waiting: dict[int, Claim] = {}
        self.state = "new"
        self.since = now
        self.retry_at: datetime | None = None
        self.busy = self.dead = 0.0
        """Seconds that turns took in all, and those that no meter answered."""
        self._turns = Turns(now)
        self._backoff = Backoff(FIRST_PROBE, LAST_PROBE, chance=0.0)
        self._held_until = EVER
        self._free_at = EVER
        self._revive_at = now

    @property
    def dead_cost(self) -> float:
        """Seconds that meters that were due, and orders, waited for silent ones."""
        return self._turns.taken(Urgency.SILENT)

    def next(self, now: datetime, *, polls: bool = True) -> Decision:
        """Return whose turn it is; without `polls` only those who wait count.

        While the line is kept quiet it is nobody's: who is to be the first is decided when it can be used.
        """
        if now < self._free_at:
            return Decision(None, self._free_at)
        return self._turns.next(self._claims(now, polls=polls), now)

    def polled(self, claim: Claim, began: datetime, free_at: datetime, came: Came) -> bool:
        """Note a poll: it began at `began`, and the line can be used again at `free_at`.

        Returns whether a meter came back that had not answered.
        """
        if claim.urgency is Urgency.BACKFILL and claim.meter in self.paces:
            self.paces[claim.meter].window_took(max(0.0, (free_at - began).total_seconds()))
        if came in (Came.SILENCE, Came.OWED):
            self._account(claim, began, free_at, Urgency.SILENT)
        elif came is Came.LINE_FAILED or claim.urgency is Urgency.SILENT:
            self._account(claim, began, free_at, Urgency.ORDERED)  # no silent meter's cost
        else:
            self._account(claim, began, free_at, claim.urgency)
        return self.heard(claim.meter, began, free_at, came, was_dead=claim.urgency is Urgency.SILENT)

    def is_wanted(self, now: datetime, meter: str) -> bool:
        """Say whether somebody beside a meter, or who asked for a turn, waits for the line at `now`."""
        return any(claim.ready <= now and claim.meter != meter for claim in self._claims(now)) or bool(
            self.waiting
        )

    def lent(self, claim: Claim, began: datetime, free_at: datetime) -> None:
        """Note the turn of somebody else."""
        self._account(claim, began, free_at, claim.urgency)

    def heard(self, meter: str, began: datetime, free_at: datetime, came: Came, *, was_dead: bool) -> bool:
        """Note what an attempt says of the line and its other meters; return whether a dead meter came back."""
        if came is Came.LINE_FAILED:
            # The line failed, not the meter: all its meters wait together, none of them is charged for it.
            self.retry_at = free_at + timedelta(seconds=self._backoff.next())
            self._change("down", free_at)
            return False
        was_down = self.state == "down"
        self.retry_at = None
        self._backoff.reset()
        self._free_at = free_at
        self._change("ok", free_at)
        if came is Came.SILENCE and meter in self.paces:
            self.paces[meter].silent_for(max(0.0, (free_at - began).total_seconds()))
        came_back = was_dead and came is Came.ANSWER
        if was_down or came_back:
            # While the line was down its meters may have been called silent for its fault; and what had taken
            # one meter away may have taken them all: a converter or a feeder without power.
            self.revive(free_at)
        return came_back

    def revive(self, now: datetime) -> bool:
        """Try all silent meters at once, and the line itself; False where that was done a moment ago.

        Two meters that come and go do not make it a habit.
        """
        if now < self._revive_at:
            return False
        self._revive_at = now + REVIVE_EVERY
        if self.retry_at is not None:
            self.retry_at = min(self.retry_at, now)
            self._backoff.reset()
        for pace in self.paces.values():
            if pace.dead:
                pace.resume(now)
        return True

    def hold(self, until: datetime) -> None:
        """Poll nothing before `until`; those who wait go on."""
        self._held_until = until

    def connected(self, now: datetime) -> None:
        """Note that the far end opened the line: nothing waits for a back-off any more."""
        self.retry_at = None
        self._backoff.reset()
        for pace in self.paces.values():
            pace.reachable(now)

    def clock_went_back(self, now: datetime) -> None:
        """Begin again, at once: times that were set by the wrong clock mean nothing."""
        self._revive_at = min(self._revive_at, now)
        self._held_until = self._free_at = EVER
        if self.retry_at is not None:
            self.retry_at = now
        for pace in self.paces.values():
            pace.barred(EVER)
            pace.due_now(now)

    def _claims(self, now: datetime, *, polls: bool = True) -> Iterator[Claim]:
        yield from self.waiting.values()
        if not polls:
            return
        held = max(self.retry_at or EVER, self._held_until)
        full = sum(pace.under_way for pace in self.paces.values()) >= AHEAD
        for pace in self.paces.values():
            # The journal's commit holds no line: the next meter is read meanwhile. But a meter's own next visit
            # waits for it, and so do all when more than AHEAD would be lost by a journal that refuses.
            stays = full or pace.under_way
            yield from (claim for claim in pace.claims(held) if claim.ready > now or not stays)

    def _account(self, claim: Claim, began: datetime, free_at: datetime, as_urgency: Urgency) -> None:
        seconds = max(0.0, (free_at - began).total_seconds())
        self._free_at = free_at
        self.busy += seconds
        if as_urgency is Urgency.SILENT:
            self.dead += seconds
        others = (c for c in self._claims(free_at) if c.meter != claim.meter or not claim.meter)
        self._turns.ended(as_urgency, began, free_at, others)

    def _change(self, state: str, now: datetime) -> None:
        if state != self.state:
            self.state, self.since = state, now
