"""What an audit compares beside the chain: kept change sets and the directory's history with what the trail says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import select

from gateway.central.office.change_records import (
    ChangeSetRecords,
    ChangeSetState,
    content_digest,
    subject_of,
)
from gateway.central.office.office import Office
from gateway.central.office.tables import change_set, trail
from mapping.directory import ChangeSet

_ASKED = "change_set.asked"
_APPLIED = ("change_set.applied", "directory.applied")


def content_faults(office: Office) -> list[str]:
    """Return each change set that is not kept as it was asked for: changed, put in, or taken out since."""
    faults = []
    for record in ChangeSetRecords(office.database).each():
        entries = office.trail.entries(subject=subject_of(record.id))
        asked = next((one for one in reversed(entries) if one.act == _ASKED), None)
        if asked is None:
            faults.append(f"{record.id} is kept, and the trail does not know that it was asked for")
        elif (asked.actor, asked.detail.get("content")) != (record.actor, content_digest(record.changes)):
            faults.append(f"{record.id} is not what {asked.actor} asked for: it was changed since")
        elif (record.state is ChangeSetState.APPLIED) != any(e.act == "change_set.applied" for e in entries):
            faults.append(f"{record.id} is {record.state.value}, and the trail says otherwise")
    with office.database.reading("looking for change sets that are gone") as db:
        kept = {subject_of(found) for found in db.execute(select(change_set.c.id)).scalars()}
        known = db.execute(select(trail.c.subject).where(trail.c.act == _ASKED)).scalars()
        gone = sorted({subject for subject in known if subject not in kept})
    return faults + [f"{subject} was asked for and is not kept any more" for subject in gone]


def not_in_the_trail(office: Office, changes: Iterable[ChangeSet]) -> Iterator[ChangeSet]:
    """Yield the directory's change sets, from the first on that the trail has, of which it says nothing.

    Another program wrote them, or a crash came between the directory and the trail.
    """
    noted = set(_noted(office))
    first = min(noted, default=None)
    for change in changes:
        if first is not None and change.version > first and change.version not in noted:
            yield change


def _noted(office: Office) -> Iterator[int]:
    for entry in _entries(office):
        version = entry.detail.get("version")
        told = entry.subject.removeprefix("directory:") if version is None else str(version)
        if told.isascii() and told.isdigit():
            yield int(told)


def _entries(office: Office) -> Iterator[Any]:
    for act in _APPLIED:
        yield from office.trail.entries(act=act)
