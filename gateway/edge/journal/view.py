"""Looking at a journal from another process: read only, without its lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import JournalError


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalView:
    """A journal at one moment: what it holds, how far each sink is, what peers refused (newest first)."""

    journal: str
    first_seq: int
    last_seq: int
    bytes: int
    cursors: Mapping[str, int]
    open_gaps: int
    dead_letters: tuple[Mapping[str, object], ...]

    def backlog(self, sink: str) -> int:
        """Return how many entries `sink` has not acknowledged."""
        return max(self.last_seq - max(self.cursors.get(sink, 0), self.first_seq - 1), 0)


def view(path: Path, dead_letters: int = 100) -> JournalView:
    """Read the view; JournalError when there is no journal or it cannot be read."""
    if not path.is_file():
        raise JournalError(f"there is no journal at {path}")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            return _read(connection, path, dead_letters)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise JournalError(f"the journal {path} cannot be read: {error}") from error


def entry_octets(path: Path) -> int | None:
    """Return the mean octets of a capture among the newest entries, None where there is no journal with entries."""
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            found = connection.execute(
                "select sum(length(body)) / sum(coalesce(last, seq) - seq + 1)"
                " from (select * from entry order by seq desc limit 1000)"
            ).fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    return None if found is None else round(found)


def _read(db: sqlite3.Connection, path: Path, limit: int) -> JournalView:
    db.execute("begin")
    meta = dict(db.execute("select key, value from meta").fetchall())
    first, last = db.execute("select min(seq), max(seq) from entry").fetchone()
    cursors = dict(db.execute("select sink, seq from cursor").fetchall())
    gaps = db.execute("select count(*) from gap where state = 'open'").fetchone()[0]
    rows = db.execute(
        "select sink, seq, at, reason, body from dead_letter order by at desc limit ?", (limit,)
    ).fetchall()
    highest = max(int(meta.get("trimmed", 0)), int(last or 0))
    return JournalView(
        journal=str(meta.get("uuid", "")),
        first_seq=int(first) if first is not None else highest + 1,
        last_seq=highest,
        bytes=path.stat().st_size,
        cursors=cursors,
        open_gaps=int(gaps),
        dead_letters=tuple(
            {
                "sink": sink,
                "seq": seq,
                "at": datetime.fromtimestamp(at, UTC),
                "reason": reason,
                "body": bytes(body).decode("utf-8", "replace"),
            }
            for sink, seq, at, reason, body in rows
        ),
    )
