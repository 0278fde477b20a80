"""The directory kept in one SQLite file: change sets in, snapshots out; nothing known is ever lost."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from mapping import directory_tables
from mapping.changes import Change
from mapping.differences import differences
from mapping.directory import AttributionSpan, ChangeSet, Holding, Installation, Naming, NamingChange, RowT
from mapping.draft import Difference, Draft
from mapping.errors import ChangeRefused, DirectoryFault
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_json import MAX_NAME, in_order
from mapping.store_life import StoreLife, read_beside, write_beside

BUSY_SECONDS = 30.0
"""How long one process waits for another's change set."""
CACHE_KIB = 64 * 1024
"""Page cache: with SQLite's 2 MiB a city's indexes are written many times over."""


AHEAD = timedelta(days=1)
"""A change set dated further ahead of the next was dated by a wrong clock, or the next is."""


class DirectoryStore:
    """Bitemporal store of installations, holdings and namings; safe for threads and processes.

    Every method may raise DirectoryFault when the file is damaged or of another version.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or create the file (0600) at `path`."""
        self._path = Path(path)
        self._lock = threading.RLock()
        self._snapshot: DirectorySnapshot | None = None
        self.set_back: str | None = None
        """What showed, when it was opened, that the file is an older copy; None for nothing."""
        with self._translated():
            if not self._path.exists():
                self._path.touch(mode=0o600)
            self._db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        with self._transaction():
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in directory_tables.SCHEMA.split(";\n"):
                    self._db.execute(statement)
            elif found not in (1, directory_tables.FORMAT):
                raise DirectoryFault(
                    f"{self._path} is not a directory store of format {directory_tables.FORMAT} (it says {found})"
                )
            if found != directory_tables.FORMAT:
                self._db.execute(directory_tables.LIFE)
                self._db.execute(f"PRAGMA user_version = {directory_tables.FORMAT}")
            self._recognise()
        self._write_beside()

    def _recognise(self) -> None:
        """See whether the file is the one that was changed last; a copy of before begins a new generation."""
        held = directory_tables.read_life(self._db)
        if held is None:
            directory_tables.write_life(self._db, StoreLife.born())
            return
        beside = read_beside(self._path)
        self.set_back = held.set_back(beside)
        if self.set_back is not None:
            shown = [beside.generation] if beside is not None else []
            directory_tables.write_life(self._db, held.begun_anew(*shown))

    def _write_beside(self) -> None:
        # Inside a transaction: of two processes none puts an older tick over a newer one.
        with self._transaction():
            write_beside(self._path, self._life())

    def _life(self) -> StoreLife:
        life = directory_tables.read_life(self._db)
        if life is None:
            raise DirectoryFault(f"{self._path} does not say who it is: restore it from a copy")
        return life

    def __enter__(self) -> DirectoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @property
    def version(self) -> int:
        """The directory version in the file, another process's change sets included."""
        with self._lock, self._translated():
            return self._version()

    @property
    def life(self) -> StoreLife:
        """Who the store is, and its generation: which life of it this is."""
        with self._lock, self._translated():
            return self._life()

    def begin_anew(self, *shown: str) -> StoreLife:
        """Begin the next generation, above those `shown`: somebody saw more of this store than it holds."""
        with self._lock, self._translated():
            with self._transaction():
                life = self._life().begun_anew(*shown)
                directory_tables.write_life(self._db, life)
            self._write_beside()
        return life

    def _version(self) -> int:
        found = self._db.execute("SELECT max(version) FROM change_set").fetchone()[0]
        return 0 if found is None else int(found)

    def snapshot(self, known_at: datetime | None = None) -> DirectorySnapshot:
        """Return the present directory (cached), or the directory as it was known at an instant.

        It never waits for a change set being applied in this process: until that is committed, the
        directory before it is the present one.
        """
        snapshot = self._snapshot
        if self._lock.acquire(blocking=snapshot is None):
            try:
                with self._translated():
                    snapshot = self._current()
            finally:
                self._lock.release()
        assert snapshot is not None
        return snapshot if known_at is None else snapshot.as_known_at(known_at)

    def _current(self) -> DirectorySnapshot:
        if self._snapshot is None or self._snapshot.version != self._version():
            with collector_paused():
                in_transaction = self._db.in_transaction
                if not in_transaction:
                    self._db.execute("BEGIN")
                try:
                    self._snapshot = directory_tables.read(self._db)
                finally:
                    if not in_transaction:
                        self._db.execute("COMMIT")
        return self._snapshot

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
    ) -> int:
        """Apply all the changes as one change set, or none; return the new directory version.

        `at` is when they became known; it is moved forward if the clock went back a little, since knowledge
        has one order. Where the last change set is dated more than a day later, one of two clocks was wrong:
        refused (`DATED_AHEAD`), unless the caller is `sure` of its own; then what was dated ahead counts as
        known now. Changes that say nothing new leave the version as it is. `based_on` refuses the
        set when the directory has moved on since that version. Raises ChangeRefused.
        """
        with self._lock, self._translated(), self._transaction(), collector_paused():
            base = self._current()
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
                return base.version
            directory_tables.write(self._db, change, difference.gone, difference.new)
            directory_tables.write_life(self._db, self._life().ticked())
            following = _following(base, change, difference)
        # Only a committed change set is shown.
        with self._lock, self._translated():
            self._snapshot = following
            self._write_beside()
        return change.version

    def preview(
        self, changes: Iterable[Change], *, by: str, source: str, at: datetime, sure: bool = False
    ) -> DirectorySnapshot:
        """Return the directory as `apply` would leave it, and change nothing. Raises ChangeRefused as it does."""
        base = self.snapshot()
        change = _change_set(base, by=by, source=source, at=at, sure=sure)
        difference = _worked_out(base, change, changes)
        return _following(base, change, difference) if difference.new or difference.gone else base

    def differences(
        self, from_version: int, to_version: int
    ) -> tuple[list[AttributionSpan], list[NamingChange]]:
        """Return the exact spans and names that differ between two versions; ChangeRefused if unknown."""
        return differences(self.snapshot(), from_version, to_version)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise DirectoryFault(f"{self._path}: the change breaks a rule of the store: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise DirectoryFault(f"{self._path}: {error}") from error


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hold the cyclic collector back while millions of rows are made; they have no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
    for one in changes:
        draft.apply(one)
    return draft.finish()


def _following(base: DirectorySnapshot, change: ChangeSet, difference: Difference) -> DirectorySnapshot:
    """Make the next snapshot by replacing only the keys that changed."""
    installations, holdings, namings = base.relations()
    gone, new = difference
    return DirectorySnapshot(
        (*base.changes, change),
        _merged(installations, _only(Installation, gone), _only(Installation, new), change),
        _merged(holdings, _only(Holding, gone), _only(Holding, new), change),
        _merged(namings, _only(Naming, gone), _only(Naming, new), change),
        base.indexes.after(gone, new),
    )


def _only(kind: type[RowT], rows: Iterable[object]) -> list[RowT]:
    return [r for r in rows if isinstance(r, kind)]


def _merged(
    relation: dict[str, tuple[RowT, ...]], gone: list[RowT], new: list[RowT], change: ChangeSet
) -> dict[str, tuple[RowT, ...]]:
    ended = frozenset(map(id, gone))
    fresh: dict[str, list[RowT]] = {row[0]: [] for row in gone}
    for row in new:
        fresh.setdefault(row[0], []).append(row)
    merged = dict(relation)
    for key, added in fresh.items():
        rows: list[RowT] = [
            r._replace(superseded=change) if id(r) in ended else r for r in relation.get(key, ())
        ]
        rows.extend(added)
        merged[key] = in_order(rows)
    return merged
