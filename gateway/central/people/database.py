"""The people store opened: one file (0600) or a PostgreSQL, brought to this program's version."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

from gateway.central.people import versions
from gateway.central.storage.versions import StoreVersions
from gateway.errors import JournalError
from gateway.private_file import make_private
from mapping.database import Database


class PeopleFault(JournalError):
    """The people store cannot be used: the operator (disk, file, database)."""


def _before_versions(connection: Connection) -> str | None:
    return "0001" if inspect(connection).has_table("contacts") else None


VERSIONS: Final = StoreVersions("people", versions.__name__, _before_versions)


class PeopleStore:
    """The database of contacts, messages, views and erasures; made where there is none, and brought up to date.

    Threads and processes may share it. Every use may raise PeopleFault.
    """

    def __init__(self, where: Path | str) -> None:
        """Open the file at a path (made with mode 0600), or the tables in a PostgreSQL at a URL."""
        self.db = Database(where, store="people", fault=PeopleFault)
        try:
            if isinstance(where, Path) or "://" not in where:
                make_private(Path(where))
            with self.db.writing("being opened") as db:
                VERSIONS.bring_up_to_date(db, self.db.where)
        except OSError as error:
            self.db.close()
            raise PeopleFault(f"the people store {self.db.where} cannot be used: {error}") from error
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self.db.close()
