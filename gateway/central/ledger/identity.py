"""Who the ledger is, and which life of it this is: kept in the file and beside it (`mapping.store_life`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select

from gateway.central.ledger.database import Database, LedgerError, columns, put, records
from gateway.central.ledger.schema import set_backs, store_life
from gateway.contract.messages.generation import Generation
from mapping.store_life import StoreLife, read_beside, write_beside


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBack:
    """A time at which a store was found to be an older copy: the generation that began, and why."""

    generation: str
    begun_at: datetime
    why: str
    store: str = "ledger"


class Identity:
    """The ledger's uuid and generation. `begun` is the set-back that opening found, None for none."""

    def __init__(self, database: Database, path: Path | None) -> None:
        """Take the ledger's database and its path; None where it is no file."""
        self._database = database
        self._path = path
        self._stored = 0
        self.begun: SetBack | None = None
        if database.read_only:
            with database.reading("reading the ledger's generation") as connection:
                self._life = _read(connection) or StoreLife.born()
        else:
            self._open()

    @property
    def uuid(self) -> str:
        """The ledger's name for ever."""
        return self._life.uuid

    @property
    def generation(self) -> Generation:
        """Which life of the ledger this is."""
        return Generation.parse(self._life.generation)

    def _open(self) -> None:
        # A server's database has no file beside it: edges that saw more of it tell (`begin_anew`).
        beside = None if self._path is None else read_beside(self._path)
        with self._database.writing("beginning the ledger's next tick") as connection:
            held = _read(connection)
            why = None if held is None or self._path is None else held.set_back(beside)
            if held is None:
                self._life = StoreLife.born()
            elif why is None:
                self._life = held.ticked()
            else:
                self._life = held.begun_anew(*([beside.generation] if beside else []))
                self.begun = _note(connection, self._life, why)
            _write(connection, self._life)
        self._write_beside()

    def tick(self, stored: int) -> None:
        """Tick when more was stored since the last tick: a copy of before is then recognised.

        `stored` is any number that grows with what is stored.
        """
        if stored == self._stored:
            return
        with self._database.writing("ticking") as connection:
            self._life = (_read(connection) or self._life).ticked()
            _write(connection, self._life)
        self._write_beside()
        self._stored = stored

    def begin_anew(self, shown: Generation, why: str) -> SetBack:
        """Begin the next generation, above `shown`: a peer saw more of this ledger than it holds."""
        with self._database.writing("beginning the ledger's next generation") as connection:
            self._life = (_read(connection) or self._life).begun_anew(str(shown))
            _write(connection, self._life)
            found = _note(connection, self._life, why)
        self._write_beside()
        return found

    def set_backs(self) -> list[SetBack]:
        """Return every set-back that was found, of ledger and directory, oldest first."""
        query = select(*columns(set_backs, SetBack)).order_by(set_backs.c.begun_at, set_backs.c.generation)
        with self._database.reading("listing set-backs") as connection:
            return records(connection, SetBack, query)

    def _write_beside(self) -> None:
        if self._path is None:
            return
        # Inside a turn of writing: of two processes none puts an older tick over a newer one.
        with self._database.writing("writing beside the ledger") as connection:
            try:
                write_beside(self._path, _read(connection) or self._life)
            except OSError as error:
                raise LedgerError(f"the file beside {self._path} cannot be written: {error}") from error


def _read(connection: Connection) -> StoreLife | None:
    rows = connection.execute(select(store_life.c.name, store_life.c.value))
    held = {row.name: row.value for row in rows}
    return StoreLife.of(held) if held else None


def _write(connection: Connection, life: StoreLife) -> None:
    for name, value in life.items().items():
        put(connection, store_life, {"name": name}, {"value": value})


def _note(connection: Connection, life: StoreLife, why: str) -> SetBack:
    found = SetBack(generation=life.generation, begun_at=datetime.now(UTC), why=why)
    note_set_back(connection, found)
    return found


def note_set_back(connection: Connection, found: SetBack) -> None:
    """Put a set-back on record."""
    told = {"begun_at": found.begun_at, "why": found.why, "store": found.store}
    put(connection, set_backs, {"generation": found.generation}, told)


def generation_counter(connection: Connection) -> int:
    """Return the counter of the ledger's generation inside the caller's transaction."""
    life = _read(connection)
    return 1 if life is None else Generation.parse(life.generation).counter


def was_set_back(connection: Connection) -> bool:
    """Return whether the ledger ever was found to be an older copy of itself."""
    query = select(set_backs.c.generation).where(set_backs.c.store == "ledger").limit(1)
    return connection.execute(query).first() is not None
