"""Finding the bad ones among many: what is refused together is tried again in halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Divide two or more items in the middle."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


def refused_alone(
    items: Sequence[T], attempt: Callable[[Sequence[T]], object], refusal: type[E] | tuple[type[E], ...]
) -> list[tuple[T, E]]:
    """Attempt all items; where that is refused, attempt halves, until each bad item stands alone.

    Returns the bad items with their refusals. Any other exception passes through. A refused attempt must
    have done nothing, or nothing that may not be done again. k bad ones of n cost about k·log2(n) attempts.

    >>> def divide(numbers): return [1 / n for n in numbers]
    >>> refused_alone([4, 0, 2], divide, ZeroDivisionError)
    [(0, ZeroDivisionError('division by zero'))]
    """
    if not items:
        return []
    try:
        attempt(items)
    except refusal as error:
        if len(items) == 1:
            return [(items[0], error)]
        one, other = halves(items)
        return refused_alone(one, attempt, refusal) + refused_alone(other, attempt, refusal)
    return []
