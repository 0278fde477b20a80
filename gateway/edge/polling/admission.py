"""Which sessions may begin now: bounded at once by edge, network segment and host, begun at a pace; sans-IO."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import IntEnum
from heapq import heappop, heappush


class Urgency(IntEnum):
    """Who goes first: what a person or an order waits for, then what is due, then what can wait.

    What can wait: rows that are missing, setting clocks, finding out who is there, and meters that did not answer
    the last time.
    """

    ORDERED = 0
    DUE = 1
    BACKFILL = 2
    CLOCK = 3
    IDENTIFY = 4
    SILENT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """Sessions at once, and how many begin in a second (`pace`).

    Silent meters cost their whole time-out: they use a quarter of the edge's sessions at most, and of a segment's.
    """

    sessions: int = 64
    per_segment: int = 24
    per_host: int = 8
    pace: float = 20.0

    @property
    def silent(self) -> int:
        """Sessions with silent meters at once."""
        return max(1, self.sessions // 4)

    @property
    def silent_per_segment(self) -> int:
        """Sessions with silent meters at once in one segment."""
        return max(1, self.per_segment // 4)


@dataclass(frozen=True, slots=True)
class Route:
    """What a session shares with others on its way: a network segment, a host (a converter, a concentrator)."""

    segment: str = ""
    host: str = ""

    def shares(self, other: Route) -> bool:
        """Say whether what takes one away may take the other away, too."""
        return bool(self.segment and self.segment == other.segment) or bool(
            self.host and self.host == other.host
        )


@dataclass(frozen=True, slots=True)
class _Ticket:
    number: int
    route: Route
    urgency: Urgency


_Queue = list[tuple[Urgency, int]]
"""A heap of waiting tickets, by urgency and then by arrival."""


class Admission:
    """Gives out sessions. Of those that may begin, the most urgent goes first, then the one that came first.

    `request` a ticket, `admit` what may begin now, `leave` when a session ended or nobody waits any more.
    Whatever the load, each call looks at a few tickets, not at all that wait. `now` is any clock's seconds.
    """

    def __init__(self, limits: AdmissionLimits, now: float) -> None:
        self._limits = limits
        self._last = 0
        self._tickets: dict[int, _Ticket] = {}
        self._waiting: dict[str, tuple[_Queue, ...]] = {}
        self._held_back: dict[str, _Queue] = {}
        self._running: set[int] = set()
        self._of_segment: Counter[str] = Counter()
        self._of_host: Counter[str] = Counter()
        self._silent_of_segment: Counter[str] = Counter()
        self._silent = 0
        self._tokens = float(limits.sessions)
        self._at = now

    @property
    def running(self) -> int:
        """Sessions that go on now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sessions that wait for their turn."""
        return len(self._tickets) - len(self._running)

    def request(self, route: Route, urgency: Urgency) -> int:
        """Queue for a session; return the number of its ticket."""
        self._last += 1
        self._tickets[self._last] = ticket = _Ticket(self._last, route, urgency)
        self._queue(ticket)
        return ticket.number

    def change(self, number: int, urgency: Urgency) -> None:
        """Let a waiting ticket be more or less urgent; it keeps its place among those of that urgency."""
        ticket = self._tickets[number]
        if number in self._running or ticket.urgency is urgency:
            return
        self._tickets[number] = changed = replace(ticket, urgency=urgency)
        self._queue(changed)

    def admit(self, now: float) -> list[int]:
        """Return the tickets whose sessions begin now."""
        limits = self._limits
        self._tokens = min(float(limits.sessions), self._tokens + max(0.0, now - self._at) * limits.pace)
        self._at = now
        begun: list[int] = []
        while self._tokens >= 1 and len(self._running) < limits.sessions:
            ticket = self._next()
            if ticket is None:
                break
            self._tokens -= 1
            self._begin(ticket)
            begun.append(ticket.number)
        return begun

    def due_in(self) -> float | None:
        """Return the seconds after which the pace lets another session begin; None when only a `leave` can."""
        if self._tokens >= 1 or not self.waiting or len(self._running) >= self._limits.sessions:
            return None
        return (1 - self._tokens) / self._limits.pace

    def leave(self, number: int) -> None:
        """Note that a session ended, or that its ticket is not wanted any more."""
        ticket = self._tickets.pop(number)
        if number in self._running:
            self._running.remove(number)
            self._of_segment[ticket.route.segment] -= 1
            self._of_host[ticket.route.host] -= 1
            self._silent -= ticket.urgency is Urgency.SILENT
            self._silent_of_segment[ticket.route.segment] -= ticket.urgency is Urgency.SILENT
        # Its host has room, or what stood in front of the others of this host is gone.
        self._bring_back(ticket.route.host)

    def _begin(self, ticket: _Ticket) -> None:
        self._running.add(ticket.number)
        self._of_segment[ticket.route.segment] += 1
        self._of_host[ticket.route.host] += 1
        self._silent += ticket.urgency is Urgency.SILENT
        self._silent_of_segment[ticket.route.segment] += ticket.urgency is Urgency.SILENT

    def _next(self) -> _Ticket | None:
        """Take the first ticket that may begin out of its queue."""
        silent_may = self._silent < self._limits.silent
        silent_here = self._limits.silent_per_segment
        best: tuple[Urgency, int] | None = None
        where: _Queue | None = None
        for segment in list(self._waiting):
            if segment and self._of_segment[segment] >= self._limits.per_segment:
                continue
            queues = self._waiting[segment]
            if not silent_may or (segment and self._silent_of_segment[segment] >= silent_here):
                queues = queues[: Urgency.SILENT]
            for queue in queues:
                head = self._head(queue)
                if head is not None and (best is None or head < best):
                    best, where = head, queue
            if not any(self._waiting[segment]):
                del self._waiting[segment]
        if where is None:
            return None
        return self._tickets[heappop(where)[1]]

    def _head(self, queue: _Queue) -> tuple[Urgency, int] | None:
        """Return the first entry of a queue that may begin; those of full hosts are held back meanwhile."""
        while queue:
            ticket = self._tickets.get(queue[0][1])
            if ticket is None or not self._waits_here(ticket, queue[0]):
                heappop(queue)
            elif self._full(ticket.route.host):
                heappush(self._held_back.setdefault(ticket.route.host, []), heappop(queue))
            else:
                return queue[0]
        return None

    def _waits_here(self, ticket: _Ticket, entry: tuple[Urgency, int]) -> bool:
        """Say whether an entry is still meant: a ticket that changed its urgency stands elsewhere, too."""
        return ticket.urgency is entry[0] and ticket.number not in self._running

    def _full(self, host: str) -> bool:
        return bool(host) and self._of_host[host] >= self._limits.per_host

    def _bring_back(self, host: str) -> None:
        held = self._held_back.get(host)
        while held:
            entry = heappop(held)
            ticket = self._tickets.get(entry[1])
            if ticket is not None and self._waits_here(ticket, entry):
                self._queue(ticket)
                break
        if not held:
            self._held_back.pop(host, None)

    def _queue(self, ticket: _Ticket) -> None:
        queues = self._waiting.setdefault(ticket.route.segment, tuple([] for _ in Urgency))
        heappush(queues[ticket.urgency], (ticket.urgency, ticket.number))
