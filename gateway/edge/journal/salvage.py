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

from gateway.contract.blocks import Keyed, key_of
from gateway.edge.journal.beside import Beside
from gateway.edge.journal.captures import CaptureList, insert
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.journal.file import SUSPECT, JournalDamaged, open_file, translated
from gateway.edge.journal.packed import STREAM_OCTETS, hash_of
from gateway.edge.journal.rows import COLUMNS, Damaged, EntryRow, entry_of
from gateway.edge.journal.templates import TemplateTable

CHUNK = 500
_KINDS = frozenset(EntryKind)
COLUMNS_OF_VERSION_1 = "seq, kind, profile, at, body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """Where the damaged file went, why, and how many numbers of it were taken over."""

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
        noted = Beside(path).read()
        entries = _take_over(db, aside, 0 if noted is None else noted.seq)
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


def _take_over(db: sqlite3.Connection, aside: Path, end: int) -> int:
    """Copy entries whose checksums fit, gaps and the list's rows of these entries; return how many numbers.

    Entries are numbered anew: the journal has another uuid. Watermarks are not taken over, since they would
    vouch for entries that are gone: the meters' memory is read once more, and what is known is a repeat.
    """
    try:
        old = sqlite3.connect(f"file:{aside}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return 0
    with closing(old):
        db.execute("begin immediate")
        taken: list[tuple[int, int]] = []
        listed, templates = CaptureList(db), TemplateTable(db)
        old_templates = _templates(old)
        last = 0
        for row in _rows(old, end):
            entry = entry_of(row, old_templates.get)
            if isinstance(entry, Damaged):
                continue
            first, last = last + 1, last + entry.count
            taken.append((entry.last, last))
            insert(db, "entry", [_renumbered(row, entry, first, listed)])
            for keyed in (entry.layout, entry.holders):
                if keyed is not None:
                    templates.use(keyed, last)
            if entry.kind is not EntryKind.GAP:
                _take_over_captures(db, old, listed, entry)
        listed.committed()
        _take_over_gaps(db, old)
        _take_over_cursors(db, old, taken)
        db.execute("update meta set value = (select count(*) from capture) where key = 'captures'")
        db.execute("commit")
    return last


def _renumbered(row: EntryRow, entry: Entry, first: int, listed: CaptureList) -> EntryRow:
    if row.checksum is None:
        return row._replace(seq=first)
    stream = None if row.stream is None else listed.stream((_meter(entry), entry.profile))
    return row._replace(seq=first, last=first + entry.count - 1, stream=stream).sealed()


def _meter(entry: Entry) -> str:
    return str(json.loads(entry.body)["meter"])


def _templates(old: sqlite3.Connection) -> dict[str, Keyed]:
    with suppress(sqlite3.Error):
        rows = old.execute("select key, text from template").fetchall()
        return {key: Keyed(key, text) for key, text in rows if key_of(text) == key}
    return {}


def _rows(old: sqlite3.Connection, end: int) -> Iterator[EntryRow]:
    """Yield the entries that can be read in rising seq; where a chunk cannot be read, one by one.

    `end` is how far the journal had come by the file beside it: its last page may be the damaged one.
    """
    last = max(_last_seq(old), end)
    first = _first_seq(old)
    while first <= last:
        upto = min(first + CHUNK - 1, last)
        rows = _select(old, first, upto)
        if rows is None:
            rows = [row for seq in range(first, upto + 1) for row in _select(old, seq, seq) or ()]
        yield from (row for row in rows if _is_a_row(row))
        first = upto + 1


def _select(old: sqlite3.Connection, first: int, last: int) -> list[EntryRow] | None:
    """Return rows, None where they cannot be read."""
    for columns in (COLUMNS, COLUMNS_OF_VERSION_1):
        query = f"select {columns} from entry where seq between ? and ? order by seq"
        try:
            return [EntryRow(*row) for row in old.execute(query, (first, last))]
        except sqlite3.OperationalError:
            continue  # a file of before blocks
        except (sqlite3.Error, UnicodeDecodeError):
            return None
    return None


def _is_a_row(row: EntryRow) -> bool:
    types = isinstance(row.at, int) and isinstance(row.profile, str) and isinstance(row.body, bytes)
    if not types or row.kind not in _KINDS:
        return False
    try:
        return isinstance(json.loads(row.body), dict)
    except ValueError:
        return False


def _number(old: sqlite3.Connection, query: str) -> int:
    try:
        return int(old.execute(query).fetchone()[0] or 0)
    except (sqlite3.Error, TypeError, ValueError):
        return 0


def _first_seq(old: sqlite3.Connection) -> int:
    return max(1, _number(old, "select value from meta where key = 'trimmed'") + 1)


def _last_seq(old: sqlite3.Connection) -> int:
    return max(_number(old, "select max(seq) from entry"), _number(old, "select max(seq) from cursor"))


def _take_over_captures(
    db: sqlite3.Connection, old: sqlite3.Connection, listed: CaptureList, entry: Entry
) -> None:
    """Copy the list's rows of a block, found by its ids; without them a reading that comes again is sent again."""
    day = int(datetime.now(UTC).timestamp()) // 86_400
    try:
        block: dict[str, Any] = json.loads(entry.body)
        stream = (str(block["meter"]), entry.profile)
        was = old.execute("select id from stream where meter = ? and profile = ?", stream).fetchone()[0]
        number = listed.stream(stream)
        for capture in block["captures"]:
            derived = f"{stream[0]}/{stream[1]}/{capture['at']}/{capture.get('occurrence', 0)}"
            at = datetime.fromisoformat(capture["at"])
            key = listed.key(number, at, capture.get("capture_id", derived))
            row = _listed(old, int(was).to_bytes(STREAM_OCTETS, "big") + key[STREAM_OCTETS:])
            if row is not None:
                # Until the newest revision is found among the entries, no value is a repeat: read again, the
                # capture gets the revision after the lost one.
                value = row[0] if row[1] == capture.get("value_rev", 1) else b""
                db.execute("insert or replace into capture values (?, ?, ?, ?)", (key, value, row[1], day))
    except (sqlite3.Error, ValueError, KeyError, TypeError, OverflowError):
        return


def _listed(old: sqlite3.Connection, key: bytes) -> tuple[bytes, int] | None:
    """Return hash and revision of a capture by the list of the damaged file."""
    row: tuple[bytes, int] | None = old.execute(
        "select hash, rev from capture where key = ?", (key,)
    ).fetchone()
    if row is None:
        with suppress(sqlite3.OperationalError):  # a file of before packed rows
            value = hash_of(old, key)
            row = None if value is None else (value, 1)
    return row


def _take_over_gaps(db: sqlite3.Connection, old: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        for row in old.execute("select gap_id, meter, profile, after, until, state, body from gap"):
            db.execute("insert or ignore into gap values (?, ?, ?, ?, ?, ?, ?)", row)


def _take_over_cursors(db: sqlite3.Connection, old: sqlite3.Connection, taken: list[tuple[int, int]]) -> None:
    """Set each sink's cursor behind what it had; consumers never saw this journal."""
    with suppress(sqlite3.Error):
        for sink, cursor in old.execute("select sink, seq from cursor where sink not like '@%'").fetchall():
            had = max((now for was, now in taken if was <= cursor), default=0)
            db.execute("insert or replace into cursor values (?, ?, 0)", (sink, had))
