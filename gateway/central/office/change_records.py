"""Change sets as the office keeps them: who asked for what, what became of it, who decided."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from gateway.central.office.change_documents import ChangeSetRequest
from gateway.central.office.tables import change_set
from mapping.database import Database
from mapping.instants import instant, micros

PAGE = 100
"""Read at once: each may have megabytes."""


class ChangeSetState(StrEnum):
    """What became of a change set; `asked` is being applied, or was broken off by a crash."""

    ASKED = "asked"
    WAITING = "waiting"
    APPLIED = "applied"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSetRecord:
    """One change set; `changes` is the JSON array that was asked for, `base` the version it was shown on.

    `version` is the directory's after it was applied, the same as `base` where it said nothing new.
    """

    id: str
    actor: str
    source: str
    state: ChangeSetState
    fingerprint: str
    changes: str
    count: int
    asked_at: datetime
    base: int | None
    note: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    version: int | None = None

    def decided(
        self,
        state: ChangeSetState,
        *,
        by: str | None,
        at: datetime,
        note: str | None = None,
        version: int | None = None,
    ) -> ChangeSetRecord:
        """Return it as it is after somebody decided."""
        return replace(self, state=state, decided_by=by, decided_at=at, note=note, version=version)


class ChangeSetRecords:
    """The kept change sets; writing is done in the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, db: Connection, record: ChangeSetRecord) -> None:
        """Keep a new one."""
        db.execute(insert(change_set).values(**_values(record)))

    def decide(self, db: Connection, record: ChangeSetRecord) -> bool:
        """Keep what became of one; says whether nobody had decided before. What was applied replaces a rejection."""
        values = {n: v for n, v in _values(record).items() if n in _DECIDED}
        over = [ChangeSetState.ASKED.value, ChangeSetState.WAITING.value]
        over += [ChangeSetState.REJECTED.value] if record.state is ChangeSetState.APPLIED else []
        undecided = change_set.c.state.in_(over)
        done = db.execute(update(change_set).where(change_set.c.id == record.id, undecided).values(**values))
        return done.rowcount == 1

    def get(self, id: str) -> ChangeSetRecord | None:
        """Return one by its id."""
        with self._db.reading("asking for a change set") as db:
            row = db.execute(select(change_set).where(change_set.c.id == id)).first()
        return None if row is None else _record(row)

    def page(
        self, *, whose: str | None, state: ChangeSetState | None, before: str | None, limit: int
    ) -> list[ChangeSetRecord]:
        """Return the newest: those of an actor, in a state, before the one with the id `before`."""
        query = select(change_set).order_by(change_set.c.asked_at.desc(), change_set.c.id.desc()).limit(limit)
        if whose is not None:
            query = query.where(change_set.c.actor == whose)
        if state is not None:
            query = query.where(change_set.c.state == state.value)
        with self._db.reading("listing change sets") as db:
            if before is not None:
                at = db.execute(select(change_set.c.asked_at).where(change_set.c.id == before)).scalar()
                if at is None:
                    return []
                earlier = and_(change_set.c.asked_at == at, change_set.c.id < before)
                query = query.where(or_(change_set.c.asked_at < at, earlier))
            return [_record(row) for row in db.execute(query)]

    def each(self) -> Iterator[ChangeSetRecord]:
        """Yield all of them, the newest first."""
        before: str | None = None
        while some := self.page(whose=None, state=None, before=before, limit=PAGE):
            yield from some
            before = some[-1].id


def request_of(record: ChangeSetRecord) -> ChangeSetRequest:
    """Return what was asked for, as it was kept."""
    return ChangeSetRequest.model_validate_json(f'{{"changes":{record.changes}}}')


def content_digest(text: str) -> str:
    """Return the digest of a change set's text, as the audit trail has it."""
    return hashlib.sha256(text.encode()).hexdigest()


def subject_of(id: str) -> str:
    """Return what the audit trail calls a change set."""
    return f"change_set:{id}"


_DECIDED = ("state", "note", "decided_by", "decided_at", "version")


def _values(record: ChangeSetRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "actor": record.actor,
        "source": record.source,
        "state": record.state.value,
        "fingerprint": record.fingerprint,
        "changes": record.changes,
        "count": record.count,
        "asked_at": micros(record.asked_at),
        "base": record.base,
        "note": record.note,
        "decided_by": record.decided_by,
        "decided_at": None if record.decided_at is None else micros(record.decided_at),
        "version": record.version,
    }


def _record(row: Any) -> ChangeSetRecord:
    return ChangeSetRecord(
        id=row.id,
        actor=row.actor,
        source=row.source,
        state=ChangeSetState(row.state),
        fingerprint=row.fingerprint,
        changes=row.changes,
        count=row.count,
        asked_at=instant(row.asked_at),
        base=row.base,
        note=row.note,
        decided_by=row.decided_by,
        decided_at=None if row.decided_at is None else instant(row.decided_at),
        version=row.version,
    )
