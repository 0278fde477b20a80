"""What each gateway told last of itself, and the health of its lines and meters, kept by what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Connection, Row, Table, delete, func, insert, or_, select

from gateway.central.ledger.database import Database, columns, in_chunks, put, records
from gateway.central.ledger.meter_states import note_words
from gateway.central.ledger.records import DownLines, LineHealth, MeterHealth, StoredStatus
from gateway.central.ledger.schema import health_lists, line_health, meter_health, statuses
from gateway.contract.messages import LineStatus, MeterStatus, Status, StatusChanges, StatusVersion1

_VERSION_1 = "0" * 8
"""Stands for the run of an edge that counts no changes."""
MAX_ALARMS: Final = 64
"""Alarms that a summary names; version 1 knew no bound."""

MAX_LISTED: Final = 30_000
"""Meters, and lines, kept of one gateway: an edge has 10,000 at most, and lists others after a move."""

ToldStatus = Status | StatusVersion1 | StatusChanges


class Statuses:
    """The last status of every gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, told: Sequence[tuple[ToldStatus, datetime, bool]]) -> None:
        """Keep what gateways told, in order and in one transaction: each with its arrival, and whether retained.

        A retained message may be old: it makes no gateway look heard of later than it says itself.
        """
        with self._database.writing("storing statuses") as connection:
            for message, received, retained in told:
                if isinstance(message, StatusChanges):
                    _apply(connection, message)
                    continue
                if isinstance(message, StatusVersion1):
                    _list_version_1(connection, message)
                    message = _summary_of(message)
                _put(connection, message, received, retained=retained)

    def all(self) -> list[StoredStatus]:
        """Return the last status of every gateway, by its name."""
        query = select(*columns(statuses, StoredStatus)).order_by(statuses.c.gateway)
        with self._database.reading("listing statuses") as connection:
            return records(connection, StoredStatus, query)

    def lines(self) -> list[LineHealth]:
        """Return the lines of every gateway."""
        c = line_health.c
        query = select(*columns(line_health, LineHealth)).order_by(c.gateway, c.line)
        with self._database.reading("listing lines") as connection:
            return records(connection, LineHealth, query)

    def down_lines(self, named: int) -> list[DownLines]:
        """Return the gateways with lines that are down: how many, since when, and the first `named` of them."""
        c = line_health.c
        down = c.state == "down"
        counted = select(c.gateway, func.count(), func.min(c.since)).where(down).group_by(c.gateway)
        place = func.row_number().over(partition_by=c.gateway, order_by=c.line).label("place")
        ranked = select(*columns(line_health, LineHealth), place).where(down).subquery()
        first = select(*(ranked.c[one.name] for one in columns(line_health, LineHealth))).where(
            ranked.c.place <= named
        )
        with self._database.reading("listing lines") as connection:
            names: dict[str, list[LineHealth]] = {}
            for one in records(connection, LineHealth, first.order_by(ranked.c.gateway, ranked.c.line)):
                names.setdefault(one.gateway, []).append(one)
            return [
                DownLines(gateway=row[0], lines=tuple(names[row[0]]), count=row[1], since=row[2])
                for row in connection.execute(counted.order_by(c.gateway))
            ]

    def first_lines(self, number: int) -> tuple[list[LineHealth], int]:
        """Return the first lines, those that are down before the others, and how many there are."""
        c = line_health.c
        # Two statements, as each reads only what it returns: to order by both would sort every line.
        each = select(*columns(line_health, LineHealth)).order_by(c.gateway, c.line).limit(number)
        with self._database.reading("listing lines") as connection:
            total = connection.execute(select(func.count()).select_from(line_health)).scalar() or 0
            found = records(connection, LineHealth, each.where(c.state == "down"))
            if len(found) < number:
                found += records(connection, LineHealth, each.where(c.state != "down"))
            return found[:number], total

    def meters(self) -> list[MeterHealth]:
        """Return every meter of every gateway, by its name; one that two gateways poll comes twice."""
        c = meter_health.c
        query = select(*columns(meter_health, MeterHealth)).order_by(c.meter, c.gateway)
        with self._database.reading("listing meters") as connection:
            return records(connection, MeterHealth, query)

    def behind(self) -> list[str]:
        """Return the gateways whose lines and meters are not known as the gateway told them: something was missed."""
        held, told = health_lists.c, statuses.c
        query = (
            select(told.gateway)
            .join_from(statuses, health_lists, held.gateway == told.gateway, isouter=True)
            .where(
                told.run.is_not(None),
                or_(held.run.is_(None), held.run != told.run, held.seq < told.status_seq),
            )
        )
        with self._database.reading("looking for missed changes") as connection:
            return list(connection.execute(query).scalars())


def _put(connection: Connection, status: Status, received: datetime, *, retained: bool) -> None:
    if retained:
        held = connection.execute(
            select(statuses.c.received_at).where(statuses.c.gateway == status.gateway)
        ).scalar()
        told_at = min(status.at, received)
        received = told_at if held is None else max(held, told_at)
    row = {
        "received_at": received,
        "run": status.run,
        "status_seq": status.status_seq,
        "body": status.model_dump_json(exclude_none=True),
    }
    put(connection, statuses, {"gateway": status.gateway}, row)


def _apply(connection: Connection, changes: StatusChanges) -> None:
    """Take changes that follow what is held, or the next part of a list; what was missed shows in `behind`."""
    held = connection.execute(
        select(health_lists).where(health_lists.c.gateway == changes.gateway)
    ).one_or_none()
    if changes.is_listing:
        _apply_listing(connection, changes, held)
    elif held is not None and held.run == changes.run and held.seq < changes.to_seq:
        _write(connection, changes, held.listing)
        if changes.from_seq <= held.seq + 1:
            put(connection, health_lists, {"gateway": changes.gateway}, {"seq": changes.to_seq})


def _apply_listing(connection: Connection, part: StatusChanges, held: Row[Any] | None) -> None:
    mark = f"{part.run}/{part.to_seq}"
    next_part = 1 if held is None or held.listing != mark else held.next_part
    is_older = held is not None and held.run == part.run and part.to_seq < held.seq
    if is_older or part.part != next_part:
        # Sent again, or one before it is missing: then a list will be asked for, which begins anew.
        return
    _write(connection, part, mark)
    known = {"run": "", "seq": 0} if held is None else {}
    if part.part == part.parts:
        known = {"run": part.run, "seq": part.to_seq}
        for into, name in ((line_health, line_health.c.line), (meter_health, meter_health.c.meter)):
            left = (into.c.gateway == part.gateway, into.c.listing != mark)
            gone = list(connection.execute(select(name).where(*left)).scalars())
            connection.execute(delete(into).where(*left))
            if into is meter_health:
                note_words(connection, gone)
    progress = {"listing": mark, "next_part": part.part + 1, **known}
    put(connection, health_lists, {"gateway": part.gateway}, progress)


def _write(connection: Connection, changes: StatusChanges, listing: str) -> None:
    lines = {line.name: _line(changes.gateway, line, listing) for line in changes.lines}
    meters = {meter.meter: _meter(changes.gateway, meter, listing) for meter in changes.meters}
    _replace(connection, line_health, line_health.c.line, changes.gateway, lines)
    _replace(connection, meter_health, meter_health.c.meter, changes.gateway, meters)
    note_words(connection, meters)


def _replace(
    connection: Connection,
    into: Table,
    name: Column[Any],
    gateway: str,
    rows: Mapping[str, Mapping[str, object]],
) -> None:
    """Write rows by their names over those that are held; beyond MAX_LISTED of one gateway new ones are not kept."""
    own = into.c.gateway == gateway
    held: set[str] = set()
    for names in in_chunks(list(rows)):
        held.update(connection.execute(select(name).where(own, name.in_(names))).scalars())
        connection.execute(delete(into).where(own, name.in_(names)))
    kept = [row for key, row in rows.items() if key in held]
    fresh = [row for key, row in rows.items() if key not in held]
    if fresh:
        number = connection.execute(select(func.count()).select_from(into).where(own)).scalar() or 0
        kept += fresh[: max(0, MAX_LISTED - number - len(kept))]
    if kept:
        connection.execute(insert(into), kept)


def _line(gateway: str, line: LineStatus, listing: str) -> Mapping[str, object]:
    return {
        "gateway": gateway,
        "line": line.name,
        "state": line.state,
        "since": line.since,
        "detail": line.detail,
        "listing": listing,
    }


def _meter(gateway: str, meter: MeterStatus, listing: str) -> Mapping[str, object]:
    return {
        "gateway": gateway,
        "meter": meter.meter,
        "line": meter.line,
        "health": meter.health,
        "since": meter.since,
        "last_reading_at": meter.last_reading_at,
        "detail": meter.detail,
        "listing": listing,
    }


def _summary_of(told: StatusVersion1) -> Status:
    """Return the summary of a status of version 1, which counts nothing and lists everything."""
    same = told.model_dump(exclude={"lines", "meters", "alarms"})
    return Status(
        **same,
        alarms=told.alarms[:MAX_ALARMS],
        more_alarms=len(told.alarms[MAX_ALARMS:]),
        role="visit" if told.version == "field" else "edge",
        lines=dict(Counter(line.state for line in told.lines)),
        meters=dict(Counter(meter.health for meter in told.meters).most_common(64)),
    )


def _list_version_1(connection: Connection, told: StatusVersion1) -> None:
    if not told.online:
        return  # a last will lists nothing
    listing = StatusChanges(
        gateway=told.gateway,
        run=_VERSION_1,
        from_seq=0,
        to_seq=0,
        lines=told.lines,
        meters=told.meters,
        at=told.at,
    )
    connection.execute(delete(health_lists).where(health_lists.c.gateway == told.gateway))
    _apply(connection, listing)
