"""Change sets that wait for a second person: kept as they were asked for, approved by their fingerprint, then applied.

A fingerprint covers the store, the directory version and the whole text of the change set: what was looked at is
applied, or nothing. It becomes the change set's `digest`, so that one whose approval was cut short by a crash is never
applied twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from mapping.change_sets import changes_of, read_forms, written
from mapping.changes import Change
from mapping.conflicts import ConflictRow, Noting, note, put_right, reopen, settle_by_file
from mapping.directory_tables import proposal
from mapping.errors import ChangeRefused
from mapping.instants import instant, micros
from mapping.snapshot import DirectorySnapshot
from mapping.store import Beside, DirectoryStore
from mapping.swap_texts import swap_text
from mapping.swaps import Job, SwapPlan, write_jobs
from mapping.undo import Undo

APPROVE_ABOVE: Final = 100
"""Meters or accounts that one person may change alone, unless the configuration says otherwise."""
MAX_WAITING: Final = 1_000
"""Change sets that wait at once: beyond that somebody approves or discards first."""
SHORT: Final = 8
"""Digits of a fingerprint that are enough to name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One waiting change set: who asked for it and when, and on which directory version it was looked at."""

    fingerprint: str
    by: str
    at: datetime
    source: str
    version: int
    meters: int
    accounts: int
    text: str


def asked_changes(changes: Iterable[Change]) -> str:
    """Return the text of a change set that is asked for."""
    return _text({"changes": written(list(changes))})


def asked_undo(version: int, *, rest_alone: bool) -> str:
    """Return the text of an undoing that is asked for; `rest_alone`: without what was changed again since."""
    return _text({"undo": version, "rest_alone": rest_alone})


def asked_swap(plan: SwapPlan) -> str:
    """Return the text of a contractor's file that was judged: its changes, its jobs, and the rows that are left."""
    jobs = [{**job._asdict(), "at": micros(job.at)} for job in plan.jobs]
    left = [
        [
            row.line,
            row.verdict.value,
            row.code,
            row.subject,
            " ".join(swap_text(row.code, row.other, "en")),
            row.cells,
        ]
        for row in plan.left
    ]
    done = [f"meter {job.old_meter}" for job in plan.jobs]
    file = {"name": plan.name, "digest": plan.digest, "jobs": jobs, "left": left, "done": done}
    return _text({"changes": written(list(plan.changes)), "swap": file})


def _beside(held: Proposal, by: str, at: datetime) -> Beside | None:
    """Return what writes the jobs of a contractor's file, and its rows that are left, beside the change set."""
    swap = json.loads(held.text).get("swap")
    if swap is None:
        return beside_undoing(held.text)
    noting = Noting(origin="swap", source=swap["name"], digest=swap["digest"], by=by, at=at)
    jobs = [
        Job(**{**job, "at": instant(job["at"]), "seals": tuple(job["seals"]), "photos": tuple(job["photos"])})
        for job in swap["jobs"]
    ]

    left = [
        ConflictRow(line, verdict, code, subject, reason, tuple(cells))
        for line, verdict, code, subject, reason, cells in swap["left"]
    ]

    def write(db: Connection, version: int) -> None:
        write_jobs(db, version, jobs)
        note(db, noting, left)
        settle_by_file(db, noting, swap["done"], put_right(swap["name"], version))

    return write


def beside_undoing(text: str) -> Beside | None:
    """Return what lets the rows wait again that an undone file had put right; None for what undoes nothing."""
    undone = json.loads(text).get("undo")
    if undone is None:
        return None

    def write(db: Connection, version: int) -> None:
        reopen(db, undone, version)

    return write


def changes_asked(text: str, snapshot: DirectorySnapshot) -> Iterable[Change]:
    """Return the changes of a text; an undoing is worked out again, one change after the other. ChangeRefused."""
    asked = json.loads(text)
    if "undo" in asked:
        plan = Undo(snapshot, asked["undo"])
        if not asked["rest_alone"]:
            plan.refuse_conflicts()
        return plan.changes()
    return changes_of(read_forms(asked["changes"]), snapshot, own=True)


def _text(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Proposals:
    """The waiting change sets of one directory; safe for threads and processes."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._db = store.database

    def fingerprint(self, text: str, version: int) -> str:
        """Return what names this text on this version of this directory."""
        return self.whole_fingerprint(text, version)[:16]

    def whole_fingerprint(self, text: str, version: int) -> str:
        """Return the digest that a fingerprint begins: the office names change sets by more of its digits."""
        life = self._store.life
        whole = f"{life.uuid}\n{life.generation}\n{version}\n{text}"
        return hashlib.sha256(whole.encode()).hexdigest()

    def keep(
        self, text: str, *, by: str, at: datetime, source: str, version: int, meters: int, accounts: int
    ) -> Proposal:
        """Keep a change set for a second person; the same once more is the same. ChangeRefused (WAITING_FULL)."""
        held = Proposal(
            fingerprint=self.fingerprint(text, version),
            by=by,
            at=at,
            source=source,
            version=version,
            meters=meters,
            accounts=accounts,
            text=text,
        )
        with self._db.writing("keeping a change set") as db:
            known = set(db.execute(select(proposal.c.fingerprint)).scalars())
            if held.fingerprint not in known:
                if len(known) >= MAX_WAITING:
                    raise ChangeRefused(
                        "WAITING_FULL",
                        f"{len(known)} change sets wait already: approve or discard some first",
                    )
                members = {c.name: getattr(held, c.name) for c in proposal.c}
                db.execute(insert(proposal).values(**{**members, "at": micros(at)}))
        return held

    def all(self) -> list[Proposal]:
        """Return what waits, the oldest first."""
        with self._db.reading("listing what waits") as db:
            rows = db.execute(select(proposal).order_by(proposal.c.at, proposal.c.fingerprint)).all()
        return [Proposal(**{**row._asdict(), "at": instant(row.at)}) for row in rows]

    def find(self, fingerprint: str) -> Proposal:
        """Return the one that a fingerprint, or its first digits, names; ChangeRefused (NOT_WAITING) otherwise."""
        found = [one for one in self.all() if one.fingerprint.startswith(fingerprint)]
        if len(fingerprint) < SHORT or len(found) != 1:
            raise ChangeRefused(
                "NOT_WAITING",
                f"no one change set waits under {fingerprint[:40]!r}: give {SHORT} digits or more",
            )
        return found[0]

    def discard(self, fingerprint: str) -> None:
        """Let a waiting change set go."""
        with self._db.writing("discarding a change set") as db:
            db.execute(delete(proposal).where(proposal.c.fingerprint == fingerprint))

    def approve(
        self, fingerprint: str, *, by: str, at: datetime, sure: bool = False, alone_up_to: int = 0
    ) -> int:
        """Apply exactly what waits under a fingerprint, all of it or nothing, and return the directory version.

        Raises ChangeRefused: SAME_PERSON where `by` asked for it and it touches more than `alone_up_to` meters or
        accounts, STALE_PLAN where the directory has moved on since.
        """
        held = self.find(fingerprint)
        if held.by == by and max(held.meters, held.accounts) > alone_up_to:
            raise ChangeRefused(
                "SAME_PERSON", f"{by} asked for {held.fingerprint[:16]}: somebody else must approve it"
            )
        snapshot = self._store.snapshot()
        done = next((c.version for c in reversed(snapshot.changes) if c.digest == held.fingerprint), None)
        if done is None:
            if held.fingerprint != self.fingerprint(held.text, snapshot.version):
                raise ChangeRefused(
                    "STALE_PLAN",
                    f"the directory moved on from version {held.version} to {snapshot.version} since it was looked "
                    "at: discard it and ask again",
                )
            done = self._store.apply(
                changes_asked(held.text, snapshot),
                by=by if held.by == by else f"{held.by}, approved by {by}",
                source=held.source,
                at=at,
                digest=held.fingerprint,
                based_on=snapshot.version,
                sure=sure,
                beside=_beside(held, by, at),
            )
        self.discard(held.fingerprint)
        return done
