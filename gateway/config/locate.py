"""Find the line of a field in TOML text, so that a mistake can be shown where it stands."""

from __future__ import annotations

import re

Trail = tuple[str | int, ...]
"""The way to a field as pydantic gives it: names and list indices, e.g. ("meters", 0, "dlms", "client")."""
_HEADER = re.compile(r"^\s*(\[\[|\[)\s*([^\[\]]+?)\s*(?:\]\]|\])")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\-\"']+)\s*=")


def locate(text: str, trail: Trail) -> int | None:
    """Return the 1-based line of the field at `trail`, else of its nearest enclosing table, else None."""
    places = _index(text)
    for length in range(len(trail), 0, -1):
        if (line := places.get(tuple(trail[:length]))) is not None:
            return line
    return None


def _index(text: str) -> dict[Trail, int]:
    places: dict[Trail, int] = {}
    counts: dict[Trail, int] = {}
    table: Trail = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            path = _resolve(_names(header[2]), counts)
            if header[1] == "[[":
                counts[path] = counts.get(path, -1) + 1
                path = (*path, counts[path])
            table = path
            places.setdefault(table, number)
        elif key := _KEY.match(line):
            places.setdefault((*table, *_names(key[1])), number)
    return places


def _resolve(names: tuple[str, ...], counts: dict[Trail, int]) -> Trail:
    """Insert the index of the current element after the name of each array of tables on the way."""
    path: Trail = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if position < len(names) - 1 and path in counts:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
