"""Messages that could not be taken: kept with their bytes and reason, counted, bounded, never in the way."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update

from gateway.central.ledger.database import Database, columns, records
from gateway.central.ledger.records import DeadLetterLine, StoredDeadLetter
from gateway.central.ledger.schema import dead_letters

MAX_LETTERS = 10_000
"""Messages kept; an edge with a fault sends the same few for ever, and those are counted, not stored."""
MAX_PAYLOAD = 256 * 1024
"""Octets kept of one message; a cut one cannot be delivered again, but still shows what came."""
MAX_DETAIL = 2_000
"""Characters kept of what is wrong."""


class DeadLetters:
    """Messages set aside; the same bytes on the same topic again are counted, not stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, topic: str, payload: bytes, reason: str, detail: str, at: datetime) -> int:
        """Set one message aside and return how often it came. Above MAX_LETTERS the longest unseen goes."""
        digest = hashlib.blake2b(topic.encode(errors="replace") + b"\0" + payload, digest_size=16).hexdigest()
        c = dead_letters.c
        with self._database.writing("setting a message aside") as connection:
            seen = connection.execute(
                update(dead_letters)
                .where(c.digest == digest)
                .values(
                    times_seen=c.times_seen + 1,
                    last_seen=at,
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
                    first_seen=at,
                    last_seen=at,
                    times_seen=1,
                )
            )
            number = connection.execute(select(func.count()).select_from(dead_letters)).scalar() or 0
            if number > MAX_LETTERS:
                oldest = select(c.id).order_by(c.last_seen, c.id).limit(number - MAX_LETTERS)
                connection.execute(delete(dead_letters).where(c.id.in_(oldest)))
        return 1

    def newest(self, number: int = MAX_LETTERS) -> list[DeadLetterLine]:
        """Return the messages set aside, latest seen first, without what came."""
        c = dead_letters.c
        query = select(*columns(dead_letters, DeadLetterLine)).order_by(c.last_seen.desc(), c.id.desc())
        with self._database.reading("listing dead letters") as connection:
            return records(connection, DeadLetterLine, query.limit(number))

    def get(self, letter_id: int) -> StoredDeadLetter | None:
        """Return one message with what came, None when there is none of this number."""
        query = select(*columns(dead_letters, StoredDeadLetter)).where(dead_letters.c.id == letter_id)
        with self._database.reading("reading a dead letter") as connection:
            return next(iter(records(connection, StoredDeadLetter, query)), None)

    def remove(self, letter_id: int) -> bool:
        """Drop one, after it was delivered again or judged worthless; False when there is none."""
        with self._database.writing("removing a dead letter") as connection:
            gone = connection.execute(delete(dead_letters).where(dead_letters.c.id == letter_id)).rowcount
            return gone > 0
