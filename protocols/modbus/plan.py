"""Which requests to send: near values share one request, no value is ever cut in two."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby


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


@dataclass(frozen=True, slots=True)
class RegisterBlock:
    """One request and the spans that it answers."""

    function: int
    address: int
    count: int
    spans: tuple[RegisterSpan, ...]

    @property
    def divisible(self) -> bool:
        """Say whether a refusal may be narrowed down by asking for parts."""
        return all(s.group is None for s in self.spans) and len({s.address for s in self.spans}) > 1

    def take(self, span: RegisterSpan, words: list[int]) -> list[int]:
        """Cut the words of one span out of the answer to this block."""
        first = span.address - self.address
        return words[first : first + span.size]


def plan(
    spans: Iterable[RegisterSpan],
    *,
    max_read: int,
    align: int = 1,
    hole: int = 0,
    barriers: Collection[tuple[int, int]] = (),
) -> list[RegisterBlock]:
    """Cover `spans` with blocks of at most `max_read` registers, start and count multiples of `align`.

    Two neighbours are joined while at most `hole` unused registers lie between them and no barrier
    (function, address) lies after the first and at or before the second.
    """
    blocks: list[RegisterBlock] = []
    ordered = sorted(set(spans), key=lambda s: (s.function, s.group or "", s.address, s.size))
    for (function, group), members in groupby(ordered, key=lambda s: (s.function, s.group)):
        if group is not None:
            blocks.append(_exact(function, tuple(members)))
            continue
        walls = sorted(address for f, address in barriers if f == function)
        pending: list[RegisterSpan] = []
        for span in members:
            if pending and not _joins(pending, span, max_read=max_read, align=align, hole=hole, walls=walls):
                blocks.append(_aligned(function, tuple(pending), align))
                pending = []
            pending.append(span)
        if pending:
            blocks.append(_aligned(function, tuple(pending), align))
    return blocks


def halves(block: RegisterBlock) -> tuple[tuple[RegisterSpan, ...], tuple[RegisterSpan, ...]]:
    """Divide a refused block's spans; the second half begins at a barrier from now on."""
    addresses = sorted({s.address for s in block.spans})
    wall = addresses[len(addresses) // 2]
    first = tuple(s for s in block.spans if s.address < wall)
    return first, tuple(s for s in block.spans if s.address >= wall)


def _joins(
    pending: list[RegisterSpan], span: RegisterSpan, *, max_read: int, align: int, hole: int, walls: list[int]
) -> bool:
    start, end = pending[0].address, max(s.end for s in pending)
    if span.address - end > hole:
        return False
    if any(pending[-1].address < wall <= span.address for wall in walls):
        return False
    joined = _aligned(span.function, (*pending, span), align)
    return joined.count <= max_read and start <= span.address


def _aligned(function: int, spans: tuple[RegisterSpan, ...], align: int) -> RegisterBlock:
    start = spans[0].address // align * align
    end = -(-max(s.end for s in spans) // align) * align
    return RegisterBlock(function, start, end - start, spans)


def _exact(function: int, spans: tuple[RegisterSpan, ...]) -> RegisterBlock:
    start = min(s.address for s in spans)
    return RegisterBlock(function, start, max(s.end for s in spans) - start, spans)
