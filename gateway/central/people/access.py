"""Who saw whose personal data, when, by what and why: written before it is shown, answered for breach reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Select, func, insert, select

from gateway.central.people.database import PeopleStore
from gateway.central.people.tables import access
from mapping.instants import instant, micros


class ActorKind(StrEnum):
    """Who an actor is: somebody of the staff, a machine by its token, or a consumer who proved a mobile."""

    STAFF = "staff"
    TOKEN = "token"  # noqa: S105  # a kind, not a secret
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEvent:
    """One view of one account's data. It holds opaque ids only, so that it may be kept when the account is erased.

    `session` is the id of a login, never its token; `what` the page or command.
    """

    at: datetime
    actor: str
    kind: ActorKind
    what: str
    account_id: str
    session: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an actor saw of an account within a span: first, last, how often, by what."""

    account_id: str
    actor: str
    kind: ActorKind
    first: datetime
    last: datetime
    views: int
    what: str


class AccessLog:
    """The log of views; each call may raise PeopleFault, and then nothing is shown."""

    def __init__(self, store: PeopleStore) -> None:
        self._db = store.db

    def note(self, *events: AccessEvent) -> None:
        """Write views durably, before what they show is shown."""
        rows = [
            {
                "at": micros(one.at),
                "actor": one.actor,
                "kind": one.kind.value,
                "session": one.session,
                "what": one.what,
                "account_id": one.account_id,
                "reason": one.reason,
            }
            for one in events
        ]
        with self._db.writing("noting who saw what") as db:
            db.execute(insert(access), rows)

    def of_account(self, account_id: str) -> list[AccessEvent]:
        """Return all views of an account, oldest first."""
        query = select(access).where(access.c.account_id == account_id).order_by(access.c.id)
        with self._db.reading("reading who saw what") as db:
            return [_event(row) for row in db.execute(query)]

    def seen(
        self,
        since: datetime,
        until: datetime,
        *,
        actor: str | None = None,
        kind: ActorKind | None = None,
        session: str | None = None,
    ) -> list[Seen]:
        """Return whose data could have been seen from `since` up to before `until`: by account and actor.

        `actor`, `kind` and `session` narrow it to a staff account or token, or to one login that was stolen.
        """
        query: Select[Any] = (
            select(
                access.c.account_id,
                access.c.actor,
                access.c.kind,
                func.min(access.c.at).label("first"),
                func.max(access.c.at).label("last"),
                func.count().label("views"),
                func.min(access.c.what).label("one"),
                func.max(access.c.what).label("other"),
            )
            .where(access.c.at >= micros(since), access.c.at < micros(until))
            .group_by(access.c.account_id, access.c.actor, access.c.kind)
            .order_by(func.min(access.c.at), access.c.account_id)
        )
        for column, wanted in ((access.c.actor, actor), (access.c.kind, kind), (access.c.session, session)):
            if wanted is not None:
                query = query.where(column == str(wanted))
        with self._db.reading("reading who saw what") as db:
            return [
                Seen(
                    account_id=row.account_id,
                    actor=row.actor,
                    kind=ActorKind(row.kind),
                    first=instant(row.first),
                    last=instant(row.last),
                    views=row.views,
                    what=row.one if row.one == row.other else f"{row.one}, {row.other}",
                )
                for row in db.execute(query)
            ]


def _event(row: Row[Any]) -> AccessEvent:
    return AccessEvent(
        at=instant(row.at),
        actor=row.actor,
        kind=ActorKind(row.kind),
        session=row.session,
        what=row.what,
        account_id=row.account_id,
        reason=row.reason,
    )
