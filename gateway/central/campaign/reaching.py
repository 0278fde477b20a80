"""The campaign's way to people: which mobiles may be told a whole number, and the queue that tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, update

from gateway.central.campaign.targets import Reach
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import contact, message, opt_out
from gateway.central.people.verification import masked_number, may_have_whole_number
from gateway.central.telling.messages import NewMessage, State
from gateway.central.telling.queue import SmsQueue
from mapping.instants import instant, micros
from mapping.rows import in_batches

TEMPLATE: Final = "new-account-number"
AT_ONCE: Final = 500
_ENDS: Final = (
    State.ACCEPTED,
    State.DELIVERED,
    State.UNDELIVERED,
    State.UNREPORTED,
    State.UNCONFIRMED,
    State.FAILED,
    State.EXPIRED,
    State.REFUSED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A message that ended: its key, how, when; `whole` says that the whole number was in it."""

    key: str
    state: State
    at: datetime
    reason: str
    whole: bool


class Messages:
    """Contacts and queue as a campaign uses them; every method may raise PeopleFault.

    Quiet hours, rate and opt-outs are the sender's; that only a mobile verified of late is sent the whole number is
    decided by the rule of contacts, here to plan, and by the queue again when it sends.
    """

    def __init__(self, store: PeopleStore, queue: SmsQueue | None = None) -> None:
        """Take the store; without the queue it plans and takes back, and puts nothing."""
        self._db = store.db
        self._contacts = ContactStore(store)
        self._queue = queue

    def reaching(self, accounts: Sequence[str], now: datetime) -> Reach:
        """Return the contacts of those that may be told the whole number by SMS now."""
        if not accounts:
            return Reach()
        found = {
            account: contact
            for account, contact in self._contacts.of_accounts(accounts).items()
            if may_have_whole_number(contact.verified_at, now)
        }
        with self._db.reading("finding who wants no messages") as db:
            mobiles = [contact.mobile for contact in found.values()]
            unwilling = {
                mobile
                for some in in_batches(mobiles, AT_ONCE)
                for mobile in db.execute(select(opt_out.c.mobile).where(opt_out.c.mobile.in_(some))).scalars()
            }
        return Reach({account: one.id for account, one in found.items() if one.mobile not in unwilling})

    def put(self, batch: str, tellings: Sequence[tuple[str, str, str, str]], now: datetime) -> None:
        """Queue tellings: key, contact, new number, old number; those whose key is known are there already."""
        if self._queue is None:
            raise AssertionError("only who has the queue puts into it")
        self._queue.put_many(
            (
                NewMessage(
                    template=TEMPLATE,
                    contact_id=contact,
                    values={
                        "number": number,
                        "old_ending": masked_number(legacy)[-10:] if legacy else "XXXX",
                    },
                    dedupe_key=key,
                    batch=batch,
                )
                for key, contact, number, legacy in tellings
            ),
            now=now,
        )

    def waiting(self, batch: str) -> int:
        """Return how many messages of a batch wait to be sent."""
        return 0 if self._queue is None else self._queue.counts(batch).get(State.WAITING, 0)

    def waiting_keys(self, batch: str, most: int) -> list[str]:
        """Return the keys of messages of a batch that wait."""
        query = select(message.c.dedupe_key).where(
            message.c.batch == batch, message.c.state == State.WAITING.value
        )
        with self._db.reading("listing messages that wait") as db:
            return list(db.execute(query.limit(most)).scalars())

    def withdraw(self, keys: Sequence[str], why: str, now: datetime) -> set[str]:
        """End those that wait and were never handed over; return their keys: they will never be sent."""
        gone: set[str] = set()
        for some in in_batches(keys, AT_ONCE):
            with self._db.writing("taking back messages") as db:
                waiting = select(message.c.dedupe_key).where(
                    message.c.dedupe_key.in_(some),
                    message.c.state == State.WAITING.value,
                    message.c.attempt == 0,
                )
                found = list(db.execute(waiting).scalars())
                db.execute(
                    update(message)
                    .where(message.c.dedupe_key.in_(found))
                    .values(state=State.REFUSED.value, reason=why[:200], ended_at=micros(now), given=None)
                )
                gone |= set(found)
        return gone

    def ended(self, batch: str, since: datetime, most: int) -> list[Ended]:
        """Return messages of a batch that ended at or after an instant, the oldest first."""
        query = (
            select(message, contact.c.verified_at)
            .outerjoin(contact, contact.c.id == message.c.contact_id)
            .where(
                message.c.batch == batch,
                message.c.state.in_([state.value for state in _ENDS]),
                message.c.ended_at >= micros(since),
            )
            .order_by(message.c.ended_at, message.c.id)
            .limit(most)
        )
        with self._db.reading("looking what came of messages") as db:
            return [
                Ended(
                    key=row.dedupe_key,
                    state=State(row.state),
                    at=instant(row.ended_at),
                    reason=row.reason,
                    whole=_whole(row),
                )
                for row in db.execute(query)
            ]


def _whole(row: Row[Any]) -> bool:
    """Say whether the mobile was one that the whole number went to, when it went."""
    if row.verified_at is None or row.handed_at is None:
        return False
    return may_have_whole_number(instant(row.verified_at), instant(row.handed_at))
