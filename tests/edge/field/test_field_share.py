"""Field work that never ends leaves the edge half of a line's time, and work now and then waits for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.field.share import SHARE, FieldShare

BURST = 300.0


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 400)), max_size=60))
def test_no_sequence_of_turns_takes_more_than_its_share(turns: list[tuple[float, float]]) -> None:
    """Each turn takes some seconds and comes some seconds after the last, but not before it may begin."""
    share = FieldShare(BURST)
    now = held = 0.0
    for seconds, pause in turns:
        now += pause
        now += share.wait(now)
        assert held <= BURST + SHARE * now + 1e-6, (
            "when a turn begins, what was held before is within the share"
        )
        now += seconds
        held += seconds
        share.charge(seconds, now)


def test_a_turn_now_and_then_waits_for_nothing() -> None:
    share = FieldShare(BURST)
    for hour in range(1, 24):
        at = 3_600.0 * hour
        assert share.wait(at) == 0
        share.charge(BURST, at + BURST)
