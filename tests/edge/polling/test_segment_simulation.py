"""A segment that lets one conversation through at a time carries its meters: the whole poller, simulated time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.edge.segment_simulation import Segment
from tests.support.virtual_time import run_virtually

HOURS = 4


@pytest.mark.parametrize(
    "segment",
    [Segment(120, 120, trips=6), Segment(120, 1, trips=6), Segment(120, 120, trips=6, dead=12)],
    ids=["a line each", "behind one concentrator", "beside a tenth that is dead"],
)
def test_a_segment_with_one_talker_and_a_second_a_round_trip_carries_120_meters(segment: Segment) -> None:
    """Twelve round trips a meter in each half hour: its block load once, its present values at each quarter."""
    run_virtually(segment.poll(timedelta(hours=HOURS)))
    assert segment.most_talking == 1
    assert min(segment.half_hours(HOURS)) == 120
    quarters = [len(segment.visits[segment.name(n)]) for n in range(120)]
    assert min(quarters) >= 4 * HOURS - 1
