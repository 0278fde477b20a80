"""Change sets that commands left in the directory for a second person, as the API and the staff pages show them.

`mapping.proposals` keeps them; here each is a record among those of the desk, so that every list of what waits has all.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.change_documents import MAX_CHANGES
from gateway.central.office.change_errors import ChangesRefused, Fault, MovedOn, NoSuchChangeSet
from gateway.central.office.change_preview import Preview, preview_of
from gateway.central.office.change_records import ChangeSetRecord, ChangeSetState
from mapping.errors import ChangeRefused
from mapping.proposals import Proposal, Proposals, changes_asked
from mapping.store import DirectoryStore

HELD: Final = "plan-"
"""Before the fingerprint in the ids of these."""


class HeldSets:
    """The waiting change sets of one directory; safe for threads and processes. Every method blocks."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._proposals = Proposals(store)

    def page(self, *, whose: str | None, before: str | None, limit: int) -> list[ChangeSetRecord]:
        """Return those of an actor, the newest first, those before the one with the id `before`."""
        found = [self._record(one) for one in reversed(self._proposals.all()) if whose in (None, one.by)]
        ids = [one.id for one in found]
        start = ids.index(before) + 1 if before in ids else 0
        return found[start : start + limit]

    def get(self, id: str) -> ChangeSetRecord | None:
        """Return one by its id; None where none waits under it."""
        held = self._held(id)
        return None if held is None else self._record(held)

    def preview(
        self, record: ChangeSetRecord, approve_above: int, ledger: Ledger | None, now: datetime, *, sure: bool
    ) -> Preview:
        """Return what one would do; ChangesRefused where the directory moved on, or it is too large for a page."""
        held, before = self._still_held(record), self._store.snapshot()
        if held.version != before.version:
            words = f"the directory moved on from version {held.version} to {before.version}: reject it, ask again"
            raise ChangesRefused([Fault(None, "STALE_PLAN", words)])
        if max(held.meters, held.accounts) > MAX_CHANGES:
            words = f"too large for a page: look at it with `directory approve {held.fingerprint} --dry-run`"
            raise ChangesRefused([Fault(None, "TOO_LARGE", words)])
        try:
            changes = changes_asked(held.text, before)
            after = self._store.preview(changes, by=held.by, source=held.source, at=now, sure=sure)
        except ChangeRefused as refused:
            raise ChangesRefused([Fault(None, refused.code, str(refused))]) from refused
        return preview_of(
            after,
            held.version,
            fingerprint=record.fingerprint,
            changes=record.count,
            approve_above=approve_above,
            ledger=ledger,
            now=now,
        )

    def approve(self, record: ChangeSetRecord, *, by: str, at: datetime, sure: bool) -> int:
        """Apply exactly what waits, and return the directory's version. Raises MovedOn and ChangesRefused."""
        held = self._still_held(record)
        try:
            return self._proposals.approve(held.fingerprint, by=by, at=at, sure=sure)
        except ChangeRefused as refused:
            if refused.code == "STALE_PLAN":
                raise MovedOn(str(refused)) from refused
            raise ChangesRefused([Fault(None, refused.code, str(refused))]) from refused

    def discard(self, record: ChangeSetRecord) -> None:
        """Throw one away; nothing is changed."""
        self._proposals.discard(self._still_held(record).fingerprint)

    def _held(self, id: str) -> Proposal | None:
        mark = id.removeprefix(HELD)
        if mark == id:
            return None
        return next((one for one in self._proposals.all() if one.fingerprint == mark), None)

    def _still_held(self, record: ChangeSetRecord) -> Proposal:
        held = self._held(record.id)
        if held is None:
            raise NoSuchChangeSet(f"{record.id} does not wait any more")
        return held

    def _record(self, held: Proposal) -> ChangeSetRecord:
        asked: dict[str, Any] = json.loads(held.text)
        undoing = {"kind": "undo", "version": asked.get("undo"), "rest_alone": asked.get("rest_alone")}
        forms = asked.get("changes", [undoing])
        return ChangeSetRecord(
            id=HELD + held.fingerprint,
            actor=held.by,
            source=held.source,
            state=ChangeSetState.WAITING,
            fingerprint=f"{held.version}-{self._proposals.whole_fingerprint(held.text, held.version)[:32]}",
            changes=json.dumps(forms, ensure_ascii=False),
            count=len(forms),
            asked_at=held.at,
            base=held.version,
        )


def is_held(record: ChangeSetRecord) -> bool:
    """Say whether a record is one of these."""
    return record.id.startswith(HELD)
