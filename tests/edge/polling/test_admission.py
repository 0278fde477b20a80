"""Admission control against a simple model: bounds are never passed, nobody waits without a reason."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.edge.polling.admission import Admission, AdmissionLimits, Route, Urgency

LIMITS = AdmissionLimits(sessions=6, per_segment=4, per_host=2, pace=2.0)
ROUTES = [Route(), *(Route(segment, f"{segment}{host}") for segment in "abc" for host in "12")]


class Doors(RuleBasedStateMachine):
    """Sessions come, begin, end and give up in any order, while time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.admission = Admission(LIMITS, self.now)
        self.waiting: dict[int, tuple[Route, Urgency]] = {}
        self.running: dict[int, tuple[Route, Urgency]] = {}
        self.begun = 0

    @rule(route=st.sampled_from(ROUTES), urgency=st.sampled_from(Urgency))
    def come(self, route: Route, urgency: Urgency) -> None:
        self.waiting[self.admission.request(route, urgency)] = (route, urgency)

    @rule(passed=st.sampled_from([0.0, 0.3, 1.0, 10.0]))
    def admit(self, passed: float) -> None:
        self.now += passed
        for number in self.admission.admit(self.now):
            route, urgency = self.waiting.pop(number)
            better = [
                n for n, (r, u) in self.waiting.items() if self._fits(r, u) and (u, n) < (urgency, number)
            ]
            assert not better, "one that came before, or is more urgent, had to go first"
            self.running[number] = (route, urgency)
            self.begun += 1
        if self.admission.due_in() is None:
            assert not [n for n, (r, u) in self.waiting.items() if self._fits(r, u)], "waits without a reason"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[number]
        self.admission.leave(number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[number]
        self.admission.leave(number)

    def _fits(self, route: Route, urgency: Urgency) -> bool:
        now = self.running.values()
        return (
            len(now) < LIMITS.sessions
            and (not route.segment or sum(r.segment == route.segment for r, _ in now) < LIMITS.per_segment)
            and (not route.host or sum(r.host == route.host for r, _ in now) < LIMITS.per_host)
            and (urgency is not Urgency.SILENT or self._silent_fits(route))
        )

    def _silent_fits(self, route: Route) -> bool:
        silent = [r.segment for r, u in self.running.values() if u is Urgency.SILENT]
        here = silent.count(route.segment) if route.segment else 0
        return len(silent) < LIMITS.silent and here < LIMITS.silent_per_segment

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), urgency=st.sampled_from(Urgency))
    def change(self, data: st.DataObject, urgency: Urgency) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting[number] = (self.waiting[number][0], urgency)
        self.admission.change(number, urgency)

    @invariant()
    def bounds_hold(self) -> None:
        now = list(self.running.values())
        assert len(now) == self.admission.running <= LIMITS.sessions
        assert self.admission.waiting == len(self.waiting)
        assert max(Counter(r.segment for r, _ in now if r.segment).values(), default=0) <= LIMITS.per_segment
        assert max(Counter(r.host for r, _ in now if r.host).values(), default=0) <= LIMITS.per_host
        assert sum(u is Urgency.SILENT for _, u in now) <= LIMITS.silent
        assert self.begun <= LIMITS.sessions + (self.now - 100.0) * LIMITS.pace + 1e-6


TestDoors = Doors.TestCase
TestDoors.settings = settings(max_examples=150, stateful_step_count=60)


def test_a_clogged_segment_costs_the_others_nothing() -> None:
    """A thousand wait behind one concentrator, and one that came last elsewhere begins at once."""
    admission = Admission(AdmissionLimits(sessions=8, per_segment=4, per_host=2, pace=1e6), 0.0)
    for _ in range(1_000):
        admission.request(Route("slow", "concentrator"), Urgency.DUE)
    late = admission.request(Route("fast", "meter"), Urgency.DUE)
    assert late in admission.admit(0.0)
    assert admission.running == 3


def test_a_segment_carries_no_more_than_its_bound_whatever_its_hosts() -> None:
    admission = Admission(AdmissionLimits(sessions=100, per_segment=4, per_host=2, pace=1e6), 0.0)
    tickets = [admission.request(Route("cell", f"meter {n}"), Urgency.DUE) for n in range(10)]
    assert admission.admit(0.0) == tickets[:4]
    admission.leave(tickets[0])
    assert admission.admit(1.0) == [tickets[4]]


def test_sessions_begin_at_a_pace_however_soon_others_end() -> None:
    """Refused connections end at once: a thousand meters behind a router that is down are not all tried in a second."""
    admission = Admission(AdmissionLimits(sessions=6, per_segment=6, per_host=6, pace=2.0), 0.0)
    for n in range(1_000):
        admission.request(Route(f"segment {n}", f"meter {n}"), Urgency.DUE)

    def begun(seconds: float) -> int:
        count = 0
        while tickets := admission.admit(seconds):
            count += len(tickets)
            for ticket in tickets:
                admission.leave(ticket)
        return count

    assert begun(0.0) == 6
    assert [begun(second) for second in (0.25, 0.5, 1.0, 2.0, 12.0)] == [0, 1, 1, 2, 6]
