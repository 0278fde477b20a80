"""Kinds of re-key files, each made at random from a town: what was done to it and how it must end."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from mapping.senders import ANYBODY, Sender
from tests.support.mapping.rekey_town import HEADING, REJECTED, REPAIRED, Consumer, RekeyFile


@dataclass
class Case:
    """A file and its truth: causes for the whole of it, or verdicts by line where they are not `applied`."""

    file: RekeyFile
    causes: tuple[str, ...] = ()
    lines: dict[int, str] = field(default_factory=dict)
    before: list[RekeyFile] = field(default_factory=list)
    control: RekeyFile | None = None
    rows: int | None = None
    total: int | None = None
    sender: Sender = ANYBODY


def rows_of(town: list[Consumer], date: str = "2024-05-01") -> list[list[str]]:
    """Give the whole town's rows."""
    return [one.cells(date) for one in town]


def column(rows: list[list[str]], at: int) -> list[str]:
    """Give one column."""
    return [row[at] for row in rows]


def moved(rows: list[list[str]], columns: tuple[int, ...], by: int, since: int = 0) -> list[list[str]]:
    """Give rows of which some columns slipped by some rows from one row on."""
    found = [list(row) for row in rows]
    for at in columns:
        cells = column(rows[since:], at)
        for row, cell in zip(found[since:], cells[by:] + cells[:by], strict=True):
            row[at] = cell
    return found


def _damaged_rows(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    lines: dict[int, str] = {}
    some = chance.sample(range(len(rows)), len(rows) // 6)
    for number, at in enumerate(some):
        table, verdict = ((REPAIRED, "repaired"), (REJECTED, "rejected"))[number % 2]
        kind = chance.choice(sorted(table))
        rows[at][1] = table[kind](chance, rows[at][1])
        lines[at + 2] = verdict
    return Case(RekeyFile(rows), lines=lines)


def _dressed(town: list[Consumer], chance: random.Random) -> Case:
    case = _damaged_rows(town, chance)
    case.file.separator = chance.choice(",;\t|")
    case.file.encoding = chance.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"))
    case.file.end = chance.choice(("\n", "\r\n"))
    order = list(range(6))
    chance.shuffle(order)
    case.file.heading = [case.file.heading[at] for at in order]
    case.file.rows = [[row[at] for at in order] for row in case.file.rows]
    return case


def _workbook(town: list[Consumer], chance: random.Random) -> Case:
    case = _damaged_rows(town, chance)
    case.file.workbook = True
    return case


def _workbook_shifted(town: list[Consumer], chance: random.Random) -> Case:
    case = _shifted_numbers_listed(town, chance)
    case.file.workbook = True
    return case


def _contradictions(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    picked = chance.sample(range(len(rows)), 6)
    a, b, c, d, e, f = picked
    rows[b][1] = rows[a][1]
    rows[d][0], rows[d][2] = rows[c][0], rows[c][2]
    rows += [list(rows[e]), list(rows[f])]
    lines = {at + 2: "conflict" for at in (a, b, c, d)}
    lines |= {len(rows): "unchanged", len(rows) + 1: "unchanged"}
    return Case(RekeyFile(rows), lines=lines)


def _wrong_meters(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    at = chance.randrange(len(rows) - 1)
    rows[at][2], rows[at + 1][2] = rows[at + 1][2], rows[at][2]
    return Case(RekeyFile(rows), lines={at + 2: "conflict", at + 3: "conflict"})


def _slip(chance: random.Random, rows: list[list[str]], columns: tuple[int, ...]) -> list[list[str]]:
    since = chance.choice((0, 0, len(rows) // 3))
    return moved(rows, columns, chance.choice((1, -1, 2)), since)


def _shifted_far(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    case = Case(RekeyFile(moved(rows, (1,), chance.choice((5, 11, -8)))), ("SHIFTED",))
    if chance.random() < 0.5:
        case.before = [RekeyFile(rows)]
    else:
        case.control = RekeyFile([row[:2] for row in rows], list(HEADING[:2]))
    return case


def _shifted_numbers_known(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    return Case(RekeyFile(_slip(chance, rows, (1,))), ("SHIFTED",), before=[RekeyFile(rows)])


def _shifted_numbers_of_whom_few_are_known(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    known = [rows[at] for at in sorted(chance.sample(range(len(rows)), 10))]
    return Case(RekeyFile(moved(rows, (1,), 1)), ("SHIFTED", "CONTRADICTED"), before=[RekeyFile(known)])


def _shifted_numbers_listed(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    case = Case(RekeyFile(_slip(chance, rows, (1,))), ("SHIFTED",))
    # By old number, by meter, or by name and place: whatever the other list has beside the new number.
    beside = chance.choice(((0,), (2,), (3, 4)))
    case.control = RekeyFile([[row[1], *(row[at] for at in beside)] for row in rows])
    case.control.heading = [HEADING[1], *(HEADING[at] for at in beside)]
    if beside == (3, 4):
        case.causes = ("SHIFTED", "DISAGREES")
    return case


def _shifted_names(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    master = RekeyFile(
        [[row[0], row[2], row[3], row[4]] for row in rows], [HEADING[at] for at in (0, 2, 3, 4)]
    )
    slipped = _slip(chance, rows, chance.choice(((1, 3, 4), (0, 2), (3, 4))))
    return Case(RekeyFile(slipped), ("SHIFTED", "DISAGREES"), control=master)


def _shifted_meters(town: list[Consumer], chance: random.Random) -> Case:
    return Case(RekeyFile(_slip(chance, rows_of(town), chance.choice(((2,), (0,), (1, 2))))), ("SHIFTED",))


def _rounded(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    digits = chance.choice((4, 5, 6, 7))
    for row in rows[chance.choice((0, len(rows) // 2)) :]:
        row[1] = str(round(int(row[1]), digits - 10))
    return Case(RekeyFile(rows), ("ROUNDED",))


def _rounded_binary(town: list[Consumer], _: random.Random) -> Case:
    rows = rows_of(town)
    for row in rows:
        row[1] = f"{int(struct.unpack('f', struct.pack('f', int(row[1])))[0]):010d}"
    return Case(RekeyFile(rows), ("ROUNDED_BINARY", "ROUNDED"))


def _scientific(town: list[Consumer], _: random.Random) -> Case:
    rows = rows_of(town)
    for row in rows:
        row[1] = f"{int(row[1]):.2E}"
    return Case(RekeyFile(rows), ("REFUSED_RATE",))


def _cut(town: list[Consumer], chance: random.Random) -> Case:
    file = RekeyFile(rows_of(town))
    file.cut = chance.randrange(1, 10) + 1
    if chance.random() < 0.5:  # far before the end
        file.rows = file.rows[: len(file.rows) // 2]
    return Case(file, ("CUT_OFF",))


def _short(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    return Case(RekeyFile(rows[: chance.randrange(len(rows) // 3, len(rows) - 5)]), ("TRUNCATED",))


def _miscounted(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    lost = chance.randrange(len(rows))
    return Case(RekeyFile(rows[:lost] + rows[lost + 1 :]), ("ROW_COUNT",), rows=len(rows))


def _wrong_total(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    total = sum(int(row[1]) for row in rows)
    at = chance.randrange(len(rows))
    rows[at][1] = f"{(int(rows[at][1]) + 7) % 10**10:010d}"
    return Case(RekeyFile(rows), ("HASH_TOTAL",), rows=len(rows), total=total)


def _ambiguous(town: list[Consumer], chance: random.Random) -> Case:
    date = chance.choice(("05/04/2024", "5/4/24", "05-04-2024", "05.04.2024"))
    return Case(RekeyFile(rows_of(town, date)), ("DATE_AMBIGUOUS",))


def _declared_dates(town: list[Consumer], _: random.Random) -> Case:
    return Case(RekeyFile(rows_of(town, "05/04/2024")), sender=Sender(dates="DD/MM/YYYY"))


def _coerced(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    for at in chance.sample(range(len(rows)), 3):
        rows[at][chance.choice((0, 1))] = chance.choice(("12-Mar", "Mar-24", "3/12/2024"))
    return Case(RekeyFile(rows), ("DATE_COERCED",))


def _reordered(town: list[Consumer], chance: random.Random) -> Case:
    order = chance.choice(((1, 0, 2, 3, 4, 5), (2, 1, 0, 3, 4, 5), (0, 2, 1, 3, 4, 5), (0, 3, 2, 1, 4, 5)))
    return Case(RekeyFile([[row[at] for at in order] for row in rows_of(town)]), ("REORDERED",))


def _mobiles(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    dress = chance.choice(("{}", "+91{}", "91{}", "0{}"))
    for row in rows:
        row[1] = dress.format(chance.choice("6789") + "".join(chance.choices("0123456789", k=9)))
    return Case(RekeyFile(rows), ("MOBILES",))


def _foreign(town: list[Consumer], _: random.Random) -> Case:
    rows = rows_of(town)
    for row in rows:
        row[1] = "MAVVNL" + row[1]
    return Case(RekeyFile(rows), ("WRONG_PREFIX",))


def _own_prefix(town: list[Consumer], _: random.Random) -> Case:
    case = _foreign(town, random.Random())
    case.lines = dict.fromkeys(range(2, len(town) + 2), "repaired")
    case.causes, case.sender = (), Sender(prefixes=frozenset({"MAVVNL"}))
    return case


def _repeated(town: list[Consumer], chance: random.Random) -> Case:
    file = RekeyFile(rows_of(town))
    again = RekeyFile([list(row) for row in file.rows], end=chance.choice(("\n", "\r\n")))
    return Case(again, ("REPEATED", "NOTHING_NEW"), before=[file])


def _stale(town: list[Consumer], chance: random.Random) -> Case:
    old = rows_of(town)
    new = [list(row) for row in old]
    for row in new:
        row[1] = f"{(int(row[1]) * 7 + 3) % 10**10:010d}"
    stale = [list(row) for row in old]
    stale[0][3] = f"somebody {chance.random()}"  # not octet for octet what was applied
    return Case(RekeyFile(stale), ("STALE",), before=[RekeyFile(old), RekeyFile(new)])


def _renumbered(town: list[Consumer], chance: random.Random) -> Case:
    rows = rows_of(town)
    other = [list(row) for row in rows]
    for row in other[: len(rows) // chance.choice((2, 5))]:
        row[1] = f"{(int(row[1]) * 3 + 1) % 10**10:010d}"
    return Case(RekeyFile(other), ("CHANGED_RATE", "REFUSED_RATE"), before=[RekeyFile(rows)])


_MAKERS: dict[str, Callable[[list[Consumer], random.Random], Case]] = {
    name.removeprefix("_"): maker
    for name, maker in list(globals().items())
    if name.startswith("_") and callable(maker) and not name.startswith("__") and name != "_slip"
}
KINDS = sorted(_MAKERS)


def damaged(kind: str, town: list[Consumer], chance: random.Random) -> Case:
    """Make a file of one kind."""
    return _MAKERS[kind](town, chance)
