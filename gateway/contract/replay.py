"""When to ask an edge for entries again: holes that stay open, with back-off; sans-IO, seconds are given."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.backoff import Backoff
from gateway.contract.messages import ReplayRequest

MAX_SPAN = 5_000
"""Entries asked for in one request: an edge sends them beside its live readings."""
MAX_REQUESTS = 20
"""Requests made at once for one journal."""


@dataclass(slots=True)
class _Hole:
    """One journal's first missing entry, since when it is missing, and what was asked."""

    since: float
    contiguous: int
    backoff: Backoff
    next_at: float


@dataclass(slots=True)
class ReplayPlanner:
    """Decides which ranges to ask for.

    A hole is asked for when it is `patience` seconds old, then after twice as long each time up to `most`;
    progress of the journal begins anew.
    """

    patience: float = 3.0
    most: float = 300.0
    consumer: str = "central"
    _holes: dict[str, _Hole] = field(default_factory=dict)
    _ranges: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def note(self, journal: str, contiguous: int, holes: tuple[tuple[int, int], ...], now: float) -> None:
        """Note what is stored of a journal now; `holes` may end in a tail that a status announced."""
        if not holes:
            self._holes.pop(journal, None)
            self._ranges.pop(journal, None)
            return
        known = self._holes.get(journal)
        if known is None or known.contiguous != contiguous:
            backoff = Backoff(self.patience, self.most, chance=0.0)
            self._holes[journal] = _Hole(now, contiguous, backoff, now + backoff.next())
        self._ranges[journal] = holes

    def due(self, now: float) -> list[ReplayRequest]:
        """Return the requests to send now."""
        requests: list[ReplayRequest] = []
        for journal, hole in self._holes.items():
            if now < hole.next_at:
                continue
            hole.next_at = now + hole.backoff.next()
            requests += self._requests(journal)
        return requests

    def open_since(self, journal: str) -> float | None:
        """Return when the journal last stopped advancing with a hole in it, None without one."""
        hole = self._holes.get(journal)
        return None if hole is None else hole.since

    def _requests(self, journal: str) -> list[ReplayRequest]:
        made: list[ReplayRequest] = []
        left = MAX_SPAN
        for first, last in self._ranges[journal][:MAX_REQUESTS]:
            if left <= 0:
                break
            last = min(last, first + left - 1)
            left -= last - first + 1
            made.append(ReplayRequest(journal=journal, first=first, last=last, consumer=self.consumer))
        return made
