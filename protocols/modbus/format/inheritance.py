"""Models that extend others: keys of the file over those of its base; registers and scales changed, added, removed.

All works on what `tomllib` read, which may be anything: what is no model stays wrong, and is told by the model classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocols.modbus.format.registers import quantity_text
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import nearest_name

OF_THE_TYPE = ("count", "resolution", "sentinel", "bits", "fields", "epoch", "utc", "digits", "rollover")
"""Keys of a register that are not taken over when it gets another `type`."""
_LISTS = {"registers": "quantity", "scales": "name"}
"""Lists of which an entry changes the base's entry of the same name, and the key that names it."""


class BadExtension(ValueError):
    """What a file says of its base cannot be."""

    def __init__(self, trail: Trail, problem: str, nearest: str | None = None) -> None:
        super().__init__(problem)
        self.trail = trail
        self.problem = problem
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Inherited:
    """Whence the entries of a merged document are: the file's own index, or None for the base's."""

    indices: Mapping[str, tuple[int | None, ...]]
    keys: frozenset[str]
    """Keys at the top that the file says itself."""

    @classmethod
    def none(cls, document: Mapping[str, Any]) -> Inherited:
        """Return what it is of a file that extends nothing."""
        return cls({}, frozenset(document))

    def own(self, trail: Trail) -> Trail | None:
        """Return the way to a place of the merged document in the file itself; None when the base has it."""
        if not trail:
            return trail
        if trail[0] in self.indices and len(trail) > 1 and isinstance(trail[1], int):
            index = self.indices[str(trail[0])][trail[1]]
            return None if index is None else (trail[0], index, *trail[2:])
        # What is missing altogether is missing in the file: there it can be added.
        return trail if trail[0] in self.keys or not self.indices else None


def extended(base: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], Inherited]:
    """Return the base with all that `own` says, and whence each entry is; BadExtension for what cannot be removed."""
    merged = {**base, **own}
    indices: dict[str, tuple[int | None, ...]] = {}
    for key, name in _LISTS.items():
        under, over = base.get(key, []), own.get(key, [])
        if isinstance(under, list) and isinstance(over, list):
            removed = _removed(under, own.get("remove", [])) if key == "registers" else set[int]()
            entries, indices[key] = _merged(under, over, name, removed)
            if entries or key in merged:
                merged[key] = entries
    return merged, Inherited(indices, frozenset(own))


def _merged(
    under: list[Any], over: list[Any], name: str, removed: set[int]
) -> tuple[list[Any], tuple[int | None, ...]]:
    entries = [entry for i, entry in enumerate(under) if i not in removed]
    indices: list[int | None] = [None] * len(entries)
    places = {_named(entry, name): i for i, entry in reversed(list(enumerate(entries)))}
    changed = set[int]()
    for number, entry in enumerate(over):
        place = places.get(_named(entry, name))
        # A second entry of the file for one register is its mistake, and is told as one.
        if place is None or place in changed or _named(entry, name) is None:
            entries.append(entry)
            indices.append(number)
            continue
        kept = entries[place]
        if "type" in entry and entry["type"] != kept.get("type"):
            kept = {key: value for key, value in kept.items() if key not in OF_THE_TYPE}
        entries[place] = {**kept, **entry}
        indices[place] = number
        changed.add(place)
    return entries, tuple(indices)


def _removed(under: list[Any], wanted: Any) -> set[int]:
    """Return which entries of the base go."""
    known = {_named(entry, "quantity"): i for i, entry in enumerate(under)}
    removed: set[int] = set()
    for number, text in enumerate(wanted if isinstance(wanted, list) else []):
        name = _named({"quantity": text}, "quantity")
        if name is None or name not in known:
            hint = nearest_name(str(name or text)[:60], [k for k in known if k is not None])
            raise BadExtension(("remove", number), "the model that is extended has no such register", hint)
        removed.add(known[name])
    return removed


def _named(entry: Any, name: str) -> str | None:
    """Return by what an entry is known; None where it has no name."""
    text = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(text, str) or name != "quantity":
        return text if isinstance(text, str) else None
    try:
        return quantity_text(text)
    except ValueError:
        return None
