"""What was taken of each meter's pushes: counters and clocks on the disk, so that a restart lets no replay in."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from gateway.errors import JournalError
from gateway.private_database import PrivateDatabase
from protocols.dlms.push.freshness import NEVER, NOTHING, PushMark

_ADDED = ("clock", "floor", "peak")
"""Columns that files of earlier versions lack."""


class PushCounters(PrivateDatabase):
    """Implements `ReplayStore` in one SQLite file. `note` is in memory until `save`, which is durable.

    Whoever acts on notifications calls `save` first: one transaction for all that came meanwhile. Bounded
    by the meters that are known, since only theirs are noted. JournalError when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, named="push counters")
        self._unsaved: dict[str, PushMark] = {}
        self._saving = asyncio.Lock()
        rows = self._read("select sender, counter, clock, floor, peak from pushed")
        self._marks = {sender: PushMark(*mark) for sender, *mark in rows}

    def _prepare(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute(
            "create table if not exists pushed (sender text primary key, counter integer not null)"
        )
        known = {row[1] for row in self._db.execute("pragma table_info (pushed)")}
        for column in _ADDED:
            if column not in known:
                self._db.execute(f"alter table pushed add column {column} integer not null default {NEVER}")

    def mark(self, sender: str) -> PushMark:
        """Return what was taken from `sender`; an empty mark before its first push."""
        return self._marks.get(sender, NOTHING)

    def note(self, sender: str, mark: PushMark) -> None:
        """Note what was taken from `sender` now; in memory until `save`."""
        self._marks[sender] = self._unsaved[sender] = mark

    def forget(self, sender: str) -> None:
        """Take the next push of `sender` whatever its counter; durable on return. JournalError when it fails."""
        self._marks.pop(sender, None)
        self._unsaved.pop(sender, None)
        with self._transaction():
            self._db.execute("delete from pushed where sender = ?", (sender,))

    async def save(self) -> None:
        """Make what was noted durable. Cancelling leaves it to the next call."""
        async with self._saving:
            if not self._unsaved:
                return
            taken, self._unsaved = self._unsaved, {}
            try:
                await asyncio.to_thread(self._write, taken)
            except BaseException:
                self._unsaved = {**taken, **self._unsaved}
                raise

    def close(self) -> None:
        """Save what is left and let go of the file."""
        with suppress(JournalError):
            if self._unsaved:
                self._write(self._unsaved)
        super().close()

    def _write(self, marks: dict[str, PushMark]) -> None:
        with self._transaction():
            self._db.executemany(
                "insert or replace into pushed (sender, counter, clock, floor, peak) values (?, ?, ?, ?, ?)",
                [(sender, m.counter, m.clock, m.floor, m.peak) for sender, m in marks.items()],
            )


def load_push_counters(path: Path) -> dict[str, int]:
    """Return the counters by sender, without owning the file; JournalError when it cannot be read."""
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
            return dict(db.execute("select sender, counter from pushed"))
    except sqlite3.Error as error:
        raise JournalError(f"the push counters {path} cannot be read: {error}") from error
