"""The edge's file of keys as a database: private, made where there is none, durable with each transaction.

What is deleted is overwritten in the file (`secure_delete`).
"""

from __future__ import annotations

from pathlib import Path

from gateway.errors import JournalError
from gateway.private_database import PrivateDatabase

FORMAT = 2
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


class KeyFile(PrivateDatabase):
    """The file; JournalError when it cannot be used. Its statements are safe for threads and for two processes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, named="keys")

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
