"""Known missing spans, as edges tell of them: opened, then filled or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from gateway.central.ledger.database import Database, columns, in_chunks, records
from gateway.central.ledger.records import GapCause, ReceivedBatch, StoredGap
from gateway.central.ledger.schema import gaps
from gateway.central.ledger.tallies import tally
from gateway.contract.messages import Gap

OPEN_GAPS: Final = "open_gaps"
"""Name of their number."""
_STATES: Final = {"open": 0, "unfillable": 1, "filled": 2}
_FROM_GAP: Final = tuple(c.name for c in gaps.c if c.name in Gap.model_fields)


class Gaps:
    """The gaps of every meter, each in the furthest state that was ever told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, meter: str | None = None, state: str | None = None) -> list[StoredGap]:
        """Return gaps by meter and beginning; None of a filter takes all."""
        query = select(*columns(gaps, StoredGap)).order_by(gaps.c.meter, gaps.c.after, gaps.c.gap_id)
        if meter is not None:
            query = query.where(gaps.c.meter == meter)
        if state is not None:
            query = query.where(gaps.c.state == state)
        with self._database.reading("listing gaps") as connection:
            return records(connection, StoredGap, query)

    def causes(self, named: int) -> list[GapCause]:
        """Return the open gaps by profile and reason, each with the first `named` of its meters."""
        c = gaps.c
        counted = (
            select(
                c.profile,
                c.reason,
                func.count().label("gaps"),
                func.count(c.meter.distinct()).label("meters"),
                func.min(c.after).label("first_at"),
            )
            .where(c.state == "open")
            .group_by(c.profile, c.reason)
            .order_by(c.profile, c.reason)
        )
        each = select(c.profile, c.reason, c.meter).where(c.state == "open").distinct().subquery()
        place = func.row_number().over(partition_by=(each.c.profile, each.c.reason), order_by=each.c.meter)
        ranked = select(each, place.label("place")).subquery()
        first = select(ranked).where(ranked.c.place <= named).order_by(ranked.c.meter)
        with self._database.reading("counting gaps") as connection:
            names: dict[tuple[str, str], list[str]] = {}
            for row in connection.execute(first):
                names.setdefault((row.profile, row.reason), []).append(row.meter)
            return [
                GapCause(**row, named=tuple(names[row["profile"], row["reason"]]))
                for row in connection.execute(counted).mappings()
            ]


def store_gaps(
    connection: Connection, found: Sequence[tuple[Gap, ReceivedBatch]], received: datetime
) -> tuple[int, list[Gap]]:
    """Store gaps; return how many were new or moved on, and those under the id of another meter's gap.

    Of one gap the furthest state wins (open, unfillable, filled), then the one noticed last: `filled` is a
    fact, and an `open` that was sent again after it is only late. Of two meters' gaps under one id the one that the
    id names is kept, else the first.
    """
    rows: dict[str, dict[str, Any]] = {}
    for gap, received_in in found:
        row = {name: getattr(gap, name) for name in _FROM_GAP}
        row |= {"gateway": received_in.gateway, "journal": received_in.journal, "ingested_at": received}
        known = rows.get(gap.gap_id)
        if known is None or _follows(row, known):
            rows[gap.gap_id] = row
    held: dict[str, dict[str, Any]] = {}
    for ids in in_chunks(list(rows)):
        for stored in connection.execute(select(gaps).where(gaps.c.gap_id.in_(ids))).mappings():
            held[stored["gap_id"]] = dict(stored)
    rows = {gap_id: row for gap_id, row in rows.items() if gap_id not in held or _follows(row, held[gap_id])}
    strange = [gap for gap, _ in found if _is_anothers(gap, rows.get(gap.gap_id) or held[gap.gap_id])]
    fresh = [row for gap_id, row in rows.items() if gap_id not in held]
    better = [row for gap_id, row in rows.items() if gap_id in held]
    if fresh:
        connection.execute(insert(gaps), fresh)
    for row in better:
        connection.execute(update(gaps).where(gaps.c.gap_id == row["gap_id"]).values(**row))
    opened = sum(row["state"] == "open" for row in (*fresh, *better))
    closed = sum(held[row["gap_id"]]["state"] == "open" for row in better)
    tally(connection, {OPEN_GAPS: opened - closed}, found[0][1].gateway)
    return len(fresh) + len(better), strange


def _is_anothers(gap: Gap, held: dict[str, Any]) -> bool:
    return (gap.meter, gap.profile) != (held["meter"], held["profile"])


def _follows(row: dict[str, Any], held: dict[str, Any]) -> bool:
    """Say whether a gap takes the place of the one that is held under its id."""
    if (row["meter"], row["profile"]) == (held["meter"], held["profile"]):
        return _rank(row) > _rank(held)
    return _is_named(row) and not _is_named(held)


def _is_named(row: dict[str, Any]) -> bool:
    name = f"{row['meter']}/{row['profile']}/"
    return str(row["gap_id"]).startswith((name, f"refused/{name}"))


def _rank(row: dict[str, Any]) -> tuple[int, datetime, str, int]:
    return _STATES[row["state"]], row["noticed_at"], row["journal"], row["seq"]
