"""The edge's part of the directory as stamping sees it: it knows its own meters and says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.contract.messages.generation import NO_GENERATION, Generation
from mapping.directory import Attributions
from mapping.snapshot import DirectorySnapshot


@dataclass(frozen=True, slots=True)
class StampingPart:
    """A snapshot that central made for certain meters, of one life of its directory.

    Of a meter that is not in it the part's version says nothing: the meter may have been added to the
    configuration after the part was made. Such captures are stamped with version 0, so that whatever
    central published of that meter, before or later, still applies to them.
    """

    snapshot: DirectorySnapshot
    generation: Generation = NO_GENERATION
    epochs: Mapping[str, int] = field(default_factory=dict)

    def epoch(self, meter: str) -> int:
        """Return the epoch of the meter's allocation to this gateway; 0 where there is none."""
        return self.epochs.get(meter, 0)

    @property
    def version(self) -> int:
        """The directory version of the part."""
        return self.snapshot.version

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        """Return whose the interval start..end is, or the snapshot at `end` (start None)."""
        whose = self.snapshot.attributions(meter, start, end, known_at)
        if self.snapshot.rows.installations(meter):
            return whose
        return replace(whose, directory_version=0)
