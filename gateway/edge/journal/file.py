"""Opening the journal's SQLite file: lock, schema, check, and the translation of its errors."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.errors import JournalError, JournalFull

APPLICATION_ID = 0x4D47574A
"""`MGWJ` in the file's header: tells a journal from any other SQLite file."""
SCHEMA_VERSION = 1
QUICK_CHECK_BELOW = 64 << 20
"""Files up to this many octets are checked when they are opened; larger ones would delay the start."""
WAL_LIMIT = 64 << 20
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_SCHEMA = """
create table meta (key text primary key, value) without rowid;
create table entry (seq integer primary key, kind text not null, profile text not null,
    at integer not null, body blob not null);
create table stream (id integer primary key, meter text not null, profile text not null,
    mark integer, unique (meter, profile));
create table capture (key blob primary key, hash blob not null, rev integer not null) without rowid;
create table gap (gap_id text primary key, meter text not null, profile text not null,
    after integer not null, until integer not null, state text not null, body blob not null) without rowid;
create index gap_state on gap (state, meter, profile);
create table cursor (sink text primary key, seq integer not null) without rowid;
create table dead_letter (sink text not null, seq integer not null, at integer not null,
    reason text not null, body blob not null, primary key (sink, seq)) without rowid;
"""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's and the system's errors into ours, with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise JournalFull(f"no space left to write the journal {path}") from error
        raise JournalError(f"the journal {path} cannot be used: {error.strerror or error}") from error


def _translate(error: sqlite3.Error, path: Path) -> JournalError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
        return JournalFull(
            f"the disk takes no more of the journal {path} ({error}): free some space; it goes on by itself"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalError(f"another program holds the journal {path}: end it, then start again")
    return JournalError(f"the journal {path} cannot be used: {error}")


def _damaged(path: Path, detail: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({detail}): stop the gateway, move {path.name}, {path.name}-wal"
        f" and {path.name}-shm to another folder and keep them, then start again; a new journal is made,"
        " and the meters' stored history is read once more"
    )


def lock_file(path: Path) -> IO[bytes]:
    """Take the lock that keeps a second process away; JournalError when it is taken."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise JournalError(f"another gateway uses the journal {path}: end it, then start again") from error
    return lock


def open_file(path: Path) -> sqlite3.Connection:
    """Open or make the file; sqlite3 errors pass, JournalError for a file that is not our journal."""
    new = not path.exists() or path.stat().st_size == 0
    if new:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o640))
    db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    try:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute(f"pragma journal_size_limit = {WAL_LIMIT}")
        _check(db, path) if _has_tables(db) else _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("select count(*) from sqlite_master").fetchone()[0])


def _create(db: sqlite3.Connection) -> None:
    db.execute("begin immediate")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    rows = (("uuid", str(uuid.uuid4())), ("trimmed", 0))
    db.executemany("insert into meta values (?, ?)", rows)
    db.execute(f"pragma application_id = {APPLICATION_ID}")
    db.execute(f"pragma user_version = {SCHEMA_VERSION}")
    db.execute("commit")


def _check(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("pragma application_id").fetchone()[0]
    version = db.execute("pragma user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal: give the journal a path of its own")
    if version != SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} has version {version}, this program knows {SCHEMA_VERSION}: use the program"
            " that wrote it"
        )
    if path.stat().st_size <= QUICK_CHECK_BELOW:
        found = db.execute("pragma quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _damaged(path, " ".join(str(found).split()))
