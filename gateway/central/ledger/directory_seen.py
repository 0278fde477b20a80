"""What the ledger saw of the directory: its highest state, and in which life consumers were told all of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from sqlalchemy import delete, insert, select

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
            query = select(*columns(directory_seen, SeenDirectory))
            return next(iter(records(connection, SeenDirectory, query)), None)

    def shown(self, state: DirectoryVersion) -> bool:
        """Take a state that central itself once signed; return whether it is higher than all that was seen here.

        Then ledger and directory were set back together, and the directory is found to be an older copy by it.
        """
        seen = self.get()
        if seen is None or seen.state >= state:
            return False
        self.put(replace(seen, generation=str(state.generation), version=state.version, mark=""))
        return True

    def put(self, seen: SeenDirectory, set_back: SetBack | None = None) -> None:
        """Keep what is seen now, together with the set-back that it showed."""
        with self._database.writing("noting what is seen of the directory") as connection:
            connection.execute(delete(directory_seen))
            connection.execute(insert(directory_seen).values(**asdict(seen)))
            if set_back is not None:
                note_set_back(connection, set_back)
