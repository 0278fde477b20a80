"""The consumer rule inside one transaction: highest (epoch, value_rev) per capture_id, repeats counted, any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import Connection

from gateway.central.ledger.bulk import write
from gateway.central.ledger.capture_rows import NAMES, held_rows, insert_captures, packed_rows, rewrite
from gateway.central.ledger.placed import placed_by_id, placed_row
from gateway.central.ledger.records import IngestResult, ReceivedBatch
from gateway.central.ledger.rows import CaptureRow, Layouts, same_values
from gateway.central.ledger.schema import captures, superseded
from gateway.central.ledger.times import hold
from gateway.central.ledger.unattributed import note
from gateway.central.ledger.use import mark_captures
from gateway.contract.messages import MAX_SEQ
from gateway.errors import ContractError


def check_batch(received: ReceivedBatch) -> None:
    """Refuse numbers that no honest journal gives; ContractError names the first."""
    if not received.journal or not received.gateway:
        raise ContractError("a batch needs its journal and its gateway")
    seqs = received.seqs
    for seq in {min(seqs, default=1), max(seqs, default=1)}:
        if not 1 <= seq <= MAX_SEQ:
            raise ContractError(f"{seq} in a batch of journal {received.journal} is no sequence number")
    for row in received.rows:
        if row.start is not None and row.start >= row.at:
            raise ContractError(f"{row.capture_id} ends before it starts")
    for profile in {row.profile for row in received.rows}:
        if "/" in profile:  # a level of topics, and a part of capture_id
            raise ContractError(f"{profile!r} is no profile")


@dataclass(slots=True)
class _Work:
    """What one transaction has found and decided so far; rows by capture_id."""

    current: dict[str, CaptureRow]
    layouts: Layouts
    new: dict[str, CaptureRow] = field(default_factory=dict)
    changed: dict[str, CaptureRow] = field(default_factory=dict)
    replaced: dict[str, CaptureRow] = field(default_factory=dict)
    older: dict[str, list[CaptureRow]] = field(default_factory=dict)
    added_older: list[CaptureRow] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    revised: int = 0
    conflicts: list[CaptureRow] = field(default_factory=list)


def store_captures(
    connection: Connection, rows: Sequence[CaptureRow], judged_by: int, layouts: Layouts
) -> tuple[IngestResult, list[CaptureRow]]:
    """Store rows in the order given; return what became of them, and those that contradict what is stored.

    Two values under one revision cannot both be right: the first stays, the other is not stored. Else the outcome is
    the same for every order. `judged_by` is the directory version by which everything on the list of unattributed
    captures was judged.
    """
    by_id = {row.capture_id: row for row in rows}
    work = _Work({}, layouts)
    once = len(by_id) == len(rows)
    if once:
        work.new = _insert_new(connection, by_id)
        work.stored = len(work.new)
        rows = [] if work.stored == len(rows) else [row for row in rows if row.capture_id not in work.new]
    for held in held_rows(connection, captures, [row.capture_id for row in rows]):
        work.current[held.capture_id] = held
    for row in rows:
        _place(connection, work, row)
    if not once:
        insert_captures(connection, packed_rows(connection, work.new.values()))
    write(connection, superseded, NAMES, packed_rows(connection, work.added_older))
    if work.changed:
        rewrite(connection, list(work.changed.values()))
    redated = placed_by_id(connection, sorted(hold(connection, work.new.values(), work.changed)))
    fresh = [*work.new.values(), *work.changed.values()]
    replaced = [placed_row(row) for row in work.replaced.values()]
    note(connection, fresh, redated, replaced, judged_by)
    mark_captures(connection, chain(map(placed_row, fresh), redated.values(), replaced))
    return IngestResult(stored=work.stored, repeated=work.repeated, revised=work.revised), work.conflicts


def _insert_new(connection: Connection, rows: dict[str, CaptureRow]) -> dict[str, CaptureRow]:
    """Insert those of the rows, by capture_id, whose capture is not there; return them."""
    # To insert looks each of them up, and mostly none is there: to look them up first does it twice.
    stored = packed_rows(connection, rows.values())
    attempt = connection.begin_nested()
    if insert_captures(connection, stored, unless_there=True) == len(rows):
        attempt.commit()
        return rows
    attempt.rollback()
    there = {held.capture_id for held in held_rows(connection, captures, list(rows))}
    new = {capture_id: row for capture_id, row in rows.items() if capture_id not in there}
    insert_captures(connection, packed_rows(connection, new.values()))
    return new


def _place(connection: Connection, work: _Work, row: CaptureRow) -> None:
    capture_id = row.capture_id
    held = work.current.get(capture_id)
    if held is None:
        work.current[capture_id] = work.new[capture_id] = row
        work.stored += 1
        return
    if row.rank == held.rank:
        _repeat_or_conflict(work, row, held)
        return
    if row.rank < held.rank:
        # An edge that restarts its delivery sends the first revision again after the second; one that lost its
        # journal reads the meter again and counts from 1.
        if same_values(row, held, work.layouts):
            work.repeated += 1
            return
        known = next((o for o in _older(connection, work, capture_id) if o.rank == row.rank), None)
        if known is not None:
            _repeat_or_conflict(work, row, known)
            return
    work.revised += 1
    loser = row
    if row.rank > held.rank:
        loser = held
        work.current[capture_id] = row
        # What this transaction itself stored is not in the table yet: it is replaced before it is inserted.
        (work.new if capture_id in work.new else work.changed)[capture_id] = row
        if capture_id in work.changed:
            work.replaced.setdefault(capture_id, held)
    _older(connection, work, capture_id).append(loser)
    work.added_older.append(loser)


def _repeat_or_conflict(work: _Work, row: CaptureRow, held: CaptureRow) -> None:
    if same_values(row, held, work.layouts):
        work.repeated += 1
    else:
        work.conflicts.append(row)


def _older(connection: Connection, work: _Work, capture_id: str) -> list[CaptureRow]:
    if capture_id not in work.older:
        work.older[capture_id] = held_rows(connection, superseded, [capture_id])
    return work.older[capture_id]
