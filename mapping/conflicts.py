"""The queue of what files and other doors left undone: rows in conflict or rejected, until somebody settles them.

A row is noted in the same transaction as the change set that left it out, and once, however often its file is sent in.
One that a later file puts right is settled by that file. Nothing is deleted: who settled what, when and how stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from mapping.database import Database
from mapping.directory_tables import AT_ONCE, conflict
from mapping.errors import ChangeRefused
from mapping.instants import instant, micros
from mapping.rows import in_batches

MAX_TEXT: Final = 512
"""Characters of a reason, of what settles it, and of a name."""


class ConflictRow(NamedTuple):
    """A row that was not applied: its line, verdict and code, what it is about, why, and its cells.

    `subject` is the key by which a later row about the same settles it: `meter GEN:1`, `legacy_number KE1`.
    """

    line: int
    verdict: str
    code: str
    subject: str
    reason: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One of the queue: what it is, since when it waits, whose it is, and how it was settled."""

    id: int
    origin: str
    source: str
    line: int
    verdict: str
    code: str
    subject: str
    reason: str
    cells: tuple[str, ...]
    noted_at: datetime
    noted_by: str
    owner: str | None
    taken_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    how: str | None

    def age(self, now: datetime) -> timedelta:
        """Return how long it waits, or waited."""
        return (self.settled_at or now) - self.noted_at


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many wait, how many of them are nobody's, and since when the oldest does."""

    open: int
    unowned: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noting:
    """Where rows come from: the door (`import`, `rekey`, `swap`, `field`), its file and the file's digest."""

    origin: str
    source: str
    digest: str
    by: str
    at: datetime


def note(db: Connection, noting: Noting, rows: Iterable[ConflictRow]) -> int:
    """Note rows inside the caller's transaction, those of this file that are not noted yet; return how many."""
    count = 0
    for some in in_batches(rows, AT_ONCE):
        lines = select(conflict.c.line).where(
            conflict.c.digest == noting.digest, conflict.c.line.in_([row.line for row in some])
        )
        known = set(db.execute(lines).scalars())
        fresh = [_values(noting, row) for row in some if row.line not in known]
        if fresh:
            db.execute(insert(conflict), fresh)
        count += len(fresh)
    return count


def settle_by_file(db: Connection, noting: Noting, subjects: Iterable[str], how: str) -> int:
    """Settle inside the caller's transaction what a file put right: open ones of other files about these subjects."""
    waits = select(conflict.c.id).where(conflict.c.settled_at.is_(None), conflict.c.digest != noting.digest)
    if db.execute(waits.limit(1)).first() is None:
        return 0
    count = 0
    for some in in_batches(subjects, AT_ONCE):
        done = db.execute(
            update(conflict)
            .where(
                conflict.c.subject.in_(some),
                conflict.c.settled_at.is_(None),
                conflict.c.digest != noting.digest,
                conflict.c.origin == noting.origin,
            )
            .values(settled_at=micros(noting.at), settled_by=noting.by, how=how[:MAX_TEXT])
        )
        count += done.rowcount
    return count


def put_right(name: str, version: int) -> str:
    """Return how a file settles what it put right: `reopen` finds it again by these words."""
    return f"put right by {name}"[: MAX_TEXT - 40] + f", directory version {version}"


def reopen(db: Connection, undone: int, version: int) -> int:
    """Let wait again, inside the caller's transaction, what the file of an undone version had settled."""
    words = put_right("", undone)
    done = db.execute(
        update(conflict)
        .where(conflict.c.how.like(words.replace(",", "%,", 1)), conflict.c.settled_at.is_not(None))
        .values(settled_at=None, settled_by=None, how=f"version {undone} put it right; undone by {version}")
    )
    return done.rowcount


class Conflicts:
    """The queue of one directory; safe for threads and processes. The store's errors pass (DirectoryFault)."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, noting: Noting, rows: Iterable[ConflictRow]) -> int:
        """Note rows that no change set comes with; return how many were not noted yet."""
        with self._db.writing("noting conflicts") as db:
            return note(db, noting, rows)

    def page(
        self,
        *,
        after: int = 0,
        limit: int = 500,
        owner: str | None = None,
        unowned: bool = False,
        origin: str | None = None,
        settled: bool = False,
    ) -> list[Conflict]:
        """Return some of the queue by id from `after` on: those that wait, or with `settled` those that do not."""
        c = conflict.c
        wanted: list[ColumnElement[bool]] = [
            c.id > after,
            c.settled_at.is_not(None) if settled else c.settled_at.is_(None),
        ]
        if owner is not None:
            wanted.append(c.owner == owner)
        if unowned:
            wanted.append(c.owner.is_(None))
        if origin is not None:
            wanted.append(c.origin == origin)
        with self._db.reading("listing conflicts") as db:
            found = db.execute(select(conflict).where(*wanted).order_by(c.id).limit(limit)).all()
        return [_conflict(row._asdict()) for row in found]

    def counts(self) -> QueueCounts:
        """Count what waits."""
        c = conflict.c
        query = select(func.count(), func.count(c.owner), func.min(c.noted_at)).where(c.settled_at.is_(None))
        with self._db.reading("counting conflicts") as db:
            waiting, owned, oldest = db.execute(query).one()
        return QueueCounts(waiting, waiting - owned, None if oldest is None else instant(oldest))

    def take(self, id: int, *, by: str, at: datetime, owner: str | None = None) -> Conflict:
        """Let somebody (`owner`, else who takes it) be whose it is, also one that was another's."""
        whose = _text(owner or by, "whose it is")
        return self._changed(id, owner=whose, taken_at=micros(at))

    def settle(self, id: int, *, by: str, at: datetime, how: str) -> Conflict:
        """Settle one with what was done about it."""
        return self._changed(
            id, settled_at=micros(at), settled_by=by, how=_text(how, "what was done about it")
        )

    def _changed(self, id: int, **values: Any) -> Conflict:
        """Change one that waits; ChangeRefused (CONFLICT_ID, SETTLED) where there is none, or it does not wait."""
        with self._db.writing("settling a conflict") as db:
            row = db.execute(select(conflict).where(conflict.c.id == id)).first()
            if row is None:
                raise ChangeRefused("CONFLICT_ID", f"there is no conflict {id} in the queue")
            held = _conflict(row._asdict())
            if held.settled_at is not None:
                raise ChangeRefused(
                    "SETTLED",
                    f"conflict {id} was settled on {held.settled_at:%Y-%m-%d} by {held.settled_by}: {held.how}",
                )
            db.execute(update(conflict).where(conflict.c.id == id).values(**values))
            return _conflict({**row._asdict(), **values})


def _values(noting: Noting, row: ConflictRow) -> dict[str, Any]:
    return {
        "origin": noting.origin,
        "source": noting.source[:MAX_TEXT],
        "digest": noting.digest,
        "line": row.line,
        "verdict": row.verdict,
        "code": row.code,
        "subject": row.subject[:MAX_TEXT],
        "reason": row.reason[:MAX_TEXT],
        "cells": json.dumps(row.cells, ensure_ascii=False),
        "noted_at": micros(noting.at),
        "noted_by": noting.by,
    }


def _conflict(row: dict[str, Any]) -> Conflict:
    times = {name: None if row[name] is None else instant(row[name]) for name in ("taken_at", "settled_at")}
    kept = {name: row[name] for name in Conflict.__slots__ if name not in times}
    return Conflict(
        **{**kept, **times, "cells": tuple(json.loads(row["cells"])), "noted_at": instant(row["noted_at"])}
    )


def _text(given: str, what: str) -> str:
    text = " ".join(given.split())
    if not text or len(text) > MAX_TEXT or not text.isprintable():
        raise ChangeRefused("NAME", f"say {what}, in 1 to {MAX_TEXT} printable characters")
    return text
