"""The re-key: a file of legacy → 10-digit numbers becomes a reviewed plan, one change set and corrections."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from mapping.conflicts import ConflictRow, Noting, note, put_right, settle_by_file
from mapping.directory import ChangeSet
from mapping.errors import ChangeRefused, DirectoryFault, FileRefused
from mapping.instants import instant
from mapping.rekey_control import NO_CONTROL, Control, ControlFacts, read_control
from mapping.rekey_corrections import ADDED
from mapping.rekey_guards import FileFacts, causes
from mapping.rekey_judge import judge, settle
from mapping.rekey_plan import Cause, PlanFacts, RekeyPlan, keep_plan, plan_file
from mapping.rekey_questions import asked, batches
from mapping.rekey_relations import relate
from mapping.rekey_rows import Row, RowReader
from mapping.rekey_texts import cause_text, row_text
from mapping.row_verdicts import LEFT
from mapping.senders import ANYBODY, COLUMNS, Limits, Sender
from mapping.sheets import Sheet, SheetRow, open_sheet
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

HEADER = COLUMNS[:2]
"""The columns that a file must have; the others are `mapping.senders.COLUMNS`."""


def plan_rekey(
    snapshot: DirectorySnapshot,
    path: Path | str,
    *,
    at: datetime,
    sender: Sender = ANYBODY,
    control: Control = NO_CONTROL,
    correct: bool = False,
    part: bool = False,
    limits: Limits | None = None,
    folder: Path | None = None,
    mobile_of: Callable[[str], str | None] | None = None,
) -> RekeyPlan:
    r"""Check a re-key file against a directory, a control and itself; nothing is changed (users.md §6 rows 9-23).

    `snapshot` is the directory as it stands; `path` a CSV file or workbook with at least the columns `legacy_number`
    and `account_number`, by these names or as the `sender` calls them; `at` (with a zone) is now. `control` is what a
    second source says of the file. `correct` lets a row give another number to an account that has one already;
    otherwise that is a conflict. `part` says that the file is one of several (a corrections file is, too), so
    that consumers may be missing in it.
    `limits` stand for the sender's. `mobile_of` gives an account's registered mobile, which is no account number. In
    `folder` the plan is kept, by its fingerprint; without one it is gone when it is
    closed.

    Returns a plan with a verdict for every row and, where the file as a whole cannot be trusted, the causes. Raises
    FileRefused, whose `code` says why, when the file cannot be read as a table at all.

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
    >>> plan = plan_rekey(store.snapshot(), folder / "rekey.csv", at=now)
    >>> [(row.line, row.verdict, row.code) for row in plan.rows]
    [(2, 'applied', ''), (3, 'rejected', 'LENGTH')]
    >>> apply_rekey(store, plan, by="clerk", approver="head of billing", at=now)
    2
    >>> store.snapshot().account_by_number(NumberKind.ACCOUNT, "0123456789")
    'acc-1'
    >>> plan.close()
    >>> store.close()
    >>> temporary.cleanup()
    """
    making = None if folder is None else plan_file(folder)
    plan = RekeyPlan(making)
    try:
        with open_sheet(path, sender.dress) as sheet:
            plan.prepare()
            planner = _Planner(snapshot, sheet, plan, sender, at, mobile_of)
            planner.make(control, correct=correct, part=part, limits=limits or sender.limits, plans=folder)
        return plan if making is None else keep_plan(plan)
    except BaseException as error:
        plan.close()
        if making is not None:
            making.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise DirectoryFault(f"the plan of {path} cannot be written: {error}") from error
        raise


def apply_rekey(
    store: DirectoryStore,
    plan: RekeyPlan,
    *,
    by: str,
    at: datetime,
    approver: str | None = None,
    sure: bool = False,
    judged_on: int | None = None,
) -> int:
    """Commit what was reviewed to a directory in one transaction, and return the directory version.

    `store` is the directory that the `plan` was made on; `by` says who does it, `at` (with a zone) when it
    becomes known (`sure`: see `DirectoryStore.apply`). Where no second source vouches for the numbers, an `approver`
    who is somebody else must; both are kept with the change set. Rows that the plan refused are not applied.
    `judged_on` is a later version on which every row was seen to end as it was reviewed.

    Returns the version after it. Raises FileRefused with the first cause of a file that is refused as a whole,
    NO_CONTROL, APPROVER, TOO_EARLY before the day from which the file holds; ChangeRefused (`STALE_PLAN`) when the
    directory moved on since the plan was made: plan again; and DirectoryFault when the store fails, which leaves it
    as it was. Rows that were not applied are in the queue of conflicts until they are settled.

    Example: see `plan_rekey`.
    """
    facts = plan.facts
    check_approval(plan, by=by, approver=approver)
    if facts.effective is not None and at < facts.effective:
        raise FileRefused("TOO_EARLY", f"{facts.name} holds from {facts.effective.isoformat()}: schedule it")
    based_on = facts.version if judged_on is None else judged_on
    if store.version != based_on:
        raise ChangeRefused(
            "STALE_PLAN",
            f"the directory moved on from version {based_on} to {store.version} since the plan was made: plan again",
        )
    who = by if approver is None else f"{by}, approved by {approver}"
    noting = Noting(origin="rekey", source=facts.name, digest=facts.digest, by=by, at=at)

    def beside(db: Connection, version: int) -> None:
        note(db, noting, (_left(row) for row in plan.iterate() if row.verdict in LEFT))
        done = (f"legacy_number {row.old}" for row in plan.iterate() if row.verdict not in LEFT)
        settle_by_file(db, noting, done, put_right(facts.name, version))

    version = store.apply(
        plan.changes(),
        by=who,
        source=facts.name,
        at=at,
        digest=facts.digest,
        sequence=facts.sequence,
        based_on=based_on,
        sure=sure,
        beside=beside,
    )
    plan.note("applied", str(version))
    return version


def _left(row: Row) -> ConflictRow:
    """Return a row that was not applied as the queue has it."""
    what, to_do = row_text(row, "en")
    subject = f"legacy_number {row.old}" if row.old else f"row {row.line}"
    cells = tuple(json.loads(row.cells))
    return ConflictRow(row.line, row.verdict or "", row.code, subject, f"{what} {to_do}".strip(), cells)


def check_approval(plan: RekeyPlan, *, by: str, approver: str | None) -> None:
    """Refuse what nobody may apply: a file with causes, and one that neither a control nor an approver vouches for."""
    facts = plan.facts
    if facts.causes:
        first = facts.causes[0]
        raise FileRefused(first.code, f"{facts.name}: {cause_text(first, 'en')}")
    if not facts.vouched and approver is None:
        raise FileRefused("NO_CONTROL", f"{facts.name}: {cause_text(Cause('NO_CONTROL', {}), 'en')}")
    if approver is not None and _person(approver) == _person(by):
        raise FileRefused("APPROVER", f"{by} cannot approve what {by} applies: somebody else must")


def _person(name: str) -> str:
    return " ".join(name.split()).casefold()


class _Planner:
    """Makes one plan: rows are read and put beside what the directory says, then judged as a whole."""

    def __init__(
        self,
        snapshot: DirectorySnapshot,
        sheet: Sheet,
        plan: RekeyPlan,
        sender: Sender,
        at: datetime,
        mobile_of: Callable[[str], str | None] | None,
    ) -> None:
        self.snapshot = snapshot
        self.sheet = sheet
        self.plan = plan
        self.sender = sender
        self.mobile_of = mobile_of
        self.places = sender.find(sheet.heading, sheet.name, HEADER)
        self.reader = RowReader(sender, sheet.heading, self.places, at, padded=sheet.form == "xlsx")
        self.sequences: dict[str, int] = {}

    def make(
        self, control: Control, *, correct: bool, part: bool, limits: Limits, plans: Path | None
    ) -> None:
        for batch in batches(self._read()):
            meters = control.path is not None
            self.plan.add(asked(self.snapshot, batch, self.places, meters=meters, mobile_of=self.mobile_of))
        db = self.plan.db
        rows = int(db.execute("SELECT count(*) FROM row").fetchone()[0])
        if rows == 0:
            raise FileRefused("NO_ROWS", f"{self.sheet.name} has a heading but no rows: is it complete?")
        sequence = self._sequence(rows)
        found = read_control(self.plan, control, self.sheet.digest)
        again = next((c for c in self.snapshot.changes if c.digest == self.sheet.digest), None)
        # A file that was applied once may still bring rows that were refused then, but never renames back.
        judge(db, found, correct=correct and again is None)
        relate(db, self.snapshot)
        settle(db)
        counts = self.snapshot.counts()
        last = {at: column for column, at in self.places.items()}.get(len(self.sheet.heading) - 1, "")
        returned = set(ADDED) <= set(self.sheet.heading)
        facts = FileFacts(
            name=self.sheet.name,
            rows=rows,
            columns=len(self.sheet.heading),
            ends_whole=self.sheet.ends_whole,
            last_column=last,
            waiting=max(0, counts.legacy_numbers - counts.account_numbers),
            part=part or returned,
            returned=returned,
            correct=correct,
            limits=limits,
        )
        told = causes(db, facts, control, found, plans, list(self._known_before(sequence, rows, again)))
        self.plan.finish(self._facts(facts, found, sequence, told, today=counts.account_numbers))

    def _read(self) -> Iterator[Row]:
        place = self.places.get("sequence")
        for line, cells in self.sheet.rows:
            if not any(cell.strip() for cell in cells):
                continue
            if place is not None and place < len(cells) and len(self.sequences) < 3:
                self.sequences.setdefault(cells[place].strip(), line)
            yield self.reader.read(SheetRow(line, cells))

    def _sequence(self, rows: int) -> int | None:
        if "sequence" not in self.places:
            return None
        value = next(iter(self.sequences), "") if len(self.sequences) == 1 or rows == 0 else ""
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise FileRefused(
                "SEQUENCE", f"{self.sheet.name}: column sequence holds one whole number, the same in all rows"
            )
        return int(value)

    def _known_before(self, sequence: int | None, rows: int, again: ChangeSet | None) -> Iterator[Cause]:
        """The very file was applied already, or one with a later number was (row 23)."""
        numbered = [
            c for c in self.snapshot.changes if c.sequence is not None and c.digest != self.sheet.digest
        ]
        last = max(numbered, key=lambda c: c.sequence or 0, default=None)
        if sequence is not None and last is not None and sequence <= (last.sequence or 0):
            yield Cause(
                "STALE_FILE",
                {"sequence": str(sequence), "last": str(last.sequence), "source": last.source},
            )
        counts = self.plan.counts
        if counts["applied"] + counts["repaired"]:
            return
        if again is not None:
            yield Cause("REPEATED", {"version": str(again.version), "source": again.source})
        elif counts["unchanged"] == rows:
            yield Cause("NOTHING_NEW", {"rows": str(rows)})

    def _facts(
        self, facts: FileFacts, found: ControlFacts, sequence: int | None, told: list[Cause], *, today: int
    ) -> PlanFacts:
        db = self.plan.db
        latest = db.execute(
            "SELECT max(effective) FROM row WHERE verdict IN ('applied', 'repaired')"
        ).fetchone()[0]
        new = db.execute(
            "SELECT count(*) FROM row WHERE verdict IN ('applied', 'repaired') AND today IS NULL "
            "AND relation <> 'merges'"
        ).fetchone()[0]
        return PlanFacts(
            name=self.sheet.name,
            digest=self.sheet.digest,
            form=self.sheet.form,
            version=self.snapshot.version,
            heading=self.sheet.heading,
            ignored=tuple(t for i, t in enumerate(self.sheet.heading) if i not in self.places.values()),
            sequence=sequence,
            effective=None if latest is None else instant(latest),
            vouched=found.has_numbers,
            control=found.words,
            today=today,
            after=today + int(new),
            waiting=facts.waiting,
            causes=tuple(told),
        )
