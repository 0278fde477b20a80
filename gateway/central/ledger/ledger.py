"""The ledger: every capture for ever, keyed by meter; whose it is comes from the directory when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, StatementError

from gateway.central.ledger.captures import Captures
from gateway.central.ledger.cursors import Cursors, read_cursor, unversioned
from gateway.central.ledger.database import Database, LedgerError
from gateway.central.ledger.dead_letters import DeadLetters
from gateway.central.ledger.edges import EdgeRegister
from gateway.central.ledger.gaps import Gaps, store_gaps
from gateway.central.ledger.journals import JournalBook, Journals
from gateway.central.ledger.records import IngestResult, LedgerCounts, ReceivedBatch
from gateway.central.ledger.revisions import capture_rows, check_batch, sequence, store_captures
from gateway.central.ledger.schema import (
    captures,
    dead_letters,
    gaps,
    journal_islands,
    journals,
    superseded,
    unattributed,
)
from gateway.central.ledger.statuses import Balances, Statuses
from gateway.central.ledger.unattributed import JUDGED_BY, PENDING, UnattributedCaptures
from gateway.central.storage.versions import StoreVersions, WrongStoreVersion
from gateway.errors import ContractError

VERSIONS = StoreVersions("ledger", "gateway.central.ledger.versions", unversioned)


class Ledger:
    """One ledger file, by subject: `ledger.captures.between(…)`, `ledger.journals.state(…)`.

    Methods block and may be called from any thread; writers take turns. Every method raises LedgerError
    when the database fails. One process writes readings; others may read.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or make the file at `path`; LedgerError when it is no ledger.

        A file of an older version is brought up to date, or refused when opened for reading only; one of a
        newer version is always refused.
        """
        if read_only and not path.is_file():
            raise LedgerError(f"there is no ledger at {path}")
        self.database = Database(path, read_only=read_only)
        _at_newest_version(self.database, path)
        self.captures = Captures(self.database)
        self.journals = Journals(self.database)
        self.gaps = Gaps(self.database)
        self.unattributed = UnattributedCaptures(self.database)
        self.statuses = Statuses(self.database)
        self.balances = Balances(self.database)
        self.letters = DeadLetters(self.database)
        self.edges = EdgeRegister(self.database)
        self.cursors = Cursors(self.database)

    def close(self) -> None:
        """Release the file."""
        self.database.close()

    def ingest(self, batches: Sequence[ReceivedBatch]) -> IngestResult:
        """Store batches in one transaction: all or none, durable on return.

        Raises ContractError when they can never be stored; then nothing of them was.
        """
        for received in batches:
            check_batch(received.batch)
        try:
            with self.database.writing("storing readings") as connection:
                return _ingest(connection, batches)
        except LedgerError as error:
            cause = error.__cause__
            if (
                isinstance(cause, DataError | IntegrityError | InterfaceError)
                or type(cause) is StatementError
            ):
                raise ContractError(f"the ledger cannot hold this batch: {error}") from error
            raise

    def counts(self) -> LedgerCounts:
        """Return totals; rows are counted, so ask seldom on a large ledger."""
        meters = len(self.captures.meters())
        with self.database.reading("counting") as connection:

            def count(table: Table, *where: Any) -> int:
                return connection.execute(select(func.count()).select_from(table).where(*where)).scalar() or 0

            repeated = select(func.coalesce(func.sum(journals.c.repeated), 0))
            return LedgerCounts(
                captures=count(captures),
                superseded=count(superseded),
                repeated=connection.execute(repeated).scalar() or 0,
                unattributed=count(unattributed, unattributed.c.reason != PENDING),
                open_gaps=count(gaps, gaps.c.state == "open"),
                dead_letters=count(dead_letters),
                journals=count(journals),
                holes=count(journal_islands),
                meters=meters,
            )


def _at_newest_version(database: Database, path: Path) -> None:
    doing = f"opening {path}"
    try:
        if database.read_only:
            with database.reading(doing) as connection:
                VERSIONS.check(connection, str(path))
        else:
            with database.writing(doing) as connection:
                VERSIONS.bring_up_to_date(connection, str(path))
    except WrongStoreVersion as error:
        database.close()
        raise LedgerError(str(error)) from error
    except LedgerError:
        database.close()
        raise


def _ingest(connection: Connection, batches: Sequence[ReceivedBatch]) -> IngestResult:
    known = read_cursor(connection, JUDGED_BY) or 0
    total = IngestResult()
    # A journal's book and its entries change in one transaction: what is acknowledged is stored.
    for journal in dict.fromkeys(received.batch.journal for received in batches):
        own = [received for received in batches if received.batch.journal == journal]
        last = own[-1]
        book = JournalBook.load(connection, journal)
        rows = [row for received in own for row in capture_rows(received)]
        result = store_captures(connection, rows, known)
        gaps_found = [(gap, received.batch) for received in own for gap in received.batch.gaps]
        if gaps_found:
            result += IngestResult(gaps=store_gaps(connection, gaps_found, last.at))
        seqs = [seq for received in own for seq in sequence(received.batch) if seq is not None]
        book.record(connection, last.batch.gateway, seqs, result, last.at)
        total += result
    return total
