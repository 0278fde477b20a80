"""What is to be read again from the meters' own memory: one order for each meter and profile, until it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, not_, select, update

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.database import Database, columns, put, records
from gateway.central.ledger.schema import read_again
from gateway.central.ledger.standing import Standing, standing
from mapping.instants import instant

STORED: Final = ("block_load", "daily", "billing", "events")
"""Profiles that a meter keeps; what was read as it was then cannot be read again."""
NUMBER: Final = "read_again_number"
"""Cursor: the number of the last order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """An order to read since < at <= until of a meter's profile again; `since` None: all that the meter has."""

    gateway: str
    meter: str
    profile: str
    number: int
    since: datetime | None
    until: datetime
    ordered_at: datetime
    answered_at: datetime | None = None
    refused: str | None = None


class Rereads:
    """The orders; one that is wanted again before it was answered covers both spans."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def want(self, gateway: str, meters: list[str], journal: str, lost: tuple[int, int], at: datetime) -> int:
        """Order what entries first..last of a journal may have held; return how many orders that makes.

        It lies behind the newest capture that did not come after the lost entries, and before the oldest of those
        that did.
        """
        made = 0
        with self._database.writing("ordering to read again") as connection:
            for meter in meters:
                for profile in STORED:
                    since, until = _around(connection, meter, profile, journal, lost[1])
                    self._want(connection, gateway, meter, profile, since, until or at, at)
                    made += 1
        return made

    def _want(
        self,
        connection: Connection,
        gateway: str,
        meter: str,
        profile: str,
        since: datetime | None,
        until: datetime,
        at: datetime,
    ) -> None:
        c = read_again.c
        waiting = connection.execute(
            select(c.since, c.until).where(
                c.gateway == gateway, c.meter == meter, c.profile == profile, c.answered_at.is_(None)
            )
        ).one_or_none()
        if waiting is not None:
            since = None if since is None or waiting.since is None else min(since, waiting.since)
            until = max(until, waiting.until)
        number = (read_cursor(connection, NUMBER) or 0) + 1
        write_cursor(connection, NUMBER, number)
        put(
            connection,
            read_again,
            {"gateway": gateway, "meter": meter, "profile": profile},
            {
                "number": number,
                "since": since,
                "until": until,
                "ordered_at": at,
                "answered_at": None,
                "refused": None,
            },
        )

    def waiting(self) -> list[Reread]:
        """Return the orders that were not answered, by number."""
        c = read_again.c
        query = select(*columns(read_again, Reread)).where(c.answered_at.is_(None)).order_by(c.number)
        with self._database.reading("listing orders to read again") as connection:
            return records(connection, Reread, query)

    def answered(
        self, gateway: str, meter: str, profile: str, number: int, refused: str | None, at: datetime
    ) -> None:
        """Note an edge's answer to an order of this number."""
        c = read_again.c
        with self._database.writing("noting an answer") as connection:
            connection.execute(
                update(read_again)
                .where(c.gateway == gateway, c.meter == meter, c.profile == profile, c.number == number)
                .values(answered_at=at, refused=refused)
            )


def _around(
    connection: Connection, meter: str, profile: str, journal: str, last: int
) -> tuple[datetime | None, datetime | None]:
    """Return the newest capture from before the loss, and the first behind it of those that came after it.

    Each is found from its end of the index: a meter may have years of captures.
    """

    def after(c: Standing) -> ColumnElement[bool]:
        return and_(c.journal == journal, c.seq > last)

    before = standing(connection, meter, profile, lambda c: not_(after(c)), newest_first=True, limit=1)
    since = before[0].at if before else None
    behind = standing(
        connection,
        meter,
        profile,
        lambda c: after(c) if since is None else and_(after(c), c.at > since),
        limit=1,
    )
    return None if since is None else instant(since), instant(behind[0].at) if behind else None
