"""A private SQLite file, made where there is none: mode 0600, safe for threads and for two processes."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import JournalError

BUSY_SECONDS = 30.0
"""How long a statement waits for another process."""


class PrivateDatabase:
    """The file `path`; JournalError, which calls it `named`, when it cannot be used.

    `_prepare` of the class that has the tables sets it up, each time it is opened.
    """

    def __init__(self, path: Path, *, named: str) -> None:
        self._path = path
        self._named = named
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
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _read(self, statement: str, *given: object) -> list[Any]:
        with self._lock, self._translated():
            return self._db.execute(statement, given).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run the block as one transaction, or as part of the one that is open."""
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
            raise JournalError(f"the {self._named} {self._path} cannot be used: {error}") from error
