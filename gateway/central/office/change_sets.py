"""The desk for change sets: whoever may asks, sees what would change, applies it, or waits for a second person.

Everything that changes the directory in the name of somebody comes through here: API, messages of other systems, pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any, Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Actor, Proof, Right
from gateway.central.office.change_documents import MAX_CHANGES, ChangeSetRequest, written
from gateway.central.office.change_errors import (
    AlreadyDecided,
    ChangesRefused,
    Fault,
    MovedOn,
    NoSuchChangeSet,
    OtherChanges,
)
from gateway.central.office.change_preview import Preview, placed, preview_of, refusals
from gateway.central.office.change_records import (
    ChangeSetRecord,
    ChangeSetRecords,
    ChangeSetState,
    content_digest,
    request_of,
    subject_of,
)
from gateway.central.office.held_sets import HELD, HeldSets, is_held
from gateway.central.office.office import Office
from gateway.errors import AccessDenied
from mapping.change_sets import written as forms_of
from mapping.changes import Change
from mapping.errors import ChangeRefused
from mapping.proposals import APPROVE_ABOVE
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.undo import Undo

TRIES: Final = 5
"""How often a change set without a fingerprint is worked out again because others changed the directory meanwhile."""
_FITTING: Final = frozenset({"install", "remove", "replace"})
"""What an engineer brings home from a house."""


class ChangeSetDesk:
    """The desk over one directory and its office; safe for threads and processes. Every method blocks.

    `now` tells the time, `sure` whether this machine knows it (`DirectoryStore.apply`). What touches
    more than `approve_above` meters or accounts a second person must approve. `ledger` tells what is looked at
    how much energy would change hands; without one it stays untold.
    """

    def __init__(
        self,
        office: Office,
        store: DirectoryStore,
        *,
        now: Callable[[], datetime],
        sure: Callable[[], bool],
        approve_above: int = APPROVE_ABOVE,
        ledger: Ledger | None = None,
    ) -> None:
        self._office = office
        self._store = store
        self._now = now
        self._sure = sure
        self._approve_above = approve_above
        self._ledger = ledger
        self.records = ChangeSetRecords(office.database)
        self.held = HeldSets(store)

    # --- asking -----------------------------------------------------------------------------------

    def preview(self, actor: Actor, request: ChangeSetRequest) -> Preview:
        """Return what the changes would do, and change nothing.

        Raises AccessDenied, and ChangesRefused with every change that the directory contradicts.
        """
        _allow(actor, request)
        return self._preview(request, energy=True)

    def submit(self, actor: Actor, request: ChangeSetRequest, id: str) -> ChangeSetRecord:
        """Apply a change set, or keep it for a second person; the same `id` again gives what became of it.

        Raises as `preview`; with a fingerprint MovedOn or OtherChanges.
        """
        _allow(actor, request)
        if (held := self.records.get(id)) is not None and held.actor == actor.name:
            return self._finished(actor, held, request)
        wanted = None
        if request.fingerprint is not None:
            self._still(request.fingerprint)
            wanted = _version_in(request.fingerprint)
        text = written(request.changes)
        try:
            seen = self._preview(request)
        except ChangesRefused as refused:
            codes = ",".join(sorted({fault.code for fault in refused.faults}))
            self._office.trail.record(
                actor,
                "change_set.refused",
                subject_of(id),
                at=self._now(),
                detail={"codes": codes, "content": content_digest(text)},
            )
            raise
        if request.fingerprint is not None:
            _same(request.fingerprint, seen)
        record = ChangeSetRecord(
            id=id,
            actor=actor.name,
            source=request.reference or "",
            state=ChangeSetState.WAITING if seen.needs_approval else ChangeSetState.ASKED,
            fingerprint=seen.fingerprint,
            changes=text,
            count=len(request.changes),
            asked_at=self._now(),
            base=seen.version,
        )
        detail: dict[str, Any] = {
            "changes": len(request.changes),
            "content": content_digest(text),
            "fingerprint": seen.fingerprint,
        }
        with self._office.database.writing("taking a change set") as db:
            self.records.put(db, record)
            self._office.trail.add(
                db, actor, "change_set.asked", subject_of(id), at=record.asked_at, detail=detail
            )
        self._office.trail.settle()
        if record.state is ChangeSetState.WAITING:
            return record
        return self._apply(actor, record, request, wanted)

    def _finished(self, actor: Actor, held: ChangeSetRecord, request: ChangeSetRequest) -> ChangeSetRecord:
        """Return what became of a change set; one that a crash broke off is applied now, unless it was."""
        if held.changes != written(request.changes):
            raise OtherChanges(
                f"{held.id} was asked for with other changes before: use a new Idempotency-Key"
            )
        if held.state is not ChangeSetState.ASKED:
            return held
        wanted = None if request.fingerprint is None else _version_in(request.fingerprint)
        return self._apply(actor, held, request, wanted)

    def undoing(self, actor: Actor, id: str) -> ChangeSetRequest:
        """Return the request that undoes an applied change set on the present directory.

        Raises NoSuchChangeSet, AlreadyDecided where it was not applied, and ChangesRefused where others built upon it.
        """
        record = self.get(actor, id)
        if record.version is None or record.version == record.base:
            raise AlreadyDecided(f"{id} changed nothing that could be undone: it is {record.state.value}")
        plan = Undo(self._store.snapshot(), record.version)
        try:
            plan.refuse_conflicts()
            forms = forms_of(list(islice(plan.changes(), MAX_CHANGES + 1)))
        except ChangeRefused as refused:
            raise ChangesRefused([Fault(None, refused.code, str(refused))]) from refused
        if not forms:
            raise AlreadyDecided(f"nothing of {id} is left to undo")
        if len(forms) > MAX_CHANGES:
            words = f"more than {MAX_CHANGES} changes: `directory undo {record.version}`"
            raise ChangesRefused([Fault(None, "TOO_LARGE", words)])
        return ChangeSetRequest.model_validate({"changes": forms, "reference": f"undo of {id}"})

    # --- deciding ---------------------------------------------------------------------------------

    def approve(self, actor: Actor, id: str, fingerprint: str) -> ChangeSetRecord:
        """Let a waiting change set be applied, exactly as the fingerprint names it.

        Raises AccessDenied for somebody without the role, for a machine, and for whoever asked for it; MovedOn or
        OtherChanges where the fingerprint is not that of the change set on the present directory.
        """
        record = self._to_decide(actor, id)
        self._still(fingerprint)
        _same(fingerprint, record if is_held(record) else self._preview(request_of(record)))
        detail = {"fingerprint": fingerprint}
        self._office.trail.record(actor, "change_set.approved", subject_of(id), at=self._now(), detail=detail)
        if is_held(record):
            version = self.held.approve(record, by=actor.name, at=self._now(), sure=self._sure())
            return self._note(actor, record, version, actor.name)
        wanted = _version_in(fingerprint)
        return self._apply(actor, record, request_of(record), wanted, approver=actor.name)

    def reject(self, actor: Actor, id: str, note: str | None) -> ChangeSetRecord:
        """Turn a waiting change set down; whoever asked for it may take it back so."""
        record = self._waiting(actor, id)
        if record.actor != actor.name:
            actor.need(Right.APPROVE)
        done = record.decided(ChangeSetState.REJECTED, by=actor.name, at=self._now(), note=note)
        if is_held(record):
            self.held.discard(record)
        with self._office.database.writing("rejecting a change set") as db:
            if not is_held(record) and not self.records.decide(db, done):
                raise AlreadyDecided(f"{id} does not wait: somebody else has just decided it")
            self._office.trail.add(db, actor, "change_set.rejected", subject_of(id), at=self._now())
        self._office.trail.settle()
        return done

    def _to_decide(self, actor: Actor, id: str) -> ChangeSetRecord:
        record = self._waiting(actor, id)
        actor.need(Right.APPROVE)
        if actor.proof is not Proof.SESSION:
            raise AccessDenied("only a person who has logged in approves: no machine, and no token")
        if record.actor == actor.name:
            raise AccessDenied(f"{actor.name} asked for {id}: somebody else must approve it")
        return record

    def _waiting(self, actor: Actor, id: str) -> ChangeSetRecord:
        record = self.get(actor, id)
        if record.state is not ChangeSetState.WAITING:
            raise AlreadyDecided(f"{id} does not wait: it is {record.state.value}")
        return record

    # --- looking ----------------------------------------------------------------------------------

    def get(self, actor: Actor, id: str) -> ChangeSetRecord:
        """Return a change set; a machine sees its own. NoSuchChangeSet otherwise."""
        actor.need(Right.SEE)
        record = self.records.get(id) or self.held.get(id)
        if record is None or not _sees(actor, record.actor):
            raise NoSuchChangeSet(f"there is no change set {id[:60]}")
        return record

    def note_view(self, actor: Actor, record: ChangeSetRecord) -> None:
        """Note in the audit trail that a person looked at a change set: it names consumers' accounts."""
        self._office.trail.record(actor, "change_set.seen", subject_of(record.id), at=self._now())

    def shown(self, record: ChangeSetRecord) -> Preview | None:
        """Return what a waiting change set would do now, with the fingerprint to approve it by; None for others."""
        if record.state is not ChangeSetState.WAITING:
            return None
        if is_held(record):
            return self.held.preview(
                record, self._approve_above, self._ledger, self._now(), sure=self._sure()
            )
        return self._preview(request_of(record), energy=True)

    def page(
        self, actor: Actor, *, state: ChangeSetState | None = None, before: str | None = None, limit: int
    ) -> list[ChangeSetRecord]:
        """Return change sets, the newest first, those before the one with the id `before`."""
        actor.need(Right.SEE)
        whose = None if actor.proof is Proof.SESSION or actor.proof is Proof.BOX else actor.name
        found: list[ChangeSetRecord] = []
        if state in (None, ChangeSetState.WAITING) and (before is None or before.startswith(HELD)):
            found, before = self.held.page(whose=whose, before=before, limit=limit), None
        more = limit - len(found)
        return (
            found + self.records.page(whose=whose, state=state, before=before, limit=more) if more else found
        )

    # --- working ----------------------------------------------------------------------------------

    def _preview(self, request: ChangeSetRequest, *, energy: bool = False) -> Preview:
        now, before = self._now(), self._store.snapshot()
        found = placed(request.changes, before, now)
        changes = [change for _, change in found]
        try:
            after = self._store.preview(changes, by="preview", source="preview", at=now, sure=self._sure())
        except ChangeRefused as refused:
            raise self._refused(before, found, refused) from refused
        return preview_of(
            after,
            before.version,
            fingerprint=self._fingerprint(before.version, written(request.changes)),
            changes=len(request.changes),
            approve_above=self._approve_above,
            ledger=self._ledger if energy else None,
            now=now,
        )

    def _fingerprint(self, version: int, text: str) -> str:
        """Return what names these changes on this version of this directory: `57-9f2c…`."""
        life = self._store.life
        body = f"{life.uuid}\n{life.generation}\n{version}\n{text}"
        return f"{version}-{hashlib.sha256(body.encode()).hexdigest()[:32]}"

    def _apply(
        self,
        actor: Actor,
        record: ChangeSetRecord,
        request: ChangeSetRequest,
        wanted: int | None,
        *,
        approver: str | None = None,
    ) -> ChangeSetRecord:
        """Apply a kept change set once, however often it is tried; only on the version `wanted`, where one is."""
        by = record.actor if approver is None else f"{record.actor}, approved by {approver}"
        source = f"change set {record.id}" + (f" ({record.source})" if record.source else "")
        digest = content_digest(record.id)
        for left in reversed(range(TRIES)):
            before = self._store.snapshot()
            done = next((c.version for c in reversed(before.changes) if c.digest == digest), None)
            if done is not None:  # a crash came between the directory and this note of it
                return self._note(actor, record, done, approver)
            found = self._placed(actor, record, request, before)
            try:
                version = self._store.apply(
                    [change for _, change in found],
                    by=by,
                    source=source,
                    at=self._now(),
                    digest=digest,
                    based_on=before.version if wanted is None else wanted,
                    sure=self._sure(),
                )
            except ChangeRefused as refused:
                if refused.code == "STALE_PLAN":
                    if wanted is None and left:
                        continue
                    self._withdraw(actor, record)
                    raise MovedOn(str(refused)) from refused
                self._withdraw(actor, record)
                raise self._refused(before, found, refused) from refused
            return self._note(actor, record, version, approver)
        raise MovedOn("the directory is changed all the time: try again")

    def _placed(
        self, actor: Actor, record: ChangeSetRecord, request: ChangeSetRequest, before: DirectorySnapshot
    ) -> list[tuple[int, Change]]:
        try:
            return placed(request.changes, before, self._now())
        except ChangesRefused:
            self._withdraw(actor, record)
            raise

    def _refused(
        self, before: DirectorySnapshot, found: list[tuple[int, Change]], refused: ChangeRefused
    ) -> ChangesRefused:
        whole = Fault(None, refused.code, str(refused))
        return ChangesRefused(refusals(before, found, self._now()) or [whole])

    def _still(self, fingerprint: str) -> None:
        """Raise MovedOn where the directory is of another version than the one that a fingerprint names."""
        shown, now = _version_in(fingerprint), self._store.version
        if shown != now:
            raise MovedOn(
                f"the directory moved on from version {shown} to {now} since this was shown: look at it again"
            )

    def _note(
        self, actor: Actor, record: ChangeSetRecord, version: int, approver: str | None
    ) -> ChangeSetRecord:
        at = self._now()
        done = record.decided(ChangeSetState.APPLIED, by=approver, at=at, version=version)
        with self._office.database.writing("noting an applied change set") as db:
            # Also where it was rejected in this very moment: the directory has it, and so says the trail.
            if is_held(record) or self.records.decide(db, done):
                self._office.trail.add(
                    db, actor, "change_set.applied", subject_of(record.id), at=at, detail={"version": version}
                )
        self._office.trail.settle()
        return done

    def _withdraw(self, actor: Actor, record: ChangeSetRecord) -> None:
        """Note that an asked change set was not applied; a waiting one goes on waiting."""
        if record.state is not ChangeSetState.ASKED:
            return
        done = record.decided(ChangeSetState.REJECTED, by=None, at=self._now(), note="the directory moved on")
        with self._office.database.writing("noting a refused change set") as db:
            self.records.decide(db, done)
            self._office.trail.add(
                db,
                actor,
                "change_set.refused",
                subject_of(record.id),
                at=self._now(),
                detail={"codes": "MOVED_ON"},
            )
        self._office.trail.settle()


def change_set_id(actor: str, key: str) -> str:
    """Return the id of the change set that somebody asks for under a key: the same for the same."""
    return "cs-" + hashlib.sha256(f"{actor}\n{key}".encode()).hexdigest()[:24]


def _version_in(fingerprint: str) -> int:
    return int(fingerprint.partition("-")[0])


def _allow(actor: Actor, request: ChangeSetRequest) -> None:
    fitting = {one.kind for one in request.changes} <= _FITTING
    actor.need(*((Right.CHANGE, Right.FIT) if fitting else (Right.CHANGE,)))


def _sees(actor: Actor, whose: str) -> bool:
    return actor.name == whose or actor.proof in (Proof.SESSION, Proof.BOX)


def _same(fingerprint: str, seen: Preview | ChangeSetRecord) -> None:
    if fingerprint == seen.fingerprint:
        return
    raise OtherChanges("the fingerprint is not that of these changes: look at them again with `dry_run`")
