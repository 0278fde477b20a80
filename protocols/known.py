"""What sessions of any protocol learned of meters, kept between sessions; nothing in it is a reading."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Known = MutableMapping[tuple[str, str, str], Any]
"""What was learned of all meters, by meter id, firmware or model, and what it is; an empty dict to begin with.

The values are frozen dataclasses or tuples of them, of the kinds that `gateway.edge.polling.known_meters` can keep.
"""
MAX_ENTRIES = 100_000
"""Entries of one store; 2,000 meters with a dozen profiles need 24,000. A full store is emptied."""


def keep(entries: Known, key: tuple[str, str, str], learned: object) -> None:
    """Keep something that was learned of a meter."""
    if len(entries) >= MAX_ENTRIES:
        entries.clear()
    entries[key] = learned


KnownT = TypeVar("KnownT", bound="DataclassInstance")


class Notes(Generic[KnownT]):
    """The notes of one session about its meter: what was known, and what it found out."""

    def __init__(self, known: KnownT) -> None:
        self.before = known
        self.known = known

    @property
    def changed(self) -> bool:
        """Say whether there is something to keep."""
        return self.known != self.before

    def note(self, **changes: Any) -> None:
        """Note some of the fields of what is known."""
        self.known = replace(self.known, **changes)
