"""The plan of a re-key file, kept in one SQLite file: every row with its verdict, causes, and what will be applied.

Its fingerprint covers the file, the directory version, every row, verdict and change: what was reviewed is what is
applied, or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from mapping.changes import Change, MoveIn, MoveOut, Name
from mapping.directory import NumberKind
from mapping.errors import FileRefused
from mapping.instants import instant, micros
from mapping.rekey_rows import Row
from mapping.row_verdicts import Verdict

FORMAT = 1
"""Of the plan's file; one of another format is planned anew."""
FINGERPRINT = 16
"""Hexadecimal digits of a fingerprint as people pass it on: 64 bits."""
SHORTEST = 8
"""Digits of it that must be given."""
KEPT_PLANS = 20
"""Plans kept beside the directory, but for scheduled ones; the oldest go first, to be planned again where needed."""
CACHE_KIB = 32 * 1024
_ROWS = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE row ({
    ", ".join(
        f"{name} INTEGER"
        if name in ("position", "effective", "former")
        else f"{name} TEXT"
        if name != "line"
        else "line INTEGER PRIMARY KEY"
        for name in Row._fields
    )
});
CREATE TABLE move (line INTEGER NOT NULL, step INTEGER NOT NULL, point TEXT NOT NULL, account TEXT, at INTEGER NOT NULL,
                   PRIMARY KEY (line, step)) WITHOUT ROWID;
"""
_REFUSED = (Verdict.CONFLICT.value, Verdict.REJECTED.value)
_DONE = (Verdict.APPLIED.value, Verdict.REPAIRED.value)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a whole file is refused: a code that `rekey_texts` words, and what fills its text."""

    code: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """What a plan says beside its rows. `vouched`: a second source agrees that the numbers are those of the rows.

    `effective` is the latest day from which a row holds, None where the file names none; `ignored` the headings of
    columns that were not looked at; `today` and `after` count the accounts with a 10-digit number.
    """

    name: str
    digest: str
    form: str
    version: int
    heading: tuple[str, ...]
    ignored: tuple[str, ...]
    sequence: int | None
    effective: datetime | None
    vouched: bool
    control: str
    today: int
    after: int
    waiting: int
    causes: tuple[Cause, ...]


class RekeyPlan:
    """A dry run of a re-key file; nothing was changed. Made by `plan_rekey`, opened again by `find_plan`."""

    def __init__(self, path: Path | None) -> None:
        """Open the plan at `path`; None makes one that is gone when it is closed."""
        self.path = path
        self.db = sqlite3.connect(path.absolute().as_uri() if path else "", isolation_level=None, uri=True)
        self.db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._facts: PlanFacts | None = None

    def __enter__(self) -> RekeyPlan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; one that was not kept is gone."""
        self.db.close()

    def prepare(self) -> None:
        """Make the tables of a new plan; what a crash leaves of it is never opened again."""
        self.db.execute("PRAGMA journal_mode = OFF")
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.executescript(_ROWS)

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows as they are read."""
        marks = ", ".join("?" * len(Row._fields))
        self.db.execute("BEGIN")
        self.db.executemany(f"INSERT INTO row VALUES ({marks})", rows)
        self.db.execute("COMMIT")

    def finish(self, facts: PlanFacts) -> None:
        """Seal it: facts and fingerprint are written last."""
        causes = [[cause.code, dict(cause.facts)] for cause in facts.causes]
        kept = {
            "format": FORMAT,
            "name": facts.name,
            "digest": facts.digest,
            "form": facts.form,
            "version": facts.version,
            "heading": list(facts.heading),
            "ignored": list(facts.ignored),
            "sequence": facts.sequence,
            "effective": None if facts.effective is None else micros(facts.effective),
            "vouched": facts.vouched,
            "control": facts.control,
            "today": facts.today,
            "after": facts.after,
            "waiting": facts.waiting,
            "causes": causes,
        }
        self._facts = facts
        self.note("facts", json.dumps(kept, ensure_ascii=False, sort_keys=True))
        self.note("fingerprint", self.worked_out())

    def note(self, key: str, value: str) -> None:
        """Keep something beside the rows: by whom it was approved, as which version it was applied."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def noted(self, key: str) -> str | None:
        """Return what was kept so, None for nothing."""
        found = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    @property
    def facts(self) -> PlanFacts:
        """What the plan says beside its rows; FileRefused (`PLAN`) when it was not made to its end."""
        if self._facts is None:
            kept = json.loads(self.noted("facts") or "{}")
            if kept.pop("format", None) != FORMAT:
                raise FileRefused("PLAN", "the plan is of another version or was not finished: plan again")
            at = kept.pop("effective")
            self._facts = PlanFacts(
                **{
                    **kept,
                    "heading": tuple(kept["heading"]),
                    "ignored": tuple(kept["ignored"]),
                    "causes": tuple(Cause(code, facts) for code, facts in kept["causes"]),
                },
                effective=None if at is None else instant(at),
            )
        return self._facts

    @property
    def waits_until(self) -> datetime | None:
        """When a scheduled plan is due that was not applied yet; None for any other."""
        due = self.noted("due")
        return None if due is None or self.noted("applied") is not None else instant(int(due))

    def check(self) -> None:
        """Go through all of it; FileRefused (`PLAN`) when any of it is damaged."""
        try:
            sound = self.db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        except sqlite3.Error:
            sound = False
        if not sound:
            assert self.path is not None
            raise _damaged(self.path)

    @property
    def fingerprint(self) -> str:
        """What names this plan and all that it would do."""
        return self.noted("fingerprint") or ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.facts.name

    @property
    def version(self) -> int:
        """The directory version that it was planned on."""
        return self.facts.version

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Why the file is refused as a whole; empty where it is not."""
        return self.facts.causes

    @property
    def counts(self) -> dict[str, int]:
        """Rows by verdict; every verdict is listed."""
        found = dict(self.db.execute("SELECT verdict, count(*) FROM row GROUP BY verdict").fetchall())
        return {verdict.value: int(found.get(verdict.value, 0)) for verdict in Verdict}

    def codes(self) -> list[tuple[str, str, int]]:
        """Return (verdict, code, rows), the most frequent first."""
        return self.db.execute(
            "SELECT verdict, code, count(*) FROM row WHERE code <> '' GROUP BY 1, 2 ORDER BY 3 DESC, 2"
        ).fetchall()

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows by line; of a city take `iterate`."""
        return tuple(self.iterate())

    def iterate(self, *, refused: bool = False) -> Iterator[Row]:
        """Yield the rows by line, of a `refused` kind or all."""
        where = f"WHERE verdict IN {_REFUSED}" if refused else ""
        cursor = self.db.execute(f"SELECT * FROM row {where} ORDER BY line")
        for found in cursor:
            yield Row._make(found)

    def iterate_verdict(self, verdict: Verdict, most: int) -> Iterator[Row]:
        """Yield at most so many rows of one verdict, by line."""
        for found in self.db.execute(
            "SELECT * FROM row WHERE verdict = ? ORDER BY line LIMIT ?", (verdict.value, most)
        ):
            yield Row._make(found)

    def changes(self) -> Iterator[Change]:
        """Yield what will be applied, in one change set."""
        for line, point, account, at in self.db.execute(
            "SELECT line, point, account, at FROM move ORDER BY line, step"
        ):
            if account is None:
                yield MoveOut(point, instant(at), line)
            else:
                yield MoveIn(point, account, instant(at), row=line)
        for line, account, new in self.db.execute(
            f"SELECT line, account, new FROM row WHERE verdict IN {_DONE} AND relation <> 'merges' ORDER BY line"
        ):
            yield Name(account, NumberKind.ACCOUNT, new, line)

    def worked_out(self) -> str:
        """Work the fingerprint out from what is in the plan."""
        digest = hashlib.sha256((self.noted("facts") or "").encode())
        for table in ("row", "move"):
            for found in self.db.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
                digest.update(repr(found).encode())
        return digest.hexdigest()[:FINGERPRINT]


def plan_file(folder: Path) -> Path:
    """Return the path of a plan that is being made in a folder, which is made private."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=".making-", suffix=".plan", dir=folder)
    os.close(handle)
    return Path(name)


def keep_plan(plan: RekeyPlan) -> RekeyPlan:
    """Give a finished plan its name, its fingerprint's, and return it; the oldest plans beside it go."""
    assert plan.path is not None
    final = plan.path.with_name(f"{plan.fingerprint}.plan")
    plan.close()
    plan.path.replace(final)
    kept = [path for path in kept_plans(final.parent) if path == final or not _is_scheduled(path)]
    for old in kept[KEPT_PLANS:]:
        old.unlink(missing_ok=True)
    return RekeyPlan(final)


def _is_scheduled(path: Path) -> bool:
    """Tell whether a kept plan waits for its day: such a one never goes to make room."""
    try:
        with open_plan(path, whole=False) as plan:
            return plan.waits_until is not None
    except FileRefused:
        return False


def kept_plans(folder: Path) -> list[Path]:
    """Return the plans kept in a folder, the newest first."""
    return sorted(folder.glob("[0-9a-f]*.plan"), key=lambda p: p.stat().st_mtime_ns, reverse=True)


@contextmanager
def waiting_plan(db: sqlite3.Connection, path: Path) -> Iterator[str | None]:
    """Attach a kept plan as `kept` and say what it is called; None where it was applied, is refused or damaged."""
    try:
        db.execute("ATTACH ? AS kept", (f"{path.absolute().as_uri()}?mode=ro",))
    except sqlite3.DatabaseError:
        yield None
        return
    words = None
    try:
        try:
            meta = dict(db.execute("SELECT key, value FROM kept.meta").fetchall())
            facts = json.loads(meta["facts"])
            if "applied" not in meta and not facts["causes"]:
                words = f"{facts['name']} ({path.stem})"
        except (sqlite3.DatabaseError, KeyError, ValueError, TypeError):
            words = None
        yield words
    finally:
        db.execute("DETACH kept")


def find_plan(folder: Path, fingerprint: str) -> RekeyPlan:
    """Open the plan that a fingerprint, or the first eight digits of it, names.

    Raises FileRefused: PLAN_UNKNOWN; PLAN when it is another's or was changed since it was made.
    """
    wanted = fingerprint.strip().lower()
    found = [path for path in kept_plans(folder) if path.stem.startswith(wanted)]
    if len(wanted) < SHORTEST or len(found) != 1:
        raise FileRefused(
            "PLAN_UNKNOWN",
            f"no kept plan has the fingerprint {fingerprint[:FINGERPRINT]!r} (at least {SHORTEST} digits): "
            "`meter-gateway directory rekey list` shows them",
        )
    plan = open_plan(found[0])
    if plan.worked_out() != plan.fingerprint or plan.fingerprint != found[0].stem:
        plan.close()
        raise FileRefused("PLAN", f"the plan {found[0].stem} was changed since it was made: plan again")
    return plan


def open_plan(path: Path, *, whole: bool = True) -> RekeyPlan:
    """Open a kept plan to look at it, at what it says beside its rows alone where not `whole`.

    Raises FileRefused (`PLAN`) when it is damaged or of another version.
    """
    plan: RekeyPlan | None = None
    try:
        plan = RekeyPlan(path)
        if whole:
            plan.check()
        _ = plan.facts
    except (sqlite3.Error, ValueError, KeyError, TypeError, FileRefused) as error:
        if plan is not None:
            plan.close()
        if isinstance(error, FileRefused):
            raise
        raise _damaged(path) from error
    return plan


def _damaged(path: Path) -> FileRefused:
    return FileRefused("PLAN", f"the plan {path.stem} is damaged: plan again")
