"""How long each kind of personal data is kept; what is older goes, is counted and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import contact, contact_event, message, report
from gateway.central.people.tables import retention as runs
from mapping.instants import instant, micros

REPORTS_KEPT: Final = timedelta(days=7)
"""Reports of messages that nobody here knows: one may overtake the answer by seconds."""
CODES_KEPT: Final = timedelta(days=30)
"""Codes, whose values were forgotten when they were sent: that one was asked for, for who complains of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How long: what messages said, contacts that were removed, and mobiles that nobody ever verified."""

    messages: timedelta = timedelta(days=180)
    removed_contacts: timedelta = timedelta(days=365)
    unverified_contacts: timedelta = timedelta(days=3 * 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What one run removed of one kind: everything from before `until`."""

    at: datetime
    kind: str
    until: datetime
    count: int


def keep_to(store: PeopleStore, kept: Kept, *, now: datetime) -> list[Removed]:
    """Remove what is older than it may be, each kind in a transaction of its own, and note how much it was.

    Of a message stay its key, template and state, for it must never be sent again; codes go whole.
    """
    steps: tuple[tuple[str, timedelta, Callable[[Connection, int], int]], ...] = (
        ("messages", kept.messages, _messages),
        ("codes", min(CODES_KEPT, kept.messages), _codes),
        (
            "reports",
            REPORTS_KEPT,
            lambda db, until: db.execute(delete(report).where(report.c.at < until)).rowcount,
        ),
        ("removed_contacts", kept.removed_contacts, _removed),
        ("unverified_contacts", kept.unverified_contacts, _unverified),
    )
    done: list[Removed] = []
    for kind, age, remove in steps:
        until = now - age
        with store.db.writing(f"removing old {kind}") as db:
            count = remove(db, micros(until))
            db.execute(insert(runs).values(at=micros(now), kind=kind, until=micros(until), removed=count))
        done.append(Removed(at=now, kind=kind, until=until, count=count))
    return done


def last_runs(store: PeopleStore) -> list[Removed]:
    """Return what the last run removed, by kind; nothing where none ran yet."""
    with store.db.reading("reading the last retention") as db:
        last = db.execute(select(runs.c.at).order_by(runs.c.at.desc()).limit(1)).scalar()
        found = (
            db.execute(select(runs).where(runs.c.at == last).order_by(runs.c.id)) if last is not None else ()
        )
        return [
            Removed(at=instant(row.at), kind=row.kind, until=instant(row.until), count=row.removed)
            for row in found
        ]


def _messages(db: Connection, until: int) -> int:
    old = (message.c.ended_at < until, message.c.given.is_not(None))
    gone: dict[str, Any] = {"given": None, "provider_id": None}
    return db.execute(update(message).where(*old).values(**gone)).rowcount


def _codes(db: Connection, until: int) -> int:
    # A code's key is random: nothing can ask for it again.
    return db.execute(delete(message).where(message.c.urgent == 1, message.c.ended_at < until)).rowcount


def _removed(db: Connection, until: int) -> int:
    old = select(contact.c.id).where(contact.c.removed_at < until)
    db.execute(delete(contact_event).where(contact_event.c.contact_id.in_(old)))
    return db.execute(delete(contact).where(contact.c.removed_at < until)).rowcount


def _unverified(db: Connection, until: int) -> int:
    never = (contact.c.verified_at.is_(None), contact.c.added_at < until)
    old = select(contact.c.id).where(*never)
    db.execute(delete(contact_event).where(contact_event.c.contact_id.in_(old)))
    return db.execute(delete(contact).where(*never)).rowcount
