"""Change sets that other systems asked for, over the API or the broker, and that wait: for the commands that decide."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from gateway.central.office.change_errors import ChangesRefused
from gateway.central.office.change_preview import Preview, placed
from gateway.central.office.change_records import ChangeSetRecord, ChangeSetState, request_of
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.cli.office.acting import Acting
from gateway.cli.office.clock import knows_the_time
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

MAX_WAITING: Final = 200
"""Looked at by one command; more are decided first."""
SHORT: Final = 8
"""Signs of a fingerprint that are enough to name it."""
Asked = tuple[ChangeSetRecord, Preview | None]


def desk_of(actor: Acting, store: DirectoryStore) -> ChangeSetDesk:
    """Return the desk that the API and the broker use, too."""
    return ChangeSetDesk(actor.office, store, now=lambda: datetime.now(UTC), sure=knows_the_time)


def rows_of_systems(actor: Acting, store: DirectoryStore, now: datetime) -> list[dict[str, Any]]:
    """Return what waits, for the list of `directory waiting`: each with the fingerprint to approve it by now."""
    return [
        {
            "fingerprint": record.id if seen is None else seen.fingerprint,
            "what": f"change set {record.id}" + (f" ({record.source})" if record.source else ""),
            "by": record.actor,
            "days": (now - record.asked_at).days,
            "meters": None if seen is None else seen.meters,
            "accounts": None if seen is None else seen.accounts,
            "directory_version": record.base if seen is None else seen.version,
            "state": "the directory contradicts it now: discard it" if seen is None else "waits",
        }
        for record, seen in _waiting(actor, store)
    ]


def found_of_systems(actor: Acting, store: DirectoryStore, given: str) -> Asked | None:
    """Return the one that a fingerprint (`57-9f2c…`), or its beginning, names; None for any other."""
    if len(given) < SHORT or "-" not in given:
        return None
    found = [
        (record, seen)
        for record, seen in _waiting(actor, store)
        if (record.id if seen is None else seen.fingerprint).startswith(given)
    ]
    return found[0] if len(found) == 1 else None


def decided_of_systems(
    actor: Acting, store: DirectoryStore, asked: Asked, *, dry_run: bool, now: datetime
) -> tuple[dict[str, Any], DirectorySnapshot]:
    """Apply what waits exactly as its fingerprint names it, or only look; return what to print, and the directory."""
    record, seen = asked
    before = store.snapshot()
    changes = [change for _, change in placed(request_of(record).changes, before, now)]
    if dry_run:
        after = store.preview(changes, by=actor.name, source=record.id, at=now, sure=knows_the_time())
    else:
        assert seen is not None  # else `placed` has refused it
        desk_of(actor, store).approve(actor.actor, record.id, seen.fingerprint)
        after = store.snapshot()
    return {
        "result": "dry run, nothing changed" if dry_run else "applied",
        "what": record.source or record.id,
        "asked_by": record.actor,
        "directory_version": before.version if dry_run else after.version,
        "meters": None if seen is None else seen.meters,
        "accounts": None if seen is None else seen.accounts,
    }, after


def _waiting(actor: Acting, store: DirectoryStore) -> list[Asked]:
    desk = desk_of(actor, store)
    held: list[Asked] = []
    for record in desk.records.page(whose=None, state=ChangeSetState.WAITING, before=None, limit=MAX_WAITING):
        try:
            held.append((record, desk.shown(record)))
        except ChangesRefused:
            held.append((record, None))
    return held
