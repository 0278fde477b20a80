"""The consumer rule inside one transaction: highest value_rev per capture_id, repeats counted, any order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from gateway.central.ledger.records import IngestResult
from gateway.central.ledger.schema import captures, gaps, micros, superseded, unattributed
from gateway.contract.messages import MAX_SEQ, Batch, Capture, Gap
from gateway.errors import ContractError

CHUNK = 500
# A reason that no directory can lift: the row is never looked at again.
NEVER = 2**62
PENDING = "pending"
LASTING_REASONS: Final = frozenset({"untrusted_time", "identity_mismatch"})
_GAP_RANK: Final = {"open": 0, "unfillable": 1, "filled": 2}

Row = dict[str, Any]


def check_batch(batch: Batch) -> None:
    """Refuse numbers that no honest journal gives; ContractError names the first."""
    if not batch.journal or not batch.gateway:
        raise ContractError("a batch needs its journal and its gateway")
    for seq in sequence(batch):
        if seq is None or not 1 <= seq <= MAX_SEQ:
            raise ContractError(f"{seq} in a batch of journal {batch.journal} is no sequence number")
    for capture in batch.captures:
        if capture.start is not None and capture.start >= capture.at:
            raise ContractError(f"{capture.capture_id} ends before it starts")


def sequence(batch: Batch) -> list[int | None]:
    """Return the sequence numbers of a batch's entries."""
    return [*(capture.seq for capture in batch.captures), *(gap.seq for gap in batch.gaps)]


def capture_row(capture: Capture, batch: Batch, received: datetime) -> Row:
    """Return the table row of a capture."""
    return {
        "capture_id": capture.capture_id,
        "value_rev": capture.value_rev,
        "meter": capture.meter,
        "profile": capture.profile,
        "at": micros(capture.at),
        "start": None if capture.start is None else micros(capture.start),
        "received_at": micros(capture.received_at),
        "quality": capture.quality,
        "reason": capture.reason,
        "directory_version": capture.directory_version,
        "gateway": batch.gateway,
        "journal": batch.journal,
        "seq": capture.seq,
        "ingested_at": micros(received),
        "body": capture.model_dump_json(exclude={"seq", "raw"}),
        "raw": capture.raw,
    }


def rank(row: Row) -> tuple[int, int, str]:
    """Order revisions of one capture: value_rev; where one clashes, the later reading, then its values."""
    return row["value_rev"], row["received_at"], _values(row)


def _values(row: Row) -> str:
    return json.dumps(json.loads(row["body"])["values"], sort_keys=True)


def same_revision(one: Row, other: Row) -> bool:
    """Tell a repeat: the same revision with the same values, whatever was stamped beside them."""
    if one["value_rev"] != other["value_rev"]:
        return False
    return bool(one["body"] == other["body"]) or _values(one) == _values(other)


def in_chunks(ids: Iterable[str]) -> Iterable[Sequence[str]]:
    """Cut ids into lists that fit one statement."""
    listed = list(ids)
    return (listed[i : i + CHUNK] for i in range(0, len(listed), CHUNK))


@dataclass(slots=True)
class _Work:
    """What one transaction has found and decided so far."""

    current: dict[str, Row] = field(default_factory=dict)
    new: dict[str, Row] = field(default_factory=dict)
    changed: dict[str, Row] = field(default_factory=dict)
    older: dict[str, list[Row]] = field(default_factory=dict)
    added_older: list[Row] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    revised: int = 0
    conflicts: int = 0


def store_captures(connection: Connection, rows: Sequence[Row], known_version: int) -> IngestResult:
    """Store rows in the order given; the outcome is the same for every order."""
    work = _Work(current=_held(connection, captures, rows))
    for row in rows:
        _place(connection, work, row)
    if work.new:
        connection.execute(insert(captures), list(work.new.values()))
    if work.added_older:
        connection.execute(insert(superseded), work.added_older)
    if work.changed:
        _rewrite(connection, work.changed.values())
    _note_unattributed(connection, work, known_version)
    return IngestResult(
        stored=work.stored, repeated=work.repeated, revised=work.revised, conflicts=work.conflicts
    )


def _held(connection: Connection, table: Table, rows: Sequence[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    columns = [c for c in table.c if c.name != "id"]
    for ids in in_chunks({row["capture_id"] for row in rows}):
        for held in connection.execute(select(*columns).where(table.c.capture_id.in_(ids))).mappings():
            found[held["capture_id"]] = dict(held)
    return found


def _place(connection: Connection, work: _Work, row: Row) -> None:
    capture_id = row["capture_id"]
    held = work.current.get(capture_id)
    if held is None:
        work.current[capture_id] = work.new[capture_id] = row
        work.stored += 1
        return
    if same_revision(row, held) or any(same_revision(row, o) for o in _older(connection, work, capture_id)):
        work.repeated += 1
        return
    work.revised += 1
    work.conflicts += row["value_rev"] == held["value_rev"]
    loser = row
    if rank(row) > rank(held):
        loser = held
        work.current[capture_id] = row
        (work.new if capture_id in work.new else work.changed)[capture_id] = row
    work.older[capture_id].append(loser)
    work.added_older.append(loser)


def _older(connection: Connection, work: _Work, capture_id: str) -> list[Row]:
    if capture_id not in work.older:
        columns = [c for c in superseded.c if c.name != "id"]
        found = connection.execute(select(*columns).where(superseded.c.capture_id == capture_id)).mappings()
        work.older[capture_id] = [dict(row) for row in found]
    return work.older[capture_id]


def _rewrite(connection: Connection, rows: Iterable[Row]) -> None:
    names = [c.name for c in captures.c if c.name not in ("id", "capture_id")]
    statement = update(captures).where(captures.c.capture_id == bindparam("b_capture_id"))
    statement = statement.values({name: bindparam(f"b_{name}") for name in names})
    connection.execute(statement, [{f"b_{name}": value for name, value in row.items()} for row in rows])


def _note_unattributed(connection: Connection, work: _Work, known_version: int) -> None:
    """Keep the list of captures under no account; stamps of an old directory wait there to be judged."""
    if work.changed:
        for ids in in_chunks(work.changed):
            connection.execute(delete(unattributed).where(unattributed.c.capture_id.in_(ids)))
    rows = []
    for row in (*work.new.values(), *work.changed.values()):
        if row["reason"] is None and row["directory_version"] >= known_version:
            continue
        lasting = row["reason"] in LASTING_REASONS
        rows.append(
            {name: row[name] for name in ("capture_id", "meter", "profile", "at", "start", "ingested_at")}
            | {
                "reason": row["reason"] or PENDING,
                # An edge cannot know more than we do; a stamp that says so must still be looked at.
                "checked_version": NEVER if lasting else min(row["directory_version"], known_version),
            }
        )
    if rows:
        connection.execute(insert(unattributed), rows)


def store_gaps(connection: Connection, found: Sequence[tuple[Gap, Batch]], received: datetime) -> int:
    """Store gaps; of one gap the furthest state wins (open, unfillable, filled), then the latest."""
    rows: dict[str, Row] = {}
    for gap, batch in found:
        row = _gap_row(gap, batch, received)
        if gap.gap_id not in rows or _gap_rank(row) > _gap_rank(rows[gap.gap_id]):
            rows[gap.gap_id] = row
    held: dict[str, Row] = {}
    for ids in in_chunks(rows):
        for stored in connection.execute(select(gaps).where(gaps.c.gap_id.in_(ids))).mappings():
            held[stored["gap_id"]] = dict(stored)
    fresh = [row for gap_id, row in rows.items() if gap_id not in held]
    better = [r for g, r in rows.items() if g in held and _gap_rank(r) > _gap_rank(held[g])]
    if fresh:
        connection.execute(insert(gaps), fresh)
    for row in better:
        connection.execute(update(gaps).where(gaps.c.gap_id == row["gap_id"]).values(**row))
    return len(fresh) + len(better)


def _gap_rank(row: Row) -> tuple[int, int, str, int]:
    return _GAP_RANK[row["state"]], row["noticed_at"], row["journal"], row["seq"]


def _gap_row(gap: Gap, batch: Batch, received: datetime) -> Row:
    return {
        "gap_id": gap.gap_id,
        "meter": gap.meter,
        "profile": gap.profile,
        "after": micros(gap.after),
        "until": micros(gap.until),
        "state": gap.state,
        "reason": gap.reason,
        "noticed_at": micros(gap.noticed_at),
        "gateway": batch.gateway,
        "journal": batch.journal,
        "seq": gap.seq,
        "ingested_at": micros(received),
    }
