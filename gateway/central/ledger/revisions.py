"""The consumer rule inside one transaction: highest (epoch, value_rev) per capture_id, repeats counted, any order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.central.ledger.database import columns, in_chunks
from gateway.central.ledger.records import IngestResult, ReceivedBatch, StoredCapture
from gateway.central.ledger.schema import captures, superseded
from gateway.central.ledger.times import hold
from gateway.central.ledger.unattributed import note
from gateway.contract.messages import MAX_SEQ, Batch, Capture, CaptureValue, Gap, Message
from gateway.errors import ContractError

_FROM_CAPTURE: Final = tuple(c.name for c in captures.c if c.name in Capture.model_fields)

CaptureRow = dict[str, Any]
"""A row of `captures` or `superseded` without its id."""


class _Values(Message):
    values: tuple[CaptureValue, ...]


def check_batch(batch: Batch) -> None:
    """Refuse numbers that no honest journal gives; ContractError names the first."""
    if not batch.journal or not batch.gateway:
        raise ContractError("a batch needs its journal and its gateway")
    for entry in entries_of(batch):
        if entry.seq is None or not 1 <= entry.seq <= MAX_SEQ:
            raise ContractError(f"{entry.seq} in a batch of journal {batch.journal} is no sequence number")
    for capture in batch.captures:
        if capture.start is not None and capture.start >= capture.at:
            raise ContractError(f"{capture.capture_id} ends before it starts")


def entries_of(batch: Batch) -> list[Capture | Gap]:
    """Return a batch's entries, captures before gaps."""
    return [*batch.captures, *batch.gaps]


def sequence(batch: Batch) -> list[int]:
    """Return the sequence numbers of a batch's entries that have one (`check_batch` refuses the others)."""
    return [entry.seq for entry in entries_of(batch) if entry.seq is not None]


def capture_rows(received: ReceivedBatch) -> list[CaptureRow]:
    """Return the table rows of a batch's captures."""
    batch = received.batch
    beside = {"gateway": batch.gateway, "journal": batch.journal, "ingested_at": received.at}
    return [
        {name: getattr(capture, name) for name in _FROM_CAPTURE} | beside | {"body": body}
        for capture, body in zip(batch.captures, received.bodies, strict=True)
    ]


def rank(row: Mapping[str, Any]) -> tuple[int, int]:
    """Order revisions of one capture: by the allocation of its meter, then by its gateway's own count."""
    return row["epoch"], row["value_rev"]


def _values(row: Mapping[str, Any]) -> str:
    """Return the values as the contract reads them, in one spelling.

    Not their text: a first ledger wrote every member (`"instant":null`), and a newer edge may add some.
    """
    read = _Values.model_validate_json(row["body"])
    return json.dumps(read.model_dump(mode="json")["values"], sort_keys=True)


def same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell a repeat from a revision: the same values, whatever was stamped beside them."""
    return bool(one["body"] == other["body"]) or _values(one) == _values(other)


@dataclass(slots=True)
class _Work:
    """What one transaction has found and decided so far; rows by capture_id."""

    current: dict[str, CaptureRow]
    new: dict[str, CaptureRow] = field(default_factory=dict)
    changed: dict[str, CaptureRow] = field(default_factory=dict)
    older: dict[str, list[CaptureRow]] = field(default_factory=dict)
    added_older: list[CaptureRow] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    revised: int = 0
    conflicts: list[CaptureRow] = field(default_factory=list)


def store_captures(
    connection: Connection, rows: Sequence[CaptureRow], judged_by: int
) -> tuple[IngestResult, list[CaptureRow]]:
    """Store rows in the order given; return what became of them, and those that contradict what is stored.

    Two values under one revision cannot both be right: the first stays, the other is not stored. Else the outcome is
    the same for every order. `judged_by` is the directory version by which everything on the list of unattributed
    captures was judged.
    """
    current: dict[str, CaptureRow] = {}
    for ids in in_chunks(list({row["capture_id"] for row in rows})):
        held = select(*columns(captures, StoredCapture)).where(captures.c.capture_id.in_(ids))
        current |= {row["capture_id"]: dict(row) for row in connection.execute(held).mappings()}
    work = _Work(current)
    for row in rows:
        _place(connection, work, row)
    # One statement for all rows of a kind: a row at a time would cost ten times as much.
    if work.new:
        connection.execute(insert(captures), list(work.new.values()))
    if work.added_older:
        connection.execute(insert(superseded), work.added_older)
    if work.changed:
        _rewrite(connection, work.changed.values())
    note(connection, work.new.values(), work.changed, judged_by)
    hold(connection, work.new.values(), work.changed)
    return IngestResult(stored=work.stored, repeated=work.repeated, revised=work.revised), work.conflicts


def _place(connection: Connection, work: _Work, row: CaptureRow) -> None:
    capture_id = row["capture_id"]
    held = work.current.get(capture_id)
    if held is None:
        work.current[capture_id] = work.new[capture_id] = row
        work.stored += 1
        return
    if rank(row) == rank(held):
        _repeat_or_conflict(work, row, held)
        return
    if rank(row) < rank(held):
        # An edge that restarts its delivery sends the first revision again after the second; one that lost its
        # journal reads the meter again and counts from 1.
        if same_values(row, held):
            work.repeated += 1
            return
        known = next((o for o in _older(connection, work, capture_id) if rank(o) == rank(row)), None)
        if known is not None:
            _repeat_or_conflict(work, row, known)
            return
    work.revised += 1
    loser = row
    if rank(row) > rank(held):
        loser = held
        work.current[capture_id] = row
        # What this transaction itself stored is not in the table yet: it is replaced before it is inserted.
        (work.new if capture_id in work.new else work.changed)[capture_id] = row
    _older(connection, work, capture_id).append(loser)
    work.added_older.append(loser)


def _repeat_or_conflict(work: _Work, row: CaptureRow, held: CaptureRow) -> None:
    if same_values(row, held):
        work.repeated += 1
    else:
        work.conflicts.append(row)


def _older(connection: Connection, work: _Work, capture_id: str) -> list[CaptureRow]:
    if capture_id not in work.older:
        query = select(*columns(superseded, StoredCapture)).where(superseded.c.capture_id == capture_id)
        work.older[capture_id] = [dict(row) for row in connection.execute(query).mappings()]
    return work.older[capture_id]


def _rewrite(connection: Connection, rows: Iterable[CaptureRow]) -> None:
    names = [c.name for c in columns(captures, StoredCapture) if c.name != "capture_id"]
    statement = update(captures).where(captures.c.capture_id == bindparam("b_capture_id"))
    statement = statement.values({name: bindparam(f"b_{name}") for name in names})
    connection.execute(statement, [{f"b_{name}": value for name, value in row.items()} for row in rows])
