"""The journal's table of entries: which rows hold which numbers, and which of them may go."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.contract.blocks.wire import MAX_CAPTURES
from gateway.edge.journal.captures import insert
from gateway.edge.journal.rows import COLUMNS, EntryRow


class EntryTable:
    """Reads rows as they stand, damaged ones too. Writes run inside the caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def first(self) -> int | None:
        """Return the oldest number, None where there is no entry."""
        found: int | None = self._db.execute("select min(seq) from entry").fetchone()[0]
        return found

    def last(self) -> int:
        """Return where the newest entry ends, 0 where there is none.

        An end that cannot be is damage: the file then shows less than what stands beside it says, and goes on under
        another name, so that no number is given twice.
        """
        newest = self._db.execute("select seq, last from entry order by seq desc limit 1").fetchone()
        if newest is None:
            return 0
        seq, last = newest
        return last if isinstance(last, int) and seq <= last < seq + MAX_CAPTURES else seq

    def store(self, rows: Sequence[EntryRow]) -> None:
        """Write new rows."""
        insert(self._db, "entry", rows)

    def between(self, first: int, last: int, limit: int, max_bytes: int) -> list[EntryRow]:
        """Return rows that hold any of first..last, at most `limit` and (beyond one) `max_bytes` of bodies."""
        found = self._db.execute(
            f"select {COLUMNS} from entry where seq >="
            " coalesce((select max(seq) from entry where seq <= ?), 0) and seq <= ? order by seq limit ?",
            (first, last, limit),
        )
        rows: list[EntryRow] = []
        for one in found:
            row = EntryRow(*one)
            if isinstance(row.body, (bytes, str)):  # damaged ones are anything
                max_bytes -= len(row.body)
            if max_bytes < 0 and rows:
                break
            if row.end() >= first:
                rows.append(row)
        return rows

    def of_streams(
        self, streams: Sequence[int], before: int, count: int
    ) -> tuple[list[EntryRow], int, datetime | None]:
        """Look at the `count` entries below number `before` for those of some streams.

        Returns them in rising seq, the number below which to look next, and when the oldest entry that was looked at
        was journaled; None at the journal's beginning.
        """
        first, at = self._db.execute(
            "select min(seq), min(at) from (select seq, at from entry where seq < ? order by seq desc limit ?)",
            (before, count),
        ).fetchone()
        if first is None:
            return [], 0, None
        # Only question marks are put into the statement.
        marks = ",".join("?" * len(streams))
        rows = self._db.execute(
            f"select {COLUMNS} from entry where seq >= ? and seq < ? and stream in ({marks}) order by seq",
            (first, before, *streams),
        ).fetchall()
        return [EntryRow(*row) for row in rows], first, datetime.fromtimestamp(at, UTC)

    def journaled_at(self, seq: int) -> datetime | None:
        """Return when the first entry from `seq` on was journaled, None without one."""
        row = self._db.execute("select at from entry where seq >= ? order by seq limit 1", (seq,)).fetchone()
        return None if row is None else datetime.fromtimestamp(row[0], UTC)

    def old_enough(self, span: tuple[int, int], upto: int, older_than: datetime | None, chunk: int) -> int:
        """Return up to which number the oldest entries of `span` may go whole: about `chunk` numbers, up to `upto`.

        It stops before the first that was journaled after `older_than` (None: any age goes).
        """
        last = self._end_of_whole(span, upto, chunk)
        if older_than is None:
            return last
        query = "select min(seq) from entry where seq <= ? and at > ?"
        young = self._db.execute(query, (last, int(older_than.timestamp()))).fetchone()[0]
        return last if young is None else int(young) - 1

    def _end_of_whole(self, span: tuple[int, int], upto: int, chunk: int) -> int:
        """Return where the oldest entries end that lie below `upto` whole: `chunk` numbers, or one entry."""
        first, newest = span
        wanted = min(upto, first + chunk - 1)
        # An entry ends where the next begins: its own word for it may be damaged, and would stop all trimming.
        query = "select max(seq), (select min(seq) - 1 from entry where seq > ?) from entry where seq <= ?"
        seq, end = self._db.execute(query, (wanted, wanted)).fetchone()
        seq, end = wanted if seq is None else seq, newest if end is None else end
        if end <= wanted or (seq == first and end <= upto):
            return int(end)
        return int(seq) - 1

    def delete(self, upto: int) -> None:
        """Delete the entries up to a number, and note that they went."""
        self._db.execute("delete from entry where seq <= ?", (upto,))
        self._db.execute("update meta set value = ? where key = 'trimmed'", (upto,))
