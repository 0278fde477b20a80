"""What neither central nor its gateway has any more, but a consumer may: live captures there can never be judged.

What the meters keep comes again. What was read as it was does not: where its time was doubted, nobody will ever know
better. Central says so, so that nobody waits for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import func, insert, select

from gateway.central.ledger.database import Database
from gateway.central.ledger.identity import was_set_back
from gateway.central.ledger.journals import JournalBook
from gateway.central.ledger.schema import allocations, journal_lost, journals, verdicts
from gateway.central.ledger.verdict_numbers import newest
from gateway.central.times.judging import LIVE
from gateway.contract.messages import TimeVerdict
from gateway.contract.messages.base import MAX_SEQ

LOST: Final = "lost: neither central nor the gateway has it any more"
"""The evidence of such a verdict."""
MAX_RANGES: Final = 20
"""Ranges of one journal that are spoken of: each costs a verdict for every meter and live profile."""
AT_ONCE: Final = 300
"""Verdicts given in one transaction: what arrives must not wait for all."""

PROFILES: Final = tuple(sorted(LIVE))


class LostRange(NamedTuple):
    """Numbers of a journal that never come again, both included."""

    journal: str
    first: int
    last: int


class LostCaptures:
    """Ranges that were lost with their captures, and the verdicts over them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def state(self) -> tuple[int, datetime | None] | None:
        """Return what differs whenever another range was declared lost; None where central was never set back.

        A central that was not has everything that a consumer has.
        """
        query = select(func.count(), func.max(journal_lost.c.declared_at))
        with self._database.reading("looking for lost captures") as connection:
            if not was_set_back(connection):
                return None
            count, at = connection.execute(query).one()
            return count, at

    def declared(self, journal: str) -> list[tuple[int, int]]:
        """Return the first and last number of what was declared lost of a journal."""
        c = journal_lost.c
        query = select(c.first, c.last).where(c.journal == journal).order_by(c.first)
        with self._database.reading("listing lost captures") as connection:
            return [(row.first, row.last) for row in connection.execute(query)]

    def ranges(self, gateway: str, ended: dict[str, int]) -> list[LostRange]:
        """Return what is lost of a gateway's journals.

        `ended` tells which of them go on under another name, and the number up to which that one has the same: only
        what lies beyond is lost, and it has no known end.
        """
        j, lost = journals.c, journal_lost.c
        declared = (
            select(lost.journal, lost.first, lost.last)
            .join_from(journal_lost, journals, lost.journal == j.journal)
            .where(j.gateway == gateway)
            .order_by(lost.journal, lost.first)
        )
        with self._database.reading("listing lost captures") as connection:
            states = [JournalBook.load(connection, name).state() for name in ended]
            found = [
                LostRange(row.journal, max(row.first, ended.get(row.journal, 0) + 1), row.last)
                for row in connection.execute(declared)
            ]
        found += [
            LostRange(one.journal, max(one.highest, ended[one.journal]) + 1, MAX_SEQ)
            for one in states
            if one.gateway in ("", gateway)
        ]
        return [one for one in found if one.first <= one.last]

    def give(self, gateway: str, ranges: Sequence[LostRange], now: datetime) -> list[TimeVerdict]:
        """Keep the verdicts on a gateway's lost ranges that were not given before, at most AT_ONCE; return them."""
        a, v = allocations.c, verdicts.c
        owned = select(a.meter).where(a.gateway == gateway).distinct().order_by(a.meter)
        given = select(v.meter, v.profile, v.journal, v.first_seq, v.last_seq).where(
            v.evidence == LOST, v.journal.in_({one.journal for one in ranges})
        )
        with self._database.writing("giving lost captures up") as connection:
            done: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
            for row in connection.execute(given):
                done[row.meter, row.profile, row.journal].append((row.first_seq, row.last_seq))
            wanted = (
                (meter, profile, one)
                for meter in connection.execute(owned).scalars().all()
                for profile in PROFILES
                for one in _first_of_each(ranges)
                if not any(a <= one.first and one.last <= b for a, b in done[meter, profile, one.journal])
            )
            said = [
                _verdict(meter, profile, one, version, now)
                for version, (meter, profile, one) in enumerate(
                    islice(wanted, AT_ONCE), newest(connection) + 1
                )
            ]
            if said:
                connection.execute(insert(verdicts), [one.model_dump(exclude={"generation"}) for one in said])
        return said


def _first_of_each(ranges: Iterable[LostRange]) -> list[LostRange]:
    """Return the first MAX_RANGES of each journal."""
    counts: Counter[str] = Counter()
    found = []
    for one in ranges:
        counts[one.journal] += 1
        if counts[one.journal] <= MAX_RANGES or one.last == MAX_SEQ:
            found.append(one)
    return found


def _verdict(meter: str, profile: str, lost: LostRange, version: int, now: datetime) -> TimeVerdict:
    return TimeVerdict(
        verdict_id=f"time/{version}/{meter}",
        meter=meter,
        journal=lost.journal,
        first_seq=lost.first,
        last_seq=lost.last,
        profile=profile,
        trust="untrusted",
        evidence=LOST,
        version=version,
        at=now,
    )
