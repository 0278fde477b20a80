"""Opening the journal's SQLite file: lock, check, and the translation of its errors."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gateway.edge.journal import schema
from gateway.errors import JournalError, JournalFull

QUICK_CHECK_BELOW = 64 << 20
"""Files up to this many octets are checked when they are opened; larger ones would delay the start."""
SUSPECT = ".suspect"
"""Ending of the file that says that damage was found while the journal ran: the next start looks at all of it."""
WAL_LIMIT = 64 << 20
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class JournalDamaged(JournalError):
    """The file is not what was written."""


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
        return damaged(path, str(error))
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalError(f"another program holds the journal {path}: end it, then start again")
    return JournalError(f"the journal {path} cannot be used: {error}")


def damaged(path: Path, detail: str) -> JournalDamaged:
    """Return the error of a damaged file; found while it runs, a restart puts it aside and goes on."""
    return JournalDamaged(
        f"the journal {path} is damaged ({detail}): restart the gateway; it puts the file aside, takes over what"
        " is whole, and reads the meters' stored history once more"
    )


def mark_suspect(path: Path) -> None:
    """Let the next start look through the whole file, however large: damage was found in it."""
    with suppress(OSError):
        path.with_name(path.name + SUSPECT).touch()


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
        # Some builds overwrite what is deleted: every trimmed page would be written once more.
        db.execute("pragma secure_delete = fast")
        db.execute(f"pragma journal_size_limit = {WAL_LIMIT}")
        if not db.execute("select count(*) from sqlite_master").fetchone()[0]:
            schema.create(db)
        else:
            version = schema.recognize(db, path)
            suspect = path.with_name(path.name + SUSPECT)
            if path.stat().st_size <= QUICK_CHECK_BELOW or suspect.exists():
                _quick_check(db, path)
                suspect.unlink(missing_ok=True)
            schema.migrate(db, version)
    except BaseException:
        db.close()
        raise
    return db


def _quick_check(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("pragma quick_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged(path, " ".join(str(found).split()))
