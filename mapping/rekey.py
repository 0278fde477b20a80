"""The re-key: a file of legacy → 10-digit numbers becomes a checked plan, a change set and corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from mapping.account import AccountNumber, LegacyNumber, NumberSource
from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.errors import FileRefused, NumberRefused
from mapping.files import CsvRow, CsvTable, read_table, refuse_coerced_numbers
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore, collector_paused
from mapping.verdicts import RowVerdict, Verdict, count, write_verdicts

HEADER = ("legacy_number", "account_number")
OPTIONAL = ("sequence",)


@dataclass(frozen=True, slots=True)
class RekeyPlan:
    """A dry run: a verdict for every row and the renamings that `apply_rekey` will commit together.

    `version` is the directory version that it was planned on.
    """

    name: str
    digest: str
    sequence: int | None
    version: int
    rows: tuple[RowVerdict, ...]
    changes: tuple[Name, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by verdict."""
        return count(self.rows)


class _Pair(NamedTuple):
    row: CsvRow
    old: str
    new: str
    repairs: str


def plan_rekey(snapshot: DirectorySnapshot, path: Path | str, *, correct: bool = False) -> RekeyPlan:
    """Check a file against the directory and against itself; nothing is changed (users.md §6 rows 17-23).

    `correct` lets a row give another number to an account that has one already; otherwise that is a
    conflict. Raises FileRefused when the file as a whole cannot be trusted or is stale.
    """
    with collector_paused():
        table = read_table(path, HEADER, OPTIONAL)
        for column, label in enumerate(HEADER):
            refuse_coerced_numbers(table, column, label)
        sequence = _sequence(table)
        _refuse_stale(snapshot, table, sequence)
        # A file that was applied once may still bring rows that were rejected then, but never renames back.
        correct = correct and all(c.digest != table.digest for c in snapshot.changes)
        return _RekeyPlanner(snapshot, table, correct).plan(sequence)


def apply_rekey(store: DirectoryStore, plan: RekeyPlan, *, by: str, at: datetime) -> int:
    """Commit the plan in one transaction and return the directory version.

    The same file again changes nothing. Raises ChangeRefused (STALE_PLAN) when the directory moved on
    since the plan was made: plan again.
    """
    return store.apply(
        plan.changes,
        by=by,
        source=plan.name,
        at=at,
        digest=plan.digest,
        sequence=plan.sequence,
        based_on=plan.version,
    )


def write_corrections(plan: RekeyPlan, path: Path | str) -> int:
    """Write the rows not applied, with code, reason and suggestion, to be put right; return their number."""
    return write_verdicts(path, HEADER, plan.rows)


def _sequence(table: CsvTable) -> int | None:
    if OPTIONAL[0] not in table.header:
        return None
    values = {cells[2].strip() for _, cells in table.rows}
    value = values.pop() if len(values) == 1 else ""
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise FileRefused("SEQUENCE", f"{table.name}: column sequence holds one whole number in all rows")
    return int(value)


def _refuse_stale(snapshot: DirectorySnapshot, table: CsvTable, sequence: int | None) -> None:
    if sequence is None:
        return
    last = max(
        (c for c in snapshot.changes if c.sequence is not None), key=lambda c: c.sequence or 0, default=None
    )
    if last is None or last.sequence is None or last.digest == table.digest or sequence > last.sequence:
        return
    raise FileRefused(
        "STALE_FILE",
        f"{table.name} has sequence {sequence}, but {last.source} with sequence {last.sequence} was applied",
    )


class _RekeyPlanner:
    def __init__(self, snapshot: DirectorySnapshot, table: CsvTable, correct: bool) -> None:
        self.snapshot = snapshot
        self.table = table
        self.correct = correct
        self.verdicts: list[RowVerdict] = []
        self.leaving: dict[str, str] = {}

    def plan(self, sequence: int | None) -> RekeyPlan:
        for line, cells in self.table.ragged:
            self.say(
                CsvRow(line, cells), Verdict.REJECTED, "COLUMNS", f"{len(cells)} cells do not fit the header"
            )
        pairs = [pair for row in self.table.rows if (pair := self.parsed(row)) is not None]
        changes = self.settled([(p, a) for p in self.agreeing(pairs) if (a := self.account(p)) is not None])
        self.verdicts.sort(key=lambda v: v.line)
        table, version = self.table, self.snapshot.version
        return RekeyPlan(table.name, table.digest, sequence, version, tuple(self.verdicts), tuple(changes))

    def parsed(self, row: CsvRow) -> _Pair | None:
        old_text, new_text = row.cells[0], row.cells[1]
        try:
            old = LegacyNumber.parse(old_text, source=NumberSource.FILE)
            new = AccountNumber.parse(new_text, source=NumberSource.FILE, exists=self.exists)
        except NumberRefused as error:
            self.say(row, Verdict.REJECTED, error.code, str(error), error.suggestion or "")
            return None
        repairs = ""
        if old.repairs or new.repairs:
            repairs = " ".join(dict.fromkeys((*old.repairs, *new.repairs)))
        return _Pair(row, old.number.text, new.number.text, repairs)

    def exists(self, number: str) -> bool:
        return self.snapshot.account_by_number(NumberKind.ACCOUNT, number) is not None

    def agreeing(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Set aside what the file says twice (row 19) or in two ways (17, 18, 20): no choice by order."""
        new_of: dict[str, str | None] = {}
        old_of: dict[str, str | None] = {}
        for _, old, new, _ in pairs:
            if new_of.setdefault(old, new) != new:
                new_of[old] = None
            if old_of.setdefault(new, old) != old:
                old_of[new] = None
        seen: set[str] = set()
        kept = []
        for pair in pairs:
            if new_of[pair.old] is None:
                self.say(
                    pair.row,
                    Verdict.CONFLICT,
                    "LEGACY_TWICE",
                    f"legacy number {pair.old} stands in this file with several account numbers",
                )
            elif old_of[pair.new] is None:
                self.say(
                    pair.row,
                    Verdict.CONFLICT,
                    "ACCOUNT_TWICE",
                    f"account number {pair.new} stands in this file with several legacy numbers",
                )
            elif pair.old in seen:
                self.say(
                    pair.row, Verdict.UNCHANGED, "DUPLICATE", "the same pair stands earlier in this file"
                )
            else:
                seen.add(pair.old)
                kept.append(pair)
        return kept

    def account(self, pair: _Pair) -> str | None:
        account = self.snapshot.account_by_number(NumberKind.LEGACY, pair.old)
        if account is None:
            hint = ""
            if self.exists(pair.old):
                hint = "; an account has it as its new number: are the columns swapped?"
            self.say(
                pair.row,
                Verdict.REJECTED,
                "UNKNOWN_LEGACY",
                f"no account has the legacy number {pair.old}{hint}",
            )
            return None
        has = self.snapshot.name(account, NumberKind.ACCOUNT)
        if has == pair.new:
            self.say(pair.row, Verdict.UNCHANGED, "", "")
            return None
        if has is not None and not self.correct:
            self.say(
                pair.row,
                Verdict.CONFLICT,
                "ALREADY_NAMED",
                f"the account of {pair.old} has the account number {has}",
                has,
            )
            return None
        if has is not None:
            self.leaving[has] = account
        return account

    def settled(self, wanted: list[tuple[_Pair, str]]) -> list[Name]:
        """Refuse numbers that another account keeps (row 21); a refusal may make another number kept."""
        while True:
            kept = []
            for pair, account in wanted:
                owner = self.snapshot.account_by_number(NumberKind.ACCOUNT, pair.new)
                if owner is None or pair.new in self.leaving:
                    kept.append((pair, account))
                    continue
                self.say(
                    pair.row,
                    Verdict.REJECTED,
                    "NUMBER_TAKEN",
                    f"account number {pair.new} belongs to another account",
                )
                self.leaving.pop(self.snapshot.name(account, NumberKind.ACCOUNT) or "", None)
            if len(kept) == len(wanted):
                break
            wanted = kept
        changes = []
        for pair, account in wanted:
            verdict = Verdict.REPAIRED if pair.repairs else Verdict.APPLIED
            self.say(pair.row, verdict, pair.repairs, "repaired on reading" if pair.repairs else "")
            changes.append(Name(account, NumberKind.ACCOUNT, pair.new, pair.row.line))
        return changes

    def say(self, row: CsvRow, verdict: Verdict, code: str, reason: str, suggestion: str = "") -> None:
        self.verdicts.append(RowVerdict(row.line, row.cells[:2], verdict, code, reason, suggestion))
