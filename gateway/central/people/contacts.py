"""Mobiles of accounts: several each, where they come from, when control of them was proved, and what became of them."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
        new = Contact(
            account_id=account_id, mobile=parse_mobile(mobile), verified_at=verified_at, language=language
        )
        with self._db.writing("adding a contact") as db:
            adding = Adding(db, [new], by=by, source=source, at=at)
            done, _ = adding.add(new)
            adding.finish()
        return done

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


class Adding:
    """Contacts to add, or to bring up to date, in one transaction: read together, written together.

    `finish` writes the new ones; until then nobody sees them.
    """

    def __init__(
        self, db: Connection, news: Iterable[Contact], *, by: str, source: str, at: datetime
    ) -> None:
        """Read what stands beside the contacts that will be given to `add`."""
        self._db, self._by, self._source, self._at = db, by, source, at
        self._same: dict[tuple[str, str], Contact] = {}
        self._of_mobile: dict[str, set[str]] = {}
        self._of_account: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        for some in in_batches(news, AT_ONCE):
            accounts, mobiles = {one.account_id for one in some}, {one.mobile for one in some}
            beside = or_(contact.c.account_id.in_(accounts), contact.c.mobile.in_(mobiles))
            for row in db.execute(select(contact).where(contact.c.removed_at.is_(None), beside)):
                if (row.account_id, row.mobile) not in self._same:
                    self._known(contact_of(row))

    def _known(self, one: Contact) -> None:
        self._same[one.account_id, one.mobile] = one
        self._of_mobile.setdefault(one.mobile, set()).add(one.account_id)
        self._of_account[one.account_id] += 1

    def add(self, new: Contact) -> tuple[Contact, bool]:
        """Return the contact as it is then, and whether anything changed.

        Raises ContactRefused: FUTURE, SHARED_MOBILE, TOO_MANY.
        """
        if new.verified_at is not None and new.verified_at > self._at + CLOCKS_DIFFER:
            raise ContactRefused("FUTURE", "verified_at lies in the future: nobody has verified it yet")
        if (same := self._same.get((new.account_id, new.mobile))) is not None:
            return self._refresh(same, new)
        if len(self._of_mobile.get(new.mobile, ())) >= MAX_ACCOUNTS_PER_MOBILE:
            raise ContactRefused(
                "SHARED_MOBILE",
                f"this mobile stands for {MAX_ACCOUNTS_PER_MOBILE} accounts already: review by hand",
            )
        if self._of_account[new.account_id] >= MAX_CONTACTS:
            raise ContactRefused(
                "TOO_MANY", f"the account has {MAX_CONTACTS} mobiles already: remove one first"
            )
        added = replace(
            new,
            id=uuid.uuid4().hex,
            source=self._source,
            added_at=self._at,
            verified_how=None if new.verified_at is None else self._source,
        )
        self._rows.append(
            {
                "id": added.id,
                "account_id": added.account_id,
                "mobile": added.mobile,
                "language": added.language,
                "source": added.source,
                "added_at": micros(self._at),
                "added_by": self._by,
                "verified_at": None if added.verified_at is None else micros(added.verified_at),
                "verified_how": added.verified_how,
            }
        )
        self._events.append(_event(added, by=self._by, what="added", detail=self._source, at=self._at))
        self._known(added)
        return added, True

    def _refresh(self, held: Contact, new: Contact) -> tuple[Contact, bool]:
        fresh = held
        if new.language not in (None, held.language):
            fresh = replace(fresh, language=new.language)
            detail = str(new.language)
            self._events.append(_event(held, by=self._by, what="language", detail=detail, at=self._at))
        if new.verified_at is not None and (held.verified_at is None or new.verified_at > held.verified_at):
            fresh = replace(fresh, verified_at=new.verified_at, verified_how=self._source)
            self._events.append(_event(held, by=self._by, what="verified", detail=self._source, at=self._at))
        if fresh is held:
            return held, False
        self.finish()  # it may be one of those that are not written yet
        verified_at = None if fresh.verified_at is None else micros(fresh.verified_at)
        values = {"language": fresh.language, "verified_at": verified_at, "verified_how": fresh.verified_how}
        self._db.execute(update(contact).where(contact.c.id == held.id).values(**values))
        self._same[held.account_id, held.mobile] = fresh
        return fresh, True

    def finish(self) -> None:
        """Write what was added since the last time."""
        for table, rows in ((contact, self._rows), (contact_event, self._events)):
            if rows:
                self._db.execute(insert(table), rows)
                rows.clear()


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
    db.execute(insert(contact_event).values(**_event(of, by=by, what=what, detail=detail, at=at)))


def _event(of: Contact, *, by: str, what: str, detail: str, at: datetime) -> dict[str, Any]:
    return {
        "contact_id": of.id,
        "account_id": of.account_id,
        "at": micros(at),
        "by": by,
        "what": what,
        "detail": detail,
    }


def _instant(count: int | None) -> datetime | None:
    return None if count is None else instant(count)
