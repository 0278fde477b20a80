"""What meters of one maker and firmware have in common: layouts by fingerprint, object lists; shared by sessions."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.dlms import axdr
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.profiles import Layout
from protocols.dlms.types import Data

CHECK_EVERY = timedelta(hours=6)
"""How long a meter's columns are taken to be what they were; then its capture_objects are read again."""
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
    """The part of a shared cache that one meter may use.

    Without a firmware version nothing is shared. `meter` is what tells meters of one firmware apart: each is
    asked for its own columns before the shared layout of that fingerprint is used.
    """

    def __init__(self, entries: Layouts, manufacturer: str, firmware: str, meter: str = "") -> None:
        self._entries = entries
        self._prefix = (manufacturer, firmware)
        self._meter = meter

    def of_meter(self, name: str) -> KnownLayout | None:
        """Find what this meter showed last."""
        return self._layout(f"{name}@{self._meter}") if self._meter else None

    def of_model(self, name: str, mark: str) -> KnownLayout | None:
        """Find the layout of some fingerprint."""
        return self._layout(f"{name}#{mark}")

    def put(self, name: str, known: KnownLayout) -> None:
        """Keep a layout for its fingerprint, and as what this meter showed."""
        self._put(f"{name}#{known.fingerprint}", known)
        if self._meter:
            self._put(f"{name}@{self._meter}", known)

    def drop(self, name: str) -> None:
        """Forget what this meter showed."""
        self._entries.pop((*self._prefix, f"{name}@{self._meter}"), None)

    def objects(self, client: str) -> tuple[ObjectEntry, ...] | None:
        """Find the object list that a client of this model sees."""
        found = self._entries.get((*self._prefix, f"objects/{client}")) if self._prefix[1] else None
        return found if isinstance(found, tuple) else None

    def put_objects(self, client: str, listed: tuple[ObjectEntry, ...]) -> None:
        """Keep an object list."""
        self._put(f"objects/{client}", listed)

    def _layout(self, key: str) -> KnownLayout | None:
        found = self._entries.get((*self._prefix, key)) if self._prefix[1] else None
        return found if isinstance(found, KnownLayout) else None

    def _put(self, key: str, known: Known) -> None:
        if not self._prefix[1]:
            return
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        self._entries[*self._prefix, key] = known
