"""Answers kept by `Idempotency-Key`: a request that is sent again gets the first answer, and is done once.

As draft-ietf-httpapi-idempotency-key-header-07 says: the same key with another request is refused, and one that is
under way is told so. Kept for 7 days, at most 100,000 of one actor; beyond it new keys are refused, none is forgotten
early.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, func, insert, select, update

from gateway.central.office.tables import answer
from gateway.errors import GatewayError
from mapping.database import Database
from mapping.instants import instant, micros

KEPT: Final = timedelta(days=7)
MAX_KEYS: Final = 100_000
TAKEN_OVER: Final = timedelta(seconds=60)
"""A request of another process that began longer ago was broken off: it is done again."""
MAX_KEY: Final = 200


class KeyReused(GatewayError):
    """A key came with another request before."""


class UnderWay(GatewayError):
    """The request of this key is being worked on."""


class TooManyKeys(GatewayError):
    """An actor has used up its share; `left` says when the oldest answer is forgotten."""

    def __init__(self, message: str, left: timedelta) -> None:
        super().__init__(message)
        self.left = left


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given: HTTP status and document."""

    status: int
    body: Mapping[str, Any]


class Answers:
    """The kept answers; safe for threads and processes."""

    def __init__(self, database: Database, *, max_keys: int = MAX_KEYS) -> None:
        self._db = database
        self._run = secrets.token_hex(8)
        self._max_keys = max_keys

    def begin(self, actor: str, key: str, digest: str, at: datetime) -> Kept | None:
        """Begin the request of a key, whose content has this digest; an answer when it was answered already.

        Raises KeyReused, UnderWay, TooManyKeys. What begins ends with `end` or `drop`.
        """
        whose = and_(answer.c.actor == actor, answer.c.key == key)
        with self._db.writing("beginning a request") as db:
            db.execute(delete(answer).where(answer.c.begun_at < micros(at - KEPT)))
            row = db.execute(select(answer).where(whose)).first()
            if row is None:
                self._check_share(db, actor, at)
                values = {
                    "actor": actor,
                    "key": key,
                    "digest": digest,
                    "run": self._run,
                    "begun_at": micros(at),
                }
                db.execute(insert(answer).values(**values))
                return None
            if row.digest != digest:
                raise KeyReused("this Idempotency-Key came with another request before: use a new one")
            if row.status is not None:
                return Kept(row.status, json.loads(row.body))
            if row.run == self._run or at - instant(row.begun_at) < TAKEN_OVER:
                raise UnderWay("the request of this Idempotency-Key is under way: ask again in a while")
            db.execute(update(answer).where(whose).values(run=self._run, begun_at=micros(at)))
        return None

    def _check_share(self, db: Any, actor: str, at: datetime) -> None:
        mine = answer.c.actor == actor
        count, oldest = db.execute(select(func.count(), func.min(answer.c.begun_at)).where(mine)).one()
        if count >= self._max_keys:
            raise TooManyKeys(
                f"{self._max_keys} Idempotency-Keys of {actor} are kept, each for {KEPT.days} days: no more is taken",
                instant(oldest) + KEPT - at,
            )

    def end(self, actor: str, key: str, kept: Kept) -> None:
        """Keep the answer that a request got."""
        body = json.dumps(kept.body, ensure_ascii=False)
        whose = and_(answer.c.actor == actor, answer.c.key == key, answer.c.run == self._run)
        with self._db.writing("keeping an answer") as db:
            db.execute(update(answer).where(whose).values(status=kept.status, body=body))

    def drop(self, actor: str, key: str) -> None:
        """Forget a key whose request failed on our side: it may be sent again."""
        mine = and_(answer.c.actor == actor, answer.c.key == key, answer.c.run == self._run)
        with self._db.writing("dropping a request") as db:
            db.execute(delete(answer).where(mine, answer.c.status.is_(None)))
