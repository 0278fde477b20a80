"""Messages that could not be taken: kept with their bytes and reason, counted, bounded, never in the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.central.ledger.records import DeadLetter
from gateway.central.ledger.schema import dead_letters, instant, micros

MAX_LETTERS = 10_000
MAX_PAYLOAD = 256 * 1024
MAX_DETAIL = 2_000

Transaction = Callable[[str], AbstractContextManager[Connection]]


class DeadLetters:
    """Messages set aside; the same bytes on the same topic again are counted, not stored."""

    def __init__(self, reading: Transaction, writing: Transaction) -> None:
        self._reading = reading
        self._writing = writing

    def put(self, topic: str, payload: bytes, reason: str, detail: str, at: datetime) -> int:
        """Set one message aside; gives how often it came. Above MAX_LETTERS the longest unseen goes."""
        digest = hashlib.blake2b(topic.encode(errors="replace") + b"\0" + payload, digest_size=16).hexdigest()
        c = dead_letters.c
        with self._writing("setting a message aside") as connection:
            seen = connection.execute(
                update(dead_letters)
                .where(c.digest == digest)
                .values(
                    times_seen=c.times_seen + 1,
                    last_seen=micros(at),
                    reason=reason,
                    detail=detail[:MAX_DETAIL],
                )
                .returning(c.times_seen)
            ).scalar()
            if seen is not None:
                return int(seen)
            connection.execute(
                insert(dead_letters).values(
                    digest=digest,
                    topic=topic,
                    payload=payload[:MAX_PAYLOAD],
                    size=len(payload),
                    reason=reason,
                    detail=detail[:MAX_DETAIL],
                    first_seen=micros(at),
                    last_seen=micros(at),
                    times_seen=1,
                )
            )
            number = connection.execute(select(func.count()).select_from(dead_letters)).scalar() or 0
            if number > MAX_LETTERS:
                oldest = select(c.id).order_by(c.last_seen, c.id).limit(number - MAX_LETTERS)
                connection.execute(delete(dead_letters).where(c.id.in_(oldest)))
        return 1

    def all(self) -> list[DeadLetter]:
        """Every message set aside, latest seen first."""
        with self._reading("listing dead letters") as connection:
            rows = connection.execute(
                select(dead_letters).order_by(dead_letters.c.last_seen.desc(), dead_letters.c.id.desc())
            )
            return [
                DeadLetter(
                    id=row.id,
                    topic=row.topic,
                    payload=row.payload,
                    size=row.size,
                    reason=row.reason,
                    detail=row.detail,
                    first_seen=instant(row.first_seen),
                    last_seen=instant(row.last_seen),
                    count=row.times_seen,
                )
                for row in rows
            ]

    def remove(self, letter_id: int) -> bool:
        """Drop one, after it was delivered again or judged worthless; False when there is none."""
        with self._writing("removing a dead letter") as connection:
            gone = connection.execute(delete(dead_letters).where(dead_letters.c.id == letter_id)).rowcount
            return gone > 0
