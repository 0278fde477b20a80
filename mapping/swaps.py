"""A contractor's file of replaced meters: each row judged, the acceptable ones kept as one change set to be approved.

Columns: `old_meter`, `new_meter`, `at`, `final` or `no_final`, `opening`, and where they are there `usage_point`,
`multiplier`, `seals`, `photos` (several names are separated by spaces). What a row says beside the change itself,
readings, seals and the names of photos, is kept as a job of that change set (`Jobs`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, insert, or_, select

from mapping.account import MeterId
from mapping.changes import Change, Replace
from mapping.characters import ascii_digits
from mapping.database import Database
from mapping.directory import ChangeSet
from mapping.directory_tables import AT_ONCE, fitted_job, seal_used
from mapping.draft import Draft
from mapping.draft_state import covering
from mapping.errors import ChangeRefused, FileRefused, NumberRefused
from mapping.files import has_zone
from mapping.instants import FIRST_YEAR, IST, instant, micros
from mapping.row_verdicts import LEFT, Verdict
from mapping.rows import in_batches
from mapping.sheets import DETECTED, Dress, Sheet, open_sheet
from mapping.snapshot import DirectorySnapshot

HEADINGS: Final[dict[str, tuple[str, ...]]] = {
    "old_meter": ("old_meter_no", "पुराना_मीटर"),
    "new_meter": ("new_meter_no", "नया_मीटर"),
    "at": ("time", "replaced_at", "समय"),
    "final": ("final_reading", "final_kwh", "आख़िरी_रीडिंग"),
    "opening": ("opening_reading", "initial_reading", "पहली_रीडिंग"),
    "no_final": ("no_final_reason", "कारण"),
    "usage_point": ("place", "जगह"),
    "multiplier": ("mf", "गुणक"),
    "seals": ("seal", "सील"),
    "photos": ("photo", "फ़ोटो"),
}
"""Columns, and other headings that are understood; the first five are needed."""
NEEDED: Final = 5
MAX_ROWS: Final = 20_000
"""Rows of one file: a contractor's month."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?")
_READING = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REASON = re.compile(r"[a-z][a-z_]{1,31}")
AHEAD: Final = timedelta(hours=1)
"""A meter that was replaced later than this from now was not replaced."""
Work = tuple[str, str, datetime]
"""Names a job: old meter, new meter, time."""
UsedSeals = Callable[[Iterable[str]], Mapping[str, Work]]
"""Returns by which job each of some seals was used before."""
LastReading = Callable[[str, datetime], Decimal | None]
"""Returns the highest register in kWh that a meter is known to have shown up to an instant; None where none is."""


class Job(NamedTuple):
    """What a row says of the work: readings in kWh as they were written, seals and names of photos."""

    line: int
    usage_point: str
    old_meter: str
    new_meter: str
    at: datetime
    final: str | None
    no_final: str | None
    opening: str
    seals: tuple[str, ...]
    photos: tuple[str, ...]


class SwapRow(NamedTuple):
    """One row: its line and cells, its verdict, and unless it is plainly applied the code and what it is about."""

    line: int
    cells: tuple[str, ...]
    verdict: Verdict
    code: str = ""
    other: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapPlan:
    """A judged file: a verdict for every row; nothing was changed."""

    name: str
    digest: str
    version: int
    header: tuple[str, ...]
    rows: tuple[SwapRow, ...]
    changes: tuple[Change, ...]
    jobs: tuple[Job, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by verdict; every verdict is listed."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict.value: found[verdict] for verdict in Verdict}

    @property
    def left(self) -> list[SwapRow]:
        """The rows that are not applied."""
        return [row for row in self.rows if row.verdict in LEFT]


class _Refused(Exception):
    def __init__(self, verdict: Verdict, code: str, other: str = "") -> None:
        super().__init__(code)
        self.verdict = verdict
        self.code = code
        self.other = other


def plan_swap(
    snapshot: DirectorySnapshot,
    path: Path | str,
    *,
    at: datetime,
    dress: Dress = DETECTED,
    used_seals: UsedSeals = lambda _: {},
    last_reading: LastReading = lambda _meter, _at: None,
) -> SwapPlan:
    """Judge a file of replaced meters against a directory and itself; nothing is changed.

    `at` (with a zone) is now; `used_seals` as `Jobs.used_seals`. Raises
    FileRefused where the file cannot be read as a table at all, or has more than 20,000 rows.
    """
    with open_sheet(path, dress) as sheet:
        places = _places(sheet)
        planner = _Planner(snapshot, places, at, last_reading, sheet.name)
        for number, (line, cells) in enumerate(sheet.rows):
            if number >= MAX_ROWS:
                raise FileRefused("TOO_MANY_ROWS", f"{sheet.name} has more than {MAX_ROWS} rows: divide it")
            if any(cell.strip() for cell in cells):
                if sheet.form == "xlsx":
                    cells = (*cells, *[""] * (len(sheet.heading) - len(cells)))
                planner.read(line, cells, len(sheet.heading))
        planner.settle(used_seals)
        return SwapPlan(
            name=sheet.name,
            digest=sheet.digest,
            version=snapshot.version,
            header=sheet.heading,
            rows=tuple(sorted(planner.rows, key=lambda row: row.line)),
            changes=tuple(planner.changes),
            jobs=tuple(planner.jobs),
        )


def _places(sheet: Sheet) -> dict[str, int]:
    known = {title: column for column, titles in HEADINGS.items() for title in (column, *titles)}
    places: dict[str, int] = {}
    for index, title in enumerate(sheet.heading):
        column = known.get(re.sub(r"[\s._-]+", "_", title.casefold()).strip("_"))
        if column in places:
            raise FileRefused(
                "HEADER", f"{sheet.name}, line 1: column {column} stands twice ({title[:40]!r})"
            )
        if column is not None:
            places[column] = index
    for column in list(HEADINGS)[:NEEDED]:
        if column not in places:
            raise FileRefused(
                "HEADER", f"{sheet.name}, line 1: no column {column}; the columns are {', '.join(HEADINGS)}"
            )
    return places


class _Planner:
    def __init__(
        self,
        snapshot: DirectorySnapshot,
        places: dict[str, int],
        now: datetime,
        last_reading: LastReading,
        name: str,
    ) -> None:
        self._places = places
        self._now = now
        self._last_reading = last_reading
        self._draft = Draft(snapshot, ChangeSet(version=snapshot.version + 1, at=now, by="plan", source=name))
        self._read: list[tuple[Job, tuple[str, ...], Decimal | None, bool]] = []
        self.rows: list[SwapRow] = []
        self.changes: list[Change] = []
        self.jobs: list[Job] = []

    def read(self, line: int, cells: tuple[str, ...], width: int) -> None:
        """Read a row by itself."""
        try:
            if len(cells) != width:
                raise _Refused(Verdict.REJECTED, "COLUMNS", str(len(cells)))
            job, multiplier, repaired = self._job(line, cells)
        except _Refused as error:
            subject = f"row {line}"
            self.rows.append(SwapRow(line, cells, error.verdict, error.code, error.other, subject))
            return
        self._read.append((job, cells, multiplier, repaired))

    def _job(self, line: int, cells: tuple[str, ...]) -> tuple[Job, Decimal | None, bool]:
        def cell(column: str) -> str:
            index = self._places.get(column)
            return "" if index is None else ascii_digits(cells[index].strip().removeprefix("'"))[0]

        old, new = _meter(cell("old_meter")), _meter(cell("new_meter"))
        if old == new:
            raise _Refused(Verdict.REJECTED, "SAME_METER")
        at = self._time(cell("at"))
        final, reason = cell("final"), cell("no_final").lower()
        if not final and not reason:
            raise _Refused(Verdict.REJECTED, "NO_READING")
        if reason and not _REASON.fullmatch(reason):
            raise _Refused(Verdict.REJECTED, "READING", reason[:40])
        opening = cell("opening")
        if not opening:
            raise _Refused(Verdict.REJECTED, "NO_OPENING")
        for reading in filter(None, (final, opening)):
            if not _READING.fullmatch(reading):
                raise _Refused(Verdict.REJECTED, "READING", reading[:40])
        seals, photos = tuple(cell("seals").split()), tuple(cell("photos").split())
        for word in (*seals, *photos):
            if not _WORD.fullmatch(word):
                raise _Refused(Verdict.REJECTED, "NAMES", word[:40])
        job = Job(
            line,
            cell("usage_point"),
            old,
            new,
            at,
            final or None,
            None if final else reason,
            opening,
            seals,
            photos,
        )
        given = [cells[i].strip() for i in (self._places["old_meter"], self._places["new_meter"])]
        return job, _factor(cell("multiplier")), given != [old, new]

    def _time(self, cell: str) -> datetime:
        try:
            if has_zone(cell):
                at = datetime.fromisoformat(cell)
            elif _TIME.fullmatch(cell):
                at = datetime.fromisoformat(cell).replace(tzinfo=IST)
            else:
                raise ValueError(cell)
        except (ValueError, OverflowError):
            raise _Refused(Verdict.REJECTED, "TIME", cell[:40]) from None
        if at.astimezone(IST).year < FIRST_YEAR or at > self._now + AHEAD:
            raise _Refused(Verdict.REJECTED, "DATE_IMPOSSIBLE", cell[:40])
        return at.astimezone(UTC)

    def settle(self, used_seals: UsedSeals) -> None:
        """Judge the rows beside each other and against the directory, by the time of the work."""
        meters = Counter(
            pair for job, *_ in self._read for pair in (("old", job.old_meter), ("new", job.new_meter))
        )
        seals = Counter(seal for job, *_ in self._read for seal in job.seals)
        used: dict[str, Work] = {}
        for some in in_batches(seals, AT_ONCE):
            used.update(used_seals(some))
        for job, cells, multiplier, repaired in sorted(
            self._read, key=lambda read: (read[0].at, read[0].line)
        ):
            subject = f"meter {job.old_meter}"
            try:
                for which, meter in (("old", job.old_meter), ("new", job.new_meter)):
                    if meters[which, meter] > 1:
                        raise _Refused(Verdict.CONFLICT, "METER_TWICE", meter)
                if self._is_done(job):
                    self.rows.append(SwapRow(job.line, cells, Verdict.UNCHANGED, subject=subject))
                    continue
                for seal in job.seals:
                    work = (
                        job.old_meter,
                        job.new_meter,
                        job.at,
                    )  # undone, and sent in again, it is the same work
                    if seals[seal] > 1 or used.get(seal, work) != work:
                        raise _Refused(Verdict.CONFLICT, "SEAL_TWICE", seal)
                self._apply(job, multiplier)
            except _Refused as error:
                self.rows.append(SwapRow(job.line, cells, error.verdict, error.code, error.other, subject))
                continue
            verdict = Verdict.REPAIRED if repaired else Verdict.APPLIED
            self.rows.append(SwapRow(job.line, cells, verdict, subject=subject))

    def _is_done(self, job: Job) -> bool:
        old, new = self._draft.installations(job.old_meter), self._draft.installations(job.new_meter)
        gone = {row.usage_point for row in old if row.valid_to == job.at}
        return any(row.valid_from == job.at and row.usage_point in gone for row in new)

    def _apply(self, job: Job, multiplier: Decimal | None) -> None:
        fitted = covering(self._draft.installations(job.old_meter), job.at)
        if fitted is not None and multiplier not in (None, fitted.multiplier):
            raise _Refused(Verdict.CONFLICT, "MULTIPLIER_DIFFERS", str(fitted.multiplier))
        last = None if job.final is None else self._last_reading(job.old_meter, job.at)
        if last is not None and job.final is not None and Decimal(job.final) < last:
            raise _Refused(Verdict.CONFLICT, "FINAL_BELOW", f"{last:f}")
        change = Replace(job.old_meter, job.new_meter, job.at, job.usage_point or None, None, job.line)
        try:
            self._draft.apply(change)
        except ChangeRefused as error:
            raise _Refused(Verdict.CONFLICT, error.code, self._about(error, job)) from error
        self.changes.append(change)
        assert fitted is not None
        self.jobs.append(job._replace(usage_point=fitted.usage_point))

    def _about(self, refused: ChangeRefused, job: Job) -> str:
        """Return the meter or the place that a refusal is about; words of any language are put around it."""
        old, new = (self._draft.installations(meter) for meter in (job.old_meter, job.new_meter))
        if refused.code == "METER_NOT_FITTED":
            return job.old_meter
        if refused.code == "OTHER_USAGE_POINT" and (row := covering(old, job.at)) is not None:
            return row.usage_point
        places = [row.usage_point for row in new if row.valid_to is None or row.valid_to > job.at]
        if refused.code == "METER_IN_USE" and places:
            return places[0]
        return str(refused)


class Jobs:
    """What was done at which usage point, as contractors' files said, beside the change sets that came of them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of_meter(self, meter: str) -> list[dict[str, Any]]:
        """Return the jobs in which a meter was fitted or taken away, the oldest first."""
        c = fitted_job.c
        query = select(fitted_job).where(or_(c.old_meter == meter, c.new_meter == meter)).order_by(c.at, c.id)
        with self._db.reading("listing jobs") as db:
            return [{**row._asdict(), "at": instant(row.at)} for row in db.execute(query)]

    def used_seals(self, seals: Iterable[str]) -> dict[str, Work]:
        """Return by which job each of some seals was used before; of several the last."""
        c = fitted_job.c
        joined = seal_used.join(
            fitted_job, and_(c.version == seal_used.c.version, c.line == seal_used.c.line)
        )
        query = select(seal_used.c.seal, c.old_meter, c.new_meter, c.at).select_from(joined)
        query = query.where(seal_used.c.seal.in_(list(seals))).order_by(c.id)
        with self._db.reading("asking for seals") as db:
            return {seal: (old, new, instant(at)) for seal, old, new, at in db.execute(query)}


def write_jobs(db: Connection, version: int, jobs: Iterable[Job]) -> None:
    """Keep jobs inside the caller's transaction, beside their change set."""
    for some in in_batches(jobs, AT_ONCE):
        rows = [
            {
                **job._asdict(),
                "version": version,
                "at": micros(job.at),
                "seals": " ".join(job.seals),
                "photos": " ".join(job.photos),
            }
            for job in some
        ]
        db.execute(insert(fitted_job), rows)
        seals = [{"seal": seal, "version": version, "line": job.line} for job in some for seal in job.seals]
        if seals:
            db.execute(insert(seal_used), seals)


def _meter(cell: str) -> str:
    try:
        return str(MeterId.parse(cell))
    except NumberRefused:
        raise _Refused(Verdict.REJECTED, "METER_FORMAT", cell[:40]) from None


def _factor(cell: str) -> Decimal | None:
    try:
        return Decimal(cell) if cell else None
    except InvalidOperation:
        raise _Refused(Verdict.REJECTED, "READING", cell[:40]) from None
