"""Mobiles of accounts: several each, where they come from, when control of them was proved, and what became of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import contact, contact_event, opt_out
from gateway.central.people.verification import CLOCKS_DIFFER, masked_mobile
from gateway.errors import UsageError
from mapping.instants import instant, micros
from mapping.rows import in_batches

MAX_ACCOUNTS_PER_MOBILE: Final = 10
"""An agent or landlord may stand for several; more are reviewed by hand (users.md §6 row 71)."""
MAX_CONTACTS: Final = 5
"""Mobiles of one account: a household's; a sixth is refused until one is removed."""
AT_ONCE: Final = 500
"""Keys in one statement."""
Language = Literal["en", "hi"]
_MOBILE: Final = re.compile(r"(?:\+?91|0)?([6-9][0-9]{9})", re.ASCII)


class ContactRefused(UsageError):
    """A mobile cannot be taken; `code` is stable and the message says what to do. It holds no whole mobile."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Where an account's messages go: ten digits, and when control of it was last proved (None: never)."""

    account_id: str
    mobile: str
    verified_at: datetime | None
    id: str = ""
    language: Language | None = None
    source: str = ""
    added_at: datetime | None = None
    verified_how: str | None = None
    removed_at: datetime | None = None

    @property
    def masked(self) -> str:
        """The mobile as it may be shown."""
        return masked_mobile(self.mobile)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactEvent:
    """What was done to a contact, when, by whom."""

    at: datetime
    by: str
    what: str
    detail: str
    contact_id: str


def parse_mobile(text: str) -> str:
    """Return the ten digits of an Indian mobile number, `+91 98765 43210` among others; ContactRefused (MOBILE)."""
    found = _MOBILE.fullmatch(re.sub(r"[ \u00a0-]", "", text.strip()))
    if found is None:
        raise ContactRefused("MOBILE", "the mobile is not an Indian mobile number of ten digits")
    return found[1]


class ContactStore:
    """The contacts. Calls are short and may come from any thread; each may raise PeopleFault."""

    def __init__(self, store: PeopleStore) -> None:
        self._db = store.db

    def get(self, account_id: str) -> Contact | None:
        """Return the contact that an account's messages go to: the one verified last; of none verified the newest."""
        found = self.of_account(account_id)
        return None if not found else best(found)

    def of_account(self, account_id: str, *, removed: bool = False) -> list[Contact]:
        """Return an account's contacts as they were added; with `removed` those too that are no longer used."""
        query = select(contact).where(contact.c.account_id == account_id)
        if not removed:
            query = query.where(contact.c.removed_at.is_(None))
        with self._db.reading("finding contacts") as db:
            return [contact_of(row) for row in db.execute(query.order_by(contact.c.added_at, contact.c.id))]

    def of_accounts(self, accounts: Sequence[str]) -> dict[str, Contact]:
        """Return for each account that has one the contact that its messages go to."""
        found: dict[str, list[Contact]] = {}
        with self._db.reading("finding contacts") as db:
            for some in in_batches(accounts, AT_ONCE):
                query = select(contact).where(contact.c.account_id.in_(some), contact.c.removed_at.is_(None))
                for row in db.execute(query.order_by(contact.c.added_at, contact.c.id)):
                    found.setdefault(row.account_id, []).append(contact_of(row))
        return {account: best(contacts) for account, contacts in found.items()}

    def history(self, account_id: str) -> list[ContactEvent]:
        """Return all that was done to an account's contacts, oldest first."""
        query = select(contact_event).where(contact_event.c.account_id == account_id)
        with self._db.reading("reading a history") as db:
            return [
                ContactEvent(
                    at=instant(row.at), by=row.by, what=row.what, detail=row.detail, contact_id=row.contact_id
                )
                for row in db.execute(query.order_by(contact_event.c.id))
            ]

    def add(
        self,
        account_id: str,
        mobile: str,
        *,
        by: str,
        source: str,
        at: datetime,
        language: Language | None = None,
        verified_at: datetime | None = None,
    ) -> Contact:
        """Add a mobile, or bring the one that is there up to date; a later verification is never replaced by an older.

        Raises ContactRefused: MOBILE, FUTURE, SHARED_MOBILE, TOO_MANY.
        """
        with self._db.writing("adding a contact") as db:
            return add_in(
                db,
                Contact(
                    account_id=account_id,
                    mobile=parse_mobile(mobile),
                    verified_at=verified_at,
                    language=language,
                ),
                by=by,
                source=source,
                at=at,
            )[0]

    def verify(self, contact_id: str, *, by: str, how: str, at: datetime) -> Contact:
        """Note that control of a contact's mobile was proved at an instant; ContactRefused (UNKNOWN)."""
        with self._db.writing("verifying a contact") as db:
            held = _held(db, contact_id)
            return _verify(db, held, at, how, by=by, now=at)

    def remove(self, contact_id: str, *, by: str, why: str, at: datetime) -> Contact:
        """Use a contact no longer; its history is kept. ContactRefused (UNKNOWN)."""
        with self._db.writing("removing a contact") as db:
            held = _held(db, contact_id)
            db.execute(update(contact).where(contact.c.id == held.id).values(removed_at=micros(at)))
            _note(db, held, by=by, what="removed", detail=why, at=at)
        return held

    def opt_out(self, mobile: str, *, source: str, at: datetime) -> None:
        """Send this mobile nothing more that its owner did not ask for; ContactRefused (MOBILE)."""
        digits = parse_mobile(mobile)
        with self._db.writing("noting an opt-out") as db:
            db.execute(delete(opt_out).where(opt_out.c.mobile == digits))
            db.execute(insert(opt_out).values(mobile=digits, at=micros(at), source=source))

    def opt_in(self, mobile: str) -> bool:
        """Take an opt-out back at its owner's wish; says whether there was one. ContactRefused (MOBILE)."""
        with self._db.writing("taking back an opt-out") as db:
            return bool(db.execute(delete(opt_out).where(opt_out.c.mobile == parse_mobile(mobile))).rowcount)

    def opted_out(self, mobile: str) -> datetime | None:
        """Return since when a mobile wants no messages; None where it takes them."""
        with self._db.reading("looking for an opt-out") as db:
            at = db.execute(select(opt_out.c.at).where(opt_out.c.mobile == mobile)).scalar()
        return None if at is None else instant(at)


def best(contacts: Iterable[Contact]) -> Contact:
    """Return the contact verified last; of none verified the one added last."""
    early = datetime.min.replace(tzinfo=UTC)
    return max(contacts, key=lambda one: (one.verified_at or early, one.added_at or early, one.id))


def contact_of(row: Row[Any]) -> Contact:
    """Return a row of the table as a contact."""
    return Contact(
        account_id=row.account_id,
        mobile=row.mobile,
        verified_at=_instant(row.verified_at),
        id=row.id,
        language=row.language,
        source=row.source,
        added_at=instant(row.added_at),
        verified_how=row.verified_how,
        removed_at=_instant(row.removed_at),
    )


def add_in(db: Connection, new: Contact, *, by: str, source: str, at: datetime) -> tuple[Contact, bool]:
    """Add in a transaction that is open, or bring up to date; returns the contact, and whether anything changed."""
    if new.verified_at is not None and new.verified_at > at + CLOCKS_DIFFER:
        raise ContactRefused("FUTURE", "verified_at lies in the future: nobody has verified it yet")
    query = select(contact).where(
        contact.c.removed_at.is_(None),
        or_(contact.c.account_id == new.account_id, contact.c.mobile == new.mobile),
    )
    beside = [contact_of(row) for row in db.execute(query)]
    same = next((one for one in beside if (one.account_id, one.mobile) == (new.account_id, new.mobile)), None)
    if same is not None:
        return _refresh(db, same, new, by=by, source=source, at=at)
    if len({one.account_id for one in beside if one.mobile == new.mobile}) >= MAX_ACCOUNTS_PER_MOBILE:
        raise ContactRefused(
            "SHARED_MOBILE",
            f"this mobile stands for {MAX_ACCOUNTS_PER_MOBILE} accounts already: review by hand",
        )
    if sum(one.account_id == new.account_id for one in beside) >= MAX_CONTACTS:
        raise ContactRefused("TOO_MANY", f"the account has {MAX_CONTACTS} mobiles already: remove one first")
    added = Contact(
        account_id=new.account_id,
        mobile=new.mobile,
        verified_at=new.verified_at,
        id=uuid.uuid4().hex,
        language=new.language,
        source=source,
        added_at=at,
        verified_how=source if new.verified_at is not None else None,
    )
    db.execute(
        insert(contact).values(
            id=added.id,
            account_id=added.account_id,
            mobile=added.mobile,
            language=added.language,
            source=source,
            added_at=micros(at),
            added_by=by,
            verified_at=None if added.verified_at is None else micros(added.verified_at),
            verified_how=added.verified_how,
        )
    )
    _note(db, added, by=by, what="added", detail=source, at=at)
    return added, True


def _refresh(
    db: Connection, held: Contact, new: Contact, *, by: str, source: str, at: datetime
) -> tuple[Contact, bool]:
    changed = False
    if new.language not in (None, held.language):
        db.execute(update(contact).where(contact.c.id == held.id).values(language=new.language))
        _note(db, held, by=by, what="language", detail=str(new.language), at=at)
        changed = True
    if new.verified_at is not None and (held.verified_at is None or new.verified_at > held.verified_at):
        _verify(db, held, new.verified_at, source, by=by, now=at)
        changed = True
    row = db.execute(select(contact).where(contact.c.id == held.id)).one()
    return contact_of(row), changed


def _verify(db: Connection, held: Contact, at: datetime, how: str, *, by: str, now: datetime) -> Contact:
    db.execute(
        update(contact).where(contact.c.id == held.id).values(verified_at=micros(at), verified_how=how)
    )
    _note(db, held, by=by, what="verified", detail=how, at=now)
    return contact_of(db.execute(select(contact).where(contact.c.id == held.id)).one())


def _held(db: Connection, contact_id: str) -> Contact:
    query = select(contact).where(contact.c.id == contact_id, contact.c.removed_at.is_(None))
    row = db.execute(query).first()
    if row is None:
        raise ContactRefused("UNKNOWN", "there is no such contact: `contacts show` lists those of an account")
    return contact_of(row)


def _note(db: Connection, of: Contact, *, by: str, what: str, detail: str, at: datetime) -> None:
    db.execute(
        insert(contact_event).values(
            contact_id=of.id, account_id=of.account_id, at=micros(at), by=by, what=what, detail=detail
        )
    )


def _instant(count: int | None) -> datetime | None:
    return None if count is None else instant(count)
