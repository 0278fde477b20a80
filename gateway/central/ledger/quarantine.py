"""Entries that are kept but not believed: as they came, never evicted, bounded for each gateway."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, tuple_

from gateway.central.ledger.database import Database, columns, in_chunks, records
from gateway.central.ledger.records import QuarantinedEntry, QuarantineGroup
from gateway.central.ledger.schema import quarantine
from gateway.central.ledger.tallies import tally

MAX_OCTETS: Final = 64 << 20
"""Octets kept of one gateway: some 60,000 entries. Beyond it that gateway is no longer acknowledged."""
OVERHEAD: Final = 200
"""Octets that an entry counts for beside its payload."""
MAX_DETAIL: Final = 300
QUARANTINED: Final = "quarantined"
"""Name of their number."""


class Quarantine:
    """What waits for a person, a newer program or another allocation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self) -> list[QuarantineGroup]:
        """Return what is kept, counted by gateway, meter and reason."""
        c = quarantine.c
        query = (
            select(
                c.gateway,
                c.meter,
                c.reason,
                func.max(c.detail).label("detail"),
                func.count().label("entries"),
                func.sum(c.size).label("octets"),
                func.min(c.received_at).label("first_at"),
                func.max(c.received_at).label("last_at"),
            )
            .group_by(c.gateway, c.meter, c.reason)
            .order_by(c.gateway, c.meter, c.reason)
        )
        with self._database.reading("listing quarantine") as connection:
            return records(connection, QuarantineGroup, query)

    def full(self) -> list[str]:
        """Return the gateways that are no longer acknowledged because their quarantine is full."""
        c = quarantine.c
        query = select(c.gateway).group_by(c.gateway).having(func.sum(c.size) >= MAX_OCTETS - MARGIN)
        with self._database.reading("listing full quarantines") as connection:
            return list(connection.execute(query.order_by(c.gateway)).scalars())

    def entries(
        self,
        gateway: str,
        *,
        meter: str | None = None,
        reasons: Collection[str] | None = None,
        after: tuple[str, int] = ("", 0),
        limit: int = 200,
    ) -> list[QuarantinedEntry]:
        """Return entries of a gateway by journal and seq, from behind `after` on; None of a filter takes all."""
        c = quarantine.c
        query = select(*columns(quarantine, QuarantinedEntry)).where(
            c.gateway == gateway, tuple_(c.journal, c.seq) > after
        )
        if meter is not None:
            query = query.where(c.meter == meter)
        if reasons is not None:
            query = query.where(c.reason.in_(reasons))
        with self._database.reading("reading quarantine") as connection:
            return records(connection, QuarantinedEntry, query.order_by(c.journal, c.seq).limit(limit))

    def remove(self, entries: Sequence[QuarantinedEntry]) -> int:
        """Drop entries that were stored after all, or that a person judged worthless; return how many."""
        with self._database.writing("emptying quarantine") as connection:
            removed = sum(
                connection.execute(
                    delete(quarantine).where(
                        and_(
                            quarantine.c.gateway == one.gateway,
                            quarantine.c.journal == one.journal,
                            quarantine.c.seq == one.seq,
                        )
                    )
                ).rowcount
                for one in entries
            )
            tally(connection, {QUARANTINED: -removed})
            return removed


# Made once, as every transaction asks it.
_HELD: Final = select(quarantine.c.seq).where(
    quarantine.c.gateway == bindparam("of_gateway"),
    quarantine.c.journal == bindparam("of_journal"),
    quarantine.c.seq.between(bindparam("first"), bindparam("last")),
)
MARGIN: Final = 1 << 20
"""How near to its bound a quarantine counts as full: the next entry may be as large as a message."""


def keep(connection: Connection, entries: Sequence[QuarantinedEntry]) -> list[QuarantinedEntry]:
    """Keep entries of one gateway in the caller's transaction; return those that are kept, now or before.

    The others found it full: whoever sent them must not be told that they are safe.
    """
    if not entries:
        return []
    gateway = entries[0].gateway
    known = _known(connection, entries)
    room = MAX_OCTETS - _held(connection, gateway)
    kept, rows = [], []
    for one in entries:
        if (one.journal, one.seq) in known:
            kept.append(one)
        elif one.size <= room:
            room -= one.size
            known.add((one.journal, one.seq))
            kept.append(one)
            rows.append({c.name: getattr(one, c.name) for c in columns(quarantine, QuarantinedEntry)})
    if rows:
        connection.execute(insert(quarantine), rows)
        tally(connection, {QUARANTINED: len(rows)}, gateway)
    return kept


def is_kept(connection: Connection, entry: QuarantinedEntry) -> bool:
    """Return whether this entry is in quarantine already."""
    return bool(_known(connection, [entry]))


def forget(connection: Connection, gateway: str, journal: str, seqs: Collection[int]) -> None:
    """Drop entries that are stored now, in the transaction that stores them."""
    if not seqs:
        return
    span = {"of_gateway": gateway, "of_journal": journal, "first": min(seqs), "last": max(seqs)}
    held = set(connection.execute(_HELD, span).scalars())
    c = quarantine.c
    tally(connection, {QUARANTINED: -len(held.intersection(seqs))}, gateway)
    for some in in_chunks(sorted(held.intersection(seqs))):
        connection.execute(
            delete(quarantine).where(c.gateway == gateway, c.journal == journal, c.seq.in_(some))
        )


def _known(connection: Connection, entries: Sequence[QuarantinedEntry]) -> set[tuple[str, int]]:
    c = quarantine.c
    found: set[tuple[str, int]] = set()
    for journal in {one.journal for one in entries}:
        seqs = [one.seq for one in entries if one.journal == journal]
        for some in in_chunks(seqs):
            query = select(c.seq).where(
                c.gateway == entries[0].gateway, c.journal == journal, c.seq.in_(some)
            )
            found |= {(journal, seq) for seq in connection.execute(query).scalars()}
    return found


def _held(connection: Connection, gateway: str) -> int:
    c = quarantine.c
    return connection.execute(select(func.sum(c.size)).where(c.gateway == gateway)).scalar() or 0
