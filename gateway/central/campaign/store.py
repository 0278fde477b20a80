"""The campaign's store opened: one file (0600) or a PostgreSQL, brought to this program's version."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.central.campaign import versions
from gateway.central.storage.versions import StoreVersions
from gateway.errors import JournalError
from gateway.private_file import make_private
from mapping.database import Database

VERSIONS: Final = StoreVersions("campaign", versions.__name__, lambda _: None)


class CampaignFault(JournalError):
    """The campaign's store cannot be used: the operator (disk, file, database)."""


class CampaignStore:
    """The database of slips, ticks and targets; made where there is none. Threads and processes may share it.

    Every use may raise CampaignFault.
    """

    def __init__(self, where: Path | str) -> None:
        """Open the file at a path (made with mode 0600), or the tables in a PostgreSQL at a URL."""
        self.db = Database(where, store="campaign", fault=CampaignFault)
        try:
            if self.db.is_file:
                make_private(Path(where))
            with self.db.writing("being opened") as db:
                VERSIONS.bring_up_to_date(db, self.db.where)
        except OSError as error:
            self.db.close()
            raise CampaignFault(f"the campaign's store {self.db.where} cannot be used: {error}") from error
        except BaseException:
            self.db.close()
            raise

    def __enter__(self) -> CampaignStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self.db.close()
