"""The rows of a re-key file judged against the file itself, the control and the directory (users.md §6 rows 17-21).

Works on the plan's table, in SQL: of 700,000 rows nothing is held in memory. A row without a verdict is still open.
"""

from __future__ import annotations

import sqlite3
from collections import deque

from mapping.rekey_control import ControlFacts

_OPEN = "verdict IS NULL"


def bare(meter: str) -> str:
    """Return SQL for a meter without its make: some write it, some do not."""
    return f"ltrim({meter}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')"


def _both(column: str, sign: str) -> str:
    return f"(c.{column} <> '' AND row.{column} <> '' AND c.{column} {sign} row.{column})"


_WORDS_DIFFER = (
    f"({_both('name', '<>')} + {_both('place', '<>')} > 0 "
    f"AND {_both('name', '=')} + {_both('place', '=')} = 0)"
)
"""Of name and place all that both sources have are other: one alone is often only spelt otherwise."""
_KNOWN = "instr(' ' || row.fitted || ' ', ' ' || c.meter || ' ')"
_SAME_METER = f"CASE row.meter WHEN '' THEN {_KNOWN} ELSE {bare('c.meter')} = {bare('row.meter')} END"
"""The list's meter is that of the row or, where the row names none, one that the directory has for the consumer."""
_METER_DIFFERS = f"(c.meter <> '' AND (row.meter <> '' OR row.fitted <> '') AND NOT {_SAME_METER})"
_METER_AGREES = f"(c.meter <> '' AND (row.meter <> '' OR row.fitted <> '') AND {_SAME_METER})"


def judge(db: sqlite3.Connection, control: ControlFacts, *, correct: bool) -> None:
    """Give every open row its verdict but those that will be applied: they stay open for `settle`."""
    db.execute("BEGIN")
    for column in ("old", "new", "today"):
        db.execute(f"CREATE INDEX row_{column} ON row ({column})")
    _disputes(db)
    _duplicates(db)
    _directory(db, correct=correct)
    _control(db, control)
    _taken(db)
    db.execute("COMMIT")


def settle(db: sqlite3.Connection) -> None:
    """Say of the rows that are left that they will be applied, or were repaired and will be."""
    db.execute("BEGIN")
    db.execute(
        "UPDATE row SET verdict = CASE repairs WHEN '' THEN 'applied' ELSE 'repaired' END, code = repairs "
        f"WHERE {_OPEN}"
    )
    db.execute("COMMIT")


def condemn(db: sqlite3.Connection, where: str, verdict: str, code: str, spot: str, **values: str) -> int:
    """Judge the open rows `where` something holds; `values` are columns given as SQL. Returns how many."""
    more = "".join(f", {column} = {value}" for column, value in values.items())
    return db.execute(
        f"UPDATE row SET verdict = ?, code = ?, spot = ?{more} WHERE {_OPEN} AND ({where})",
        (verdict, code, spot),
    ).rowcount


def _disputes(db: sqlite3.Connection) -> None:
    """Judge rows that the file contradicts: both of two that disagree, since their order proves nothing (row 20).

    Branches of a declared split share a legacy number, those of a merger an account number: `rekey_relations` looks
    at them.
    """
    for column, other, code, spot, declared in (
        ("old", "new", "LEGACY_TWICE", "legacy_number", "splits"),
        ("new", "old", "ACCOUNT_TWICE", "account_number", "merges"),
    ):
        db.execute("DROP TABLE IF EXISTS temp.disputed")
        db.execute(
            f"CREATE TEMP TABLE disputed AS SELECT {column} AS key, group_concat(DISTINCT line) AS lines FROM row "
            f"WHERE {_OPEN} GROUP BY {column} "
            f"HAVING count(DISTINCT {other}) > 1 AND total(relation = '{declared}') = 0"
        )
        db.execute("CREATE INDEX temp.disputed_key ON disputed (key)")
        condemn(
            db,
            f"{column} IN (SELECT key FROM temp.disputed)",
            "conflict",
            code,
            spot,
            seen=column,
            other=f"(SELECT substr(lines, 1, 60) FROM temp.disputed WHERE key = {column})",
        )


def _duplicates(db: sqlite3.Connection) -> None:
    """A pair that stands again says nothing new (row 19): files are put together from lists that overlap."""
    db.execute("DROP TABLE IF EXISTS temp.first")
    db.execute(
        f"CREATE TEMP TABLE first AS SELECT old, new, min(line) AS line FROM row WHERE {_OPEN} "
        "GROUP BY old, new HAVING count(*) > 1"
    )
    db.execute("CREATE INDEX temp.first_old ON first (old)")
    same = "f.old = row.old AND f.new = row.new"
    condemn(
        db,
        f"EXISTS (SELECT 1 FROM temp.first f WHERE {same} AND f.line <> row.line)",
        "unchanged",
        "DUPLICATE",
        "",
        other=f"(SELECT f.line FROM temp.first f WHERE {same})",
    )


def _directory(db: sqlite3.Connection, *, correct: bool) -> None:
    condemn(
        db,
        "account IS NULL AND other = 'swapped'",
        "rejected",
        "SWAPPED",
        "legacy_number",
        seen="old",
        other="''",
    )
    condemn(db, "account IS NULL", "rejected", "UNKNOWN_LEGACY", "legacy_number", seen="old")
    condemn(
        db,
        "meter <> '' AND fitted <> '' AND instr(' ' || fitted || ' ', ' ' || meter || ' ') = 0",
        "conflict",
        "METER_DISAGREES",
        "meter",
        seen="meter",
        other="substr(fitted, 1, instr(fitted || ' ', ' ') - 1)",
    )
    condemn(db, "today = new", "unchanged", "", "")
    if not correct:
        condemn(
            db, "today IS NOT NULL", "conflict", "ALREADY_NAMED", "account_number", seen="new", other="today",
            candidates="today",
        )  # fmt: skip


def _control(db: sqlite3.Connection, control: ControlFacts) -> None:
    if control.rows == 0:
        return
    by_number = (
        f"c.new = row.new AND ((c.old <> '' AND c.old <> row.old) OR {_METER_DIFFERS} OR {_WORDS_DIFFER})"
    )
    by_legacy = (
        f"c.old = row.old AND ((c.new <> '' AND c.new <> row.new) OR {_METER_DIFFERS} OR {_WORDS_DIFFER})"
    )
    for where in (by_number, by_legacy):
        condemn(
            db,
            f"EXISTS (SELECT 1 FROM temp.control c WHERE {where})",
            "conflict",
            "CONTROL_DISAGREES",
            "account_number",
            seen="new",
            candidates="coalesce((SELECT c.new FROM temp.control c WHERE c.old = row.old AND c.new <> row.new), '')",
        )
    if control.has_numbers:
        condemn(
            db,
            f"NOT EXISTS (SELECT 1 FROM temp.control c WHERE c.new = row.new AND ((c.old <> '' AND c.old = row.old) "
            f"OR {_METER_AGREES} OR {_both('name', '=')} OR {_both('place', '=')}))",
            "conflict",
            "NOT_IN_CONTROL",
            "account_number",
            seen="new",
        )
    # What the other list has for a damaged number is offered, too.
    db.execute(
        "UPDATE row SET candidates = trim(candidates || ' ' || c.new) FROM temp.control c WHERE c.old = row.old "
        "AND row.verdict = 'rejected' AND row.new = '' AND row.old <> '' AND c.new <> '' "
        "AND instr(candidates, c.new) = 0"
    )


def _taken(db: sqlite3.Connection) -> None:
    """Judge rows whose number another account keeps (row 21).

    A file that corrects a slip by one row moves numbers in a chain: A gives its number to B, B to C. Such a number is
    free because its owner leaves it. When the owner's own row is refused it keeps the number, and so whoever wanted
    that one is refused in turn.
    """
    first = db.execute(
        f"SELECT line, today FROM row WHERE {_OPEN} AND owner IS NOT NULL AND owner <> account AND relation = '' "
        f"AND NOT EXISTS (SELECT 1 FROM row giver WHERE giver.today = row.new AND giver.{_OPEN})"
    ).fetchall()
    queue = deque(first)
    while queue:
        line, today = queue.popleft()
        refused = condemn(
            db, f"line = {int(line)}", "rejected", "NUMBER_TAKEN", "account_number", seen="new", other="new"
        )
        if refused and today is not None:
            queue.extend(
                db.execute(
                    f"SELECT line, today FROM row WHERE {_OPEN} AND new = ? AND owner <> account", (today,)
                )
            )
