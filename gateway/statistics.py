"""Counters of long-lived parts: frozen objects that are replaced when something is counted.

So `statistics()` hands out the object itself, and nobody sees half of a change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


def counted(statistics: S, **more: int) -> S:
    """Return the statistics with each counter named raised by so much.

    >>> counted(JournalStatistics(...), commits=1, appends=12)  # doctest: +SKIP
    """
    return replace(statistics, **{name: getattr(statistics, name) + by for name, by in more.items()})
