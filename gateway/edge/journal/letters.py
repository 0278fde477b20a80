"""What peers refuse for good: dead letters with the reason, and the tombstones delivered in their place."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from gateway.contract.messages import Gap
from gateway.edge.journal.entry import Entry, EntryKind, RefusedEntry

MAX_LETTER_OCTETS = 16 << 20
"""Octets of all dead letters together: refused entries are often the largest ones."""
MAX_TOMBSTONES = 10_000
"""Entries refused for good that may stand in the journal at once; more means that the broker refuses all."""
REFUSED = "refused_entry"
"""Reason of the gap that a tombstone is."""


class LetterTable:
    """Dead letters and tombstones. Writes run inside the caller's transaction.

    `counts` is the number of dead letters of each sink, `tombstones` what is delivered for which seq.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.counts: dict[str, int] = {}
        self._count()
        self.tombstones: dict[int, bytes] = dict(db.execute("select seq, body from tombstone"))

    def _count(self) -> None:
        self.counts = dict(self._db.execute("select sink, count(*) from dead_letter group by sink"))

    def keep(self, letter: RefusedEntry, most: int, most_octets: int) -> int:
        """Keep a refused entry; beyond the bounds the oldest go. Return how many went."""
        row = (letter.sink, letter.seq, int(letter.at.timestamp()), letter.reason, letter.body)
        self._db.execute("insert or replace into dead_letter values (?, ?, ?, ?, ?)", row)
        count = "select count(*) from dead_letter where sink = ?"
        excess = max(0, self._db.execute(count, (letter.sink,)).fetchone()[0] - most)
        octets = self._db.execute("select coalesce(sum(length(body)), 0) from dead_letter").fetchone()[0]
        oldest = self._db.execute(
            "select sink, seq, length(body) from dead_letter where sink = ? order by seq", (letter.sink,)
        ).fetchall()
        gone = 0
        for sink, seq, size in oldest[:-1]:
            if gone >= excess and octets <= most_octets:
                break
            self._db.execute("delete from dead_letter where sink = ? and seq = ?", (sink, seq))
            gone += 1
            octets -= size
        self._count()
        return gone

    def newest(self, sink: str, limit: int) -> list[RefusedEntry]:
        """Return the newest `limit` dead letters of one sink, oldest first."""
        rows = self._db.execute(
            "select sink, seq, at, reason, body from dead_letter where sink = ? order by seq desc limit ?",
            (sink, limit),
        ).fetchall()
        return [
            RefusedEntry(sink=s, seq=seq, at=datetime.fromtimestamp(at, UTC), reason=reason, body=body)
            for s, seq, at, reason, body in reversed(rows)
        ]

    def bury(self, tombstone: Entry) -> None:
        """Write the tombstone of an entry; `tombstones` knows it after the commit only."""
        self._db.execute("insert or replace into tombstone values (?, ?)", (tombstone.seq, tombstone.body))

    def trim(self, upto: int) -> None:
        """Delete tombstones of entries that go."""
        if self.tombstones:
            self._db.execute("delete from tombstone where seq <= ?", (upto,))


def tombstone(entry: Entry, noticed_at: datetime) -> Entry:
    """Return what is delivered in place of an entry (of one capture) that the broker refuses for good.

    It is a gap that cannot be filled, over the capture's interval (or its instant): every consumer of the
    contract can store it, and its count goes on. The entry itself stays in the journal and among the dead
    letters.
    """
    gap_id = f"refused/{blake2b(entry.body, digest_size=16).hexdigest()}"
    try:
        data = json.loads(entry.body)
        meter = str(data["meter"])
        if entry.kind is EntryKind.GAP:
            after, until, gap_id = data["after"], data["until"], data["gap_id"]
        else:
            [capture] = data["captures"]
            until = datetime.fromisoformat(capture["at"])
            after = until - timedelta(seconds=data.get("interval", 1))
            gap_id = f"refused/{meter}/{entry.profile}/{capture['at']}/{capture.get('occurrence', 0)}"[:200]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        # Whatever it was, its number must not stay a hole.
        meter, after, until = "unknown", noticed_at - timedelta(seconds=1), noticed_at
    gap = Gap.model_validate(
        {
            "gap_id": gap_id,
            "meter": meter,
            "profile": entry.profile,
            "after": after,
            "until": until,
            "state": "unfillable",
            "reason": REFUSED,
            "noticed_at": noticed_at.replace(microsecond=0),
        }
    )
    return Entry(
        entry.seq,
        entry.seq,
        EntryKind.GAP,
        entry.profile,
        gap.model_dump_json(exclude_defaults=True).encode(),
    )
