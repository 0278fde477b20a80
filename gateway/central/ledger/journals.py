"""Which entries of each journal are stored: kept in the same transaction as the entries themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from gateway.central.ledger.database import Database, put
from gateway.central.ledger.records import IngestResult, JournalFaults, JournalState, MissingEntries
from gateway.central.ledger.schema import journal_islands, journal_lost, journals
from gateway.seqset import SeqSet
from mapping.instants import EPOCH

MAX_ISLANDS = 10_000
"""Ranges behind holes that are counted of one journal: what lies beyond is stored, and asked for once more."""
# Made once: every transaction asks them, and making a query takes longer than its answer.
_BOOK = select(journals).where(journals.c.journal == bindparam("name"))
_LOCKED_BOOK = _BOOK.with_for_update()
_ISLANDS = (
    select(journal_islands.c.first, journal_islands.c.last)
    .where(journal_islands.c.journal == bindparam("name"))
    .order_by(journal_islands.c.first)
)


class Journals:
    """How far each edge's journal is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def state(self, journal: str) -> JournalState:
        """Return how much of a journal is stored; one never seen has contiguous 0 and no gateway."""
        with self._database.reading("reading a journal's state") as connection:
            return JournalBook.load(connection, journal).state()

    def all(self) -> list[JournalState]:
        """Return every journal ever seen, by gateway."""
        names = select(journals.c.journal).order_by(journals.c.gateway, journals.c.journal)
        with self._database.reading("listing journals") as connection:
            return [
                JournalBook.load(connection, name).state()
                for name in connection.execute(names).scalars().all()
            ]

    def declare_lost(self, journal: str, first: int, last: int, reason: str, at: datetime) -> None:
        """Give up first..last of a journal (its edge says that it no longer holds them); kept on record."""
        with self._database.writing("declaring entries lost") as connection:
            JournalBook.load(connection, journal).declare_lost(connection, first, last, reason, at)

    def retire(self, gateway: str, at: datetime) -> list[str]:
        """Give a gateway's journals up: its box died, and what wakes with them is a stranger. Return their names."""
        retired = f"{gateway[:40]}.replaced-{at:%Y%m%dT%H%M%SZ}"
        c = journals.c
        with self._database.writing("retiring journals") as connection:
            names = list(connection.execute(select(c.journal).where(c.gateway == gateway)).scalars())
            connection.execute(update(journals).where(c.gateway == gateway).values(gateway=retired))
        return names

    def missing(self) -> list[MissingEntries]:
        """Return every range that central lacks, by gateway: those asked for again and those given up."""
        j, lost = journals.c, journal_lost.c
        given_up = (
            select(j.gateway, lost.journal, lost.first, lost.last, lost.declared_at, lost.reason)
            .join_from(journal_lost, journals, lost.journal == j.journal, isouter=True)
            .order_by(lost.journal, lost.first)
        )
        with_holes = select(journal_islands.c.journal).distinct()
        with self._database.reading("listing missing entries") as connection:
            found = [
                MissingEntries(
                    gateway=row.gateway or "",
                    journal=row.journal,
                    first=row.first,
                    last=row.last,
                    lost_at=row.declared_at,
                    reason=row.reason,
                )
                for row in connection.execute(given_up)
            ]
            for journal in connection.execute(with_holes).scalars().all():
                state = JournalBook.load(connection, journal).state()
                found += (
                    MissingEntries(
                        gateway=state.gateway,
                        journal=journal,
                        first=first,
                        last=last,
                        lost_at=None,
                        reason="asked for again",
                    )
                    for first, last in state.holes
                )
        return sorted(found, key=lambda one: (one.gateway, one.journal, one.first))

    def faults(self, lost_since: datetime) -> list[JournalFaults]:
        """Return, by gateway, how many ranges are missing now, and the entries declared lost since an instant."""
        j, lost = journals.c, journal_lost.c
        holes = (
            select(j.gateway, func.count().label("holes"), func.max(j.last_seen).label("last_seen"))
            .join_from(journal_islands, journals, journal_islands.c.journal == j.journal)
            .group_by(j.gateway)
        )
        gone = (
            select(
                j.gateway,
                # Not as integers: two journals that began at the highest numbers would be too many for a database.
                func.sum((lost.last - lost.first + 1) * 1.0).label("entries"),
                func.min(lost.declared_at).label("since"),
                func.max(lost.reason).label("reason"),
            )
            .join_from(journal_lost, journals, lost.journal == j.journal)
            .where(lost.declared_at >= lost_since)
            .group_by(j.gateway)
        )
        with self._database.reading("looking for missing entries") as connection:
            open_ranges = {row.gateway: row for row in connection.execute(holes)}
            given_up = {row.gateway: row for row in connection.execute(gone)}
        found = []
        for gateway in sorted({*open_ranges, *given_up}):
            hole, loss = open_ranges.get(gateway), given_up.get(gateway)
            found.append(
                JournalFaults(
                    gateway=gateway,
                    holes=hole.holes if hole else 0,
                    last_seen=hole.last_seen if hole else None,
                    lost=int(loss.entries) if loss else 0,
                    lost_since=loss.since if loss else None,
                    lost_reason=loss.reason if loss else None,
                )
            )
        return found


@dataclass(slots=True)
class JournalBook:
    """One journal's stored sequence numbers and counters; EPOCH stands for never seen."""

    journal: str
    gateway: str
    seqs: SeqSet
    stored: int = 0
    repeated: int = 0
    revised: int = 0
    first_seen: datetime = EPOCH
    last_seen: datetime = EPOCH

    @classmethod
    def load(cls, connection: Connection, journal: str, *, lock: bool = False) -> JournalBook:
        """Read a journal's book; an unknown journal gives an empty one.

        With `lock` no other process reads it so until the transaction ends.
        """
        row = connection.execute(_LOCKED_BOOK if lock else _BOOK, {"name": journal}).one_or_none()
        if row is None:
            return cls(journal, "", SeqSet())
        islands = connection.execute(_ISLANDS, {"name": journal})
        return cls(
            journal,
            row.gateway,
            SeqSet.of(row.contiguous, ((i.first, i.last) for i in islands)),
            row.stored,
            row.repeated,
            row.revised,
            row.first_seen,
            row.last_seen,
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
            first_seen=self.first_seen,
            last_seen=self.last_seen,
        )

    def record(
        self,
        connection: Connection,
        gateway: str,
        seqs: Iterable[int],
        result: IngestResult,
        received: datetime,
    ) -> None:
        """Add stored numbers and counters, and write what changed."""
        before = set(self.seqs.islands)
        self.seqs.add_all(seqs)
        if len(islands := self.seqs.islands) > MAX_ISLANDS:
            self.seqs = SeqSet.of(self.seqs.contiguous, islands[:MAX_ISLANDS])
        self.gateway = gateway
        self.stored += result.stored
        self.repeated += result.repeated
        self.revised += result.revised
        self.last_seen = max(self.last_seen, received)
        self._save(connection, before, received)

    def declare_lost(self, connection: Connection, first: int, last: int, reason: str, at: datetime) -> None:
        """Give up those of first..last that are missing, so that the contiguous beginning moves on."""
        before = set(self.seqs.islands)
        # Only the holes: what lies stored between them is not lost, and must not be put on record as such.
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
        self._save(connection, before, at)

    def _save(self, connection: Connection, before: set[tuple[int, int]], now: datetime) -> None:
        if self.first_seen == EPOCH:
            self.first_seen = now
        put(
            connection,
            journals,
            {"journal": self.journal},
            {
                "gateway": self.gateway,
                "contiguous": self.seqs.contiguous,
                "stored": self.stored,
                "repeated": self.repeated,
                "revised": self.revised,
                "first_seen": self.first_seen,
                "last_seen": self.last_seen,
            },
        )
        # Islands come and go as holes are filled: only those that changed are written.
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


def journals_of(connection: Connection, gateway: str) -> int:
    """Return how many journals a gateway has."""
    query = select(func.count()).select_from(journals).where(journals.c.gateway == gateway)
    return connection.execute(query).scalar() or 0
