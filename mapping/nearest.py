"""Names that are most like a mistyped one, among as many as a city has; pure."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Collection, Iterator

MAX_COMPARED = 2_000
"""Names of the same beginning that are compared letter by letter: among all of a city that takes seconds."""


def nearest(given: str, known: Collection[str], count: int = 3) -> list[str]:
    """Return up to `count` known names, the likeliest first: only spaces, dashes or case differ; one slip; alike.

    >>> nearest("UP-0107", {"UP-0101", "UP-0170", "up 0107", "UP-9"})
    ['up 0107', 'UP-0170', 'UP-0101']
    """
    plain = _plain(given)
    found = sorted(name for name in known if _plain(name) == plain)
    alphabet = "".join(sorted({*given, *"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"}))
    found += [
        name for name in dict.fromkeys(_one_slip(given, alphabet)) if name in known and name not in found
    ]
    if len(found) < count:
        alike = difflib.get_close_matches(given, _neighbours(given, known), n=count)
        found += [name for name in alike if name not in found]
    return found[:count]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _one_slip(given: str, alphabet: str) -> Iterator[str]:
    """Yield what one slip of a finger makes of a name: swapped, left out, another, one too many."""
    for at in range(len(given) - 1):
        yield f"{given[:at]}{given[at + 1]}{given[at]}{given[at + 2 :]}"
    for at in range(len(given)):
        yield given[:at] + given[at + 1 :]
        yield from (f"{given[:at]}{letter}{given[at + 1 :]}" for letter in alphabet)
    for at in range(len(given) + 1):
        yield from (f"{given[:at]}{letter}{given[at:]}" for letter in alphabet)


def _neighbours(given: str, known: Collection[str]) -> list[str]:
    """Return the names that stand beside the given one in order of the alphabet."""
    ordered = sorted(known)
    at = bisect_left(ordered, given)
    return ordered[max(0, at - MAX_COMPARED // 2) : at + MAX_COMPARED // 2]
