"""The journal's table of gaps: each as it was told last, bounded."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from gateway.edge.journal.entry import GapRecord, GapState
from mapping.instants import instant, micros

MAX_GAPS = 100_000
"""Gaps that the journal remembers: ten for each meter of the largest edge."""
_LAST = "\U0010ffff"
_COLUMNS = "gap_id, meter, profile, after, until, state, body"


class GapTable:
    """Writes run inside the caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        streams = db.execute("select distinct meter, profile from gap where state = 'open'")
        self._perhaps_open: set[tuple[str, str]] = set(streams)

    def may_be_open(self, meter: str, profile: str) -> bool:
        """Return False where a stream surely has no open gap; any thread may ask, and most need not ask the file."""
        return (meter, profile) in self._perhaps_open

    def store(self, gap: GapRecord) -> bool:
        """Keep a gap; return whether it is new or was told otherwise before."""
        old = self._db.execute("select state, body from gap where gap_id = ?", (gap.gap_id,)).fetchone()
        if old == (gap.state, gap.body):
            return False
        if gap.state == "open":
            self._perhaps_open.add(
                (gap.meter, gap.profile)
            )  # too early where the commit fails: that costs a look
        after, until = micros(gap.after), micros(gap.until)
        row = (gap.gap_id, gap.meter, gap.profile, after, until, gap.state, gap.body)
        self._db.execute("insert or replace into gap values (?, ?, ?, ?, ?, ?, ?)", row)
        return True

    def open(self, meter: str | None, profile: str | None) -> list[GapState]:
        """Return gaps in state open, by meter, profile and time; of one meter and profile when they are given."""
        rows = self._db.execute(
            f"select {_COLUMNS} from gap"
            " where state = 'open' and meter between ? and ? and profile between ? and ?"
            " order by meter, profile, after",
            (meter or "", meter or _LAST, profile or "", profile or _LAST),
        ).fetchall()
        if meter and profile and not rows:
            self._perhaps_open.discard((meter, profile))
        return [_state(row) for row in rows]

    def oldest_open(self, meter: str, profile: str) -> datetime | None:
        """Return where the oldest open gap of a stream begins, None without one."""
        after = self._db.execute(
            "select min(after) from gap where state = 'open' and meter = ? and profile = ?", (meter, profile)
        ).fetchone()[0]
        return None if after is None else instant(after)

    def forget_closed(self, before: datetime, limit: int) -> int:
        """Delete closed gaps that ended before an instant, at most `limit`; return how many."""
        done = self._db.execute(
            "delete from gap where gap_id in (select gap_id from gap where until < ? and state <> 'open'"
            " order by until limit ?)",
            (micros(before), limit),
        )
        return done.rowcount

    def excess(self, bound: int, limit: int) -> tuple[int, list[GapState]]:
        """Delete closed gaps beyond `bound`, oldest first; return how many went, and open ones to give up."""
        over = min(self._db.execute("select count(*) from gap").fetchone()[0] - bound, limit)
        if over <= 0:
            return 0, []
        gone = self._db.execute(
            "delete from gap where gap_id in"
            " (select gap_id from gap where state <> 'open' order by until limit ?)",
            (over,),
        ).rowcount
        if gone == over:
            return gone, []
        rows = self._db.execute(
            f"select {_COLUMNS} from gap where state = 'open' order by until limit ?",
            (over - gone,),
        )
        return gone, [_state(row) for row in rows.fetchall()]


def _state(row: tuple[str, str, str, int, int, str, bytes]) -> GapState:
    gap_id, meter, profile, after, until, state, body = row
    return GapState(
        gap_id=gap_id,
        meter=meter,
        profile=profile,
        after=instant(after),
        until=instant(until),
        state=state,
        body=body,
    )
