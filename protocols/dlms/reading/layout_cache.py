"""What sessions learned of each meter: layouts with their fingerprint, object lists; kept between sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.reading.known_meter import KnownMeter
from protocols.known import Known, keep
from protocols.reading import Obis, ProfileName

CHECK_EVERY = timedelta(hours=6)
"""How long a meter's columns and scales are taken to be what they were; then they are read again."""
CHECK_LOGS_EVERY = timedelta(hours=12)
"""The same of event logs, whose codes have no scale; one visit looks at one thing, and there are seven logs."""


def kept_for(profile: ProfileName) -> timedelta:
    """Return how long the columns and scales of a profile are taken to be what they were."""
    return CHECK_LOGS_EVERY if profile is ProfileName.EVENTS else CHECK_EVERY


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLayout:
    """A layout, the fingerprint of the capture_objects that it was made of, and when a meter showed them.

    Its scales were read at `scaled_at`. `order` is its sort method, None where that was not read with the columns.
    """

    layout: Layout
    fingerprint: str
    checked_at: datetime
    scaled_at: datetime
    order: int | None = None

    def fresh(self, now: datetime) -> bool:
        """Say whether the meter showed these columns a short while ago."""
        return timedelta() <= now - self.checked_at < kept_for(self.layout.profile)

    def scaled(self, now: datetime) -> bool:
        """Say whether the meter showed these scales a short while ago."""
        return timedelta() <= now - self.scaled_at < kept_for(self.layout.profile)


Layouts = Known
"""What DLMS sessions learned of all meters lies among the rest that is known of meters."""


def fingerprint(capture_objects: Data) -> str:
    """Digest capture_objects: another order, width, attribute or index is another fingerprint."""
    return hashlib.sha256(axdr.encode(capture_objects)).hexdigest()[:16]


def layout_name(profile: ProfileName, place: Obis) -> str:
    """Name a profile's layout among what a meter showed."""
    return f"{profile}/{place}"


def known_meter(entries: Layouts, meter: str) -> KnownMeter | None:
    """Return what is known of a meter, whatever its firmware."""
    found = entries.get((meter, "", "meter"))
    return found if isinstance(found, KnownMeter) else None


def put_known_meter(entries: Layouts, meter: str, known: KnownMeter) -> None:
    """Keep what is known of a meter."""
    keep(entries, (meter, "", "meter"), known)


class LayoutCache:
    """What one meter showed under its present firmware, within `entries` that all sessions share.

    Nothing is taken from one meter for another: scales differ by rating, lists by configuration, and one bad
    meter must not spoil all of its model. A meter without an id or a firmware version (both "") keeps nothing.
    """

    def __init__(self, entries: Layouts, meter: str, firmware: str) -> None:
        self._entries = entries
        self._meter = meter
        self._firmware = firmware

    def layout(self, name: str) -> KnownLayout | None:
        """Return a layout that the meter showed, however long ago."""
        found = self._entries.get(self._key(name))
        return found if isinstance(found, KnownLayout) else None

    def put_layout(self, name: str, known: KnownLayout) -> None:
        """Keep a layout that the meter showed."""
        self._put(name, known)

    def drop_layout(self, name: str) -> None:
        """Forget a layout that does not fit any more."""
        self._entries.pop(self._key(name), None)

    def layouts(
        self, names: Iterable[tuple[ProfileName, Obis]]
    ) -> dict[tuple[ProfileName, Obis], KnownLayout]:
        """Return those of these layouts, by profile and place, that the meter showed."""
        found = {(profile, place): self.layout(layout_name(profile, place)) for profile, place in names}
        return {name: known for name, known in found.items() if known is not None}

    def objects(self, client: str) -> tuple[ObjectEntry, ...] | None:
        """Return the object list that a client of this meter sees."""
        found = self._entries.get(self._key(f"objects/{client}"))
        return found if isinstance(found, tuple) else None

    def put_objects(self, client: str, listed: tuple[ObjectEntry, ...]) -> None:
        """Keep an object list."""
        self._put(f"objects/{client}", listed)

    def _key(self, name: str) -> tuple[str, str, str]:
        return self._meter, self._firmware, name

    def _put(self, name: str, learned: KnownLayout | tuple[ObjectEntry, ...]) -> None:
        if self._firmware and self._meter:
            keep(self._entries, self._key(name), learned)
