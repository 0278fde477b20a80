"""What meter readers tick off: from a file or a page, each word kept, the last one that holds shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, select, update

from gateway.central.campaign.places import MAX_TOLD, columns_of
from gateway.central.campaign.slips import slip_id
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import slip, tick
from mapping.files import has_zone
from mapping.instants import instant, micros
from mapping.row_verdicts import RowVerdict, Verdict
from mapping.rows import in_batches
from mapping.sheets import Sheet, open_sheet

COLUMNS: Final = ("slip", "verdict")
OPTIONAL: Final = ("at", "note")
AT_ONCE: Final = 500
MAX_NOTE: Final = 200
CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""What a reader's clock may be ahead of ours."""


class Ticked(StrEnum):
    """What a reader says of a slip."""

    DELIVERED = "delivered"
    AT_METER = "at_meter"
    NOT_FOUND = "not_found"
    LOCKED = "locked"
    METER_DIFFERS = "meter_differs"
    REFUSED = "refused"

    @property
    def told(self) -> bool:
        """Whether the consumer has the number now: in his hand, or on his meter."""
        return self in (Ticked.DELIVERED, Ticked.AT_METER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One word of a reader: `at` is when he was there, None where he did not say: then when it was told."""

    slip: int
    verdict: Ticked
    at: datetime | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TicksRead:
    """What became of the rows of a file; `told` are the first that were not taken, or are in conflict."""

    counts: dict[Verdict, int]
    told: tuple[RowVerdict, ...]


class Ticks:
    """Takes in what readers say; every method may raise CampaignFault."""

    def __init__(self, store: CampaignStore) -> None:
        self._db = store.db

    def read(self, path: Path, *, by: str, now: datetime) -> TicksRead:
        """Take in a file (CSV or XLSX: slip, verdict, at, note); rows without a verdict were not visited.

        Sent in again, its rows are unchanged. Raises FileRefused for a file that is none.
        """
        counts = dict.fromkeys(Verdict, 0)
        told: list[RowVerdict] = []
        with open_sheet(path) as sheet:
            for some in in_batches(_rows(sheet, now), AT_ONCE):
                with self._db.writing("taking in ticks") as db:
                    for line, cells, row in some:
                        said = (
                            row
                            if isinstance(row, RowVerdict)
                            else self._said(db, line, cells, row, by, sheet, now)
                        )
                        counts[said.verdict] += 1
                        if said.code and len(told) < MAX_TOLD:
                            told.append(said)
        return TicksRead(counts, tuple(told))

    def _said(
        self,
        db: Connection,
        line: int,
        cells: tuple[str, ...],
        row: Tick,
        by: str,
        sheet: Sheet,
        now: datetime,
    ) -> RowVerdict:
        verdict, code, reason = put(db, row, by=by, source=sheet.name, now=now)
        return RowVerdict(line, cells, verdict, code, reason)

    def put(self, given: Tick, *, by: str, source: str, now: datetime) -> tuple[Verdict, str, str]:
        """Take in one word: the verdict on it, and unless it was simply taken, a code and why."""
        with self._db.writing("taking in a tick") as db:
            return put(db, given, by=by, source=source, now=now)


def put(db: Connection, given: Tick, *, by: str, source: str, now: datetime) -> tuple[Verdict, str, str]:
    """Do the same inside the caller's transaction."""
    held = db.execute(select(slip).where(slip.c.id == given.slip)).first()
    if held is None:
        return Verdict.REJECTED, "UNKNOWN_SLIP", "no slip has this number"
    if held.made_at is None:
        return Verdict.REJECTED, "NOT_MADE", "this slip was never printed"
    at = micros(given.at or now)
    again = select(tick.c.id).where(tick.c.slip == given.slip, tick.c.verdict == given.verdict.value)
    if given.at is not None:
        again = again.where(tick.c.at == at)
    if db.execute(again).first() is not None:  # without a time the same word says nothing new
        return Verdict.UNCHANGED, "", ""
    if held.ended_at is not None:
        _keep(db, given, by, source, now)
        return (
            Verdict.CONFLICT,
            "NUMBER_CHANGED",
            "since it was printed the number or the holder changed: take the slip back, a new one is made",
        )
    if held.ticked_at is not None and held.ticked_at >= at and held.verdict != given.verdict.value:
        _keep(db, given, by, source, now)
        said = f"{held.verdict} at {instant(held.ticked_at).isoformat()}"
        return Verdict.CONFLICT, "LATER_WORD", f"a later word stands: {said}"
    if held.verdict is not None and Ticked(held.verdict).told and not given.verdict.told:
        _keep(db, given, by, source, now)
        return Verdict.CONFLICT, "WAS_TOLD", f"it was {held.verdict} before: ask the reader which is right"
    _keep(db, given, by, source, now)
    db.execute(update(slip).where(slip.c.id == given.slip).values(verdict=given.verdict.value, ticked_at=at))
    return Verdict.APPLIED, "", ""


def _keep(db: Connection, given: Tick, by: str, source: str, now: datetime) -> None:
    row = {
        "slip": given.slip,
        "verdict": given.verdict.value,
        "at": micros(given.at or now),
        "told_at": micros(now),
        "by": by,
        "source": source,
        "note": given.note,
    }
    db.execute(insert(tick), [row])


def _rows(sheet: Sheet, now: datetime) -> Iterator[tuple[int, tuple[str, ...], Tick | RowVerdict]]:
    at = columns_of(sheet, COLUMNS, OPTIONAL)
    for line, cells in sheet.rows:

        def cell(name: str, cells: tuple[str, ...] = cells) -> str:
            index = at.get(name)
            return "" if index is None or index >= len(cells) else cells[index].removeprefix("'").strip()

        number, verdict, when, note = (cell(one) for one in (*COLUMNS, *OPTIONAL))
        if not verdict:
            continue
        row = read_tick(number, verdict, when, note, now=now)
        yield line, cells, row if isinstance(row, Tick) else RowVerdict(line, cells, Verdict.REJECTED, *row)


def read_tick(number: str, verdict: str, when: str, note: str, *, now: datetime) -> Tick | tuple[str, str]:
    """Return one word as it was written, or the code and reason why it cannot be taken."""
    found = slip_id(number)
    if found is None:
        return "SLIP_NUMBER", "the slip's number does not fit its check digit: a digit is wrong"
    try:
        said = Ticked(verdict.lower().replace(" ", "_").replace("-", "_"))
    except ValueError:
        return "VERDICT", f"a verdict is one of {', '.join(Ticked)}"
    at = None
    if when:
        try:
            at = datetime.fromisoformat(when)
        except ValueError:
            return "AT", "at is RFC 3339 with a zone, for example 2026-11-30T14:05:00+05:30, or empty"
        if at.utcoffset() is None or not has_zone(when):
            return "AT", "at has no zone: write for example 2026-11-30T14:05:00+05:30"
        at = at.astimezone(UTC)
        if at > now + CLOCKS_DIFFER:
            return "AT", "at lies in the future"
    if len(note) > MAX_NOTE:
        return "NOTE", f"a note has at most {MAX_NOTE} characters"
    return Tick(slip=found, verdict=said, at=at, note=note)
