"""All plans that there are for a few spans, and what the cheapest of them costs: what the planner is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocols.modbus.planning.plan import ReadLimits, RegisterBlock, RegisterSpan, aligned
from protocols.modbus.planning.wire_time import WireCost


def requests_of(part: Sequence[RegisterSpan], limits: ReadLimits) -> RegisterBlock | None:
    """The request for a part of the spans, by the letter of the limits; None where it may not be sent."""
    if len(part) == 1 or part[0].group is not None:
        return aligned(part, limits.align if part[0].group is None else 1)
    block = aligned(part, limits.align)
    used = {a for s in part for a in range(s.address, s.end)}
    wide = 0
    for address in range(block.address, block.address + block.count):
        wide = 0 if address in used else wide + 1
        inside = min(used) < address < max(used)
        if limits.hole is not None and inside and wide > limits.hole:
            return None
    return block if limits.allow(block) else None


def partitions(spans: list[RegisterSpan]) -> Iterator[list[list[RegisterSpan]]]:
    if not spans:
        yield []
        return
    head, rest = spans[0], spans[1:]
    for smaller in partitions(rest):
        yield [[head], *smaller]
        for n, part in enumerate(smaller):
            yield [*smaller[:n], [head, *part], *smaller[n + 1 :]]


def least_cost(spans: list[RegisterSpan], limits: ReadLimits, cost: WireCost) -> int:
    """The cost of the cheapest of all ways to divide the spans, found by trying them all."""
    total = 0
    for function, group in sorted({(s.function, s.group or "") for s in spans}):
        members = [s for s in spans if (s.function, s.group or "") == (function, group)]
        if group:
            total += cost.of(aligned(members, 1).count)
            continue
        best: int | None = None
        for parts in partitions(members):
            blocks = [requests_of(part, limits) for part in parts]
            if None not in blocks:
                spent = sum(cost.of(block.count) for block in blocks if block is not None)
                best = spent if best is None else min(best, spent)
        assert best is not None
        total += best
    return total
