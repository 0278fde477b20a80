"""The audit trail: a hash chain of who did what, when, to whom and from where; and its verification.

Each entry's hash covers the entry and the hash before it, so that nothing in the middle can be changed, taken out,
put in or moved. The last hash is also kept in a file beside the store, and can be exported: that shows a tail that was
cut off, and a chain that was computed anew.
No personal data stands in it: consumers by their account id, what they typed as a keyed hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Connection, func, insert, select

from gateway.central.office.actors import Actor
from gateway.central.office.tables import trail
from gateway.errors import UsageError
from mapping.database import Database
from mapping.instants import instant, micros
from protocols.durable import replace_file

NOTHING: Final = "0" * 64
"""What stands before the first entry."""
AT_ONCE: Final = 2_000
MAX_FAULTS: Final = 20
MAX_DETAIL: Final = 2_000
"""Characters of an entry's details; ours have some hundred."""
log = structlog.get_logger("gateway.central.office")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One act: `subject` is what it was done to, `source` where from, `detail` more of it, as JSON."""

    number: int
    at: datetime
    actor: str
    act: str
    subject: str
    source: str
    detail: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry's number and hash: `1204:9f2c…`."""

    number: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what `str` wrote; UsageError for anything else."""
        number, _, digest = text.strip().partition(":")
        if not (number.isascii() and number.isdigit() and len(number) < 19 and len(digest) == 64):
            raise UsageError(f"`{text[:100]}` is no head of an audit trail: it is written NUMBER:HASH")
        return cls(int(number), digest)

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found: how many entries, the last one, and every fault (at most 20 are told, all are counted)."""

    entries: int
    head: Head
    faults: tuple[str, ...]
    count: int

    @property
    def whole(self) -> bool:
        """Whether nothing was changed, removed, re-ordered, put in or cut off."""
        return not self.count


class Trail:
    """The trail in the office's database; `beside` is the file that holds its last hash."""

    def __init__(self, database: Database, beside: Path) -> None:
        self._db = database
        self._beside = beside

    def add(
        self,
        db: Connection,
        actor: Actor,
        act: str,
        subject: str,
        *,
        at: datetime,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one entry in the caller's transaction, which ends with `settle`."""
        last = _head(db)
        told = json.dumps(dict(detail or {}), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        if len(told) > MAX_DETAIL:
            told = json.dumps({"cut": told[: MAX_DETAIL // 2]}, ensure_ascii=False)
        row = (last.number + 1, micros(at), actor.name, act, subject, actor.source, told)
        values = dict(zip(_MEMBERS, row, strict=True))
        db.execute(insert(trail).values(**values, hash=_hash(last.hash, row)))

    def settle(self) -> None:
        """Keep the last hash beside the store, after the transaction that added to the trail."""
        with self._db.writing("noting the head of the audit trail") as db:
            head, held = _head(db), self.noted()
            if held is not None and _hash_of(db, held.number) != held.hash:
                # The file is the evidence: it keeps what was there before somebody had a hand in the store.
                log.error("audit_trail_broken", at=held.number, file=str(self._beside))
                return
            if held is None or head.number > held.number:
                replace_file(self._beside, f"{head}\n".encode())

    def record(
        self, actor: Actor, act: str, subject: str, *, at: datetime, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Append one entry by itself."""
        with self._db.writing("adding to the audit trail") as db:
            self.add(db, actor, act, subject, at=at, detail=detail)
        self.settle()

    def head(self) -> Head:
        """Return the last entry's number and hash; 0 where there is none."""
        with self._db.reading("asking the head of the audit trail") as db:
            return _head(db)

    def noted(self) -> Head | None:
        """Return the head that stands beside the store; None where there is none, or nothing readable."""
        try:
            return Head.parse(self._beside.read_text(encoding="ascii"))
        except (FileNotFoundError, UsageError, UnicodeDecodeError):
            return None

    def entries(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        act: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return entries, the newest first: those of a subject, an actor, an act, a time; at most `limit`."""
        query = select(trail).order_by(trail.c.number.desc())
        for column, wanted in ((trail.c.subject, subject), (trail.c.actor, actor), (trail.c.act, act)):
            if wanted is not None:
                query = query.where(column == wanted)
        if since is not None:
            query = query.where(trail.c.at >= micros(since))
        if until is not None:
            query = query.where(trail.c.at < micros(until))
        with self._db.reading("reading the audit trail") as db:
            rows = db.execute(query if limit is None else query.limit(limit)).all()
        return [_entry(row) for row in rows]

    def verify(self, *heads: Head) -> Verification:
        """Go through the whole chain, compare it with the file beside it and with exported `heads`.

        Memory is bounded: entries are read by the thousand.
        """
        faults: list[str] = []
        count = 0

        def fault(text: str) -> None:
            nonlocal count
            count += 1
            if len(faults) < MAX_FAULTS:
                faults.append(text)

        noted = self.noted()
        wanted = {head.number: head for head in (*heads, *(() if noted is None else (noted,)))}
        last, entries = Head(0, NOTHING), 0
        with self._db.reading("verifying the audit trail") as db:
            for row in _chain(db):
                entries += 1
                if row.number != last.number + 1:
                    fault(f"entries {last.number + 1} to {row.number - 1} are missing")
                given = tuple(getattr(row, name) for name in _MEMBERS)
                if _hash(last.hash, given) != row.hash:
                    fault(f"entry {row.number} was changed, moved or put in, or the one before it taken out")
                last = Head(row.number, row.hash)
                for head in (h for h in (*heads, noted) if h is not None and h.number == row.number):
                    if head.hash != row.hash:
                        fault(f"entry {row.number} has another hash than the head that was kept: {head}")
        for number in sorted(wanted):
            if number > last.number:
                fault(f"the end was cut off: entry {number} was there, the last one now is {last.number}")
        if noted is None and entries and not heads:
            fault(
                f"{self._beside} is not there: whether the end was cut off shows an exported head only (--head)"
            )
        return Verification(entries=entries, head=last, faults=tuple(faults), count=count)


_MEMBERS = ("number", "at", "actor", "act", "subject", "source", "detail")


def _chain(db: Connection) -> Iterator[Any]:
    after: int | None = None
    while True:
        query = select(trail).order_by(trail.c.number).limit(AT_ONCE)
        rows = db.execute(query if after is None else query.where(trail.c.number > after)).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        after = rows[-1].number


def _hash(before: str, row: tuple[Any, ...]) -> str:
    body = json.dumps(list(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()


def _head(db: Connection) -> Head:
    last = select(func.max(trail.c.number)).scalar_subquery()
    row = db.execute(select(trail.c.number, trail.c.hash).where(trail.c.number == last)).first()
    return Head(0, NOTHING) if row is None else Head(row.number, row.hash)


def _hash_of(db: Connection, number: int) -> str | None:
    if number == 0:
        return NOTHING
    found: str | None = db.execute(select(trail.c.hash).where(trail.c.number == number)).scalar()
    return found


def _entry(row: Any) -> Entry:
    return Entry(
        number=row.number,
        at=instant(row.at),
        actor=row.actor,
        act=row.act,
        subject=row.subject,
        source=row.source,
        detail=json.loads(row.detail),
        hash=row.hash,
    )
