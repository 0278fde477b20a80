"""The planner against naive reading: every value whole, within limits, and never more requests."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.modbus.plan import RegisterBlock, RegisterSpan, halves, plan


@st.composite
def devices(draw: st.DrawFn) -> tuple[list[RegisterSpan], int, int, int, set[tuple[int, int]]]:
    align = draw(st.sampled_from([1, 2, 4]))
    max_read = draw(st.integers(8, 125))
    spans = draw(
        st.lists(
            st.builds(
                lambda function, cell, size, group: RegisterSpan(
                    function, cell * align, size * align if group is None else size, group
                ),
                st.sampled_from([3, 4]),
                st.integers(0, 120),
                st.integers(1, 2 if align == 4 else 4),
                st.sampled_from([None, None, None, "a", "b"]),
            ),
            min_size=1,
            max_size=40,
        )
    )
    grouped: dict[tuple[int, str | None], int] = {}
    for span in spans:  # a group is one record: keep its members close
        key = (span.function, span.group)
        grouped.setdefault(key, span.address)
    spans = [
        s
        if s.group is None
        else RegisterSpan(s.function, grouped[s.function, s.group] + s.size % 4, s.size, s.group)
        for s in spans
    ]
    barriers = draw(st.sets(st.tuples(st.sampled_from([3, 4]), st.integers(0, 500)), max_size=6))
    return spans, max_read, align, draw(st.integers(0, 40)), barriers


@settings(max_examples=100)
@given(devices())
def test_plan_reads_what_naive_reading_reads(
    device: tuple[list[RegisterSpan], int, int, int, set[tuple[int, int]]],
) -> None:
    spans, max_read, align, hole, barriers = device
    blocks = plan(spans, max_read=max_read, align=align, hole=hole, barriers=barriers)
    memory = {(f, a): (a * 7 + f) & 0xFFFF for f in (3, 4) for a in range(1024)}
    got: dict[RegisterSpan, list[int]] = {}
    for block in blocks:
        answer = [memory[block.function, a] for a in range(block.address, block.address + block.count)]
        for span in block.spans:
            assert span not in got, "each value is read once"
            got[span] = block.take(span, answer)
        if all(s.group is None for s in block.spans):
            assert block.count <= max_read
            assert block.address % align == 0
            assert block.count % align == 0
            assert _unused(block) <= hole * (len(block.spans) - 1) + 2 * (align - 1)
    assert got == {s: [memory[s.function, a] for a in range(s.address, s.end)] for s in spans}
    assert len(blocks) <= len(set(spans))


def _unused(block: RegisterBlock) -> int:
    used = {a for s in block.spans for a in range(s.address, s.end)}
    return block.count - len(used)


def test_near_values_share_a_request_and_far_ones_do_not() -> None:
    spans = [RegisterSpan(4, 0, 2), RegisterSpan(4, 6, 2), RegisterSpan(4, 70, 2)]
    assert [(b.address, b.count) for b in plan(spans, max_read=80, hole=10)] == [(0, 8), (70, 2)]
    assert [(b.address, b.count) for b in plan(spans, max_read=80, hole=62)] == [(0, 72)]
    assert [(b.address, b.count) for b in plan(spans, max_read=7, hole=62)] == [(0, 2), (6, 2), (70, 2)]


def test_a_barrier_divides_and_halves_end() -> None:
    spans = [RegisterSpan(3, 0, 2), RegisterSpan(3, 2, 2), RegisterSpan(3, 4, 2), RegisterSpan(3, 5, 1)]
    (block,) = plan(spans, max_read=10)
    barriers: set[tuple[int, int]] = set()
    pending, requests = [block], 0
    while pending:
        part = pending.pop()
        requests += 1
        if part.divisible:
            barriers.add((3, halves(part)[1][0].address))
            pending += plan(part.spans, max_read=10, barriers=barriers)
        assert requests < 20
    assert len(plan(spans, max_read=10, barriers=barriers)) == 4


def test_groups_are_read_alone_and_exactly() -> None:
    spans = [
        RegisterSpan(3, 0, 2),
        RegisterSpan(3, 2, 1, "id"),
        RegisterSpan(3, 3, 2),
        RegisterSpan(3, 10, 2, "r"),
        RegisterSpan(3, 12, 3, "r"),
    ]
    blocks = plan(spans, max_read=80, hole=10)
    assert sorted((b.address, b.count) for b in blocks) == [(0, 5), (2, 1), (10, 5)]
