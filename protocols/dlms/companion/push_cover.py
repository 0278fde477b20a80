"""Whether one form of a push takes all that another one fits: the later of the two would never be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocols.dlms.companion.push_grammar import FormField, Part, PushForm
from protocols.dlms.data.types import INTEGERS, Tag

_COUNTS = frozenset(INTEGERS) - {Tag.ENUM, Tag.BCD}
"""Types that can be scaled."""


def all_fields(fields: Sequence[FormField]) -> Iterator[FormField]:
    """Return all places of a form, those in structures, too."""
    for field in fields:
        yield field
        yield from all_fields(field.inner)


def covers(first: PushForm, later: PushForm) -> bool:
    """Say whether `first` is known to fit every body that `later` fits. False where that cannot be told."""
    for_all = not first.setups or (bool(later.setups) and later.setups <= first.setups)
    return for_all and _all_covered(first.fields, later.fields)


def _all_covered(first: Sequence[FormField], later: Sequence[FormField]) -> bool:
    return len(first) == len(later) and all(_covers(a, b) for a, b in zip(first, later, strict=True))


def _covers(first: FormField, later: FormField) -> bool:
    if first.optional or later.optional:  # which of its places an optional one takes depends on the others
        return _same_kind(first, later) and first.optional == later.optional
    if first.part is Part.ANY:
        return not later.part.takes_the_rest and later.part is not Part.PAIRS
    return _same_kind(first, later)


def _same_kind(first: FormField, later: FormField) -> bool:
    if first.part is not later.part:
        return False
    match first.part:
        case Part.TEXT:
            return later.begins.startswith(first.begins)
        case Part.STRUCTURE:
            return _all_covered(first.inner, later.inner)
        case Part.VALUE if first.tag is not None:
            return first.tag is later.tag
        case Part.VALUE if first.scale is not None:
            return later.scale is not None or later.tag in _COUNTS
    return True
