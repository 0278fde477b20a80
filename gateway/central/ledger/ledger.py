"""The ledger: every capture for ever, keyed by meter; whose it is comes from the directory when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError

from gateway.central.ledger import queries, unattributed
from gateway.central.ledger.dead_letters import DeadLetters
from gateway.central.ledger.edges import EdgeRegister
from gateway.central.ledger.journals import JournalBook
from gateway.central.ledger.records import (
    IngestResult,
    JournalState,
    LedgerCounts,
    StoredBalance,
    StoredCapture,
    StoredGap,
    StoredStatus,
    UnattributedGroup,
)
from gateway.central.ledger.schema import (
    SCHEMA_VERSION,
    LedgerError,
    balances,
    cursors,
    metadata,
    micros,
    sqlite_engine,
    statuses,
    translated,
)
from gateway.central.ledger.store import capture_row, check_batch, sequence, store_captures, store_gaps
from gateway.contract.messages import Batch
from gateway.errors import ContractError

_SCHEMA = "schema_version"
_DIRECTORY = "directory_version"


class Ledger:
    """One ledger file. Methods block and may be called from any thread; writers take turns.

    Every method raises LedgerError when the database fails. One process writes readings; others may read.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only and not path.is_file():
            raise LedgerError(f"there is no ledger at {path}")
        self._turn = threading.Lock()
        self._reader = sqlite_engine(path, writer=False)
        self._writer = self._reader if read_only else sqlite_engine(path, writer=True)
        self.read_only = read_only
        with translated(f"opening {path}"):
            self._prepare()
        self.letters = DeadLetters(self.reading, self.writing)
        self.edges = EdgeRegister(self.reading, self.writing)

    def _prepare(self) -> None:
        if not self.read_only:
            with self._writer.begin() as connection:
                metadata.create_all(connection)
                if _cursor(connection, _SCHEMA) is None:
                    _set_cursor(connection, _SCHEMA, SCHEMA_VERSION)
        with self._reader.begin() as connection:
            version = _cursor(connection, _SCHEMA)
        if version != SCHEMA_VERSION:
            raise LedgerError(f"the ledger is of schema {version}; this program knows {SCHEMA_VERSION}")

    def close(self) -> None:
        """Release the file."""
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """One steady view of the ledger."""
        with translated(doing), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """One transaction, durable (fsync) when the block ends."""
        if self.read_only:
            raise LedgerError(f"the ledger was opened for reading only ({doing})")
        with self._turn, translated(doing), self._writer.begin() as connection:
            yield connection

    # Ingest

    def ingest(self, batch: Batch, received: datetime) -> IngestResult:
        """Store one batch in one transaction, durable on return. ContractError: it can never be stored."""
        return self.ingest_many([(batch, received)])

    def ingest_many(self, batches: Sequence[tuple[Batch, datetime]]) -> IngestResult:
        """Store several batches in one transaction; all or none."""
        for batch, _ in batches:
            check_batch(batch)
        try:
            with self.writing("storing readings") as connection:
                return self._ingest(connection, batches)
        except LedgerError as error:
            if isinstance(error.__cause__, DataError | IntegrityError | InterfaceError):
                raise ContractError(f"the ledger cannot hold this batch: {error}") from error
            raise

    def _ingest(self, connection: Connection, batches: Sequence[tuple[Batch, datetime]]) -> IngestResult:
        known = _cursor(connection, _DIRECTORY) or 0
        total = IngestResult()
        for journal in dict.fromkeys(batch.journal for batch, _ in batches):
            own = [(batch, received) for batch, received in batches if batch.journal == journal]
            book = JournalBook.load(connection, journal)
            rows = [capture_row(c, batch, received) for batch, received in own for c in batch.captures]
            result = store_captures(connection, rows, known)
            received = own[-1][1]
            gaps = [(gap, batch) for batch, _ in own for gap in batch.gaps]
            if gaps:
                result += IngestResult(gaps=store_gaps(connection, gaps, received))
            seqs = [seq for batch, _ in own for seq in sequence(batch) if seq is not None]
            book.record(connection, own[-1][0].gateway, seqs, result, micros(received))
            total += result
        return total

    # Journals

    def journal_state(self, journal: str) -> JournalState:
        """How much of a journal is stored; a journal never seen has contiguous 0 and no gateway."""
        with self.reading("reading a journal's state") as connection:
            return JournalBook.load(connection, journal).state()

    def journals(self) -> list[JournalState]:
        """All journals ever seen."""
        with self.reading("listing journals") as connection:
            return [JournalBook.load(connection, name).state() for name in queries.journal_names(connection)]

    def declare_lost(self, journal: str, first: int, last: int, reason: str, at: datetime) -> None:
        """Give up first..last of a journal (its edge says that it no longer holds them); kept on record."""
        with self.writing("declaring entries lost") as connection:
            JournalBook.load(connection, journal).declare_lost(connection, first, last, reason, micros(at))

    def lost(self) -> list[tuple[str, int, int, str, datetime]]:
        """Ranges given up: journal, first, last, reason, when."""
        with self.reading("listing lost entries") as connection:
            return queries.lost_ranges(connection)

    # Readings

    def latest(self, meter: str, profile: str) -> StoredCapture | None:
        """The newest capture of a meter and profile by its own instant."""
        with self.reading("reading the latest capture") as connection:
            return queries.latest(connection, meter, profile)

    def captures(
        self,
        meter: str | None = None,
        profile: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        known_at: datetime | None = None,
        limit: int | None = None,
    ) -> list[StoredCapture]:
        """Captures by meter, profile, instant; see `queries.captures_between` for the bounds."""
        with self.reading("reading captures") as connection:
            return queries.captures_between(
                connection, meter, profile, start, end, known_at=known_at, limit=limit
            )

    def capture(self, capture_id: str) -> StoredCapture | None:
        """The capture in force."""
        with self.reading("reading a capture") as connection:
            return queries.capture(connection, capture_id)

    def revisions(self, capture_id: str) -> list[StoredCapture]:
        """Every revision kept of a capture, lowest first; the last is the one in force."""
        with self.reading("reading revisions") as connection:
            return queries.revisions(connection, capture_id)

    # What stands under no account

    def unattributed(self) -> list[UnattributedGroup]:
        """Captures under no account, by meter, profile and reason."""
        with self.reading("listing unattributed captures") as connection:
            return unattributed.groups(connection)

    def recheck(self, spans: Iterable[tuple[str, datetime | None, datetime | None]]) -> int:
        """Mark the captures of meters and spans (open ends: None) to be looked at again; how many."""
        with self.writing("marking captures") as connection:
            return sum(unattributed.mark(connection, *span) for span in spans)

    def sweep(self, reason_of: Callable[[str, datetime | None, datetime], str | None], version: int) -> int:
        """Look again at captures last judged by an older directory; how many were judged."""
        total = 0
        while True:
            with self.writing("judging unattributed captures") as connection:
                judged = unattributed.sweep(connection, reason_of, version)
                if judged == 0 and (_cursor(connection, _DIRECTORY) or 0) < version:
                    _set_cursor(connection, _DIRECTORY, version)
                    continue
            if judged == 0:
                return total
            total += judged

    # Beside the readings

    def set_status(self, gateway: str, body: str, received: datetime) -> None:
        """Keep the last status of a gateway."""
        with self.writing("storing a status") as connection:
            row = {"received_at": micros(received), "body": body}
            known = connection.execute(
                update(statuses).where(statuses.c.gateway == gateway).values(**row)
            ).rowcount
            if not known:
                connection.execute(insert(statuses).values(gateway=gateway, **row))

    def statuses(self) -> list[StoredStatus]:
        """The last status of every gateway."""
        with self.reading("listing statuses") as connection:
            return queries.status_list(connection)

    def set_balance(self, account_id: str, as_of: datetime, body: str, received: datetime) -> bool:
        """Keep a balance unless a later one (by `as_of`) is held already."""
        with self.writing("storing a balance") as connection:
            held = connection.execute(
                select(balances.c.as_of).where(balances.c.account_id == account_id)
            ).scalar()
            if held is not None and held > micros(as_of):
                return False
            row = {"as_of": micros(as_of), "received_at": micros(received), "body": body}
            if held is None:
                connection.execute(insert(balances).values(account_id=account_id, **row))
            else:
                connection.execute(update(balances).where(balances.c.account_id == account_id).values(**row))
            return True

    def balance(self, account_id: str) -> StoredBalance | None:
        """The balance that billing last told, or None: never zero by default."""
        with self.reading("reading a balance") as connection:
            return queries.balance(connection, account_id)

    def gaps(self, meter: str | None = None, state: str | None = None) -> list[StoredGap]:
        """Known gaps, by meter and beginning."""
        with self.reading("listing gaps") as connection:
            return queries.gap_list(connection, meter, state)

    def counts(self) -> LedgerCounts:
        """Totals; counts rows, so ask seldom on a large ledger."""
        with self.reading("counting") as connection:
            return queries.counts(connection)

    def meters(self) -> list[str]:
        """Every meter that has a capture."""
        with self.reading("listing meters") as connection:
            return queries.meters(connection)

    def cursor(self, name: str) -> int:
        """A durable number by name, 0 when never set."""
        with self.reading("reading a cursor") as connection:
            return _cursor(connection, name) or 0

    def set_cursor(self, name: str, value: int) -> None:
        """Keep a durable number."""
        with self.writing("moving a cursor") as connection:
            _set_cursor(connection, name, value)


def _cursor(connection: Connection, name: str) -> int | None:
    value: int | None = connection.execute(select(cursors.c.value).where(cursors.c.name == name)).scalar()
    return value


def _set_cursor(connection: Connection, name: str, value: int) -> None:
    known = connection.execute(
        select(func.count()).select_from(cursors).where(cursors.c.name == name)
    ).scalar()
    if known:
        connection.execute(update(cursors).where(cursors.c.name == name).values(value=value))
    else:
        connection.execute(insert(cursors).values(name=name, value=value))


__all__ = ["Ledger", "LedgerError"]
