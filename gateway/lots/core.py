"""What a lot does next, as a pure state machine: it reads no clock, visits nobody and keeps nothing.

    step(now) says: begin this visit, wait until then, or it is over
    begun(item, now), ended(item, outcome, now) say what the item becomes, and with it the lot

`apply` is called once what they said is durable. What was applied last is where a new run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.lots.terms import Terms

INTERRUPTED = "interrupted"
"""The reason of a meter whose every visit was cut off with the program."""
CUTS = 3
"""Visits beyond the allowed attempts that may be cut off so: a power cut is not the meter's fault."""
Facts = Mapping[str, Any]
"""What a kind of work keeps of a meter or lot, as JSON: never a key or a password."""


class LotState(StrEnum):
    """Where a lot stands: `paused` by a person or after the pilot, `stopped` by its terms; the last two are ends."""

    READY = "ready"
    PAUSED = "paused"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class ItemState(StrEnum):
    """Where a meter stands: not yet begun, in a visit, to be visited again, or at an end."""

    FRESH = "fresh"
    VISITED = "visited"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = frozenset({ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One meter of a lot. `line` is what it shares with others: of one line, one is visited at a time.

    `tries` counts visits in a row without progress. `facts` are the plan's, `kept` what visits left for the next.
    `end` numbers the ends of a lot's items in their order, from 1.
    """

    position: int
    meter: str
    line: str = ""
    facts: Facts = field(default_factory=dict)
    state: ItemState = ItemState.FRESH
    tries: int = 0
    not_before: datetime | None = None
    reason: str = ""
    note: str = ""
    kept: Facts = field(default_factory=dict)
    began: datetime | None = None
    ended: datetime | None = None
    end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """A plan: what kind of work, by whom, on which terms, and where it stands.

    Failures up to the end numbered `accepted` were there when somebody last resumed it: they stop it no second time.
    """

    name: str
    kind: str
    created: datetime
    by: str
    terms: Terms
    facts: Facts = field(default_factory=dict)
    state: LotState = LotState.READY
    reason: str = ""
    accepted: int = 0
    pilot_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The meter is as the plan wants it."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """More is to be done: visit it again, not before a time. `progress` says whether this visit brought any."""

    note: str = ""
    not_before: datetime | None = None
    progress: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The visit failed. `reason` is a stable name for `stop_on` and reports; `final`: no other visit can help."""

    reason: str
    note: str = ""
    final: bool = False


Outcome = Done | Again | Failed


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a visit of this item; it should end by `until` where a window closes then."""

    item: Item
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can begin before `until`; None: before a visit ends or somebody resumes the lot."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Halt:
    """The lot takes this state by itself."""

    lot: Lot


class LotCore:
    """The state machine of one lot; `lot` and `items` are where it stands."""

    def __init__(self, lot: Lot, items: Iterable[Item], last_begun: datetime | None = None) -> None:
        self.lot = lot
        self.items = {item.position: item for item in items}
        self._last_begun = last_begun
        self._fresh = sorted(self._in(ItemState.FRESH), reverse=True)
        self._open = set(self._in(ItemState.VISITED, ItemState.BEGUN))
        self._busy: dict[int, str] = {}
        self._ends = sorted((i.end, i) for i in self.items.values() if i.end)

    def interrupted(self) -> list[Item]:
        """Return, as they go on, the items whose visit was cut off with the program; asked before any visit."""
        return [self._cut_off(self.items[p]) for p in self._in(ItemState.VISITED)]

    def step(self, now: datetime) -> Begin | Wait | Halt:
        """Say what to do now."""
        lot = self.lot
        if lot.state is not LotState.READY:
            return Wait(None)
        if (why := self._reason_to_stop()) is not None:
            return Halt(replace(lot, state=LotState.STOPPED, reason=why))
        item, ready_at = self._next(now)
        if item is None:
            return self._nothing_left() if ready_at is None else Wait(ready_at)
        if len(self._busy) >= lot.terms.at_once:
            return Wait(None)
        if (spaced := self._spaced(now)) > now:
            return Wait(spaced)
        window = lot.terms.window_at(now)
        if window is None:
            return Halt(replace(lot, state=LotState.STOPPED, reason="no window of its terms ever opens"))
        return Wait(window[0]) if window[0] > now else Begin(item, window[1])

    def begun(self, item: Item, now: datetime) -> Item:
        """Return the item as its visit begins: one that never ends has been a try without progress."""
        return replace(item, state=ItemState.VISITED, tries=item.tries + 1, began=item.began or now)

    def ended(self, item: Item, outcome: Outcome, now: datetime) -> Item:
        """Return the item after a visit with this outcome."""
        match outcome:
            case Done(note=note):
                return self._at_end(item, ItemState.DONE, "", note, now)
            case Failed(reason=reason, note=note, final=True):
                return self._at_end(item, ItemState.FAILED, reason, note, now)
            case Again(note=note, not_before=at, progress=True):
                return replace(item, state=ItemState.BEGUN, tries=0, reason="", note=note, not_before=at)
            case Again(note=note, not_before=at):
                reason = "no_progress"
            case Failed(reason=reason, note=note):
                at = now + timedelta(seconds=self.lot.terms.pause)
        if item.tries >= self.lot.terms.attempts:
            return self._at_end(item, ItemState.FAILED, reason, note, now)
        return replace(item, state=ItemState.BEGUN, reason=reason, note=note, not_before=at)

    def apply(self, change: Item | Lot, *, now: datetime | None = None) -> None:
        """Take what became durable; `now` where it is the beginning of a visit."""
        if isinstance(change, Lot):
            self.lot = change
            return
        self.items[change.position] = change
        if change.state is ItemState.VISITED:
            self._busy[change.position] = change.line
            self._last_begun = now
        else:
            self._busy.pop(change.position, None)
        if change.state in ENDS:
            self._open.discard(change.position)
            self._ends.append((change.end, change))
        else:
            self._open.add(change.position)

    def resumed(self) -> Lot:
        """Return the lot as a person lets it go on: what failed before stops it no second time."""
        last = self._ends[-1][0] if self._ends else 0
        over = self.lot.pilot_over or self._pilot_begun()
        return replace(self.lot, state=LotState.READY, reason="", accepted=last, pilot_over=over)

    def _in(self, *states: ItemState) -> list[int]:
        return [position for position, item in self.items.items() if item.state in states]

    def _cut_off(self, item: Item) -> Item:
        if item.tries < self.lot.terms.attempts + CUTS:
            return replace(item, state=ItemState.BEGUN)
        note = "each visit was cut off with the program"
        return self._at_end(item, ItemState.FAILED, INTERRUPTED, note, item.began)

    def _at_end(self, item: Item, state: ItemState, reason: str, note: str, now: datetime | None) -> Item:
        number = 1 + max((end for end, _ in self._ends), default=0)
        return replace(item, state=state, reason=reason, note=note, ended=now, end=number, not_before=None)

    # ---- what is next

    def _next(self, now: datetime) -> tuple[Item | None, datetime | None]:
        """Return the item whose turn it is, else when the next one's comes: those begun before fresh ones."""
        lines = set(self._busy.values()) - {""}
        waiting: datetime | None = None
        for position in sorted(self._open - self._busy.keys()):
            item = self.items[position]
            if item.not_before is not None and item.not_before > now:
                waiting = min(waiting or item.not_before, item.not_before)
            elif item.line not in lines:
                return item, None
        fresh = None if self._pilot_waits() else self._first_fresh(lines)
        return (fresh, None) if fresh is not None else (None, waiting)

    def _first_fresh(self, lines: set[str]) -> Item | None:
        while self._fresh and self.items[self._fresh[-1]].state is not ItemState.FRESH:
            self._fresh.pop()
        for position in reversed(self._fresh):
            item = self.items[position]
            if item.state is ItemState.FRESH and item.line not in lines:
                return item
        return None

    def _spaced(self, now: datetime) -> datetime:
        """Return from when on the rate allows the next visit; a clock that was set back delays it by one spacing."""
        spacing = self.lot.terms.spacing
        return now if self._last_begun is None else min(self._last_begun, now) + spacing

    def _nothing_left(self) -> Wait | Halt:
        if self._busy:
            return Wait(None)
        if self._in(ItemState.FRESH):
            text = f"the first {self.lot.terms.pilot} meters have ended: look at the report, then resume"
            return Halt(replace(self.lot, state=LotState.PAUSED, reason=text))
        return Halt(replace(self.lot, state=LotState.FINISHED, reason=""))

    def _pilot_begun(self) -> bool:
        return 0 < self.lot.terms.pilot <= len(self.items) - len(self._in(ItemState.FRESH))

    def _pilot_waits(self) -> bool:
        return not self.lot.pilot_over and self._pilot_begun()

    # ---- what stops it

    def _reason_to_stop(self) -> str | None:
        terms = self.lot.terms
        new = [item for end, item in self._ends if end > self.lot.accepted]
        failed = [item for item in new if item.state is ItemState.FAILED]
        for item in failed:
            if item.reason in terms.stop_on:
                return f"{item.meter} failed with {item.reason}, which stops the lot"
        failed, new = ([i for i in some if i.reason not in terms.not_counted] for some in (failed, new))
        if terms.max_failed is not None and len(failed) > terms.max_failed:
            return f"{len(failed)} meters failed, more than {terms.max_failed}"
        share = terms.max_failed_percent
        if share is not None and len(new) >= terms.share_after and len(failed) * 100 > share * len(new):
            return f"{len(failed)} of {len(new)} meters failed, more than {share} %"
        return None
