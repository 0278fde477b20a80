"""Which requests to send: the cheapest in wire time that the meter's limits allow; no value is ever cut in two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from protocols.modbus.planning.wire_time import WireCost

DISTINCT_SHARE = 0.02
"""Part of a plan's wire time that may be spent on making its blocks' lengths distinct."""
MOST_PADDING = 4
"""Multiples of the alignment by which a block grows at most for a length of its own."""
REGISTERS = (1, 2, 3, 4)
"""Functions that read runs of registers or bits; what others give is asked for one by one."""
END = 0x10000
"""First address after the last."""


@dataclass(frozen=True, slots=True)
class RegisterSpan:
    """`size` registers from `address`; those of one `group` are read together, exactly and alone."""

    function: int
    address: int
    size: int
    group: str | None = None

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address + self.size


@dataclass(frozen=True, slots=True, order=True)
class RegisterRange:
    """Registers of a function from `start` to before `end`, wanted or not."""

    function: int
    start: int
    end: int

    def contains(self, other: RegisterRange) -> bool:
        """Say whether all of another range lies in it."""
        return self.function == other.function and self.start <= other.start and other.end <= self.end

    def touches(self, other: RegisterRange) -> bool:
        """Say whether a register lies in both."""
        return self.function == other.function and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class RegisterBlock:
    """One request and the spans that it answers."""

    function: int
    address: int
    count: int
    spans: tuple[RegisterSpan, ...]

    @property
    def range(self) -> RegisterRange:
        """The registers that it asks for."""
        return RegisterRange(self.function, self.address, self.address + self.count)

    @property
    def exact(self) -> bool:
        """Say whether it is a group, which is asked for as it is or not at all."""
        return self.spans[0].group is not None

    def take(self, span: RegisterSpan, words: list[int]) -> list[int]:
        """Cut the words of one span out of the answer to this block."""
        first = span.address - self.address
        return words[first : first + span.size]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What requests to a meter must keep to.

    At most `max_read` registers, start and count multiples of `align`, no register of `forbidden`, at most `hole`
    unused registers between two values (None: as many as pay). No request contains one of the `refused` ranges, which
    the meter did not answer: what is longer is not answered either. A value is asked for even where it breaks these
    limits, but then alone. `documented` registers are taken before others to lengthen a block.
    """

    max_read: int
    align: int = 1
    hole: int | None = None
    forbidden: tuple[RegisterRange, ...] = ()
    refused: tuple[RegisterRange, ...] = ()
    documented: tuple[RegisterRange, ...] = ()

    def allow(self, block: RegisterBlock) -> bool:
        """Say whether a request may be sent; the values in it and the holes between them are not looked at."""
        asked = block.range
        return (
            block.count <= self.max_read
            and 0 <= asked.start < asked.end <= END
            and not any(asked.touches(one) for one in self.forbidden)
            and not any(asked.contains(one) for one in self.refused)
        )


def plan(
    spans: Iterable[RegisterSpan], limits: ReadLimits, cost: WireCost, *, distinct: bool = False
) -> tuple[RegisterBlock, ...]:
    """Cover `spans` with the requests that cost least together, within `limits`.

    `distinct` lengthens blocks by a few registers, where DISTINCT_SHARE of the cost is enough for it, so that no two
    of one function ask for equally many: without transaction numbers, the late answer to one fits no other then.
    """
    return _plan(frozenset(spans), limits, cost, distinct)


def aligned(spans: Sequence[RegisterSpan], align: int) -> RegisterBlock:
    """Return the least request for these spans of one function."""
    start = min(s.address for s in spans) // align * align
    end = -(-max(s.end for s in spans) // align) * align
    return RegisterBlock(spans[0].function, start, min(end, END) - start, tuple(spans))


def halves(block: RegisterBlock, align: int) -> tuple[RegisterBlock, RegisterBlock] | None:
    """Divide a block's spans into two requests; None for one that has to be asked for as it is."""
    if block.exact or len(block.spans) < 2:
        return None
    ordered = sorted(block.spans, key=lambda s: (s.address, s.size))
    # No value twice, and none at one address in two halves, unless all are at one.
    walls = [n for n in range(1, len(ordered)) if ordered[n - 1].address < ordered[n].address]
    wall = min(walls, key=lambda n: abs(2 * n - len(ordered)), default=len(ordered) - 1)
    return aligned(ordered[:wall], align), aligned(ordered[wall:], align)


def seam(first: RegisterBlock, second: RegisterBlock, align: int) -> RegisterBlock:
    """Return the least request that crosses from one block to the next: what is between them is tried with it."""
    before = max(first.spans, key=lambda s: (s.end, -s.size))
    after = min(second.spans, key=lambda s: (s.address, s.size))
    return aligned((before, after), align)


@lru_cache(maxsize=512)
def _plan(
    spans: frozenset[RegisterSpan], limits: ReadLimits, cost: WireCost, distinct: bool
) -> tuple[RegisterBlock, ...]:
    blocks: list[RegisterBlock] = []
    ordered = sorted(spans, key=lambda s: (s.function, s.group or "", s.address, s.size))
    for (_, group), members in groupby(ordered, key=lambda s: (s.function, s.group)):
        if group is not None:
            blocks.append(aligned(tuple(members), 1))
            continue
        joined: list[RegisterSpan] = []
        for span in members:
            alone = aligned((span,), limits.align)
            if span.function in REGISTERS and limits.allow(alone):
                joined.append(span)
            else:
                blocks.append(alone)
        blocks += _cheapest(joined, limits, cost)
    blocks.sort(key=lambda b: (b.function, b.address, b.count))
    return tuple(_distinct(blocks, limits, cost) if distinct else blocks)


def _cheapest(spans: list[RegisterSpan], limits: ReadLimits, cost: WireCost) -> list[RegisterBlock]:
    """Divide spans of one function that may each be read; a shortest way from the last one back to the first.

    A span inside of another comes with it. Without those, first and last addresses rise together, and some cheapest
    plan has only runs of neighbours: what lies between two spans of a block is asked for with them anyway.
    """
    outer: list[RegisterSpan] = []
    for span in sorted(spans, key=lambda s: (s.address, -s.size)):
        if not outer or span.end > outer[-1].end:
            outer.append(span)
    best: list[tuple[int, int]] = [(0, 0)]  # cost and requests from a span to the end, in reverse order
    ends: list[int] = []
    for first in range(len(outer) - 1, -1, -1):
        # Its own request is always allowed; longer ones up to the last register that the limits let it reach.
        furthest = _furthest(outer[first], limits)
        chosen: tuple[tuple[int, int], int] | None = None
        for last in range(first, len(outer)):
            count = _count(outer[first], outer[last], limits.align)
            if last > first and (outer[last].end > furthest or count > limits.max_read):
                break
            wide = last > first and outer[last].address - outer[last - 1].end
            if limits.hole is not None and wide > limits.hole:
                break
            rest = best[len(outer) - 1 - last]
            total = rest[0] + cost.of(count), rest[1] + 1
            if chosen is None or total < chosen[0]:
                chosen = total, last
        assert chosen is not None
        best.append(chosen[0])
        ends.append(chosen[1])
    blocks: list[RegisterBlock] = []
    first = 0
    while first < len(outer):
        last = ends[len(outer) - 1 - first]
        low, high = outer[first].address, outer[last].end
        # What lies inside of two blocks comes with the first of them only.
        taken = {s for block in blocks for s in block.spans}
        inside = tuple(s for s in spans if low <= s.address and s.end <= high and s not in taken)
        blocks.append(aligned(inside, limits.align))
        first = last + 1
    return blocks


def _count(first: RegisterSpan, last: RegisterSpan, align: int) -> int:
    return -(-last.end // align) * align - first.address // align * align


def _furthest(first: RegisterSpan, limits: ReadLimits) -> int:
    """Return the first address that a block beginning with a span may not reach over."""
    align = limits.align
    start = first.address // align * align
    end = END
    for one in limits.forbidden:
        if one.function == first.function and one.end > start:
            end = min(end, one.start)
    for one in limits.refused:
        if one.function == first.function and one.start >= start:
            end = min(end, one.end - 1)
    return end // align * align


def _distinct(blocks: list[RegisterBlock], limits: ReadLimits, cost: WireCost) -> list[RegisterBlock]:
    """Lengthen blocks whose length another of the same function has, as far as the share of the cost goes."""
    left = DISTINCT_SHARE * sum(cost.of(block.count) for block in blocks)
    lengths = {(block.function, block.count) for block in blocks}
    seen: set[tuple[int, int]] = set()
    found: list[RegisterBlock] = []
    for block in sorted(blocks, key=lambda b: not b.exact):  # groups keep theirs
        shape = block.function, block.count
        if shape in seen and not block.exact:
            longer = lengthened(block, limits, lengths)
            spent = 0 if longer is None else (longer.count - block.count) * cost.register
            if longer is not None and spent <= left:
                left -= spent
                block, shape = longer, (longer.function, longer.count)
                lengths.add(shape)
        seen.add(shape)
        found.append(block)
    return sorted(found, key=lambda b: (b.function, b.address, b.count))


def lengthened(
    block: RegisterBlock, limits: ReadLimits, lengths: set[tuple[int, int]]
) -> RegisterBlock | None:
    """Return a block that is a little longer, of a length that none has; of equal ones what is documented."""
    if block.function not in REGISTERS or not limits.allow(block):
        return None
    for extra in range(limits.align, MOST_PADDING * limits.align + 1, limits.align):
        if (block.function, block.count + extra) in lengths:
            continue
        fits = [
            one
            for before in range(0, extra + 1, limits.align)
            if limits.allow(one := replace(block, address=block.address - before, count=block.count + extra))
        ]
        if fits:
            return max(fits, key=lambda one: (_documented(one, limits), one.address))
    return None


def _documented(block: RegisterBlock, limits: ReadLimits) -> int:
    asked = block.range
    return sum(
        max(0, min(asked.end, one.end) - max(asked.start, one.start))
        for one in limits.documented
        if one.function == asked.function
    )
