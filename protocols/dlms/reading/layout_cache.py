"""What sessions learned of each meter: layouts with their fingerprint, object lists; shared by sessions."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.profile.layouts import Layout

CHECK_EVERY = timedelta(hours=6)
"""How long a meter's columns and scales are taken to be what they were; then they are read again."""
MAX_ENTRIES = 100_000
"""Entries of one cache; 2,000 meters with a dozen profiles need 24,000. A full cache is emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLayout:
    """A layout, the fingerprint of the capture_objects that it was made of, and when a meter showed them."""

    layout: Layout
    fingerprint: str
    checked_at: datetime

    def fresh(self, now: datetime) -> bool:
        """Tell whether the meter showed these columns a short while ago."""
        return timedelta() <= now - self.checked_at < CHECK_EVERY


Known = KnownLayout | tuple[ObjectEntry, ...]
Layouts = MutableMapping[tuple[str, str, str], Known]
"""What sessions learn, by (manufacturer, firmware, what); an empty dict to begin with."""


def fingerprint(capture_objects: Data) -> str:
    """Digest capture_objects: another order, width, attribute or index is another fingerprint."""
    return hashlib.sha256(axdr.encode(capture_objects)).hexdigest()[:16]


class LayoutCache:
    """The part of a shared cache that one meter may use: what it showed itself, under its own firmware.

    `meter` tells meters of one firmware apart. Nothing is taken from one meter for another: scales differ
    by rating, lists by configuration, and one bad meter must not spoil all of its model. Without a firmware
    version or a `meter` nothing is kept.
    """

    def __init__(self, entries: Layouts, manufacturer: str, firmware: str, meter: str = "") -> None:
        self._entries = entries
        self._prefix = (manufacturer, firmware)
        self._meter = meter

    def of_meter(self, name: str) -> KnownLayout | None:
        """Find what this meter showed last."""
        found = self._find(name)
        return found if isinstance(found, KnownLayout) else None

    def put(self, name: str, known: KnownLayout) -> None:
        """Keep a layout as what this meter showed."""
        self._put(name, known)

    def drop(self, name: str) -> None:
        """Forget what this meter showed."""
        self._entries.pop(self._key(name), None)

    def objects(self, client: str) -> tuple[ObjectEntry, ...] | None:
        """Find the object list that a client of this meter sees."""
        found = self._find(f"objects/{client}")
        return found if isinstance(found, tuple) else None

    def put_objects(self, client: str, listed: tuple[ObjectEntry, ...]) -> None:
        """Keep an object list."""
        self._put(f"objects/{client}", listed)

    def _key(self, name: str) -> tuple[str, str, str]:
        return (*self._prefix, f"{name}@{self._meter}")

    def _find(self, name: str) -> Known | None:
        return self._entries.get(self._key(name))

    def _put(self, name: str, known: Known) -> None:
        if not (self._prefix[1] and self._meter):
            return
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        self._entries[self._key(name)] = known
