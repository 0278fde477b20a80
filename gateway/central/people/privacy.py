"""One consumer's data in the people store: given out whole, and erased; what must stay, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from gateway.central.people.contacts import contact_of
from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import contact, contact_event, erasure, message, opt_out, report
from mapping.instants import instant, micros

ERASED: Final = "erased"
"""What stands in place of what a message was."""
_ENDS: Final = {"waiting": "refused", "handing": "unconfirmed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was erased of an account, counted by kind."""

    contacts: int
    history: int
    messages: int
    reports: int

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def export(store: PeopleStore, account_id: str) -> dict[str, Any]:
    """Return all that the store holds of an account, whole: for the consumer, who has proved who he is."""
    with store.db.reading("exporting an account") as db:
        contacts = _rows(db, contact, contact.c.account_id == account_id)
        mobiles = {row.mobile for row in contacts}
        return {
            "contacts": [_contact(row) for row in contacts],
            "contacts_history": [
                {
                    "at": instant(row.at),
                    "by": row.by,
                    "what": row.what,
                    "detail": row.detail,
                    "contact": row.contact_id,
                }
                for row in _rows(db, contact_event, contact_event.c.account_id == account_id)
            ],
            "wants_no_messages": [
                {"mobile": row.mobile, "since": instant(row.at), "told_by": row.source}
                for row in _rows(db, opt_out, opt_out.c.mobile.in_(mobiles))
            ],
            "messages": [_message(row) for row in _rows(db, message, message.c.account_id == account_id)],
            "erasures": [
                {"at": instant(row.at), "by": row.by, "reason": row.reason, "erased": json.loads(row.counts)}
                for row in _rows(db, erasure, erasure.c.account_id == account_id)
            ],
        }


def erase(store: PeopleStore, account_id: str, *, by: str, reason: str, now: datetime) -> Erasure:
    """Erase an account's mobiles, their history, and what its messages said, in one transaction.

    Of each message stay its key, template and state: so that it is never sent again, and sums stay right. What waits
    ends. An opt-out stays, for it is the owner's wish that nothing comes. That it was erased, when and why, stays.
    """
    with store.db.writing("erasing an account") as db:
        provider = select(message.c.provider_id).where(
            message.c.account_id == account_id, message.c.provider_id.is_not(None)
        )
        done = Erasure(
            reports=db.execute(delete(report).where(report.c.provider_id.in_(provider))).rowcount,
            messages=_forget(db, message.c.account_id == account_id, now),
            history=db.execute(
                delete(contact_event).where(contact_event.c.account_id == account_id)
            ).rowcount,
            contacts=db.execute(delete(contact).where(contact.c.account_id == account_id)).rowcount,
        )
        counts = json.dumps(done.counts())
        db.execute(
            insert(erasure).values(
                at=micros(now), by=by, account_id=account_id, reason=reason[:200], counts=counts
            )
        )
    return done


def _forget(db: Connection, whose: Any, now: datetime) -> int:
    for state, end in _ENDS.items():
        ended = update(message).where(whose, message.c.state == state)
        db.execute(ended.values(state=end, ended_at=micros(now)))
    gone = {"given": None, "provider_id": None, "contact_id": ERASED, "reason": ERASED}
    return db.execute(update(message).where(whose, message.c.contact_id != ERASED).values(**gone)).rowcount


def held(store: PeopleStore) -> dict[str, int]:
    """Return how many rows of each kind the store holds."""
    with store.db.reading("counting what is held") as db:
        return {
            table.name: db.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (contact, contact_event, opt_out, message, report, erasure)
        }


def _rows(db: Connection, table: Any, whose: Any) -> list[Row[Any]]:
    order = table.c.queued_at if table is message else next(iter(table.primary_key.columns))
    return list(db.execute(select(table).where(whose).order_by(order)))


def _contact(row: Row[Any]) -> dict[str, Any]:
    one = contact_of(row)
    return {
        "id": one.id,
        "mobile": one.mobile,
        "language": one.language,
        "source": one.source,
        "added_at": one.added_at,
        "added_by": row.added_by,
        "verified_at": one.verified_at,
        "verified_how": one.verified_how,
        "removed_at": one.removed_at,
    }


def _message(row: Row[Any]) -> dict[str, Any]:
    values: Mapping[str, str] | None = None if row.given is None else json.loads(row.given)
    return {
        "template": row.template,
        "values": values,
        "contact": row.contact_id,
        "state": row.state,
        "reason": row.reason,
        "sent_for": row.batch,
        "queued_at": instant(row.queued_at),
        "handed_at": None if row.handed_at is None else instant(row.handed_at),
        "ended_at": None if row.ended_at is None else instant(row.ended_at),
    }
