"""Whether a re-key file as a whole can be trusted: what no single row shows, from how all of them look together.

Each guard returns a cause or None. They look at the plan's table after its rows were judged.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from mapping.rekey_control import Control, ControlFacts
from mapping.rekey_judge import bare
from mapping.rekey_plan import Cause, kept_plans, waiting_plan
from mapping.senders import Limits

FEWEST = 20
"""Rows from which on rates say something; a clerk reads fewer one by one."""
SLIPS = (1, -1, 2, -2, 3, -3)
"""By how many rows a column of names or places is looked for that slipped; one of numbers or meters by any."""
FEWEST_SLIPPED = 8
"""Rows of which a slip is believed: fewer may be a rotation that is meant."""
FEWEST_STALE = 5
FEWEST_WRONG = 3
_CUT = ("LENGTH", "EMPTY", "DATE_UNREADABLE", "DATE_IMPOSSIBLE", "DATE_AMBIGUOUS")
"""What a cell looks like of which the end is missing."""
COMPARED_PLANS = 5
"""Kept plans of other files that a file is held against."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file says as a whole.

    `last_column` is what its last column says, empty where that is none of ours; `waiting` counts the accounts that
    have no 10-digit number before it; `returned` is a file of corrections, of which some may be refused again.
    """

    name: str
    rows: int
    columns: int
    ends_whole: bool
    last_column: str
    waiting: int
    part: bool
    returned: bool
    correct: bool
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Numbers that another source gives for the same legacy numbers, as SQL that yields (line, new, expected)."""

    source: str
    sql: str


def causes(
    db: sqlite3.Connection,
    facts: FileFacts,
    control: Control,
    found: ControlFacts,
    plans: Path | None,
    told: list[Cause],
) -> list[Cause]:
    """Return why the file is refused as a whole, after the causes that are `told` already, the plainest first."""
    for guard in (_dates, _cut_off, _totals, _rounded, _old_rounded, _mobiles, _prefixes):
        told += guard(db, facts, control)
    reordered = list(_reordered(db))
    told += _stale(db)
    told += reordered or _slipped(db, facts, found, plans)
    if not told:  # what is told already explains these
        told += _missing(db, facts, found)
    if not told:
        told += _rates(db, facts)
    return list({cause.code: cause for cause in reversed(told)}.values())[::-1]


def _one(db: sqlite3.Connection, sql: str, *values: object) -> int:
    return int(db.execute(sql, values).fetchone()[0] or 0)


def _lines(db: sqlite3.Connection, where: str) -> str:
    return ", ".join(
        str(line) for (line,) in db.execute(f"SELECT line FROM row WHERE {where} ORDER BY line LIMIT 5")
    )


def _dates(db: sqlite3.Connection, _: FileFacts, __: Control) -> Iterator[Cause]:
    for code in ("DATE_AMBIGUOUS", "DATE_COERCED"):
        if count := _one(db, "SELECT count(*) FROM row WHERE code = ?", code):
            (seen,) = db.execute("SELECT seen FROM row WHERE code = ? ORDER BY line", (code,)).fetchone()
            yield Cause(code, {"rows": str(count), "lines": _lines(db, f"code = '{code}'"), "seen": seen})


def _cut_off(db: sqlite3.Connection, facts: FileFacts, _: Control) -> Iterator[Cause]:
    """The last line has no line end, and its last cell is missing or no whole one."""
    if facts.ends_whole:
        return
    line, code, spot, effective, other = db.execute(
        "SELECT line, code, spot, effective, other FROM row ORDER BY line DESC LIMIT 1"
    ).fetchone()
    short = code == "COLUMNS" and int(other) < facts.columns
    undated = facts.last_column == "effective_from" and effective is None and code == ""
    dated = _one(db, "SELECT count(*) FROM row WHERE effective IS NOT NULL") > 0
    cut = code in _CUT and spot == facts.last_column
    if short or cut or (undated and dated):
        yield Cause("CUT_OFF", {"line": str(line)})


def _totals(db: sqlite3.Connection, facts: FileFacts, control: Control) -> Iterator[Cause]:
    if control.rows is not None and control.rows != facts.rows:
        yield Cause("ROW_COUNT", {"rows": str(facts.rows), "wanted": str(control.rows)})
    if control.total is not None:
        # A sum of 10-digit numbers leaves SQLite's integers only beyond 900 million rows.
        total = _one(db, "SELECT sum(CAST(new AS INTEGER)) FROM row")
        damaged = _one(db, "SELECT count(*) FROM row WHERE new = ''")
        if total != control.total:
            yield Cause(
                "HASH_TOTAL", {"total": str(total), "wanted": str(control.total), "damaged": str(damaged)}
            )


def _rounded(db: sqlite3.Connection, _: FileFacts, __: Control) -> Iterator[Cause]:
    """More numbers end in zeros than chance gives: a spreadsheet or a program kept fewer digits (row 9)."""
    rows = _one(db, "SELECT count(*) FROM row WHERE new <> ''")
    told: list[tuple[int, int, str]] = []
    for zeros in range(1, 10):
        where = f"new <> '' AND substr(new, {11 - zeros}) = '{'0' * zeros}'"
        count = _one(db, f"SELECT count(*) FROM row WHERE {where}")
        chance = rows / 10**zeros
        likely = chance + 8 * sqrt(chance) + 2
        if count >= 3 and (count > likely if zeros > 2 else rows >= FEWEST and count * 2 > rows):
            told.append((zeros, count, where))
    if told:
        # As many zeros as most of them have.
        zeros, count, where = next(t for t in reversed(told) if t[1] * 2 >= max(one[1] for one in told))
        if (
            _one(db, f"SELECT count(DISTINCT new) FROM row WHERE {where}") >= 3
        ):  # else it is one number, many times
            yield Cause(
                "ROUNDED",
                {"rows": str(count), "of": str(rows), "zeros": str(zeros), "lines": _lines(db, where)},
            )
        return
    singles = sum(
        int(new) == int(struct.unpack("f", struct.pack("f", int(new)))[0])
        for (new,) in db.execute("SELECT new FROM row WHERE new > '0016777216'")
    )
    if rows >= FEWEST and singles * 4 > rows:
        yield Cause("ROUNDED_BINARY", {"rows": str(singles), "of": str(rows)})


def _old_rounded(db: sqlite3.Connection, _: FileFacts, __: Control) -> Iterator[Cause]:
    """Long old numbers all end in zeros after 15 digits, which is all that Excel keeps (row 9)."""
    long = "length(old) > 15 AND old NOT GLOB '*[^0-9]*'"
    rows = _one(db, f"SELECT count(*) FROM row WHERE {long}")
    where = f"{long} AND CAST(substr(old, 16) AS INTEGER) = 0"
    count = _one(db, f"SELECT count(*) FROM row WHERE {where}")
    if count >= 3 and count * 2 >= rows:
        yield Cause("EXCEL_15_DIGITS", {"rows": str(count), "of": str(rows), "lines": _lines(db, where)})


def _mobiles(db: sqlite3.Connection, _: FileFacts, __: Control) -> Iterator[Cause]:
    """All begin with 6 to 9 as mobile numbers do, and not with one series' digits as numbers given out do (row 12)."""
    rows = _one(db, "SELECT count(*) FROM row WHERE new <> ''")
    count = _one(db, "SELECT count(*) FROM row WHERE new >= '6'")
    series = _one(
        db, "SELECT max(n) FROM (SELECT count(*) AS n FROM row WHERE new <> '' GROUP BY substr(new, 1, 2))"
    )
    told = _one(db, "SELECT count(*) FROM row WHERE code = 'MOBILE'")
    if (rows >= FEWEST and count * 100 >= rows * 95 and series * 2 < rows) or (told >= 3 and told * 5 > rows):
        yield Cause("MOBILES", {"rows": str(max(count, told)), "of": str(max(rows, told))})


def _prefixes(db: sqlite3.Connection, facts: FileFacts, _: Control) -> Iterator[Cause]:
    count = _one(db, "SELECT count(*) FROM row WHERE code = 'PREFIX'")
    if count >= 3 and count * 100 > facts.rows * facts.limits.refused:
        (seen,) = db.execute("SELECT seen FROM row WHERE code = 'PREFIX' ORDER BY line").fetchone()
        yield Cause("WRONG_PREFIX", {"rows": str(count), "of": str(facts.rows), "seen": seen})


def _slipped(
    db: sqlite3.Connection, facts: FileFacts, found: ControlFacts, plans: Path | None
) -> Iterator[Cause]:
    """Numbers, meters or names that belong to the row before or after, by any source that knows better (row 22)."""
    sources: list[_Pairs] = []
    if found.has_numbers and found.has_legacy:
        sources.append(
            _Pairs(
                "control",
                "SELECT line, r.new, max(c.new) AS expected FROM row r LEFT JOIN temp.control c "
                "ON c.old = r.old AND c.new <> '' WHERE r.new <> '' GROUP BY line",
            )
        )
    else:
        sources.append(
            _Pairs(
                "directory", "SELECT line, new, today AS expected FROM row WHERE today <> '' AND new <> ''"
            )
        )
    for source in sources:
        yield from _compared(db, facts, source)
    if not (found.has_numbers and found.has_legacy):
        yield from _against_plans(db, facts, plans)
    yield from _meters(db, facts)
    yield from _words(db, facts, found)


def _compared(db: sqlite3.Connection, facts: FileFacts, pairs: _Pairs) -> Iterator[Cause]:
    db.execute("DROP TABLE IF EXISTS temp.pair")
    db.execute(
        f"CREATE TEMP TABLE pair AS SELECT row_number() OVER (ORDER BY line) AS at, new, expected FROM ({pairs.sql})"
    )
    rows = _one(db, "SELECT count(expected) FROM temp.pair")
    wrong = _one(db, "SELECT count(*) FROM temp.pair WHERE new <> expected")
    told = {"source": pairs.source, "rows": str(wrong), "of": str(rows)}
    slip, fits = _slip(db) if wrong >= FEWEST_SLIPPED else (0, 0)
    if fits * 2 >= max(wrong, 1):
        code = "SHIFTED" if pairs.source in ("control", "directory") else "SHIFTED_PLANS"
        yield Cause(code, {**told, "slip": str(abs(slip)), "fits": str(fits)})
        return
    if pairs.source == "directory":
        # Of those whose number is known most have another: what the file says of the others is no better.
        if wrong >= FEWEST_WRONG and wrong * 2 > rows and not facts.correct:
            yield Cause("CONTRADICTED", told)
    elif wrong >= FEWEST_SLIPPED and wrong * 100 > rows * facts.limits.disagreeing:
        yield Cause("CONTRADICTED", told)


def _slip(db: sqlite3.Connection) -> tuple[int, int]:
    """Return by how many rows most of the wrong numbers slipped, and how many did; whatever the distance is."""
    # A number that is expected in many rows tells no distance, and pairs of all of them would be without end.
    db.execute("DROP TABLE IF EXISTS temp.single")
    db.execute(
        "CREATE TEMP TABLE single AS SELECT expected, max(at) AS at FROM temp.pair WHERE expected IS NOT NULL "
        "GROUP BY expected HAVING count(*) = 1"
    )
    db.execute("CREATE INDEX temp.single_expected ON single (expected)")
    found = db.execute(
        "SELECT theirs.at - ours.at, count(*) FROM temp.pair ours JOIN temp.single theirs "
        "ON theirs.expected = ours.new WHERE ours.new IS NOT ours.expected GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
    ).fetchone()
    return (0, 0) if found is None else (int(found[0]), int(found[1]))


def _against_plans(db: sqlite3.Connection, facts: FileFacts, folder: Path | None) -> Iterator[Cause]:
    """Another file that waits here says otherwise of the same consumers: at least one of the two is wrong."""
    for path in [] if folder is None else kept_plans(folder)[:COMPARED_PLANS]:
        with waiting_plan(db, path) as words:
            told = []
            if words is not None:
                rows = (
                    "SELECT r.line, r.new, max(k.new) AS expected FROM row r LEFT JOIN kept.row k ON k.old = r.old "
                    "AND k.new <> '' AND k.verdict IN ('applied', 'repaired') WHERE r.new <> '' GROUP BY r.line"
                )
                told = list(_compared(db, facts, _Pairs(words, rows)))
        yield from told
        if told:
            return


def _meters(db: sqlite3.Connection, facts: FileFacts) -> Iterator[Cause]:
    """Meters of the rows, beside those that the directory has for the consumers."""
    first = "substr(fitted, 1, instr(fitted || ' ', ' ') - 1)"
    db.execute("DROP TABLE IF EXISTS temp.word")
    db.execute(
        f"CREATE TEMP TABLE word AS SELECT line, {bare('meter')} AS meter, CASE WHEN "
        f"instr(' ' || fitted || ' ', ' ' || meter || ' ') THEN {bare('meter')} ELSE {bare(first)} END AS c_meter "
        "FROM row WHERE meter <> '' AND fitted <> '' ORDER BY line"
    )
    yield from _word(db, facts, "meter")


def _words(db: sqlite3.Connection, facts: FileFacts, found: ControlFacts) -> Iterator[Cause]:
    """Names, places and meters of the control, by the account number and by the legacy number."""
    meter = "CASE r.meter WHEN '' THEN substr(r.fitted, 1, instr(r.fitted || ' ', ' ') - 1) ELSE r.meter END"
    for key, has in (("new", found.has_numbers), ("old", found.has_legacy)):
        if not has:
            continue
        db.execute("DROP TABLE IF EXISTS temp.word")
        db.execute(
            f"CREATE TEMP TABLE word AS SELECT line, {bare(meter)} AS meter, r.name, r.place, "
            f"{bare('max(c.meter)')} AS c_meter, max(c.name) AS c_name, max(c.place) AS c_place "
            f"FROM row r JOIN temp.control c ON c.{key} = r.{key} WHERE r.{key} <> '' GROUP BY line ORDER BY line"
        )
        for column in ("meter", "name", "place"):
            yield from _word(db, facts, column)


def _word(db: sqlite3.Connection, facts: FileFacts, column: str) -> Iterator[Cause]:
    known = f"{column} <> '' AND c_{column} <> ''"
    rows = _one(db, f"SELECT count(*) FROM temp.word WHERE {known}")
    wrong = _one(db, f"SELECT count(*) FROM temp.word WHERE {known} AND {column} <> c_{column}")
    if wrong < FEWEST_SLIPPED or wrong * 100 <= rows * facts.limits.disagreeing:
        return
    told = {"source": {"place": "locality"}.get(column, column), "rows": str(wrong), "of": str(rows)}
    slip, fits = _slip_of_meters(db) if column == "meter" else _slip_of_words(db, column, known)
    if fits * 10 >= wrong * (
        5 if column == "meter" else 9
    ):  # a name may stand beside one of the same by chance
        yield Cause("SHIFTED", {**told, "slip": str(abs(slip)), "fits": str(fits)})
    else:
        yield Cause("DISAGREES", told)


def _slip_of_meters(db: sqlite3.Connection) -> tuple[int, int]:
    db.execute("DROP TABLE IF EXISTS temp.pair")
    db.execute(
        "CREATE TEMP TABLE pair AS SELECT row_number() OVER (ORDER BY line) AS at, meter AS new, c_meter AS expected "
        "FROM temp.word"
    )
    return _slip(db)


def _slip_of_words(db: sqlite3.Connection, column: str, known: str) -> tuple[int, int]:
    best = (0, 0)
    for slip in SLIPS:
        move = f"lead(c_{column}, {slip})" if slip > 0 else f"lag(c_{column}, {-slip})"
        fits = _one(
            db,
            f"SELECT count(*) FROM (SELECT {column}, c_{column}, {move} OVER (ORDER BY line) AS moved "
            f"FROM temp.word WHERE {known}) WHERE {column} <> c_{column} AND {column} = moved",
        )
        best = max(best, (slip, fits), key=lambda found: found[1])
    return best


def _stale(db: sqlite3.Connection) -> Iterator[Cause]:
    """Most of what the file would change is what the directory said before it was changed (row 23)."""
    former = _one(db, "SELECT total(former) FROM row")
    changed = _one(db, "SELECT count(*) FROM row WHERE today IS NOT NULL AND new <> '' AND today <> new")
    if former >= FEWEST_STALE and former * 2 >= changed:
        yield Cause("STALE", {"rows": str(former), "of": str(changed)})


def _reordered(db: sqlite3.Connection) -> Iterator[Cause]:
    """Refused rows hold what belongs into another column: the data is in another order than the heading."""
    failing = _one(db, "SELECT count(*) FROM row WHERE verdict = 'rejected'")
    moved = _one(db, "SELECT count(*) FROM row WHERE code IN ('SWAPPED', 'OTHER_COLUMN')")
    if moved >= 3 and moved * 2 >= failing:
        where = "code IN ('SWAPPED', 'OTHER_COLUMN')"
        (seen,) = db.execute(f"SELECT seen FROM row WHERE {where} ORDER BY line").fetchone()
        yield Cause("REORDERED", {"rows": str(moved), "lines": _lines(db, where), "seen": seen})


def _missing(db: sqlite3.Connection, facts: FileFacts, found: ControlFacts) -> Iterator[Cause]:
    """The file ends early: consumers that wait for a number, or rows of the control list, are not in it."""
    if facts.part:
        return
    if found.has_legacy:
        absent = _one(
            db,
            "SELECT count(*) FROM temp.control c WHERE c.old <> '' "
            "AND NOT EXISTS (SELECT 1 FROM row WHERE row.old = c.old)",
        )
        if absent >= 3 and absent * 100 > found.rows * facts.limits.missing:
            yield Cause("TRUNCATED", {"source": "control", "missing": str(absent), "of": str(found.rows)})
        return
    present = _one(db, "SELECT count(DISTINCT account) FROM row WHERE account IS NOT NULL AND today IS NULL")
    absent = facts.waiting - present
    if present and facts.waiting >= FEWEST and absent * 100 > facts.waiting * facts.limits.missing:
        yield Cause("TRUNCATED", {"source": "directory", "missing": str(absent), "of": str(facts.waiting)})


def _rates(db: sqlite3.Connection, facts: FileFacts) -> Iterator[Cause]:
    if facts.rows < FEWEST:
        return
    refused = _one(db, "SELECT count(*) FROM row WHERE verdict IN ('conflict', 'rejected')")
    if refused * 100 > facts.rows * facts.limits.refused and not facts.returned:
        code, count = db.execute(
            "SELECT code, count(*) FROM row WHERE verdict IN ('conflict', 'rejected') GROUP BY code ORDER BY 2 DESC"
        ).fetchone()
        told = {"rows": str(refused), "of": str(facts.rows), "limit": str(facts.limits.refused)}
        yield Cause("REFUSED_RATE", {**told, "most": code, "count": str(count)})
    changed = _one(db, "SELECT count(*) FROM row WHERE today IS NOT NULL AND new <> '' AND today <> new")
    if changed * 100 > facts.rows * facts.limits.changed and not facts.correct:
        yield Cause(
            "CHANGED_RATE", {"rows": str(changed), "of": str(facts.rows), "limit": str(facts.limits.changed)}
        )
