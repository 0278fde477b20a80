"""The planner against all plans there are: the cheapest, every value whole, within the meter's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.line import LinePace
from protocols.modbus.planning.plan import (
    DISTINCT_SHARE,
    ReadLimits,
    RegisterBlock,
    RegisterRange,
    RegisterSpan,
    aligned,
    halves,
    plan,
    seam,
)
from protocols.modbus.planning.wire_time import WireCost, rounded, turnaround, wire_cost
from tests.support.modbus.all_plans import least_cost

CHEAP_HOLES = WireCost(request=100, register=1)

ranges = st.builds(
    lambda function, start, size: RegisterRange(function, start, start + size),
    st.sampled_from([3, 4]),
    st.integers(0, 130),
    st.integers(1, 9),
)


@st.composite
def maps(draw: st.DrawFn, *, most: int = 40) -> tuple[list[RegisterSpan], ReadLimits, WireCost]:
    align = draw(st.sampled_from([1, 1, 2, 4]))
    spans = draw(
        st.lists(
            st.builds(
                lambda function, cell, size, group: RegisterSpan(
                    function, cell * align, size * align if group is None else size, group
                ),
                st.sampled_from([3, 3, 4]),
                st.integers(0, 120 // align),
                st.integers(1, 2 if align == 4 else 4),
                st.sampled_from([None, None, None, None, "a", "b"]),
            ),
            min_size=1,
            max_size=most,
        )
    )
    grouped: dict[tuple[int, str | None], int] = {}
    for span in spans:  # a group is one record: keep its members close
        grouped.setdefault((span.function, span.group), span.address)
    spans = [
        s
        if s.group is None
        else RegisterSpan(s.function, grouped[s.function, s.group] + s.size % 4, s.size, s.group)
        for s in spans
    ]
    limits = ReadLimits(
        max_read=draw(st.integers(8, 125)),
        align=align,
        hole=draw(st.sampled_from([None, None, 0, 4, 20])),
        forbidden=tuple(draw(st.lists(ranges, max_size=3))),
        refused=tuple(draw(st.lists(ranges, max_size=4))),
        documented=tuple(draw(st.lists(ranges, max_size=4))),
    )
    return spans, limits, WireCost(draw(st.integers(0, 120)), draw(st.integers(1, 12)))


@settings(max_examples=300)
@given(maps(most=7))
@example(
    (
        [RegisterSpan(3, 0, 4), RegisterSpan(3, 2, 4), RegisterSpan(3, 3, 1), RegisterSpan(3, 9, 1)],
        ReadLimits(max_read=8, refused=(RegisterRange(3, 0, 6),)),
        WireCost(10, 1),
    )
)
def test_no_plan_is_cheaper(device: tuple[list[RegisterSpan], ReadLimits, WireCost]) -> None:
    spans, limits, cost = device
    unique = sorted(set(spans), key=lambda s: (s.function, s.address, s.size))
    blocks = plan(spans, limits, cost)
    least = least_cost(unique, limits, cost)
    assert sum(cost.of(block.count) for block in blocks) == least
    lengthened = plan(spans, limits, cost, distinct=True)
    assert sum(cost.of(block.count) for block in lengthened) <= (1 + DISTINCT_SHARE) * least


@settings(max_examples=150)
@given(maps(), st.booleans())
def test_plan_reads_what_naive_reading_reads(
    device: tuple[list[RegisterSpan], ReadLimits, WireCost], distinct: bool
) -> None:
    spans, limits, cost = device
    blocks = plan(spans, limits, cost, distinct=distinct)
    memory = {(f, a): (a * 7 + f) & 0xFFFF for f in (3, 4) for a in range(1024)}
    got: dict[RegisterSpan, list[int]] = {}
    for block in blocks:
        answer = [memory[block.function, a] for a in range(block.address, block.address + block.count)]
        for span in block.spans:
            assert span not in got, "each value is read once"
            got[span] = block.take(span, answer)
        assert limits.allow(block) or len(block.spans) == 1 or block.exact
    assert got == {s: [memory[s.function, a] for a in range(s.address, s.end)] for s in spans}


def asked(blocks: Sequence[RegisterBlock]) -> list[tuple[int, int]]:
    return [(b.address, b.count) for b in blocks]


def test_a_hole_is_crossed_while_its_octets_cost_less_than_a_request() -> None:
    """The break-even of the Modbus facts: g < 10 + L/2c registers, 20 at 9600 8N1 and 20 ms beside t3.5."""
    pace = LinePace(octet=10 / 9600, gap=3.5 * 10 / 9600)
    for latency, crossed in ((0.0, 10), (0.02, 20), (0.1, 58)):
        cost = wire_cost("rtu", pace, latency)
        gaps = crossed - max(1, crossed // 10), crossed + max(1, crossed // 10)
        near, far = ([RegisterSpan(4, 0, 2), RegisterSpan(4, 2 + gap, 2)] for gap in gaps)
        assert len(plan(near, ReadLimits(max_read=125), cost)) == 1
        assert len(plan(far, ReadLimits(max_read=125), cost)) == 2


def test_forbidden_and_refused_registers_and_limits_divide() -> None:
    spans = [RegisterSpan(4, 0, 2), RegisterSpan(4, 6, 2), RegisterSpan(4, 20, 2)]

    def planned(**limits: object) -> list[tuple[int, int]]:
        return asked(plan(spans, ReadLimits(**{"max_read": 80} | limits), CHEAP_HOLES))  # type: ignore[arg-type]

    assert planned() == [(0, 22)]
    assert planned(hole=4) == [(0, 8), (20, 2)]
    assert planned(max_read=16) == [(0, 8), (20, 2)]
    assert planned(forbidden=(RegisterRange(4, 10, 11),)) == [(0, 8), (20, 2)]
    assert planned(forbidden=(RegisterRange(3, 10, 11),)) == [(0, 22)]
    assert planned(refused=(RegisterRange(4, 1, 7),)) == [(0, 2), (6, 16)]
    assert planned(refused=(RegisterRange(4, 6, 8),)) == [(0, 2), (6, 2), (20, 2)]


def test_groups_are_read_alone_and_exactly() -> None:
    spans = [
        RegisterSpan(3, 0, 2),
        RegisterSpan(3, 2, 1, "id"),
        RegisterSpan(3, 3, 2),
        RegisterSpan(3, 10, 2, "r"),
        RegisterSpan(3, 12, 3, "r"),
    ]
    blocks = plan(spans, ReadLimits(max_read=80), CHEAP_HOLES, distinct=True)
    assert asked(blocks) == [(0, 6), (2, 1), (10, 5)], "the block that may be longer is"


def test_blocks_of_equal_length_are_told_apart_where_that_costs_little() -> None:
    spans = [RegisterSpan(3, 0, 40), RegisterSpan(3, 1000, 40), RegisterSpan(3, 2000, 40)]
    limits = ReadLimits(max_read=50)
    cost = WireCost(request=50, register=1)
    assert asked(plan(spans, limits, cost, distinct=True)) == [(0, 40), (1000, 41), (2000, 42)]
    documented = replace(limits, documented=(RegisterRange(3, 999, 1040),))
    assert asked(plan(spans, documented, cost, distinct=True)) == [(0, 40), (999, 41), (2000, 42)]
    even = replace(limits, align=2)
    assert asked(plan(spans[:2], even, cost, distinct=True)) == [(0, 40), (1000, 42)]
    for tight in (replace(limits, max_read=40), replace(limits, refused=(RegisterRange(3, 1039, 1041),))):
        assert (1000, 41) not in asked(plan(spans, tight, cost, distinct=True))
    assert asked(plan(spans[:2], limits, WireCost(50, 10), distinct=True)) == [(0, 40), (1000, 41)]
    short = [RegisterSpan(3, 0, 2), RegisterSpan(3, 1000, 2)]
    assert asked(plan(short, limits, WireCost(10, 10), distinct=True)) == [(0, 2), (1000, 2)], "too dear"


def test_halves_and_their_seam() -> None:
    block = aligned([RegisterSpan(3, 0, 2), RegisterSpan(3, 4, 2), RegisterSpan(3, 8, 2)], 1)
    parts = halves(block, 1)
    assert parts is not None
    assert asked(parts) == [(0, 2), (4, 6)]
    assert asked([seam(*parts, 1)]) == [(0, 6)]
    assert halves(parts[0], 1) is None
    assert halves(aligned([RegisterSpan(3, 0, 2, "g"), RegisterSpan(3, 4, 2, "g")], 1), 1) is None


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_latency_is_what_the_octets_do_not_explain(framing: str) -> None:
    pace = LinePace(octet=11 / 9600, gap=3.5 * 11 / 9600)
    free = wire_cost(framing, pace, 0.0).of(34) / 1e9
    gap = pace.gap if framing == "rtu" else 0.0
    assert turnaround(framing, pace, 34, free - gap + 0.05) == pytest.approx(0.05)
    assert turnaround(framing, pace, 34, 0.0) == 0.0


def test_the_table_of_wire_times() -> None:
    """As the Modbus facts compute it, in ms, without latency."""
    for baud, bits, count, milliseconds in ((2400, 10, 2, 100), (9600, 10, 80, 188), (9600, 11, 125, 309)):
        octet = bits / baud
        cost = wire_cost("rtu", LinePace(octet=octet, gap=3.5 * octet), 0.0)
        assert cost.of(count) / 1e6 == pytest.approx(milliseconds, abs=0.6)


def test_latencies_are_rounded_to_near_steps() -> None:
    assert rounded(0.0) == 0.0
    assert len({rounded(0.02 * (1 + n / 1000)) for n in range(40)}) <= 2
    for seconds in (0.0001, 0.02, 1.3):
        assert rounded(seconds) == pytest.approx(seconds, rel=0.08)
