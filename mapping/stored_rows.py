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
from mapping.directory import (
    Attribute,
    ChangeSet,
    DirectoryCounts,
    Holding,
    Installation,
    Naming,
    NumberKind,
    RowT,
)
from mapping.directory_tables import AT_ONCE, RowReader, attribute, holding, installation, naming
from mapping.rows import Touched, in_batches, rewound_rows
from mapping.snapshot_json import in_order

ALIKE: Final = 10
"""Accounts whose numbers differ by separators only: more than one is enough to ask which."""
KEPT: Final = 20_000
"""Keys of one kind that are kept at hand."""

K = TypeVar("K")
V = TypeVar("V")


class _Fetched(Generic[K, V]):
    """What was asked for last, by key; what is not at hand is fetched. Bounded: the longest held goes first."""

    def __init__(
        self, fetch: Callable[[list[K]], dict[K, V]], lock: threading.RLock, bound: int = KEPT
    ) -> None:
        self._fetch = fetch
        self._lock = lock
        self._bound = bound
        self._held: dict[K, V] = {}

    def one(self, key: K) -> V:
        """Return what belongs to a key."""
        found = self._held.get(key)
        if found is not None:
            return found
        with self._lock:
            found = self._fetch([key])[key]
            self._put(key, found)
        return found

    def expect(self, keys: Iterable[K]) -> None:
        """Fetch together what belongs to many keys."""
        with self._lock:
            missing = [key for key in dict.fromkeys(keys) if key not in self._held]
            for some in in_batches(missing, AT_ONCE):
                for key, value in self._fetch(some).items():
                    self._put(key, value)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is at hand."""
        return not self._held

    def forget(self, keys: Sequence[K]) -> None:
        """Let these go; all, where they may be more than `bound`."""
        if len(keys) >= self._bound:
            self._held.clear()
            return
        for key in keys:
            self._held.pop(key, None)

    def _put(self, key: K, value: V) -> None:
        self._held[key] = value
        if len(self._held) > self._bound:
            del self._held[next(iter(self._held))]


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
        self._newest = StoredRows(self, ())
        self._by_version: dict[int, ChangeSet] = {}
        self._rows = RowReader(self._change)
        self.installations = _Fetched(self._fetch_installations, self._lock)
        """Rows by meter, of all versions; so the next three."""
        self.holdings = _Fetched(self._fetch_holdings, self._lock)
        self.namings = _Fetched(self._fetch_namings, self._lock)
        self.attributes = _Fetched(self._fetch_attributes, self._lock)
        self.owners = _Fetched(self._fetch_owners, self._lock)
        """Who had a number as an open name, in any version."""
        self.meters_at = _Fetched(self._fetch_meters_at, self._lock)
        """Meters ever recorded at a usage point, each with the version that recorded it first."""
        self.points_of = _Fetched(self._fetch_points_of, self._lock)
        """Usage points ever recorded for an account, each with the version that recorded it first."""

    # --- versions ---------------------------------------------------------------------------------

    def newest(self) -> StoredRows:
        """Return the rows of the version that the database holds now; another process may have changed it."""
        with self._lock:
            self._learn()
            return self._newest

    def _learn(self) -> None:
        """Take note of change sets that were made meanwhile, and let go of the rows that they touched."""
        known = self._newest.version
        with self._db.reading("looking for change sets") as db:
            fresh = tables.read_changes(db, known)
            if not fresh:
                return
            self._forget(db, known)
        self._newest = StoredRows(self, (*self._newest.changes, *fresh))
        self._by_version.update({one.version: one for one in fresh})

    def _forget(self, db: Connection, known: int) -> None:
        last = 2**31 - 1
        for kept, key in (
            (self.installations, installation.c.meter),
            (self.holdings, holding.c.usage_point),
            (self.namings, naming.c.account_id),
            (self.attributes, attribute.c.usage_point),
            (self.meters_at, installation.c.usage_point),
            (self.points_of, holding.c.account_id),
        ):
            if kept.is_empty:  # at a start above all, where a whole city would be looked through for nothing
                continue
            touched = select(key).where(_touching(key.table, known, last)).distinct().limit(KEPT)
            kept.forget(db.execute(touched).scalars().all())
        if self.owners.is_empty:
            return
        numbers = select(naming.c.kind, naming.c.number).where(_touching(naming, known, last)).distinct()
        self.owners.forget([(NumberKind(kind), number) for kind, number in db.execute(numbers.limit(KEPT))])

    def _change(self, version: int) -> ChangeSet:
        return self._by_version[version]

    # --- rows by key ------------------------------------------------------------------------------

    def _fetch_installations(self, meters: list[str]) -> dict[str, tuple[Installation, ...]]:
        return self._grouped(installation.c.meter, meters, self._rows.installation)

    def _fetch_holdings(self, points: list[str]) -> dict[str, tuple[Holding, ...]]:
        return self._grouped(holding.c.usage_point, points, self._rows.holding)

    def _fetch_namings(self, accounts: list[str]) -> dict[str, tuple[Naming, ...]]:
        return self._grouped(naming.c.account_id, accounts, self._rows.naming)

    def _fetch_attributes(self, points: list[str]) -> dict[str, tuple[Attribute, ...]]:
        return self._grouped(attribute.c.usage_point, points, self._rows.attribute)

    def _grouped(
        self, key: ColumnElement[str], keys: list[str], made: Callable[[Any], RowT]
    ) -> dict[str, tuple[RowT, ...]]:
        found: dict[str, list[RowT]] = {one: [] for one in keys}
        for row in self._select(select(key.table).where(key.in_(keys))):
            found[row[0]].append(made(row))
        return {one: in_order(rows) for one, rows in found.items()}

    def _fetch_owners(
        self, numbers: list[tuple[NumberKind, str]]
    ) -> dict[tuple[NumberKind, str], tuple[_Owner, ...]]:
        c = naming.c
        found: dict[tuple[NumberKind, str], list[_Owner]] = {one: [] for one in numbers}
        query = select(c.kind, c.number, c.account_id, c.recorded, c.superseded).where(
            c.number.in_(list({number for _, number in numbers})), c.valid_to.is_(None)
        )
        for kind, number, *owner in self._select(query, versions=slice(3, 5)):
            if (one := (NumberKind(kind), number)) in found:
                found[one].append(_Owner(*owner))
        return {one: tuple(owners) for one, owners in found.items()}

    def _fetch_meters_at(self, points: list[str]) -> dict[str, tuple[tuple[str, int], ...]]:
        return self._ever(installation.c.usage_point, points, installation.c.meter)

    def _fetch_points_of(self, accounts: list[str]) -> dict[str, tuple[tuple[str, int], ...]]:
        return self._ever(holding.c.account_id, accounts, holding.c.usage_point)

    def _ever(
        self, key: ColumnElement[str], keys: list[str], other: ColumnElement[str]
    ) -> dict[str, tuple[tuple[str, int], ...]]:
        first = func.min(key.table.c.recorded)
        found: dict[str, list[tuple[str, int]]] = {one: [] for one in keys}
        query = select(key, other, first).where(key.in_(keys)).group_by(key, other).order_by(first, other)
        for one, value, version in self._select(query, versions=slice(2, 3)):
            found[one].append((value, version))
        return {one: tuple(values) for one, values in found.items()}

    def _select(self, query: Any, versions: slice = slice(-3, -1)) -> Sequence[Any]:
        """Run a query whose rows name versions there; again where one is not known yet."""
        while True:
            with self._db.reading("looking into the directory") as db:
                found = db.execute(query).all()
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
                for key in (
                    installation.c.meter,
                    holding.c.usage_point,
                    naming.c.account_id,
                    attribute.c.usage_point,
                )
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
        return rewound_rows(self._directory.installations.one(meter), self._version)

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's rows, in order."""
        return rewound_rows(self._directory.holdings.one(usage_point), self._version)

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's rows, in order."""
        return rewound_rows(self._directory.namings.one(account_id), self._version)

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes, in order."""
        return rewound_rows(self._directory.attributes.one(usage_point), self._version)

    def described(self) -> Iterator[str]:
        """Yield every usage point that ever had an attribute."""
        return iter(self._directory.keys(self._ever(attribute.c.usage_point)))

    def owner(self, kind: NumberKind, number: str) -> str | None:
        """Return the account that has the number now."""
        for account, recorded, superseded in self._directory.owners.one((kind, number)):
            if recorded <= self._version and (superseded is None or superseded > self._version):
                return account
        return None

    def legacy_alike(self, folded_number: str) -> tuple[str, ...]:
        """Return the accounts that have a legacy number now that is this one without separators."""
        query = (
            select(naming.c.account_id)
            .where(
                tables.FOLDED.in_([folded_number]),
                naming.c.kind == str(NumberKind.LEGACY),
                naming.c.valid_to.is_(None),
                *_standing(naming, self._version),
            )
            .distinct()
            .limit(ALIKE)
        )
        return tuple(self._directory.keys(query))

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return the meters that were ever recorded there."""
        return self._by_now(self._directory.meters_at.one(usage_point))

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return the usage points that the account was ever recorded to hold."""
        return self._by_now(self._directory.points_of.one(account_id))

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
        described: Iterable[str] = (),
    ) -> None:
        """Fetch these together. No more than KEPT of a kind: the first would be gone before they are asked for."""
        points, owners = list(usage_points), list(accounts)
        self._directory.installations.expect(meters)
        self._directory.holdings.expect(points)
        self._directory.meters_at.expect(points)
        self._directory.namings.expect(owners)
        self._directory.points_of.expect(owners)
        self._directory.owners.expect(numbers)
        self._directory.attributes.expect(described)


def _touching(table: Any, old: int, new: int) -> ColumnElement[bool]:
    return or_(
        and_(table.c.recorded > old, table.c.recorded <= new),
        and_(table.c.superseded > old, table.c.superseded <= new),
    )


def _standing(table: Any, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.recorded <= version, or_(table.c.superseded.is_(None), table.c.superseded > version)
