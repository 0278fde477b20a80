"""Connections that were split and consumers that were merged: declared row by row, with a date (rows 17 and 18).

The column `relation` says `stays` for the branch or consumer that keeps the account, `splits` for a branch that gets an
account of its own, `merges` for a consumer whose usage points go over. Nothing is chosen by the order of the rows.
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import datetime

from mapping.attribution import FOREVER
from mapping.instants import instant
from mapping.rekey_judge import condemn
from mapping.rekey_rows import Row, plain
from mapping.snapshot import DirectorySnapshot


def relate(db: sqlite3.Connection, snapshot: DirectorySnapshot) -> None:
    """Work out the moves of declared splits and mergers, or judge their rows to be in conflict."""
    db.execute("BEGIN")
    for column, kind in (("old", "splits"), ("new", "merges")):
        keys = db.execute(
            f"SELECT DISTINCT {column} FROM row WHERE relation = ? AND {column} <> ''", (kind,)
        ).fetchall()
        for (key,) in keys:
            rows = [
                Row._make(r)
                for r in db.execute(f"SELECT * FROM row WHERE {column} = ? ORDER BY line", (key,))
            ]
            wrong = _wrong(rows, kind) or _move(db, snapshot, rows, kind)
            if wrong:
                lines = ", ".join(str(row.line) for row in rows)
                condemn(
                    db, f"line IN ({lines})", "conflict", "RELATION_INCOMPLETE", "relation",
                    seen="relation", other=f"'{wrong}'",
                )  # fmt: skip
    # Whoever stays needs somebody who goes.
    condemn(
        db,
        "relation = 'stays' AND NOT EXISTS (SELECT 1 FROM row r WHERE r.line <> row.line AND r.relation IN "
        "('splits', 'merges') AND (r.old = row.old OR r.new = row.new))",
        "conflict",
        "RELATION_INCOMPLETE",
        "relation",
        seen="relation",
        other="'ALONE'",
    )
    db.execute("COMMIT")


def _wrong(rows: list[Row], kind: str) -> str:
    """Return the code of what is missing in a group of rows, empty where it is whole."""
    if any(row.verdict is not None for row in rows):
        return "ROW_REFUSED"
    if sum(row.relation == "stays" for row in rows) != 1 or any(
        row.relation not in ("stays", kind) for row in rows
    ):
        return "ONE_STAYS"
    if len({row.effective for row in rows}) != 1 or rows[0].effective is None:
        return "ONE_DATE"
    if kind == "splits" and (
        len({row.meter for row in rows}) != len(rows) or not all(row.meter for row in rows)
    ):
        return "METERS"
    if any(row.owner is not None for row in rows):
        return "NUMBER_TAKEN"
    return ""


def _move(db: sqlite3.Connection, snapshot: DirectorySnapshot, rows: list[Row], kind: str) -> str:
    at = rows[0].effective or 0
    stays = next(row for row in rows if row.relation == "stays")
    moves: list[tuple[int, int, str, str | None, int]] = []
    for row in rows:
        if row is stays or row.account is None or stays.account is None:
            continue
        if kind == "splits":
            to = _branch(row)
            points = [
                p for p in _held(snapshot, row.account, instant(at)) if row.meter in _meters_at(snapshot, p)
            ]
            if len(points) != 1 or stays.meter in _meters_at(snapshot, points[0]):
                return "BRANCH"
            db.execute("UPDATE row SET account = ? WHERE line = ?", (to, row.line))
        else:
            to = stays.account
            points = _held(snapshot, row.account, instant(at))
        for number, point in enumerate(points):
            moves.append((row.line, 2 * number, point, None, at))
            moves.append((row.line, 2 * number + 1, point, to, at))
    if len({row.account for row in rows}) != len(rows) and kind == "merges":
        return "ONE_STAYS"
    db.executemany("INSERT INTO move VALUES (?, ?, ?, ?, ?)", moves)
    return ""


def _branch(row: Row) -> str:
    """Return the id of a branch's account: the same each time that the file is planned, and it says nothing."""
    return f"acc-{hashlib.sha256(f'{row.account} {row.new}'.encode()).hexdigest()[:16]}"


def _held(snapshot: DirectorySnapshot, account: str, at: datetime) -> list[str]:
    return [
        point
        for point in snapshot.usage_points_of(account)
        for held in snapshot.holdings(point)
        if held.account_id == account and held.valid_from <= at < (held.valid_to or FOREVER)
    ]


def _meters_at(snapshot: DirectorySnapshot, point: str) -> set[str]:
    found = set()
    for meter in snapshot.meters_at(point):
        found |= {plain(meter), plain(meter.partition(":")[2])}
    return found
