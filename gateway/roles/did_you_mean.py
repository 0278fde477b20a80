"""The end of a refusal: which known names are most like the one given."""

from __future__ import annotations

from collections.abc import Collection

from mapping.nearest import nearest


def did_you_mean(given: str, known: Collection[str]) -> str:
    """Return ` Did you mean `A` or `B`?`, nothing where no known name is like the given one."""
    found = [f"`{name}`" for name in nearest(given, known)]
    if not found:
        return ""
    return f" Did you mean {' or '.join([', '.join(found[:-1]), found[-1]] if found[1:] else found)}?"
