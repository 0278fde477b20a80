"""Which gateway reads which meter, from when: the relation that decides whose word counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database, columns, in_chunks, records
from gateway.central.ledger.identity import generation_counter
from gateway.central.ledger.meter_states import note_words
from gateway.central.ledger.records import Allocation
from gateway.central.ledger.schema import allocations
from gateway.contract.topics import gateway_name

CHANGED: Final = "allocations_changed"
"""Cursor: counts the changes of allocations, so that others notice them."""
TOLD: Final = "allocations_told"
"""Cursor: counts the tellings of allocations to billing; each allocation keeps the number of its own."""
FIRST_TELLING: Final = 2
"""What an older central told was marked with 1: it was told long ago."""
MOVES_OF_A_LIFE: Final = 10
"""Epochs of one meter that a ledger which was set back may have lost: a meter moves a few times in its life."""
MAX_KNOWN: Final = 200_000
"""Meters whose allocations are kept in memory."""
MAX_CLAIMS: Final = 20_000
"""Meters that one gateway may claim by delivering them, until a person confirms some: an edge has 10,000 at most."""


class Allocations:
    """Every allocation that ever was, by meter and epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def history(self, meter: str) -> list[Allocation]:
        """Return a meter's allocations by epoch; the last is in force."""
        with self._database.reading("reading allocations") as connection:
            return histories(connection, [meter]).get(meter, [])

    def current(self, gateway: str | None = None) -> list[Allocation]:
        """Return the allocations in force by meter: of one gateway, or of all."""
        query = select(*columns(allocations, Allocation)).where(allocations.c.until.is_(None))
        if gateway is not None:
            query = query.where(allocations.c.gateway == gateway)
        with self._database.reading("listing allocations") as connection:
            return records(connection, Allocation, query.order_by(allocations.c.meter))

    def claims(self) -> list[tuple[str, int, datetime]]:
        """Return each gateway whose meters nobody has confirmed: how many they are, and since when."""
        c = allocations.c
        query = (
            select(c.gateway, func.count(), func.min(c.since))
            .where(c.until.is_(None), c.origin == "claimed")
            .group_by(c.gateway)
            .order_by(c.gateway)
        )
        with self._database.reading("listing claims") as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def gateways_of(self, meters: Sequence[str]) -> set[str]:
        """Return the gateways that read any of these meters now."""
        c = allocations.c
        found: set[str] = set()
        with self._database.reading("listing gateways") as connection:
            for some in in_chunks(meters):
                query = select(c.gateway).where(c.meter.in_(some), c.until.is_(None)).distinct()
                found.update(connection.execute(query).scalars())
        return found

    def has_any(self, gateway: str) -> bool:
        """Say whether any meter is allocated to a gateway now."""
        c = allocations.c
        query = select(c.meter).where(c.gateway == gateway, c.until.is_(None)).limit(1)
        with self._database.reading("looking for allocations") as connection:
            return connection.execute(query).first() is not None

    def summaries(self) -> dict[str, tuple[int, int, datetime]]:
        """Return of each gateway a sum over its allocations that differs when any of them does."""
        c = allocations.c
        query = (
            select(c.gateway, func.count(), func.sum(c.epoch), func.max(c.known_at))
            .where(c.until.is_(None))
            .group_by(c.gateway)
        )
        with self._database.reading("summing allocations") as connection:
            return {row[0]: (row[1], row[2], row[3]) for row in connection.execute(query)}

    def changed(self) -> int:
        """Return a number that rises with every change."""
        with self._database.reading("reading a cursor") as connection:
            return read_cursor(connection, CHANGED) or 0

    def untold(self, limit: int) -> list[Allocation]:
        """Return allocations that billing has not heard of as they are now, the oldest knowledge first."""
        c = allocations.c
        query = select(*columns(allocations, Allocation)).where(c.told == 0)
        with self._database.reading("listing untold allocations") as connection:
            return records(connection, Allocation, query.order_by(c.known_at, c.meter, c.epoch).limit(limit))

    def set_told(self, told: Sequence[Allocation]) -> None:
        """Note that billing was told of these, in one telling more; one that has changed since stays untold."""
        c = allocations.c
        with self._database.writing("noting told allocations") as connection:
            number = (read_cursor(connection, TOLD) or FIRST_TELLING - 1) + 1
            write_cursor(connection, TOLD, number)
            for one in told:
                same = (c.since == one.since, c.until.is_not_distinct_from(one.until))
                mine = (c.meter == one.meter, c.epoch == one.epoch, *same)
                connection.execute(update(allocations).where(*mine).values(told=number))

    def tellings(self) -> int:
        """Return the number of the last telling."""
        with self._database.reading("reading a cursor") as connection:
            return read_cursor(connection, TOLD) or 0

    def untell(self, after: int) -> None:
        """Have all told again that was told after a telling: nobody may have heard it."""
        last = max(after, FIRST_TELLING - 1)
        with self._database.writing("telling allocations again") as connection:
            connection.execute(update(allocations).where(allocations.c.told > last).values(told=0))

    def give_new(self, meters: Iterable[str], gateway: str, *, by: str, at: datetime) -> None:
        """Allocate those of the meters that no gateway ever had."""
        wanted = sorted(set(meters))
        with self._database.writing("allocating meters") as connection:
            held = histories(connection, wanted)
            if new := [meter for meter in wanted if meter not in held]:
                for meter in new:
                    _give(connection, meter, [], gateway, by=by, note="", since=at, at=at)
                note_words(connection, new)
                bump(connection)

    def give(
        self, meters: Iterable[str], gateway: str, *, by: str, note: str, since: datetime, at: datetime
    ) -> list[Allocation]:
        """Allocate meters to a gateway from `since`; return the allocations in force then, by meter.

        Where the meter is this gateway's already, the allocation stands and is confirmed by name; where it is
        another's, that one's ends and a new epoch begins, no earlier than the one that it ends. ConfigError when no
        gateway can have that name.
        """
        wanted = sorted(set(meters))
        gateway_name(gateway)
        with self._database.writing("allocating meters") as connection:
            held = histories(connection, wanted)
            given = [
                _give(connection, meter, held.get(meter, []), gateway, by=by, note=note, since=since, at=at)
                for meter in wanted
            ]
            note_words(connection, wanted)
            bump(connection)
            return given


def _give(
    connection: Connection,
    meter: str,
    history: Sequence[Allocation],
    gateway: str,
    *,
    by: str,
    note: str,
    since: datetime,
    at: datetime,
) -> Allocation:
    made = Allocation(
        meter=meter,
        epoch=next_epoch(connection, history),
        gateway=gateway,
        since=since,
        until=None,
        origin="given",
        by=by,
        note=note,
        known_at=at,
    )
    c = allocations.c
    if history:
        current = history[-1]
        mine = (c.meter == meter, c.epoch == current.epoch)
        if current.gateway == gateway:
            confirmed = replace(made, epoch=current.epoch, since=current.since)
            connection.execute(update(allocations).where(*mine).values(**_row(confirmed)))
            return confirmed
        if len(history) == 1:
            # Nobody knows when the first began: it covers whatever was before.
            since = min(since, current.since)
            connection.execute(update(allocations).where(*mine).values(since=since, told=0))
        else:
            made = replace(made, since=max(since, current.since))
        connection.execute(update(allocations).where(*mine).values(until=made.since, told=0))
    enter(connection, [made])
    return made


def next_epoch(connection: Connection, history: Sequence[Allocation]) -> int:
    """Return the epoch of a meter's next allocation: above all that a former life of the ledger may have told.

    Consumers keep what they were told first of an epoch: one that was lost with the ledger is not given twice.
    """
    last = history[-1].epoch if history else 0
    return max(last, MOVES_OF_A_LIFE * (generation_counter(connection) - 1)) + 1


def _row(one: Allocation) -> dict[str, object]:
    return {column.name: getattr(one, column.name) for column in columns(allocations, Allocation)}


def histories(connection: Connection, meters: Sequence[str]) -> dict[str, list[Allocation]]:
    """Return the allocations of some meters inside the caller's transaction, each meter's by epoch."""
    found: dict[str, list[Allocation]] = {}
    for some in in_chunks(list(meters)):
        query = select(*columns(allocations, Allocation)).where(allocations.c.meter.in_(some))
        for one in records(connection, Allocation, query.order_by(allocations.c.meter, allocations.c.epoch)):
            found.setdefault(one.meter, []).append(one)
    return found


class KnownAllocations:
    """What was read of allocations, for as long as nobody changes any: each batch asks for its meters again."""

    def __init__(self) -> None:
        self._as_of: int | None = None
        self._known: dict[str, list[Allocation]] = {}

    def histories(self, connection: Connection, meters: Iterable[str]) -> dict[str, list[Allocation]]:
        """Return the allocations of some meters, each meter's by epoch, as the caller's transaction finds them."""
        changed = read_cursor(connection, CHANGED) or 0
        if changed != self._as_of or len(self._known) > MAX_KNOWN:
            self._as_of, self._known = changed, {}
        wanted = set(meters)
        self._known |= histories(connection, sorted(wanted.difference(self._known)))
        return {meter: self._known[meter] for meter in wanted if meter in self._known}


def enter(connection: Connection, made: Sequence[Allocation]) -> None:
    """Write new allocations inside the caller's transaction."""
    connection.execute(insert(allocations), [_row(one) for one in made])


def end(connection: Connection, ended: Allocation) -> None:
    """Write the end of an allocation inside the caller's transaction."""
    c = allocations.c
    mine = (c.meter == ended.meter, c.epoch == ended.epoch)
    connection.execute(update(allocations).where(*mine).values(until=ended.until, told=0))


def claimed_by(connection: Connection, gateway: str) -> int:
    """Return how many meters a gateway has claimed and nobody confirmed."""
    c = allocations.c
    query = select(func.count()).where(c.gateway == gateway, c.until.is_(None), c.origin == "claimed")
    return connection.execute(query).scalar() or 0


def bump(connection: Connection) -> None:
    """Tell others that allocations have changed."""
    write_cursor(connection, CHANGED, (read_cursor(connection, CHANGED) or 0) + 1)
