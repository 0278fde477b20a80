"""`directory import`: meters, usage points, roles and accounts from a file, each row with a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from mapping.account import AccountNumber, LegacyNumber, MeterId, NumberSource, new_account_id
from mapping.attribution import FOREVER
from mapping.changes import Change, Install, MoveIn, Name
from mapping.conflicts import ConflictRow, Noting, note, put_right, settle_by_file
from mapping.directory import ChangeSet, NumberKind, Role
from mapping.draft import Draft
from mapping.errors import ChangeRefused, NumberRefused
from mapping.files import CsvRow, CsvTable, parse_times, read_table, refuse_coerced_numbers
from mapping.row_verdicts import LEFT, FilePlan, RowVerdict, Verdict
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

HEADER = ("meter", "usage_point", "role", "legacy_number", "account_number", "valid_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan(FilePlan):
    """A dry run of an import file, and the changes that `apply_import` will commit together."""

    changes: tuple[Change, ...]


def plan_import(
    snapshot: DirectorySnapshot,
    path: Path | str,
    *,
    at: datetime,
    new_id: Callable[[], str] = new_account_id,
    several: bool = False,
) -> ImportPlan:
    r"""Check a file of meters, usage points and numbers against a directory; nothing is changed.

    `snapshot` is the directory as it stands; `path` a CSV file in UTF-8 with the columns `meter`,
    `usage_point`, `role`, `legacy_number`, `account_number` and `valid_from` (ISO 8601 with offset). `at` (with
    a zone) is when it becomes known, `new_id` makes the id of an account that no number names yet. With `several` an
    account may hold several usage points; otherwise a number that stands at a second one is a conflict.

    Returns a plan with a verdict for every row. Raises FileRefused, whose `code` says why, when the file as a
    whole cannot be trusted (damaged by a spreadsheet, not UTF-8, dates that may mean several days).

    Example:
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from mapping import DirectoryStore, apply_import, plan_import
    >>> temporary, now = TemporaryDirectory(), datetime(2026, 11, 1, tzinfo=UTC)
    >>> folder = Path(temporary.name)
    >>> written = (folder / "meters.csv").write_text(
    ...     "meter,usage_point,role,legacy_number,account_number,valid_from\n"
    ...     "GEN:12345678,UP-1,consumer,KE0012345,,2026-04-01T00:00:00+05:30\n"
    ...     "GEN:12345679,UP-2,landlord,KE0012346,,2026-04-01T00:00:00+05:30\n"
    ... )
    >>> store = DirectoryStore(folder / "directory.db")
    >>> plan = plan_import(store.snapshot(), folder / "meters.csv", at=now, new_id=lambda: "acc-1")
    >>> [(row.line, row.verdict.value, row.code) for row in plan.rows]
    [(2, 'applied', ''), (3, 'rejected', 'ROLE')]
    >>> apply_import(store, plan, by="clerk", at=now)
    1
    >>> whose = store.snapshot().attributions("GEN:12345678", None, now)
    >>> [(one.account_id, one.legacy_number, one.usage_point) for one in whose.accounts]
    [('acc-1', 'KE0012345', 'UP-1')]
    >>> store.close()
    >>> temporary.cleanup()
    """
    table = read_table(path, HEADER)
    for column in (0, 1, 3, 4):
        refuse_coerced_numbers(table, column, HEADER[column])
    times = parse_times(table, HEADER.index("valid_from"), "valid_from")
    return _ImportPlanner(snapshot, table, at, new_id, several=several).plan(times)


def apply_import(
    store: DirectoryStore, plan: ImportPlan, *, by: str, at: datetime, sure: bool = False
) -> int:
    """Commit the acceptable rows of a plan to a directory in one transaction; return the directory version.

    `store` is the directory that the `plan` was made on; `by` says who does it, `at` (with a zone) when it
    becomes known (`sure`: see `DirectoryStore.apply`). Rows that the plan rejected are not applied:
    `plan.write_corrections` writes them, and the queue has them until they are settled (`mapping.conflicts`).

    Returns the version after it. Raises ChangeRefused (`STALE_PLAN`) when the directory moved on since the plan
    was made: plan again; and DirectoryFault when the store fails, which leaves it as it was.

    Example: see `plan_import`.
    """
    noting = Noting(origin="import", source=plan.name, digest=plan.digest, by=by, at=at)

    def beside(db: Connection, version: int) -> None:
        note(db, noting, (_left(row) for row in plan.rows if row.verdict in LEFT))
        done = (_subject(row) for row in plan.rows if row.verdict not in LEFT)
        settle_by_file(db, noting, done, put_right(plan.name, version))

    return store.apply(
        plan.changes,
        by=by,
        source=plan.name,
        at=at,
        digest=plan.digest,
        based_on=plan.version,
        sure=sure,
        beside=beside,
    )


def _left(row: RowVerdict) -> ConflictRow:
    """Return a row that was not applied as the queue has it."""
    return ConflictRow(row.line, row.verdict.value, row.code, _subject(row), row.reason, row.cells)


def _subject(row: RowVerdict) -> str:
    """Return what a row is about: its meter, as the directory spells it where it can be read."""
    try:
        return f"meter {MeterId.parse(row.cells[0])}"
    except (NumberRefused, IndexError):
        return f"row {row.line}"


class _ImportRow(NamedTuple):
    row: CsvRow
    meter: str
    usage_point: str
    role: Role
    legacy: str | None
    number: str | None
    valid_from: datetime
    repairs: str

    def statement(self) -> tuple[object, ...]:
        """Return what the row says, wherever it stands and however it was written."""
        return self[1:7]


class _RowNotApplied(Exception):
    """A row cannot be applied: verdict, code, reason, suggestion."""

    def __init__(self, verdict: Verdict, code: str, reason: str, suggestion: str = "") -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.code = code
        self.suggestion = suggestion


class _ImportPlanner:
    def __init__(
        self,
        snapshot: DirectorySnapshot,
        table: CsvTable,
        at: datetime,
        new_id: Callable[[], str],
        *,
        several: bool,
    ) -> None:
        self.snapshot = snapshot
        self.table = table
        self.new_id = new_id
        self.several = several
        self.ids: list[str] = []
        """Ids for accounts that are new, not used yet."""
        change = ChangeSet(version=snapshot.version + 1, at=at, by="plan", source=table.name)
        self.draft = Draft(snapshot, change)
        self.verdicts: list[RowVerdict] = []
        self.changes: list[Change] = []

    def plan(self, times: list[datetime | None]) -> ImportPlan:
        for row in self.table.ragged:
            self.judge(row, Verdict.REJECTED, "COLUMNS", f"{len(row.cells)} cells do not fit the header")
        entries = []
        for row, valid_from in zip(self.table.rows, times, strict=True):
            try:
                entries.append(self.parse(row, valid_from))
            except _RowNotApplied as error:
                self.judge(row, error.verdict, error.code, str(error), error.suggestion)
            except NumberRefused as error:
                self.judge(row, Verdict.REJECTED, error.code, str(error), error.suggestion or "")
        for some in in_batches(self.undisputed(entries)):
            self.expect(some)
            for entry in some:
                self.settle(entry)
        self.verdicts.sort(key=lambda v: v.line)
        return ImportPlan(
            name=self.table.name,
            digest=self.table.digest,
            version=self.snapshot.version,
            header=HEADER,
            rows=tuple(self.verdicts),
            changes=tuple(self.changes),
        )

    def parse(self, row: CsvRow, valid_from: datetime | None) -> _ImportRow:
        meter_text, point_text, role_text, legacy_text, number_text, _ = row.cells
        meter, point = str(MeterId.parse(meter_text)), point_text.strip()
        if not point or not point.isprintable() or len(point) > 64:
            raise _RowNotApplied(
                Verdict.REJECTED, "USAGE_POINT", "the usage point is missing or not printable"
            )
        try:
            role = Role(role_text.strip().lower())
        except ValueError:
            allowed = ", ".join(Role)
            reason = f"role {role_text[:40]!r} is not one of {allowed}"
            raise _RowNotApplied(Verdict.REJECTED, "ROLE", reason) from None
        if valid_from is None:
            raise _RowNotApplied(Verdict.REJECTED, "VALID_FROM", "valid_from is missing")
        repairs: tuple[str, ...] = ()
        legacy = number = None
        if legacy_text.strip():
            old = LegacyNumber.parse(legacy_text, source=NumberSource.FILE)
            legacy, repairs = old.number.text, (*repairs, *old.repairs)
        if number_text.strip():
            new = AccountNumber.parse(number_text, source=NumberSource.FILE, exists=self.exists)
            number, repairs = new.number.text, (*repairs, *new.repairs)
        if role is not Role.CONSUMER and (legacy or number):
            raise _RowNotApplied(Verdict.REJECTED, "NOT_A_CONSUMER", f"a {role} meter has no account")
        return _ImportRow(
            row, meter, point, role, legacy, number, valid_from, " ".join(dict.fromkeys(repairs))
        )

    def exists(self, number: str) -> bool:
        return self.snapshot.account_by_number(NumberKind.ACCOUNT, number) is not None

    def undisputed(self, entries: list[_ImportRow]) -> list[_ImportRow]:
        """Return the rows that the file does not contradict; judge the others: nothing is chosen by order.

        Two passes, since the second of two rows that disagree (one meter at two places, one number for two
        connections) condemns the first as well.
        """
        statements: dict[tuple[str, str], tuple[object, ...]] = {}
        disputed: set[tuple[str, str]] = set()
        for entry in entries:
            whole = entry.statement()
            for key in _keys(entry):
                # A number may stand at several usage points, where that is said; its account is one.
                statement = (entry.legacy, entry.number) if self.several and key[0] in _NUMBERS else whole
                if statements.setdefault(key, statement) != statement:
                    disputed.add(key)
        statements.clear()  # it is as large as the file, and no longer needed
        seen: set[tuple[object, ...]] = set()
        kept = []
        for entry in entries:
            twice = next((key for key in _keys(entry) if key in disputed), None)
            if twice is not None:
                what, value = twice
                reason = f"{what.lower().replace('_', ' ')} {value} stands in this file in rows that disagree"
                self.judge(entry.row, Verdict.CONFLICT, f"{what}_TWICE", reason)
            elif entry.statement() in seen:
                self.judge(entry.row, Verdict.UNCHANGED, "DUPLICATE", "the same stands earlier in this file")
            else:
                seen.add(entry.statement())
                kept.append(entry)
        return kept

    def expect(self, entries: list[_ImportRow]) -> None:
        """Let all that these rows ask of the directory be fetched together."""
        rows = self.snapshot.rows
        numbers = [
            (kind, number)
            for entry in entries
            for kind, number in ((NumberKind.LEGACY, entry.legacy), (NumberKind.ACCOUNT, entry.number))
            if number is not None
        ]
        points = [entry.usage_point for entry in entries]
        rows.expect(meters=[entry.meter for entry in entries], usage_points=points, numbers=numbers)
        accounts = [owner for kind, number in numbers if (owner := rows.owner(kind, number))]
        accounts += [held.account_id for point in points for held in rows.holdings(point)]
        # No more new ids than rows without a known number: each is asked for as well, though nobody has it.
        self.ids += [self.new_id() for _ in range(len(entries) - len(self.ids))]
        rows.expect(accounts=[*accounts, *self.ids])

    def settle(self, entry: _ImportRow) -> None:
        """Put a row's changes into the draft, so that the rows after it are judged by what it did, too."""
        try:
            changes = [*self.fitting(entry), *self.holding(entry)]
            for change in changes:  # only the first can be refused: then the draft is as it was
                self.draft.apply(change)
            self.changes.extend(changes)
        except _RowNotApplied as error:
            self.judge(entry.row, error.verdict, error.code, str(error), error.suggestion)
            return
        except ChangeRefused as error:
            self.judge(entry.row, Verdict.CONFLICT, error.code, str(error))
            return
        if not changes:
            self.judge(entry.row, Verdict.UNCHANGED)
        elif entry.repairs:
            self.judge(entry.row, Verdict.REPAIRED, entry.repairs, "repaired on reading")
        else:
            self.judge(entry.row, Verdict.APPLIED)

    def fitting(self, entry: _ImportRow) -> list[Change]:
        """Return the change that installs the meter; none where it is installed so already."""
        for fitted in self.draft.installations(entry.meter):
            if not (fitted.valid_from <= entry.valid_from < (fitted.valid_to or FOREVER)):
                if fitted.valid_from > entry.valid_from:
                    # A second list with an earlier date: to lengthen the installation backwards would hand
                    # readings to an account that may not have held the meter then.
                    reason = f"meter {entry.meter} is recorded from {fitted.valid_from:%Y-%m-%d} on"
                    raise _RowNotApplied(
                        Verdict.CONFLICT, "METER_DATES", f"{reason}: correct its dates instead"
                    )
                continue
            if (fitted.usage_point, fitted.role) == (entry.usage_point, entry.role):
                return []
        return [Install(entry.meter, entry.usage_point, entry.role, entry.valid_from, row=entry.row.line)]

    def holding(self, entry: _ImportRow) -> list[Change]:
        """Return the changes that let the account hold the usage point and give it its numbers."""
        if entry.legacy is None and entry.number is None:
            return []
        named = self.account(entry)
        holder, starts_later = self.holder(entry)
        if holder is None and starts_later:
            reason = (
                f"usage point {entry.usage_point} has a holder from a later date: correct its dates instead"
            )
            raise _RowNotApplied(Verdict.CONFLICT, "HOLDING_DATES", reason)
        if holder is not None and named is not None and holder != named:
            raise _RowNotApplied(
                Verdict.CONFLICT, "HELD", f"usage point {entry.usage_point} has another holder then"
            )
        # A number that is known names its account; else whoever holds the place is meant; else it is new.
        account = named or holder or self.ids.pop(0)
        changes: list[Change] = []
        if holder is None:
            if not self.several:
                self.refuse_second_point(account, entry)
            changes.append(MoveIn(entry.usage_point, account, entry.valid_from, row=entry.row.line))
        for kind, number in ((NumberKind.LEGACY, entry.legacy), (NumberKind.ACCOUNT, entry.number)):
            has = self.draft.name(account, kind)
            if number is None or has == number:
                continue
            if has is not None:
                reason = f"the account has another {kind.value.replace('_', ' ')}: {has}"
                raise _RowNotApplied(Verdict.CONFLICT, "ALREADY_NAMED", reason, has)
            changes.append(Name(account, kind, number, entry.row.line))
        return changes

    def account(self, entry: _ImportRow) -> str | None:
        """Return the account by either number; two different ones are a conflict."""
        owners = {
            owner
            for kind, number in ((NumberKind.LEGACY, entry.legacy), (NumberKind.ACCOUNT, entry.number))
            if number is not None
            for owner in self.draft.owners(kind, number)
        }
        if len(owners) > 1:
            reason = "the legacy number and the account number belong to two accounts"
            raise _RowNotApplied(Verdict.CONFLICT, "NUMBERS_DISAGREE", reason)
        return owners.pop() if owners else None

    def refuse_second_point(self, account: str, entry: _ImportRow) -> None:
        """Refuse a number that stands at another usage point: one connection has one account."""
        for point in self.snapshot.usage_points_of(account):
            if point != entry.usage_point and any(
                h.account_id == account and entry.valid_from < (h.valid_to or FOREVER)
                for h in self.draft.holdings(point)
            ):
                raise _RowNotApplied(
                    Verdict.CONFLICT,
                    "ACCOUNT_ELSEWHERE",
                    f"the account holds usage point {point}: if it shall hold both, say --several-points",
                )

    def holder(self, entry: _ImportRow) -> tuple[str | None, bool]:
        """Return who holds the usage point at the row's date, and whether somebody holds it only later."""
        later = False
        for held in self.draft.holdings(entry.usage_point):
            if held.valid_from <= entry.valid_from < (held.valid_to or FOREVER):
                return held.account_id, False
            later = later or held.valid_from > entry.valid_from
        return None, later

    def judge(
        self, row: CsvRow, verdict: Verdict, code: str = "", reason: str = "", suggestion: str = ""
    ) -> None:
        self.verdicts.append(RowVerdict(row.line, row.cells, verdict, code, reason, suggestion))


_NUMBERS = ("LEGACY_NUMBER", "ACCOUNT_NUMBER")


def _keys(entry: _ImportRow) -> list[tuple[str, str]]:
    """Return what may stand in one row only: the meter, a consumer's usage point, the numbers."""
    keys = [("METER", entry.meter)]
    if entry.role is Role.CONSUMER:
        keys.append(("USAGE_POINT", entry.usage_point))
    if entry.legacy is not None:
        keys.append(("LEGACY_NUMBER", entry.legacy))
    if entry.number is not None:
        keys.append(("ACCOUNT_NUMBER", entry.number))
    return keys
