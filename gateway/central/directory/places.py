"""Keeps, for the pages of the ledger, where the directory has each meter: its role, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.meter_states import Place
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot

AT_ONCE: Final = 1_000
"""Meters noted in one transaction."""


def follow_places(ledger: Ledger, snapshot: DirectorySnapshot, now: datetime) -> int:
    """Note the places of the meters that changed since the version noted last, and of those whose role has ended.

    Return how many were noted. One of no earlier version has all of them noted. Blocks.
    """
    done, version = ledger.meters.places_version(), snapshot.version
    noted = _note(ledger, snapshot, ledger.meters.ended(now, AT_ONCE), now)
    if done == version:
        return noted
    if 0 < done < version:
        return noted + _follow(ledger, snapshot, snapshot.touched(done, version).meters, now)
    for some in ledger.meters.placed(AT_ONCE):
        noted += _note(ledger, snapshot, some, now)
    return noted + _follow(ledger, snapshot, snapshot.meters(), now)


def _follow(ledger: Ledger, snapshot: DirectorySnapshot, meters: Iterable[str], now: datetime) -> int:
    noted = _note(ledger, snapshot, meters, now)
    # Only now: where this process dies before, all is noted again.
    ledger.meters.set_places_version(snapshot.version)
    return noted


def _note(ledger: Ledger, snapshot: DirectorySnapshot, meters: Iterable[str], now: datetime) -> int:
    noted = 0
    for some in in_batches(snapshot.each(meters), AT_ONCE):
        ledger.meters.place([_place(snapshot, meter, now) for meter in some])
        noted += len(some)
    return noted


def _place(snapshot: DirectorySnapshot, meter: str, now: datetime) -> Place:
    installed = snapshot.installations(meter)
    current = next((one for one in installed if one.valid_to is None or one.valid_to > now), None)
    if current is not None:
        return Place(meter, current.role.value, current.valid_to)
    ends = [one.valid_to for one in installed if one.valid_to is not None]
    return Place(meter, None, max(ends, default=None))
