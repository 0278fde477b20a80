"""The directory's rows as they stand in the database: fetched when they are asked for, the last ones kept at hand.

Rows are never deleted: a version is what was recorded up to it and not superseded by then. So a snapshot needs no
open transaction and no copy: it is a version, and stays what it was while the directory moves on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, union

from mapping import directory_tables as tables
from mapping.database import Database
from mapping.directory import ChangeSet, DirectoryCounts, Holding, Installation, Naming, NumberKind, RowT
from mapping.directory_tables import AT_ONCE, RowReader, holding, installation, naming
from mapping.rows import Touched, in_batches, rewound_rows
from mapping.snapshot_json import in_order

KEPT: Final = 20_000
"""Keys of one kind that are kept at hand."""

K = TypeVar("K")
V = TypeVar("V")


class _AtHand(Generic[K, V]):
    """What was fetched last, by key; bounded: the longest held goes first."""

    def __init__(self, bound: int = KEPT) -> None:
        self._bound = bound
        self.held: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        self.held[key] = value
        while len(self.held) > self._bound:
            del self.held[next(iter(self.held))]

    def forget(self, keys: Iterable[K]) -> None:
        for key in keys:
            self.held.pop(key, None)


class _Owner(NamedTuple):
    """An account that has a number from version `recorded` until before `superseded` (None: still)."""

    account_id: str
    recorded: int
    superseded: int | None


class StoredDirectory:
    """Fetches rows of any version; safe for threads. The store's errors pass (DirectoryFault)."""

    def __init__(self, database: Database) -> None:
        self._db = database
        # Held while rows are fetched and put at hand: between the two nobody may find that they have changed.
        self._lock = threading.RLock()
        self._changes: tuple[ChangeSet, ...] = ()
        self._by_version: dict[int, ChangeSet] = {}
        self._rows = RowReader(self._change)
        self._installations: _AtHand[str, tuple[Installation, ...]] = _AtHand()
        self._holdings: _AtHand[str, tuple[Holding, ...]] = _AtHand()
        self._namings: _AtHand[str, tuple[Naming, ...]] = _AtHand()
        self._owners: _AtHand[tuple[NumberKind, str], tuple[_Owner, ...]] = _AtHand()
        self._meters_at: _AtHand[str, tuple[tuple[str, int], ...]] = _AtHand()
        self._points_of: _AtHand[str, tuple[tuple[str, int], ...]] = _AtHand()

    # --- versions ---------------------------------------------------------------------------------

    def newest(self) -> StoredRows:
        """Return the rows of the version that the database holds now; another process may have changed it."""
        with self._lock:
            self._learn()
            return StoredRows(self, self._changes)

    def _learn(self) -> None:
        """Take note of change sets that were made meanwhile, and let go of the rows that they touched."""
        known = self._changes[-1].version if self._changes else 0
        with self._db.reading("looking for change sets") as db:
            fresh = tables.read_changes(db, known)
            if not fresh:
                return
            self._forget(db, known)
        self._changes = (*self._changes, *fresh)
        self._by_version.update({one.version: one for one in fresh})

    def _forget(self, db: Connection, known: int) -> None:
        last = 2**31 - 1
        for table, key, kept in (
            (installation, installation.c.meter, [self._installations]),
            (holding, holding.c.usage_point, [self._holdings]),
            (naming, naming.c.account_id, [self._namings]),
            (installation, installation.c.usage_point, [self._meters_at]),
            (holding, holding.c.account_id, [self._points_of]),
        ):
            touched = select(key).where(_touching(table, known, last)).distinct().limit(KEPT)
            keys = list(db.execute(touched).scalars())
            for one in kept:
                one.held.clear() if len(keys) == KEPT else one.forget(keys)
        numbers = select(naming.c.kind, naming.c.number).where(_touching(naming, known, last)).distinct()
        named = [(NumberKind(kind), number) for kind, number in db.execute(numbers.limit(KEPT))]
        self._owners.held.clear() if len(named) == KEPT else self._owners.forget(named)

    def _change(self, version: int) -> ChangeSet:
        return self._by_version[version]

    # --- rows by key ------------------------------------------------------------------------------

    def installations_of(self, meter: str) -> tuple[Installation, ...]:
        """Return one meter's rows, of all versions."""
        found = self._installations.held.get(meter)
        return self.installations((meter,))[meter] if found is None else found

    def holdings_of(self, usage_point: str) -> tuple[Holding, ...]:
        """Return one usage point's rows, of all versions."""
        found = self._holdings.held.get(usage_point)
        return self.holdings((usage_point,))[usage_point] if found is None else found

    def namings_of(self, account_id: str) -> tuple[Naming, ...]:
        """Return one account's rows, of all versions."""
        found = self._namings.held.get(account_id)
        return self.namings((account_id,))[account_id] if found is None else found

    def installations(self, keys: Sequence[str]) -> dict[str, tuple[Installation, ...]]:
        """Return the meters' rows, of all versions."""
        return self._fetched(self._installations, keys, installation.c.meter, self._rows.installation)

    def holdings(self, keys: Sequence[str]) -> dict[str, tuple[Holding, ...]]:
        """Return the usage points' rows, of all versions."""
        return self._fetched(self._holdings, keys, holding.c.usage_point, self._rows.holding)

    def namings(self, keys: Sequence[str]) -> dict[str, tuple[Naming, ...]]:
        """Return the accounts' rows, of all versions."""
        return self._fetched(self._namings, keys, naming.c.account_id, self._rows.naming)

    def _fetched(
        self,
        kept: _AtHand[str, tuple[RowT, ...]],
        keys: Sequence[str],
        key: ColumnElement[str],
        made: Callable[[Any], RowT],
    ) -> dict[str, tuple[RowT, ...]]:
        def fetch(some: list[str]) -> dict[str, tuple[RowT, ...]]:
            found: dict[str, list[RowT]] = {one: [] for one in some}
            for row in self._select(lambda: select(key.table).where(key.in_(some))):
                found[row[0]].append(made(row))
            return {one: in_order(rows) for one, rows in found.items()}

        return self._at_hand(kept, keys, fetch)

    def owners(
        self, keys: Sequence[tuple[NumberKind, str]]
    ) -> dict[tuple[NumberKind, str], tuple[_Owner, ...]]:
        """Return who had the numbers as open names, in any version."""

        def fetch(some: list[tuple[NumberKind, str]]) -> dict[tuple[NumberKind, str], tuple[_Owner, ...]]:
            found: dict[tuple[NumberKind, str], list[_Owner]] = {one: [] for one in some}
            c = naming.c
            wanted = {number for _, number in some}
            for kind, number, *owner in self._select(
                lambda: select(c.kind, c.number, c.account_id, c.recorded, c.superseded).where(
                    c.number.in_(wanted), c.valid_to.is_(None)
                ),
                versions=slice(3, 5),
            ):
                if (one := (NumberKind(kind), number)) in found:
                    found[one].append(_Owner(*owner))
            return {one: tuple(owners) for one, owners in found.items()}

        return self._at_hand(self._owners, keys, fetch)

    def meters_at(self, keys: Sequence[str]) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return the meters ever recorded at usage points, each with the version that recorded it first."""
        return self._ever(self._meters_at, keys, installation.c.usage_point, installation.c.meter)

    def points_of(self, keys: Sequence[str]) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return the usage points ever recorded for accounts, each with the version that recorded it first."""
        return self._ever(self._points_of, keys, holding.c.account_id, holding.c.usage_point)

    def _ever(
        self,
        kept: _AtHand[str, tuple[tuple[str, int], ...]],
        keys: Sequence[str],
        key: ColumnElement[str],
        other: ColumnElement[str],
    ) -> dict[str, tuple[tuple[str, int], ...]]:
        first = func.min(key.table.c.recorded)

        def fetch(some: list[str]) -> dict[str, tuple[tuple[str, int], ...]]:
            found: dict[str, list[tuple[str, int]]] = {one: [] for one in some}
            query = select(key, other, first).where(key.in_(some)).group_by(key, other).order_by(first, other)
            for one, value, version in self._select(lambda: query, versions=slice(2, 3)):
                found[one].append((value, version))
            return {one: tuple(values) for one, values in found.items()}

        return self._at_hand(kept, keys, fetch)

    def _at_hand(
        self, kept: _AtHand[K, V], keys: Sequence[K], fetch: Callable[[list[K]], dict[K, V]]
    ) -> dict[K, V]:
        held = kept.held
        with self._lock:
            found = {key: held[key] for key in keys if key in held}
            for some in in_batches((key for key in keys if key not in found), AT_ONCE):
                for key, value in fetch(some).items():
                    found[key] = value
                    kept.put(key, value)
        return found

    def _select(self, query: Callable[[], Any], versions: slice = slice(-3, -1)) -> Sequence[Any]:
        """Run a query whose rows name versions there; again where one is not known yet."""
        while True:
            with self._db.reading("looking into the directory") as db:
                found = db.execute(query()).all()
            known = self._by_version
            if all(v is None or v in known for row in found for v in row[versions]):
                return found
            self._learn()

    # --- all of a kind ----------------------------------------------------------------------------

    def keys(self, query: Any) -> list[str]:
        """Return the one column of a query."""
        with self._db.reading("listing the directory") as db:
            return list(db.execute(query).scalars())

    def counts(self, version: int) -> DirectoryCounts:
        """Count what holds in a version."""
        fitted = and_(*_standing(installation, version))
        named = (
            select(func.count())
            .select_from(naming)
            .where(*_standing(naming, version), naming.c.valid_to.is_(None))
        )
        accounts = union(
            select(naming.c.account_id).where(naming.c.recorded <= version),
            select(holding.c.account_id).where(holding.c.recorded <= version),
        ).subquery()
        with self._db.reading("counting the directory") as db:

            def count(query: Any) -> int:
                return int(db.execute(query).scalar_one())

            return DirectoryCounts(
                meters=count(select(func.count(installation.c.meter.distinct())).where(fitted)),
                usage_points=count(
                    select(func.count(installation.c.usage_point.distinct())).where(
                        installation.c.recorded <= version
                    )
                ),
                accounts=count(select(func.count()).select_from(accounts)),
                account_numbers=count(named.where(naming.c.kind == str(NumberKind.ACCOUNT))),
                legacy_numbers=count(named.where(naming.c.kind == str(NumberKind.LEGACY))),
            )

    def touched(self, old: int, new: int) -> Touched:
        """Return what was recorded or superseded after version `old`, up to `new`."""
        return Touched(
            *(
                self.keys(select(key).where(_touching(key.table, old, new)).distinct().order_by(key))
                for key in (installation.c.meter, holding.c.usage_point, naming.c.account_id)
            )
        )


class StoredRows:
    """The rows of one version (`mapping.rows.Rows`), from the database."""

    def __init__(self, directory: StoredDirectory, changes: tuple[ChangeSet, ...]) -> None:
        self._directory = directory
        self._changes = changes
        self._version = changes[-1].version if changes else 0

    @property
    def version(self) -> int:
        """The directory version; 0 is the empty directory."""
        return self._version

    @property
    def changes(self) -> Sequence[ChangeSet]:
        """The change sets up to this version, rising."""
        return self._changes

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's rows, in order."""
        return rewound_rows(self._directory.installations_of(meter), self._version)

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's rows, in order."""
        return rewound_rows(self._directory.holdings_of(usage_point), self._version)

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's rows, in order."""
        return rewound_rows(self._directory.namings_of(account_id), self._version)

    def owner(self, kind: NumberKind, number: str) -> str | None:
        """Return the account that has the number now."""
        key = (kind, number)
        for account, recorded, superseded in self._directory.owners((key,))[key]:
            if recorded <= self._version and (superseded is None or superseded > self._version):
                return account
        return None

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return the meters that were ever recorded there."""
        return self._by_now(self._directory.meters_at((usage_point,))[usage_point])

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return the usage points that the account was ever recorded to hold."""
        return self._by_now(self._directory.points_of((account_id,))[account_id])

    def _by_now(self, found: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
        return tuple(value for value, recorded in found if recorded <= self._version)

    def meters(self) -> Iterator[str]:
        """Yield every meter that has a row."""
        return iter(self._directory.keys(self._ever(installation.c.meter)))

    def usage_points(self) -> Iterator[str]:
        """Yield every usage point of any row, once."""
        both = union(self._ever(installation.c.usage_point), self._ever(holding.c.usage_point))
        return iter(self._directory.keys(both))

    def accounts(self) -> Iterator[str]:
        """Yield every account of any row, once."""
        both = union(self._ever(naming.c.account_id), self._ever(holding.c.account_id))
        return iter(self._directory.keys(both))

    def _ever(self, key: ColumnElement[str]) -> Any:
        return select(key).where(key.table.c.recorded <= self._version).distinct()

    def numbers(self, kind: NumberKind) -> Iterator[str]:
        """Yield every number of a kind that an account has now."""
        query = select(naming.c.number).where(
            naming.c.kind == str(kind), naming.c.valid_to.is_(None), *_standing(naming, self._version)
        )
        return iter(self._directory.keys(query))

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        return self._directory.counts(self._version)

    def touched(self, old: int, new: int) -> Touched:
        """Return what was recorded or superseded after version `old`, up to `new`."""
        return self._directory.touched(old, min(new, self._version))

    def rewound(self, version: int) -> StoredRows:
        """Return the rows as they were in an earlier version."""
        return StoredRows(self._directory, tuple(c for c in self._changes if c.version <= version))

    def expect(
        self,
        *,
        meters: Iterable[str] = (),
        usage_points: Iterable[str] = (),
        accounts: Iterable[str] = (),
        numbers: Iterable[tuple[NumberKind, str]] = (),
    ) -> None:
        """Fetch these together. No more than KEPT of a kind: the first would be gone before they are asked for."""
        points, owners = list(dict.fromkeys(usage_points)), list(dict.fromkeys(accounts))
        self._directory.installations(list(dict.fromkeys(meters)))
        self._directory.holdings(points)
        self._directory.meters_at(points)
        self._directory.namings(owners)
        self._directory.points_of(owners)
        self._directory.owners(list(dict.fromkeys(numbers)))


def _touching(table: Any, old: int, new: int) -> ColumnElement[bool]:
    return or_(
        and_(table.c.recorded > old, table.c.recorded <= new),
        and_(table.c.superseded > old, table.c.superseded <= new),
    )


def _standing(table: Any, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.recorded <= version, or_(table.c.superseded.is_(None), table.c.superseded > version)
