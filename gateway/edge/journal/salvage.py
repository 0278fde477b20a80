"""A damaged journal file is put aside, never deleted; what is whole in it goes on in a new journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.contract.capture_body import is_capture_body
from gateway.edge.journal.captures import CaptureList
from gateway.edge.journal.entry import CaptureRecord, EntryKind
from gateway.edge.journal.file import SUSPECT, JournalDamaged, open_file, translated

CHUNK = 500
_KINDS = frozenset(EntryKind)
_Row = tuple[int, str, str, int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """Where the damaged file went, why, and how much of it was taken over."""

    aside: Path
    why: str
    entries: int


def open_or_salvage(path: Path) -> tuple[sqlite3.Connection, Salvage | None]:
    """Open the journal's file; a damaged one is put aside and a new journal takes over what is whole.

    Errors are those of `open_file`.
    """
    try:
        with translated(path):
            return open_file(path), None
    except JournalDamaged as error:
        why = str(error)
    aside = _put_aside(path)
    path.with_name(path.name + SUSPECT).unlink(missing_ok=True)
    db = open_file(path)
    try:
        entries = _take_over(db, aside)
    except BaseException:
        db.close()
        raise
    return db, Salvage(aside=aside, why=why, entries=entries)


def _put_aside(path: Path) -> Path:
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.rename(aside)
    for log in ("-wal", "-shm"):  # SQLite finds a log by the name of its file: they stay together
        with suppress(FileNotFoundError):
            path.with_name(path.name + log).rename(aside.with_name(aside.name + log))
    return aside


def _take_over(db: sqlite3.Connection, aside: Path) -> int:
    """Copy entries, gaps and the list's rows of these entries; return how many entries.

    Entries are numbered anew: the journal has another uuid. Watermarks are not taken over, since they would
    vouch for entries that are gone: the meters' memory is read once more, and what is known is a repeat.
    """
    try:
        old = sqlite3.connect(f"file:{aside}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return 0
    with closing(old):
        db.execute("begin immediate")
        numbers: dict[int, int] = {}
        listed = CaptureList(db)
        day = int(datetime.now(UTC).timestamp()) // 86_400
        for seq, kind, profile, at, body in _rows(old):
            numbers[seq] = len(numbers) + 1
            db.execute("insert into entry values (?, ?, ?, ?, ?)", (numbers[seq], kind, profile, at, body))
            if kind != EntryKind.GAP:
                _take_over_capture(db, old, listed, body, day)
        listed.committed()
        _take_over_gaps(db, old)
        _take_over_cursors(db, old, list(numbers))
        db.execute("update meta set value = (select count(*) from capture) where key = 'captures'")
        db.execute("commit")
    return len(numbers)


def _rows(old: sqlite3.Connection) -> Iterator[_Row]:
    """Yield whole entries in rising seq; where a chunk cannot be read, its entries one by one."""
    last = _last_seq(old)
    first = _first_seq(old)
    while first <= last:
        upto = min(first + CHUNK - 1, last)
        rows = _select(old, first, upto)
        if rows is None:
            rows = [row for seq in range(first, upto + 1) for row in _select(old, seq, seq) or ()]
        yield from (row for row in rows if _whole(row))
        first = upto + 1


def _select(old: sqlite3.Connection, first: int, last: int) -> list[_Row] | None:
    query = "select seq, kind, profile, at, body from entry where seq between ? and ? order by seq"
    try:
        return old.execute(query, (first, last)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _number(old: sqlite3.Connection, query: str) -> int:
    try:
        return int(old.execute(query).fetchone()[0] or 0)
    except (sqlite3.Error, TypeError, ValueError):
        return 0


def _first_seq(old: sqlite3.Connection) -> int:
    return max(1, _number(old, "select value from meta where key = 'trimmed'") + 1)


def _last_seq(old: sqlite3.Connection) -> int:
    return max(_number(old, "select max(seq) from entry"), _number(old, "select max(seq) from cursor"))


def _whole(row: _Row) -> bool:
    seq, kind, profile, at, body = row
    if not (isinstance(seq, int) and isinstance(at, int) and isinstance(profile, str) and kind in _KINDS):
        return False
    try:
        return isinstance(json.loads(body), dict) and (kind == EntryKind.GAP or is_capture_body(body))
    except (ValueError, TypeError):
        return False


def _take_over_capture(
    db: sqlite3.Connection, old: sqlite3.Connection, listed: CaptureList, body: bytes, day: int
) -> None:
    """Copy a capture's row of the list, found by its id; without it a reading that comes again is sent again."""
    try:
        data: dict[str, Any] = json.loads(body)
        at = datetime.fromisoformat(data["at"])
        stream = (str(data["meter"]), str(data["profile"]))
        number = old.execute("select id from stream where meter = ? and profile = ?", stream).fetchone()[0]
        record = CaptureRecord(
            kind=EntryKind.CAPTURE,
            meter=stream[0],
            profile=stream[1],
            capture_id=data["capture_id"],
            at=at,
            value_hash=b"",
            body=b"",
        )
        key = listed.key(record)
        row = old.execute(
            "select hash, rev from capture where key = ?", (int(number).to_bytes(4, "big") + key[4:],)
        ).fetchone()
        if row is not None:
            # Until the newest revision is found among the entries, no value is a repeat: read again, the
            # capture gets the revision after the lost one.
            value = row[0] if row[1] == data["value_rev"] else b""
            db.execute("insert or replace into capture values (?, ?, ?, ?)", (key, value, row[1], day))
    except (sqlite3.Error, ValueError, KeyError, TypeError, OverflowError):
        return


def _take_over_gaps(db: sqlite3.Connection, old: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        for row in old.execute("select gap_id, meter, profile, after, until, state, body from gap"):
            db.execute("insert or ignore into gap values (?, ?, ?, ?, ?, ?, ?)", row)


def _take_over_cursors(db: sqlite3.Connection, old: sqlite3.Connection, seqs: list[int]) -> None:
    """Set each sink's cursor behind what it had; consumers never saw this journal."""
    with suppress(sqlite3.Error):
        for sink, cursor in old.execute("select sink, seq from cursor where sink not like '@%'").fetchall():
            taken = sum(seq <= cursor for seq in seqs)
            db.execute("insert or replace into cursor values (?, ?, 0)", (sink, taken))
