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
from mapping.row_verdicts import FilePlan, RowVerdict, Verdict
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

HEADER = ("legacy_number", "account_number")
OPTIONAL = ("sequence",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RekeyPlan(FilePlan):
    """A dry run of a re-key file, and the renamings that `apply_rekey` will commit together.

    `sequence` is the number that the file carries, None where it has no such column.
    """

    sequence: int | None
    changes: tuple[Name, ...]


class _Pair(NamedTuple):
    row: CsvRow
    old: str
    new: str
    repairs: str


def plan_rekey(snapshot: DirectorySnapshot, path: Path | str, *, correct: bool = False) -> RekeyPlan:
    r"""Check a re-key file against a directory and against itself; nothing is changed (users.md §6 rows 17-23).

    `snapshot` is the directory as it stands; `path` a CSV file in UTF-8 with the columns `legacy_number`,
    `account_number` and, where files are numbered, `sequence`. `correct` lets a row give another number to an
    account that has one already; otherwise that is a conflict.

    Returns a plan with a verdict for every row. Raises FileRefused, whose `code` says why, when the file as a
    whole cannot be trusted (damaged by a spreadsheet, not UTF-8) or is older than one that was applied.

    Example:
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from mapping import DirectoryStore, Name, NumberKind, apply_rekey, plan_rekey
    >>> temporary, now = TemporaryDirectory(), datetime(2026, 11, 1, tzinfo=UTC)
    >>> folder = Path(temporary.name)
    >>> store = DirectoryStore(folder / "directory.db")
    >>> store.apply([Name("acc-1", NumberKind.LEGACY, "KE0012345")], by="clerk", source="register", at=now)
    1
    >>> written = (folder / "rekey.csv").write_text(
    ...     "legacy_number,account_number\nKE0012345,0123456789\nKE0012346,123456789\n"
    ... )
    >>> plan = plan_rekey(store.snapshot(), folder / "rekey.csv")
    >>> [(row.line, row.verdict.value, row.code) for row in plan.rows]
    [(2, 'applied', ''), (3, 'rejected', 'LENGTH_9')]
    >>> apply_rekey(store, plan, by="clerk", at=now)
    2
    >>> store.snapshot().account_by_number(NumberKind.ACCOUNT, "0123456789")
    'acc-1'
    >>> store.close()
    >>> temporary.cleanup()
    """
    table = read_table(path, HEADER, OPTIONAL)
    for column, label in enumerate(HEADER):
        refuse_coerced_numbers(table, column, label)
    sequence = _sequence(table)
    _refuse_stale(snapshot, table, sequence)
    # A file that was applied once may still bring rows that were rejected then, but never renames back.
    correct = correct and all(c.digest != table.digest for c in snapshot.changes)
    return _RekeyPlanner(snapshot, table, correct).plan(sequence)


def apply_rekey(store: DirectoryStore, plan: RekeyPlan, *, by: str, at: datetime, sure: bool = False) -> int:
    """Commit the renamings of a plan to a directory in one transaction, and return the directory version.

    `store` is the directory that the `plan` was made on; `by` says who does it, `at` (with a zone) when it
    becomes known (`sure`: see `DirectoryStore.apply`). Rows that the plan rejected are not applied:
    `plan.write_corrections` writes them. The
    same file again changes nothing.

    Returns the version after it. Raises ChangeRefused (`STALE_PLAN`) when the directory moved on since the plan
    was made: plan again; and DirectoryFault when the store fails, which leaves it as it was.

    Example: see `plan_rekey`.
    """
    return store.apply(
        plan.changes,
        by=by,
        source=plan.name,
        at=at,
        digest=plan.digest,
        sequence=plan.sequence,
        based_on=plan.version,
        sure=sure,
    )


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
    """Judges the rows of one file, in three steps: each by itself, the file, the directory."""

    def __init__(self, snapshot: DirectorySnapshot, table: CsvTable, correct: bool) -> None:
        self.snapshot = snapshot
        self.table = table
        self.correct = correct
        self.verdicts: list[RowVerdict] = []
        self.leaving: dict[str, str] = {}
        """Account numbers that this file takes from an account, and that account."""

    def plan(self, sequence: int | None) -> RekeyPlan:
        for row in self.table.ragged:
            self.judge(row, Verdict.REJECTED, "COLUMNS", f"{len(row.cells)} cells do not fit the header")
        pairs = [pair for row in self.table.rows if (pair := self.parse(row)) is not None]
        wanted = [
            (pair, account)
            for pair in self.undisputed(pairs)
            if (account := self.account_to_name(pair)) is not None
        ]
        changes = self.without_taken_numbers(wanted)
        self.verdicts.sort(key=lambda v: v.line)
        return RekeyPlan(
            name=self.table.name,
            digest=self.table.digest,
            version=self.snapshot.version,
            header=HEADER,
            rows=tuple(self.verdicts),
            sequence=sequence,
            changes=tuple(changes),
        )

    def parse(self, row: CsvRow) -> _Pair | None:
        old_text, new_text = row.cells[0], row.cells[1]
        try:
            old = LegacyNumber.parse(old_text, source=NumberSource.FILE)
            new = AccountNumber.parse(new_text, source=NumberSource.FILE, exists=self.exists)
        except NumberRefused as error:
            self.judge(row, Verdict.REJECTED, error.code, str(error), error.suggestion or "")
            return None
        repairs = ""
        if old.repairs or new.repairs:
            repairs = " ".join(dict.fromkeys((*old.repairs, *new.repairs)))
        return _Pair(row, old.number.text, new.number.text, repairs)

    def exists(self, number: str) -> bool:
        return self.snapshot.account_by_number(NumberKind.ACCOUNT, number) is not None

    def undisputed(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Return the pairs that the file does not contradict; judge the others.

        Two passes, since the second of two rows that disagree condemns the first as well: which of them is
        right is not to be guessed from their order (users.md §6 rows 17, 18, 20).
        """
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
                # One connection was split in two: the paper must say which meter goes with which number.
                reason = f"legacy number {pair.old} stands in this file with several account numbers"
                self.judge(pair.row, Verdict.CONFLICT, "LEGACY_TWICE", reason)
            elif old_of[pair.new] is None:
                # Two consumers were merged, or a column slipped by a row somewhere in the file.
                reason = f"account number {pair.new} stands in this file with several legacy numbers"
                self.judge(pair.row, Verdict.CONFLICT, "ACCOUNT_TWICE", reason)
            elif pair.old in seen:
                # The same pair once more (row 19): files are put together from lists that overlap.
                reason = "the same pair stands earlier in this file"
                self.judge(pair.row, Verdict.UNCHANGED, "DUPLICATE", reason)
            else:
                seen.add(pair.old)
                kept.append(pair)
        return kept

    def account_to_name(self, pair: _Pair) -> str | None:
        """Return the account that the pair would rename, None when there is nothing to do or it may not."""
        account = self.snapshot.account_by_number(NumberKind.LEGACY, pair.old)
        if account is None:
            hint = ""
            if self.exists(pair.old):
                hint = "; an account has it as its new number: are the columns swapped?"
            reason = f"no account has the legacy number {pair.old}{hint}"
            self.judge(pair.row, Verdict.REJECTED, "UNKNOWN_LEGACY", reason)
            return None
        has = self.snapshot.name(account, NumberKind.ACCOUNT)
        if has == pair.new:
            self.judge(pair.row, Verdict.UNCHANGED)
            return None
        if has is not None and not self.correct:
            reason = f"the account of {pair.old} has the account number {has}"
            self.judge(pair.row, Verdict.CONFLICT, "ALREADY_NAMED", reason, has)
            return None
        if has is not None:
            self.leaving[has] = account
        return account

    def without_taken_numbers(self, wanted: list[tuple[_Pair, str]]) -> list[Name]:
        """Return the renamings, less those to a number that another account keeps (row 21).

        A file that corrects a slip by one row moves numbers in a chain: A gives its number to B, B to C. Such
        a number is free because its owner leaves it. When the owner's own row is refused, it keeps the number,
        and so the one who wanted it is refused in the next round; until a round refuses none.
        """
        while True:
            kept = []
            for pair, account in wanted:
                owner = self.snapshot.account_by_number(NumberKind.ACCOUNT, pair.new)
                if owner is None or pair.new in self.leaving:
                    kept.append((pair, account))
                    continue
                reason = f"account number {pair.new} belongs to another account"
                self.judge(pair.row, Verdict.REJECTED, "NUMBER_TAKEN", reason)
                self.leaving.pop(self.snapshot.name(account, NumberKind.ACCOUNT) or "", None)
            if len(kept) == len(wanted):
                break
            wanted = kept
        changes = []
        for pair, account in wanted:
            verdict = Verdict.REPAIRED if pair.repairs else Verdict.APPLIED
            self.judge(pair.row, verdict, pair.repairs, "repaired on reading" if pair.repairs else "")
            changes.append(Name(account, NumberKind.ACCOUNT, pair.new, pair.row.line))
        return changes

    def judge(
        self, row: CsvRow, verdict: Verdict, code: str = "", reason: str = "", suggestion: str = ""
    ) -> None:
        self.verdicts.append(RowVerdict(row.line, row.cells[:2], verdict, code, reason, suggestion))
