"""The ledger: every capture for ever, keyed by meter; whose it is comes from the directory when asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, literal, select

from gateway.central.ledger.alive import SignsOfLife
from gateway.central.ledger.allocations import Allocations, KnownAllocations
from gateway.central.ledger.balances import Balances
from gateway.central.ledger.captures import Captures
from gateway.central.ledger.carried import Carried
from gateway.central.ledger.cursors import Cursors, unversioned
from gateway.central.ledger.database import Database, LedgerError, NoLedger, is_of_the_values, was_in_the_way
from gateway.central.ledger.dead_letters import DeadLetters
from gateway.central.ledger.directory_seen import DirectorySeen
from gateway.central.ledger.edges import EdgeRegister
from gateway.central.ledger.gaps import OPEN_GAPS, Gaps
from gateway.central.ledger.identity import Identity
from gateway.central.ledger.ingest import NeedsToBeAlone, ingest, set_apart
from gateway.central.ledger.journals import Journals
from gateway.central.ledger.lost import LostCaptures
from gateway.central.ledger.meter_states import MeterStates
from gateway.central.ledger.quarantine import QUARANTINED, Quarantine
from gateway.central.ledger.records import IngestResult, LedgerCounts, QuarantinedEntry, ReceivedBatch
from gateway.central.ledger.rereads import Rereads
from gateway.central.ledger.revisions import check_batch
from gateway.central.ledger.schema import (
    dead_letters,
    journal_islands,
    journal_lost,
    journals,
)
from gateway.central.ledger.spans import TALLY
from gateway.central.ledger.state_tables import meter_states
from gateway.central.ledger.statuses import Statuses
from gateway.central.ledger.tallies import tallied
from gateway.central.ledger.times import Times
from gateway.central.ledger.unattributed import COUNTED_REASONS, UnattributedCaptures
from gateway.central.ledger.use import UseDays
from gateway.central.storage.versions import EmptyStore, StoreVersions, WrongStoreVersion
from gateway.contract.field import visited_gateway
from gateway.errors import ContractError

MOST_COUNTED = 1_000_000
"""Where so many wait, one more changes nothing for whoever reads the number."""
LOOKS, LOOK_AGAIN = 100, 0.05
"""How often, and after how many seconds, a reader looks again at a ledger that is being made."""
VERSIONS = StoreVersions("ledger", "gateway.central.ledger.versions", unversioned)


class Ledger:
    """One ledger, by subject: `ledger.captures.between(…)`, `ledger.journals.state(…)`.

    Methods block and may be called from any thread; writers take turns. Every method raises LedgerError
    when the database fails. One process writes readings to a file; on a server, several may, and those of different
    gateways at once.
    """

    def __init__(self, where: Path | str, *, read_only: bool = False) -> None:
        """Open or make the file at a path, or the tables in a PostgreSQL at a URL (`postgresql://…`).

        LedgerError when it is no ledger. One of an older version is brought up to date, or refused when opened for
        reading only; one of a newer version is always refused.
        """
        path = None if "://" in str(where) else Path(where)
        if path is not None and read_only and not path.is_file():
            raise NoLedger(f"there is no ledger at {path}")
        if path is not None and not read_only and not path.exists():
            _make(path)
        self.database = Database(where, read_only=read_only)
        _at_newest_version(self.database, self.database.where)
        self.captures = Captures(self.database)
        self.journals = Journals(self.database)
        self.gaps = Gaps(self.database)
        self.unattributed = UnattributedCaptures(self.database)
        self.meters = MeterStates(self.database)
        self.use = UseDays(self.database)
        self.statuses = Statuses(self.database)
        self.alive = SignsOfLife(self.database)
        self.balances = Balances(self.database)
        self.letters = DeadLetters(self.database)
        self.edges = EdgeRegister(self.database)
        self.cursors = Cursors(self.database)
        self.identity = Identity(self.database, path)
        self.directory_seen = DirectorySeen(self.database)
        self.rereads = Rereads(self.database)
        self.carried = Carried(self.database)
        self.allocations = Allocations(self.database)
        self._known_allocations = KnownAllocations()
        self.quarantine = Quarantine(self.database)
        self.times = Times(self.database)
        self.lost = LostCaptures(self.database)

    def close(self) -> None:
        """Release the database."""
        self.database.close()

    def ingest(self, batches: Sequence[ReceivedBatch]) -> IngestResult:
        """Store batches in one transaction: all or none, durable on return.

        Raises ContractError when they can never be stored; then nothing of them was.
        """
        for received in batches:
            check_batch(received)
        stored = None if self.database.is_file else self._ingest_beside_others(batches)
        if stored is not None:
            return stored
        try:
            with self.database.writing("storing readings") as connection:
                return ingest(connection, batches, self._known_allocations, alone=True)
        except LedgerError as error:
            if is_of_the_values(error.__cause__):
                raise ContractError(f"the ledger cannot hold this batch: {error}") from error
            raise

    def _ingest_beside_others(self, batches: Sequence[ReceivedBatch]) -> IngestResult | None:
        """Store batches while other processes store those of other gateways; None where that is not to be had."""
        gateways = {visited_gateway(one.gateway) for one in batches}
        try:
            with self.database.sharing("storing readings", gateways) as connection:
                return ingest(connection, batches, self._known_allocations, alone=False)
        except NeedsToBeAlone:
            return None
        except LedgerError as error:
            # Two stored the same at once, or wait for each other: alone it is plain who was first.
            if is_of_the_values(error.__cause__) or was_in_the_way(error.__cause__):
                return None
            raise

    def set_apart(self, entry: QuarantinedEntry) -> IngestResult:
        """Keep an entry that cannot be read or stored; durable on return."""
        with self.database.writing("keeping an entry") as connection:
            return set_apart(connection, entry)

    def counts(self) -> LedgerCounts:
        """Return totals, as kept at ingest or counted in an index; captures are never gone through."""
        full = self.quarantine.full()
        with self.database.reading("counting") as connection:

            def count(table: Table, *where: Any) -> int:
                some = select(literal(1)).select_from(table).where(*where).limit(MOST_COUNTED).subquery()
                return connection.execute(select(func.count()).select_from(some)).scalar() or 0

            numbers = tallied(connection)
            j = journals.c
            kept = connection.execute(
                select(
                    *(func.coalesce(func.sum(column), 0) for column in (j.stored, j.revised, j.repeated)),
                    func.count(),
                )
            ).one()
            lost = select(func.coalesce(func.sum(journal_lost.c.last - journal_lost.c.first + 1), 0))
            return LedgerCounts(
                captures=int(kept[0]),
                superseded=int(kept[1]),
                repeated=int(kept[2]),
                unattributed=sum(numbers.get(f"{TALLY}{reason}", 0) for reason in COUNTED_REASONS),
                open_gaps=numbers.get(OPEN_GAPS, 0),
                dead_letters=count(dead_letters),
                journals=int(kept[3]),
                holes=count(journal_islands),
                lost=int(connection.execute(lost).scalar() or 0),
                quarantined=numbers.get(QUARANTINED, 0),
                full_quarantines=len(full),
                meters=count(meter_states, meter_states.c.heard_at.is_not(None)),
            )


def _make(path: Path) -> None:
    """Make the file whole before it has its name: whoever reads it finds either none or its tables."""
    fresh = path.with_name(f"{path.name}.new")
    for left in (fresh, *(fresh.with_name(fresh.name + side) for side in ("-wal", "-shm"))):
        left.unlink(missing_ok=True)
    database = Database(fresh, read_only=False)
    _at_newest_version(database, str(path))
    database.close()
    fresh.replace(path)


def _at_newest_version(database: Database, where: str) -> None:
    try:
        if database.read_only:
            _check_version(database, where)
        else:
            with database.writing(f"opening {where}") as connection:
                VERSIONS.bring_up_to_date(connection, where)
    except WrongStoreVersion as error:
        database.close()
        raise (NoLedger if isinstance(error, EmptyStore) else LedgerError)(str(error)) from error
    except LedgerError:
        database.close()
        raise


def _check_version(database: Database, where: str) -> None:
    """Check a ledger that was opened for reading; a file that central is just making is waited for."""
    for _ in range(LOOKS if database.is_file else 0):
        with database.reading(f"opening {where}") as connection:
            try:
                VERSIONS.check(connection, where)
            except EmptyStore:
                pass
            else:
                return
        time.sleep(LOOK_AGAIN)
    with database.reading(f"opening {where}") as connection:
        VERSIONS.check(connection, where)
