"""The durable queue of messages: each dedupe key once for ever, over crashes too; what is in doubt is said to be."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from gateway.central.people.contacts import Contact, contact_of
from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import contact, message, opt_out, report
from gateway.central.people.verification import may_have_whole_number
from gateway.central.telling.alphabet import size_of
from gateway.central.telling.messages import (
    REPORTED_WITHIN,
    Accepted,
    Doubtful,
    Handed,
    Kept,
    NewMessage,
    NotTaken,
    Outcome,
    Queued,
    Refused,
    Report,
    State,
)
from gateway.central.telling.pace import WINDOW, Pace
from gateway.central.telling.templates import Library, Rendered, Template, ValueRefused
from mapping.instants import instant, micros
from mapping.rows import in_batches

HANDING_FOR: Final = timedelta(minutes=5)
"""Longer than any hand-over takes: what is noted as being handed over since then was interrupted."""
LOOKED_AT: Final = 200
"""Messages looked at in one turn; each that must not be sent ends, and the next turn looks further."""
AT_ONCE: Final = 500
"""Messages put in one transaction."""
MAX_KEY: Final = 200
"""Characters of a dedupe key."""
INTERRUPTED: Final = "interrupted while it was handed over: the provider may have it"
_OPEN: Final = (State.HANDING, State.ACCEPTED, State.UNCONFIRMED, State.UNREPORTED, State.UNDELIVERED)
"""States in which a delivery report still tells something."""


class SmsQueue:
    """Takes messages, gives them out at the right time, and keeps what came of each.

    Calls are short, may come from any thread and any process on the same store; each may raise PeopleFault.
    """

    def __init__(self, store: PeopleStore, library: Library, pace: Pace | None = None) -> None:
        self._db = store.db
        self._library = library
        self._pace = pace or Pace()
        self.woken: Callable[[], None] = lambda: None
        """Called when something was put: for a sender in the same process."""

    def put(self, new: NewMessage, *, now: datetime) -> Queued:
        """Queue a message; one whose key was ever put before is not queued again. ValueRefused says what is wrong."""
        return self.put_many([new], now=now)[0]

    def put_many(self, messages: Iterable[NewMessage], *, now: datetime) -> list[Queued]:
        """Queue many, in turns that are durable one by one; put again after a crash, each is there once.

        Raises ValueRefused (TEMPLATE, MISSING, TOO_LONG, FORM, LINK, CHARACTER, UNKNOWN, KEY, CONTACT) for the first
        that cannot be sent; those of its turn are not queued.
        """
        done: list[Queued] = []
        for some in in_batches(messages, AT_ONCE):
            checked = [(one, self._checked(one)) for one in some]
            with self._db.writing("queueing messages") as db:
                done += self._put(db, checked, now)
            self.woken()
        return done

    def _checked(self, new: NewMessage) -> Template:
        template = self._library.template(new.template)
        self._library.check_values(template, new.values)
        if not new.dedupe_key or len(new.dedupe_key) > MAX_KEY:
            raise ValueRefused("KEY", f"a dedupe key has 1 to {MAX_KEY} characters")
        return template

    def _put(
        self, db: Connection, some: Sequence[tuple[NewMessage, Template]], now: datetime
    ) -> list[Queued]:
        keys = [new.dedupe_key for new, _ in some]
        held = {
            row.dedupe_key: Queued(row.id, State(row.state), fresh=False)
            for row in db.execute(
                select(message.c.dedupe_key, message.c.id, message.c.state).where(
                    message.c.dedupe_key.in_(keys)
                )
            )
        }
        ids = {new.contact_id for new, _ in some}
        contacts = {
            row.id: contact_of(row) for row in db.execute(select(contact).where(contact.c.id.in_(ids)))
        }
        done, rows = [], []
        for new, template in some:
            if new.dedupe_key not in held:
                if new.contact_id not in contacts:
                    raise ValueRefused("CONTACT", "there is no such contact")
                row = self._row(new, template, contacts[new.contact_id], now)
                rows.append(row)
                held[new.dedupe_key] = Queued(row["id"], State.WAITING, fresh=False)
                done.append(Queued(row["id"], State.WAITING, fresh=True))
            else:
                done.append(held[new.dedupe_key])
        if rows:
            db.execute(insert(message), rows)
        return done

    def _row(self, new: NewMessage, template: Template, to: Contact, now: datetime) -> dict[str, Any]:
        urgent = template.purpose == "code"
        rendered = self._library.render(template, new.values, to.language)
        first = max(now, new.not_before or now)
        return {
            "id": uuid.uuid4().hex,
            "dedupe_key": new.dedupe_key,
            "batch": new.batch,
            "template": template.id,
            "urgent": int(urgent),
            "contact_id": to.id,
            "account_id": to.account_id,
            "given": json.dumps(dict(new.values), ensure_ascii=False),
            "state": State.WAITING.value,
            "reason": "",
            "queued_at": micros(now),
            "next_at": micros(first),
            "expires_at": micros(new.expires or first + self._pace.lives(urgent=urgent)),
            "attempt": 0,
            "tries": 0,
            "segments": size_of(rendered.text).segments,
        }

    # Giving out

    def is_due(self, now: datetime) -> bool:
        """Say whether `take` has something to do: a look that writes nothing."""
        with self._db.reading("looking for messages") as db:
            if self._due(db, now, 1):
                return True
            old = select(message.c.id).where(
                message.c.state == State.HANDING, message.c.handed_at < micros(now - HANDING_FOR)
            )
            return db.execute(old.limit(1)).first() is not None

    def take(self, now: datetime, most: int) -> list[Handed]:
        """Give out at most `most` messages that may go now, noted durably as being handed over.

        Those that must not be sent any more end instead. What an earlier process was handing over when it ended
        becomes `unconfirmed`.
        """
        given: list[Handed] = []
        with self._db.writing("taking messages") as db:
            self._interrupted(db, now)
            most = min(most, self._pace.per_second - self._handed_lately(db, now))
            for row in self._due(db, now, LOOKED_AT) if most > 0 else ():
                if (handed := self._hand(db, row, now)) is not None:
                    given.append(handed)
                if len(given) == most:
                    break
        return given

    def _due(self, db: Connection, now: datetime, most: int) -> list[Row[Any]]:
        found: list[Row[Any]] = []
        for urgent in (1,) if self._pace.is_quiet(now) else (1, 0):
            query = select(message).where(
                message.c.state == State.WAITING, message.c.urgent == urgent, message.c.next_at <= micros(now)
            )
            found += db.execute(query.order_by(message.c.next_at).limit(most - len(found))).all()
        return found

    def _handed_lately(self, db: Connection, now: datetime) -> int:
        window = (message.c.handed_at > micros(now - WINDOW), message.c.handed_at <= micros(now))
        return db.execute(select(func.count()).select_from(message).where(*window)).scalar_one()

    def _hand(self, db: Connection, row: Row[Any], now: datetime) -> Handed | None:
        rendered = self._rendered(db, row, now)
        if not isinstance(rendered, tuple):
            _set(db, row.id, **rendered, ended_at=micros(now), given=None)
            return None
        text, mobile = rendered
        attempt = row.attempt + 1
        _set(
            db,
            row.id,
            state=State.HANDING,
            attempt=attempt,
            handed_at=micros(now),
            segments=size_of(text.text).segments,
        )
        return Handed(id=row.id, attempt=attempt, mobile=mobile, rendered=text)

    def _rendered(
        self, db: Connection, row: Row[Any], now: datetime
    ) -> tuple[Rendered, str] | dict[str, Any]:
        """Return a message's text and mobile, or the end that it has instead."""
        if micros(now) >= row.expires_at:
            return {"state": State.EXPIRED, "reason": "not sent in time"}
        held = db.execute(select(contact).where(contact.c.id == row.contact_id)).first()
        if held is None or held.removed_at is not None:
            return {"state": State.REFUSED, "reason": "the contact was removed"}
        to = contact_of(held)
        wants_none = db.execute(select(opt_out.c.at).where(opt_out.c.mobile == to.mobile)).first() is not None
        if wants_none and not row.urgent:
            return {"state": State.REFUSED, "reason": "the recipient wants no messages"}
        template = self._library.templates.get(row.template)
        if template is None:
            return {"state": State.REFUSED, "reason": "the template is no longer there"}
        # Asked at the last moment: a verification grows old while a message waits.
        if template.unverified is not None and not may_have_whole_number(to.verified_at, now):
            template = self._library.template(template.unverified)
        values: Mapping[str, str] = json.loads(row.given)
        try:
            self._library.check_values(template, {v.name: values.get(v.name, "") for v in template.variables})
        except ValueRefused as error:  # the file of templates was changed meanwhile
            return {"state": State.REFUSED, "reason": str(error)}
        return self._library.render(template, values, to.language), to.mobile

    def _interrupted(self, db: Connection, now: datetime) -> None:
        held = select(message).where(
            message.c.state == State.HANDING, message.c.handed_at < micros(now - HANDING_FOR)
        )
        for row in db.execute(held).all():
            self._doubt(db, row, INTERRUPTED, now)

    # What came of it

    def settle(self, handed: Handed, outcome: Outcome, *, reports: bool, now: datetime) -> State:
        """Keep what a provider said of a hand-over; returns the message's state then.

        An outcome that comes after the message was called interrupted still counts; one of an earlier attempt not.
        """
        with self._db.writing("settling a message") as db:
            row = db.execute(select(message).where(message.c.id == handed.id)).one()
            if row.attempt != handed.attempt or row.state not in (State.HANDING, State.UNCONFIRMED):
                return State(row.state)
            match outcome:
                case Accepted():
                    self._accepted(db, row, outcome.provider_id, reports=reports, now=now)
                case NotTaken():
                    self._not_taken(db, row, outcome, now)
                case Refused():
                    _end(db, row, State.FAILED, outcome.reason, now)
                case Doubtful():
                    self._doubt(db, row, outcome.reason, now)
            return State(db.execute(select(message.c.state).where(message.c.id == row.id)).scalar_one())

    def _accepted(
        self, db: Connection, row: Row[Any], provider_id: str | None, *, reports: bool, now: datetime
    ) -> None:
        ended = None if reports else micros(now)
        _set(
            db, row.id, state=State.ACCEPTED, reason="", provider_id=provider_id, ended_at=ended, **_used(row)
        )
        early = None
        if provider_id is not None:  # a report may overtake the answer
            query = select(report).where(report.c.provider_id == provider_id).order_by(report.c.id.desc())
            early = db.execute(query).first()
        if early is not None:
            _set(db, row.id, state=early.state, reason=early.reason, ended_at=micros(now))

    def _not_taken(self, db: Connection, row: Row[Any], outcome: NotTaken, now: datetime) -> None:
        tries = row.tries + (not outcome.away)
        if tries >= self._pace.tries or row.given is None:
            _end(db, row, State.FAILED, f"given up after {tries} tries: {outcome.reason}", now, tries=tries)
            return
        delay = self._pace.delay(max(tries, 1))
        _set(
            db,
            row.id,
            state=State.WAITING,
            reason=outcome.reason,
            tries=tries,
            next_at=micros(now if outcome.away else now + delay),
            ended_at=None,
        )

    def _doubt(self, db: Connection, row: Row[Any], reason: str, now: datetime) -> None:
        if self._pace.repeats_safe:
            self._not_taken(db, row, NotTaken(reason), now)
        elif row.state == State.HANDING:
            _end(db, row, State.UNCONFIRMED, reason, now)

    def report(self, said: Report, *, now: datetime) -> bool:
        """Keep a delivery report; says whether it belongs to a message that is known already.

        Reports come twice, late and before the answer to the hand-over. `delivered` is final.
        """
        with self._db.writing("keeping a delivery report") as db:
            same = [message.c.id == said.message_id] if said.message_id else []
            same += [message.c.provider_id == said.provider_id] if said.provider_id else []
            row = db.execute(select(message).where(or_(*same))).first() if same else None
            if row is None:
                if said.provider_id is not None:
                    kept = {"provider_id": said.provider_id, "message_id": said.message_id}
                    db.execute(
                        insert(report).values(state=said.state, reason=said.reason, at=micros(now), **kept)
                    )
                return False
            if row.state in _OPEN:
                provider = {"provider_id": said.provider_id} if said.provider_id else {}
                _end(db, row, said.state, said.reason, now, **provider)
            return True

    def close_unreported(self, now: datetime) -> int:
        """End messages for which no report came in three days, and return how many."""
        with self._db.writing("closing messages without a report") as db:
            late = (message.c.ended_at.is_(None), message.c.handed_at < micros(now - REPORTED_WITHIN))
            return db.execute(
                update(message)
                .where(message.c.state == State.ACCEPTED, *late)
                .values(state=State.UNREPORTED, ended_at=micros(now))
            ).rowcount

    def again(self, message_id: str, *, by: str, now: datetime) -> None:
        """Hand over once more what ended unconfirmed, failed or undelivered: somebody's decision, which is kept.

        Raises ValueRefused (STATE) for any other.
        """
        with self._db.writing("queueing a message again") as db:
            row = db.execute(select(message).where(message.c.id == message_id)).first()
            if row is None or row.given is None or row.state not in (
                State.UNCONFIRMED, State.FAILED, State.UNDELIVERED,
            ):  # fmt: skip
                raise ValueRefused(
                    "STATE", f"{message_id} did not end unconfirmed, failed or undelivered, or was a code"
                )
            lives = self._pace.lives(urgent=False)
            _set(
                db,
                row.id,
                state=State.WAITING,
                reason=f"again, by {by}",
                tries=0,
                next_at=micros(now),
                expires_at=micros(now + lives),
                ended_at=None,
                provider_id=None,
            )

    # Looking

    def counts(self, batch: str | None = None) -> dict[State, int]:
        """Return how many messages are in each state, of one batch or of all."""
        query = select(message.c.state, func.count()).group_by(message.c.state)
        if batch is not None:
            query = query.where(message.c.batch == batch)
        with self._db.reading("counting messages") as db:
            return {State(state): count for state, count in db.execute(query)}

    def find(
        self, *, state: State | None = None, account_id: str | None = None, most: int = 100
    ) -> list[Kept]:
        """Return the newest messages, of a state or an account."""
        query = select(message).order_by(message.c.queued_at.desc(), message.c.id).limit(most)
        if state is not None:
            query = query.where(message.c.state == state)
        if account_id is not None:
            query = query.where(message.c.account_id == account_id)
        with self._db.reading("listing messages") as db:
            return [_kept(row) for row in db.execute(query)]


def _used(row: Row[Any]) -> dict[str, Any]:
    """Return what is forgotten of a message that was handed over: a code's values."""
    return {"given": None} if row.urgent else {}


def _end(db: Connection, row: Row[Any], state: State, reason: str, now: datetime, **more: Any) -> None:
    _set(db, row.id, state=state, reason=reason[:200], ended_at=micros(now), **_used(row), **more)


def _set(db: Connection, message_id: str, **values: Any) -> None:
    db.execute(update(message).where(message.c.id == message_id).values(**values))


def _kept(row: Row[Any]) -> Kept:
    return Kept(
        id=row.id,
        template=row.template,
        account_id=row.account_id,
        state=State(row.state),
        reason=row.reason,
        queued_at=instant(row.queued_at),
        handed_at=None if row.handed_at is None else instant(row.handed_at),
        ended_at=None if row.ended_at is None else instant(row.ended_at),
        tries=row.tries,
        segments=row.segments,
        provider_id=row.provider_id,
        batch=row.batch,
    )
