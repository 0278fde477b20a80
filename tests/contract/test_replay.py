"""The planner of replays: a hole is asked for patiently, for as long as it is there."""

from __future__ import annotations

from gateway.contract.replay import ReplayPlanner


def test_a_hole_is_asked_for_at_doubling_intervals_up_to_the_longest() -> None:
    planner = ReplayPlanner(patience=3.0, most=20.0)
    planner.note("j", 4, ((5, 6),), 100.0)
    asked = [now for now in range(100, 180) if planner.due(float(now))]
    assert asked == [103, 109, 121, 141, 161]


def test_a_hole_that_nobody_can_fill_is_asked_for_without_end() -> None:
    planner = ReplayPlanner(patience=3.0, most=60.0)
    planner.note("j", 4, ((5, 6),), 0.0)
    assert all(len(planner.due(60.0 * turn)) == 1 for turn in range(1, 3_000))
