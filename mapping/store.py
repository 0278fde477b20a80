"""The directory kept in a database: change sets in, snapshots out; nothing known is ever lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, func, select

from mapping import directory_tables
from mapping.changes import Change
from mapping.database import Database
from mapping.differences import differences
from mapping.directory import AttributionSpan, ChangeSet, NamingChange
from mapping.draft import Difference, Draft
from mapping.errors import ChangeRefused, DirectoryFault
from mapping.rows import Overlay, in_batches
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_json import MAX_NAME
from mapping.store_life import StoreLife, read_beside, write_beside
from mapping.stored_rows import StoredDirectory

Beside = Callable[[Connection, int], None]
"""Writes what belongs to a change set beside the directory, knowing the version after it."""
CACHE_KIB = 64 * 1024
"""Page cache: with SQLite's 2 MiB a city's indexes are written many times over."""
AHEAD = timedelta(days=1)
"""A change set dated further ahead of the next was dated by a wrong clock, or the next is."""


class DirectoryStore:
    """Bitemporal store of installations, holdings and namings; safe for threads and processes.

    Every method may raise DirectoryFault when the database is damaged, away or of another version.
    """

    def __init__(self, where: Path | str) -> None:
        """Open or create the file (0600) at a path, or the tables in a PostgreSQL at a URL (`postgresql://…`)."""
        self._db = Database(where, store="directory", fault=DirectoryFault, cache_kib=CACHE_KIB)
        self._path = Path(where) if self._db.is_file else None
        self.set_back: str | None = None
        """What showed, when it was opened, that the file is an older copy; None for nothing."""
        self._rows = StoredDirectory(self._db)
        self._snapshot = DirectorySnapshot()
        try:
            if self._path is not None and not self._path.exists():
                self._path.touch(mode=0o600)
            with self._db.writing("being opened") as db:
                directory_tables.prepare(db, self._db.where)
                self._recognise(db)
            self._write_beside()
        except OSError as error:
            self._db.close()
            raise DirectoryFault(f"{self._db.where}: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _recognise(self, db: Connection) -> None:
        """See whether the file is the one that was changed last; a copy of before begins a new generation."""
        held = directory_tables.read_life(db)
        if held is None:
            directory_tables.write_life(db, StoreLife.born())
            return
        if (
            self._path is None
        ):  # a server's database has no file beside it: who saw more of it tells (`begin_anew`)
            return
        beside = read_beside(self._path)
        self.set_back = held.set_back(beside)
        if self.set_back is not None:
            shown = [beside.generation] if beside is not None else []
            directory_tables.write_life(db, held.begun_anew(*shown))

    def _write_beside(self) -> None:
        if self._path is None:
            return
        # Inside a transaction: of two processes none puts an older tick over a newer one.
        with self._db.writing("noting which life it is in") as db:
            try:
                write_beside(self._path, self._life(db))
            except OSError as error:
                raise DirectoryFault(f"{self._path}: {error}") from error

    def _life(self, db: Connection) -> StoreLife:
        life = directory_tables.read_life(db)
        if life is None:
            raise DirectoryFault(f"{self._db.where} does not say who it is: restore it from a copy")
        return life

    def __enter__(self) -> DirectoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database."""
        self._db.close()

    @property
    def database(self) -> Database:
        """The database that it lies in, for what is kept beside the directory."""
        return self._db

    @property
    def version(self) -> int:
        """The directory version in the database, another process's change sets included."""
        with self._db.reading("asking its version") as db:
            found = db.execute(select(func.max(directory_tables.change_set.c.version))).scalar()
        return 0 if found is None else int(found)

    @property
    def life(self) -> StoreLife:
        """Who the store is, and its generation: which life of it this is."""
        with self._db.reading("asking its life") as db:
            return self._life(db)

    def begin_anew(self, *shown: str) -> StoreLife:
        """Begin the next generation, above those `shown`: somebody saw more of this store than it holds."""
        with self._db.writing("beginning a generation") as db:
            life = self._life(db).begun_anew(*shown)
            directory_tables.write_life(db, life)
        self._write_beside()
        return life

    def snapshot(self, known_at: datetime | None = None) -> DirectorySnapshot:
        """Return the present directory, or the directory as it was known at an instant.

        It never waits for a change set being applied: until that is committed, the directory before it is the
        present one.
        """
        rows, snapshot = self._rows.newest(), self._snapshot
        if snapshot.rows is not rows:
            self._snapshot = snapshot = DirectorySnapshot(rows)
        return snapshot if known_at is None else snapshot.as_known_at(known_at)

    def apply(
        self,
        changes: Iterable[Change],
        *,
        by: str,
        source: str,
        at: datetime,
        digest: str | None = None,
        sequence: int | None = None,
        based_on: int | None = None,
        sure: bool = False,
        beside: Beside | None = None,
    ) -> int:
        """Apply all the changes as one change set, or none; return the new directory version.

        `at` is when they became known; it is moved forward if the clock went back a little, since knowledge
        has one order. Where the last change set is dated more than a day later, one of two clocks was wrong:
        refused (`DATED_AHEAD`), unless the caller is `sure` of its own; then what was dated ahead counts as
        known now. Changes that say nothing new leave the version as it is. `based_on` refuses the
        set when the directory has moved on since that version. `beside` writes more in the same transaction, also
        where nothing is new. Raises ChangeRefused.
        """
        with self._db.writing("applying a change set") as db:
            base = self.snapshot()
            if based_on is not None and based_on != base.version:
                raise ChangeRefused(
                    "STALE_PLAN",
                    f"the directory moved on from version {based_on} to {base.version} meanwhile: do it again",
                )
            change = _change_set(
                base, by=by, source=source, at=at, digest=digest, sequence=sequence, sure=sure
            )
            difference = _worked_out(base, change, changes)
            if not difference.new and not difference.gone:
                if beside is not None:
                    beside(db, base.version)
                return base.version
            directory_tables.write(db, change, difference.gone, difference.new)
            if beside is not None:
                beside(db, change.version)
            directory_tables.write_life(db, self._life(db).ticked())
        self._write_beside()
        return change.version

    def preview(
        self, changes: Iterable[Change], *, by: str, source: str, at: datetime, sure: bool = False
    ) -> DirectorySnapshot:
        """Return the directory as `apply` would leave it, and change nothing. Raises ChangeRefused as it does."""
        base = self.snapshot()
        change = _change_set(base, by=by, source=source, at=at, sure=sure)
        difference = _worked_out(base, change, changes)
        if not (difference.new or difference.gone):
            return base
        return DirectorySnapshot(Overlay(base.rows, change, difference.gone, difference.new))

    def differences(
        self, from_version: int, to_version: int
    ) -> tuple[list[AttributionSpan], list[NamingChange]]:
        """Return the exact spans and names that differ between two versions; ChangeRefused if unknown."""
        return differences(self.snapshot(), from_version, to_version)


def _change_set(
    base: DirectorySnapshot,
    *,
    by: str,
    source: str,
    at: datetime,
    digest: str | None = None,
    sequence: int | None = None,
    sure: bool = False,
) -> ChangeSet:
    """Return the change set that follows `base`; ChangeRefused where nobody or no time is named."""
    if at.utcoffset() is None:
        raise ChangeRefused("TIME", f"{at} has no zone")
    if not by or max(len(by), len(source)) > MAX_NAME:
        raise ChangeRefused("NAME", "say who changes the directory, in at most 512 characters")
    known = at.astimezone(UTC)
    last = base.changes[-1] if base.changes else None
    if last is not None and last.at - known > AHEAD and not sure:
        raise ChangeRefused(
            "DATED_AHEAD",
            f"change set {last.version} of {last.by} ({last.source}) is dated {last.at.isoformat()}, and this"
            f" machine's clock shows {known.isoformat()}: one of the two is wrong. Let"
            " NTP set this machine's clock, then repeat: what was dated ahead counts as known now",
        )
    if last is not None and last.at - known <= AHEAD:
        known = max(known, last.at)
    return ChangeSet(
        version=base.version + 1, at=known, by=by, source=source, digest=digest, sequence=sequence
    )


def _worked_out(base: DirectorySnapshot, change: ChangeSet, changes: Iterable[Change]) -> Difference:
    """Return what the changes do to the rows. The draft goes at once: of a city it holds hundreds of MB."""
    draft = Draft(base, change)
    for some in in_batches(changes):
        draft.expect(some)
        for one in some:
            draft.apply(one)
    return draft.finish()
