"""The edge's file of keys as a database: private, made where there is none, durable with each transaction.

What is deleted is overwritten in the file (`secure_delete`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import JournalError

FORMAT = 2
BUSY_SECONDS = 30.0
_SCHEMA = """
create table held (meter text not null, client integer not null, slot text not null, octets blob not null,
  key_id text, since text not null, given integer not null default 0, primary key (meter, client, slot)) strict;
create table change (key_id text primary key, meter text not null, client integer not null, what text not null,
  stage text not null, sealed blob not null, slots text not null, made_at text not null,
  told integer not null default 0, note text not null default '', digest text not null,
  given integer not null default 0) strict;
create table new_key (key_id text not null, client integer not null, slot text not null, octets blob not null,
  primary key (key_id, slot)) strict;
create table life (name text primary key, text text not null) strict;
"""
_TRIED = """
create table tried (meter text not null, client integer not null, way text not null, at text not null,
  primary key (meter, client, way)) strict;
"""


class KeyFile:
    """The file; JournalError when it cannot be used. Its statements are safe for threads and for two processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._translated():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)  # a copy that somebody put back
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        # A rollback journal: the removal of its file is synced, too.
        self._db.execute("pragma synchronous = extra")
        self._db.execute("pragma secure_delete = on")
        with self._transaction():
            found = self._db.execute("pragma user_version").fetchone()[0]
            if found > FORMAT:
                raise JournalError(f"{self._path} was made by a newer program (format {found})")
            if found < FORMAT:
                for statement in [*(_SCHEMA.split(";\n") if found == 0 else ()), _TRIED]:
                    self._db.execute(statement)
                self._db.execute(f"pragma user_version = {FORMAT}")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _read(self, statement: str, *given: object) -> list[tuple]:  # type: ignore[type-arg]  # rows of SQLite
        with self._lock, self._translated():
            return self._db.execute(statement, given).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._translated():
            if self._db.in_transaction:
                yield
                return
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the keys {self._path} cannot be used: {error}") from error
