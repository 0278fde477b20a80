"""Brings a store's tables from whatever version its file has to the newest, by Alembic; in one transaction.

A store keeps its steps in a package of its own, one file each (`v0002_allocation.py`). The whole way is taken for a
new file too, so that no two files of one version differ.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_STEP: Final = re.compile(r"v(\d{4})_\w+\.py", re.ASCII)
_ONE_AT_A_TIME: Final = threading.Lock()
"""Alembic's `op`, which the steps use, is one for the whole process."""


class WrongStoreVersion(GatewayError):
    """A store is of a version that cannot be used as it is; the message says who must do what."""

    exit_code = 5


class EmptyStore(WrongStoreVersion):
    """A store has no tables yet: perhaps another process is just making them."""


@dataclass(frozen=True, slots=True)
class StoreVersions:
    """The versions of one kind of store: its name for people, and the package that its steps lie in.

    `before_versions` tells the version of a file from the time before versions were kept in it: None where the
    file is empty.
    """

    store: str
    package: str
    before_versions: Callable[[Connection], str | None]

    @property
    def newest(self) -> str:
        """The version that this program works with."""
        # By the names alone: a command that only reads has no use for Alembic, which takes 100 ms to import.
        return max(
            found.group(1)
            for path in _folder(self.package).iterdir()
            if (found := _STEP.fullmatch(path.name))
        )

    def version(self, connection: Connection) -> str | None:
        """Return the version of an open store, None when it is empty."""
        if inspect(connection).has_table(self._table):
            return connection.execute(text(f"SELECT version_num FROM {self._table}")).scalar()
        return self.before_versions(connection)

    def check(self, connection: Connection, where: str) -> None:
        """Raise WrongStoreVersion when the store cannot be used as it is; `where` names it to people."""
        found, newest = self.version(connection), self.newest
        if found == newest:
            return
        self._refuse_newer(found, where)
        if found is None:
            raise EmptyStore(
                f"the {self.store} {where} is empty: start the central role of this program on it, then try again"
            )
        raise WrongStoreVersion(
            f"the {self.store} {where} is of version {found} and this program needs {newest}: start the "
            "central role of this program once on it (it brings the file up to date), then try again"
        )

    def bring_up_to_date(self, connection: Connection, where: str) -> None:
        """Take every step that is missing, in the caller's transaction, which must keep all others out.

        Raises WrongStoreVersion when a newer program made the store.
        """
        found = self.version(connection)
        named = inspect(connection).has_table(self._table)
        if named and found == self.newest:
            return
        self._refuse_newer(found, where)
        from alembic.operations import Operations
        from alembic.runtime.migration import MigrationContext

        script = _steps(self.package)
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": self._table,
                "transactional_ddl": True,
                "fn": lambda held, _context: script._upgrade_revs("head", held),  # noqa: SLF001  # as Alembic's own commands do
            },
        )
        with _ONE_AT_A_TIME:
            if found is not None and not named:
                context.stamp(script, found)
            with Operations.context(context):
                context.run_migrations()

    @property
    def _table(self) -> str:
        """Each store has its own table, so that several may lie in one database."""
        return f"{self.store}_version"

    def _refuse_newer(self, found: str | None, where: str) -> None:
        if found is not None and found > self.newest:
            raise WrongStoreVersion(
                f"the {self.store} {where} is of version {found}, made by a newer meter-gateway; this one knows "
                f"versions up to {self.newest}: install the newer program again, or restore a copy from before"
            )


def _folder(package: str) -> Path:
    return Path(str(files(package)))


@cache
def _steps(package: str) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    folder = str(_folder(package))
    return ScriptDirectory(folder, version_locations=[folder])
