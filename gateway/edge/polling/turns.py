"""Whose turn it is on a line: claims by urgency and deadline, and what each may take from the others; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway.edge.polling.admission import Urgency

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What somebody wants of a line: from `ready` on, if possible by `wanted_by`, for `worst` seconds at most.

    `meter` is the meter that is meant, "" for none. `number` tells requests apart; the polls of meters have 0.
    """

    meter: str = ""
    number: int = 0
    urgency: Urgency
    ready: datetime
    wanted_by: datetime
    worst: float = 0.0


class Decision(NamedTuple):
    """The claim whose turn it is, and until when that holds; without a claim the line rests until then."""

    claim: Claim | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What an urgency may have of a line that more urgent ones want, too.

    `share` of the line's time at most, and only for a claim that has waited `patience` seconds: before, it may find
    idle wire, which costs nobody anything. `weight` is its part of idle wire when others of no hurry want it.
    """

    share: float
    patience: float
    weight: float = 1.0


TERMS: Mapping[Urgency, Terms] = {
    Urgency.DUE: Terms(share=0.5, patience=30.0),
    Urgency.BACKFILL: Terms(share=0.2, patience=60.0, weight=8.0),
    Urgency.CLOCK: Terms(share=0.02, patience=300.0, weight=2.0),
    Urgency.IDENTIFY: Terms(share=0.05, patience=60.0, weight=2.0),
    # Kept just below the promised 2 %: the last probe before the bound may end above it.
    Urgency.SILENT: Terms(share=0.019, patience=20.0, weight=8.0),
}
"""Only orders have no terms: nobody goes before them."""
BURST = 2.0
"""Seconds that an urgency may save up of its share."""
MOST_DEBT = 60.0
"""Seconds that it may owe: orders that came in the middle of its turns do not shut it out for long."""
PROMPT = (Urgency.ORDERED, Urgency.DUE)
"""Those that wait for nobody's spare time; the others share what these leave idle."""


class Allowance:
    """Line time that an urgency may take from more urgent ones: a bucket filled with a share of the time that passes.

    What is taken is the time that the others really waited. It may fall below nothing, though not without end: then
    it takes no more until the debt is paid. It begins empty.
    """

    def __init__(self, share: float, now: datetime) -> None:
        self._share = share
        self._tokens = 0.0
        self._at = now
        self.taken = 0.0

    def charge(self, seconds: float, now: datetime) -> None:
        """Take what the others waited."""
        self._fill(now)
        self._tokens = max(self._tokens - seconds, -MOST_DEBT)
        self.taken += seconds

    def ready_at(self, now: datetime) -> datetime:
        """Return when it may take something."""
        self._fill(now)
        return now if self._tokens >= 0 else now + timedelta(seconds=-self._tokens / self._share)

    def _fill(self, now: datetime) -> None:
        passed = max(0.0, (now - self._at).total_seconds())
        self._at = now
        self._tokens = min(BURST, self._tokens + passed * self._share)


class Turns:
    """Decides for one line what it does next. The caller gives the claims as they stand at each question.

    Orders go before what is due. The rest waits for idle wire: a claim begins where it surely ends before anything
    due begins. What waited long may go before, within its share; so nobody waits for ever, whatever the load. Idle
    wire is divided by weight. Within an urgency the earliest deadline comes first.
    """

    def __init__(self, now: datetime) -> None:
        self._allowances = {urgency: Allowance(terms.share, now) for urgency, terms in TERMS.items()}
        self._used = dict.fromkeys(TERMS, 0.0)
        self._level = 0.0

    def next(self, claims: Iterable[Claim], now: datetime) -> Decision:
        """Return whose turn it is at `now`, or until when there is nothing to do."""
        heads: dict[Urgency, list[Claim]] = {}
        coming = prompt_at = NEVER
        for claim in claims:
            if claim.ready <= now:
                heads.setdefault(claim.urgency, []).append(claim)
                continue
            coming = min(coming, claim.ready)
            if claim.urgency in PROMPT:
                prompt_at = min(prompt_at, claim.ready)
        for urgency in sorted(set(heads) - {Urgency.ORDERED}, key=self._turn_of):
            # First those that waited too long for spare time, where something more urgent is there all the time.
            first = min(heads[urgency], key=_order)
            overtakes = any(other < urgency and other in PROMPT for other in heads)
            if overtakes and self._may_take(first, now) <= now:
                return Decision(first, coming)
        for urgency in PROMPT:
            if urgency in heads:
                return Decision(min(heads[urgency], key=_order), coming)
        return self._spare(heads, now, coming, prompt_at)

    def ended(self, urgency: Urgency, began: datetime, now: datetime, others: Iterable[Claim]) -> None:
        """Note that a turn is over, and that the line is free at `now`.

        `urgency` is what the turn proved to be: a meter that was due and did not answer was a silent one. `others`
        are the claims of all others: it is charged with the time that more urgent ones waited for it.
        """
        terms = TERMS.get(urgency)
        if terms is None:
            return
        if urgency not in PROMPT:
            start = max(self._used[urgency], self._level)
            self._level = start
            self._used[urgency] = start + max(0.0, (now - began).total_seconds()) / terms.weight
        waits = (other.ready for other in others if other.urgency in PROMPT and other.urgency < urgency)
        cost = (now - max(began, min(waits, default=now))).total_seconds()
        self._allowances[urgency].charge(max(0.0, cost), now)

    def taken(self, urgency: Urgency) -> float:
        """Return the seconds that more urgent claims waited for turns of this urgency."""
        return self._allowances[urgency].taken

    def _spare(
        self, heads: dict[Urgency, list[Claim]], now: datetime, coming: datetime, prompt_at: datetime
    ) -> Decision:
        """Decide for idle wire, of which something due takes the rest at `prompt_at`."""
        for urgency in sorted(heads, key=self._turn_of):
            for claim in sorted(heads[urgency], key=_order):
                allowed_at = self._may_take(claim, now)
                if allowed_at <= now or _ends(claim, now) <= prompt_at:
                    return Decision(claim, coming)
                coming = min(coming, allowed_at)
        return Decision(None, coming)

    def _may_take(self, claim: Claim, now: datetime) -> datetime:
        """Return when a claim may begin though something more urgent waits, or will."""
        patient = claim.ready + timedelta(seconds=TERMS[claim.urgency].patience)
        return max(patient, self._allowances[claim.urgency].ready_at(now))

    def _turn_of(self, urgency: Urgency) -> tuple[float, Urgency]:
        return max(self._used.get(urgency, 0.0), self._level), urgency


def _order(claim: Claim) -> tuple[datetime, datetime, int]:
    return claim.wanted_by, claim.ready, claim.number


def _ends(claim: Claim, now: datetime) -> datetime:
    return min(NEVER - now, timedelta(seconds=claim.worst)) + now
