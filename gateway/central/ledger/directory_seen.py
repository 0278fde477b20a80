"""What the ledger saw of the directory: its highest state, and in which life consumers were told all of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update

from gateway.central.ledger.database import Database, columns, records
from gateway.central.ledger.identity import SetBack, note_set_back
from gateway.central.ledger.schema import directory_seen
from gateway.contract.messages.generation import DirectoryVersion, Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDirectory:
    """A state of the directory: `mark` tells its last change set from any other of that version.

    `told` is the generation of which consumers were told the whole state.
    """

    uuid: str
    generation: str
    version: int
    mark: str
    told: str

    @property
    def state(self) -> DirectoryVersion:
        """The generation and the version."""
        return DirectoryVersion(Generation.parse(self.generation), self.version)


class DirectorySeen:
    """The last state that was seen; durable, so that a directory that was set back is recognised by it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self) -> SeenDirectory | None:
        """Return what was seen last, None before the first."""
        with self._database.reading("reading what was seen of the directory") as connection:
            return _get(connection)

    def shown(self, state: DirectoryVersion) -> bool:
        """Take a state that central itself once signed; return whether it is higher than all that was seen here.

        Then ledger and directory were set back together, and the directory is found to be an older copy by it.
        """
        with self._writing() as connection:
            seen = _get(connection)
            if seen is None or seen.state >= state:
                return False
            _put(
                connection,
                replace(seen, generation=str(state.generation), version=state.version, mark=""),
            )
            return True

    def put(self, now: SeenDirectory, over: SeenDirectory | None, set_back: SetBack | None = None) -> bool:
        """Keep what is seen now, together with the set-back that it showed, in place of what was compared with it.

        Returns False, and keeps nothing, where another has since noted something else than `over`: an edge may have
        shown a later state meanwhile, which only a new comparison may replace.
        """
        with self._writing() as connection:
            if _get(connection) != over:
                return False
            _put(connection, now)
            if set_back is not None:
                note_set_back(connection, set_back)
            return True

    def set_told(self, generation: str) -> None:
        """Note of which generation consumers were told the whole state; empty for none."""
        with self._writing() as connection:
            connection.execute(update(directory_seen).values(told=generation))

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._database.writing("noting what is seen of the directory")


def _get(connection: Connection) -> SeenDirectory | None:
    query = select(*columns(directory_seen, SeenDirectory))
    return next(iter(records(connection, SeenDirectory, query)), None)


def _put(connection: Connection, seen: SeenDirectory) -> None:
    connection.execute(delete(directory_seen))
    connection.execute(insert(directory_seen).values(**asdict(seen)))
