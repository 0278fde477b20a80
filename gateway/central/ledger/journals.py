"""Which entries of each journal are stored: kept in the same transaction as the entries themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from gateway.central.ledger.records import IngestResult, JournalState
from gateway.central.ledger.schema import instant, journal_islands, journal_lost, journals
from gateway.seqset import SeqSet


@dataclass(slots=True)
class JournalBook:
    """One journal's stored sequence numbers and counters."""

    journal: str
    gateway: str
    seqs: SeqSet
    stored: int = 0
    repeated: int = 0
    revised: int = 0
    first_seen: int = 0
    last_seen: int = 0
    known: bool = False

    @classmethod
    def load(cls, connection: Connection, journal: str) -> JournalBook:
        """Read a journal's book; an unknown journal gives an empty one."""
        row = connection.execute(select(journals).where(journals.c.journal == journal)).one_or_none()
        if row is None:
            return cls(journal, "", SeqSet())
        islands = connection.execute(
            select(journal_islands.c.first, journal_islands.c.last)
            .where(journal_islands.c.journal == journal)
            .order_by(journal_islands.c.first)
        )
        return cls(
            journal,
            row.gateway,
            SeqSet.of(row.contiguous, ((i.first, i.last) for i in islands)),
            row.stored,
            row.repeated,
            row.revised,
            row.first_seen,
            row.last_seen,
            known=True,
        )

    def state(self) -> JournalState:
        """Return what callers see."""
        return JournalState(
            journal=self.journal,
            gateway=self.gateway,
            contiguous=self.seqs.contiguous,
            highest=self.seqs.highest,
            holes=tuple(self.seqs.holes()),
            stored=self.stored,
            repeated=self.repeated,
            revised=self.revised,
            first_seen=instant(self.first_seen),
            last_seen=instant(self.last_seen),
        )

    def record(
        self, connection: Connection, gateway: str, seqs: Iterable[int], result: IngestResult, received: int
    ) -> None:
        """Add stored numbers and counters, and write what changed."""
        before = set(self.seqs.islands)
        for seq in seqs:
            self.seqs.add(seq)
        self.gateway = gateway
        self.stored += result.stored
        self.repeated += result.repeated
        self.revised += result.revised
        self.first_seen = self.first_seen or received
        self.last_seen = max(self.last_seen, received)
        self._save(connection, before)

    def declare_lost(self, connection: Connection, first: int, last: int, reason: str, at: int) -> None:
        """Give up those of first..last that are missing, so that the contiguous beginning moves on."""
        before = set(self.seqs.islands)
        missing = [
            (max(low, first), min(high, last))
            for low, high in self.seqs.holes(last)
            if low <= last and high >= first
        ]
        for low, high in missing:
            self.seqs.add_range(low, high)
            connection.execute(
                insert(journal_lost).values(
                    journal=self.journal, first=low, last=high, declared_at=at, reason=reason
                )
            )
        self.first_seen = self.first_seen or at
        self._save(connection, before)

    def _save(self, connection: Connection, before: set[tuple[int, int]]) -> None:
        row = {
            "gateway": self.gateway,
            "contiguous": self.seqs.contiguous,
            "stored": self.stored,
            "repeated": self.repeated,
            "revised": self.revised,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
        }
        if self.known:
            connection.execute(update(journals).where(journals.c.journal == self.journal).values(**row))
        else:
            connection.execute(insert(journals).values(journal=self.journal, **row))
            self.known = True
        after = set(self.seqs.islands)
        islands = journal_islands.c
        for first, _ in before - after:
            connection.execute(
                delete(journal_islands).where(islands.journal == self.journal, islands.first == first)
            )
        if after - before:
            connection.execute(
                insert(journal_islands),
                [{"journal": self.journal, "first": a, "last": b} for a, b in sorted(after - before)],
            )
