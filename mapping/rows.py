"""What a snapshot is made of: the rows of one directory version with what was known before; in memory here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar

from mapping.characters import folded
from mapping.directory import (
    Attribute,
    ChangeSet,
    DirectoryCounts,
    DirectoryRow,
    Holding,
    Installation,
    Naming,
    NumberKind,
    RowT,
)
from mapping.snapshot_indexes import Indexes
from mapping.snapshot_json import in_order

T = TypeVar("T")
AHEAD: Final = 2_000
"""Keys that are asked for together where many are wanted (`expect`)."""


class Touched(NamedTuple):
    """What a change set left otherwise: keys of rows that it recorded or superseded, each list sorted."""

    meters: list[str]
    usage_points: list[str]
    accounts: list[str]
    described: list[str]
    """Usage points of which an attribute was recorded or superseded."""


class Rows(Protocol):
    """The rows of one version, by what they are asked for; superseded ones too. They never change."""

    @property
    def version(self) -> int:
        """The directory version; 0 is the empty directory."""
        ...

    @property
    def changes(self) -> Sequence[ChangeSet]:
        """The change sets up to this version, rising."""
        ...

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's rows, in order."""
        ...

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's rows, in order."""
        ...

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's rows, in order."""
        ...

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes, in order."""
        ...

    def described(self) -> Iterator[str]:
        """Yield every usage point that ever had an attribute."""
        ...

    def owner(self, kind: NumberKind, number: str) -> str | None:
        """Return the account that has the number now."""
        ...

    def legacy_alike(self, folded_number: str) -> tuple[str, ...]:
        """Return the accounts that have a legacy number now that is this one without separators."""
        ...

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return the meters that were ever recorded there."""
        ...

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return the usage points that the account was ever recorded to hold."""
        ...

    def meters(self) -> Iterator[str]:
        """Yield every meter that has a row."""
        ...

    def usage_points(self) -> Iterator[str]:
        """Yield every usage point of any row, once."""
        ...

    def accounts(self) -> Iterator[str]:
        """Yield every account of any row, once."""
        ...

    def numbers(self, kind: NumberKind) -> Iterator[str]:
        """Yield every number of a kind that an account has now."""
        ...

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        ...

    def touched(self, old: int, new: int) -> Touched:
        """Return what was recorded or superseded after version `old`, up to `new`."""
        ...

    def rewound(self, version: int) -> Rows:
        """Return the rows as they were in an earlier version."""
        ...

    def expect(
        self,
        *,
        meters: Iterable[str] = (),
        usage_points: Iterable[str] = (),
        accounts: Iterable[str] = (),
        numbers: Iterable[tuple[NumberKind, str]] = (),
        described: Iterable[str] = (),
    ) -> None:
        """Take note that these will be asked for next: a database fetches them together.

        `described` are usage points of which the attributes will be.
        """
        ...


class MemoryRows:
    """All rows in memory: an edge's part, or a snapshot that was carried as text."""

    def __init__(
        self,
        changes: Sequence[ChangeSet] = (),
        installations: Mapping[str, tuple[Installation, ...]] | None = None,
        holdings: Mapping[str, tuple[Holding, ...]] | None = None,
        namings: Mapping[str, tuple[Naming, ...]] | None = None,
        attributes: Mapping[str, tuple[Attribute, ...]] | None = None,
    ) -> None:
        """Take rows grouped by meter, usage point and account; `changes` in rising version."""
        self.changes: Sequence[ChangeSet] = tuple(changes)
        self._installations = dict(installations or {})
        self._holdings = dict(holdings or {})
        self._namings = dict(namings or {})
        self._attributes = dict(attributes or {})
        self._made: Indexes | None = None

    @property
    def version(self) -> int:
        """The directory version; 0 is the empty directory."""
        return self.changes[-1].version if self.changes else 0

    @property
    def _indexes(self) -> Indexes:
        if self._made is None:  # made on first use: an edge needs none
            self._made = Indexes.of(self._installations, self._holdings, self._namings)
        return self._made

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's rows, in order."""
        return self._installations.get(meter, ())

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's rows, in order."""
        return self._holdings.get(usage_point, ())

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's rows, in order."""
        return self._namings.get(account_id, ())

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes, in order."""
        return self._attributes.get(usage_point, ())

    def described(self) -> Iterator[str]:
        """Yield every usage point that ever had an attribute."""
        return iter(self._attributes)

    def owner(self, kind: NumberKind, number: str) -> str | None:
        """Return the account that has the number now."""
        return self._indexes.owners[kind].get(number)

    def legacy_alike(self, folded_number: str) -> tuple[str, ...]:
        """Return the accounts that have a legacy number now that is this one without separators."""
        owners = self._indexes.owners[NumberKind.LEGACY]
        return tuple(dict.fromkeys(who for number, who in owners.items() if folded(number) == folded_number))

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return the meters that were ever recorded there."""
        return self._indexes.meters_at.get(usage_point, ())

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return the usage points that the account was ever recorded to hold."""
        return self._indexes.points_of.get(account_id, ())

    def meters(self) -> Iterator[str]:
        """Yield every meter that has a row."""
        return iter(self._installations)

    def usage_points(self) -> Iterator[str]:
        """Yield every usage point of any row, once."""
        return iter(dict.fromkeys([*self._holdings, *self._indexes.meters_at]))

    def accounts(self) -> Iterator[str]:
        """Yield every account of any row, once."""
        return iter(dict.fromkeys([*self._namings, *self._indexes.points_of]))

    def numbers(self, kind: NumberKind) -> Iterator[str]:
        """Yield every number of a kind that an account has now."""
        return iter(self._indexes.owners[kind])

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        owners = self._indexes.owners
        return DirectoryCounts(
            meters=sum(any(r.superseded is None for r in rows) for rows in self._installations.values()),
            usage_points=len(self._indexes.meters_at),
            accounts=sum(1 for _ in self.accounts()),
            account_numbers=len(owners[NumberKind.ACCOUNT]),
            legacy_numbers=len(owners[NumberKind.LEGACY]),
        )

    def touched(self, old: int, new: int) -> Touched:
        """Return what was recorded or superseded after version `old`, up to `new`."""
        return Touched(
            sorted(key for key, rows in self._installations.items() if is_touched(rows, old, new)),
            sorted(key for key, rows in self._holdings.items() if is_touched(rows, old, new)),
            sorted(key for key, rows in self._namings.items() if is_touched(rows, old, new)),
            sorted(key for key, rows in self._attributes.items() if is_touched(rows, old, new)),
        )

    def rewound(self, version: int) -> MemoryRows:
        """Return the rows as they were in an earlier version."""
        return MemoryRows(
            [c for c in self.changes if c.version <= version],
            _rewound(self._installations, version),
            _rewound(self._holdings, version),
            _rewound(self._namings, version),
            _rewound(self._attributes, version),
        )

    def expect(
        self,
        *,
        meters: Iterable[str] = (),
        usage_points: Iterable[str] = (),
        accounts: Iterable[str] = (),
        numbers: Iterable[tuple[NumberKind, str]] = (),
        described: Iterable[str] = (),
    ) -> None:
        """Do nothing: all is at hand."""


class Overlay:
    """Rows with one change set on top that is not recorded: a directory as it would be."""

    def __init__(
        self, base: Rows, change: ChangeSet, gone: Sequence[DirectoryRow], new: Sequence[DirectoryRow]
    ) -> None:
        """Take what the change set would supersede (`gone`) and record (`new`)."""
        self._base = base
        self._change = change
        self.changes: Sequence[ChangeSet] = (*base.changes, change)
        self._installations = _merged(
            base.installations,
            lambda keys: base.expect(meters=keys),
            _only(Installation, gone),
            _only(Installation, new),
            change,
        )
        self._holdings = _merged(
            base.holdings,
            lambda keys: base.expect(usage_points=keys),
            _only(Holding, gone),
            _only(Holding, new),
            change,
        )
        self._namings = _merged(
            base.namings,
            lambda keys: base.expect(accounts=keys),
            _only(Naming, gone),
            _only(Naming, new),
            change,
        )
        self._attributes = _merged(
            base.attributes,
            lambda keys: base.expect(described=keys),
            _only(Attribute, gone),
            _only(Attribute, new),
            change,
        )
        self._added = Indexes.of(self._installations, self._holdings, self._namings)
        self._given_up = {(r.kind, r.number) for r in gone if isinstance(r, Naming) and r.valid_to is None}

    @property
    def version(self) -> int:
        """The version that it would have."""
        return self._change.version

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's rows, in order."""
        found = self._installations.get(meter)
        return self._base.installations(meter) if found is None else found

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's rows, in order."""
        found = self._holdings.get(usage_point)
        return self._base.holdings(usage_point) if found is None else found

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's rows, in order."""
        found = self._namings.get(account_id)
        return self._base.namings(account_id) if found is None else found

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes, in order."""
        found = self._attributes.get(usage_point)
        return self._base.attributes(usage_point) if found is None else found

    def described(self) -> Iterator[str]:
        """Yield every usage point that ever had an attribute."""
        return iter(dict.fromkeys([*self._base.described(), *self._attributes]))

    def owner(self, kind: NumberKind, number: str) -> str | None:
        """Return the account that has the number now."""
        found = self._added.owners[kind].get(number)
        if found is not None or (kind, number) in self._given_up:
            return found
        return self._base.owner(kind, number)

    def legacy_alike(self, folded_number: str) -> tuple[str, ...]:
        """Return the accounts that have a legacy number now that is this one without separators."""
        added = self._added.owners[NumberKind.LEGACY]
        mine = (who for number, who in added.items() if folded(number) == folded_number)
        kept = (who for who in self._base.legacy_alike(folded_number) if who not in self._namings)
        return tuple(dict.fromkeys([*kept, *mine]))

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return the meters that were ever recorded there."""
        return _joined(self._base.meters_at(usage_point), self._added.meters_at.get(usage_point, ()))

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return the usage points that the account was ever recorded to hold."""
        return _joined(self._base.usage_points_of(account_id), self._added.points_of.get(account_id, ()))

    def meters(self) -> Iterator[str]:
        """Yield every meter that has a row."""
        return iter(dict.fromkeys([*self._base.meters(), *self._installations]))

    def usage_points(self) -> Iterator[str]:
        """Yield every usage point of any row, once."""
        return iter(dict.fromkeys([*self._base.usage_points(), *self._holdings, *self._added.meters_at]))

    def accounts(self) -> Iterator[str]:
        """Yield every account of any row, once."""
        return iter(dict.fromkeys([*self._base.accounts(), *self._namings, *self._added.points_of]))

    def numbers(self, kind: NumberKind) -> Iterator[str]:
        """Yield every number of a kind that an account has now."""
        known = dict.fromkeys([*self._base.numbers(kind), *self._added.owners[kind]])
        return (number for number in known if self.owner(kind, number) is not None)

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        return DirectoryCounts(
            meters=sum(any(r.superseded is None for r in self.installations(m)) for m in self.meters()),
            usage_points=sum(bool(self.meters_at(p)) for p in self.usage_points()),
            accounts=sum(1 for _ in self.accounts()),
            account_numbers=sum(1 for _ in self.numbers(NumberKind.ACCOUNT)),
            legacy_numbers=sum(1 for _ in self.numbers(NumberKind.LEGACY)),
        )

    def touched(self, old: int, new: int) -> Touched:
        """Return what was recorded or superseded after version `old`, up to `new`."""
        before = self._base.touched(old, new)
        if new < self.version:
            return before
        return Touched(
            sorted({*before.meters, *self._installations}),
            sorted({*before.usage_points, *self._holdings}),
            sorted({*before.accounts, *self._namings}),
            sorted({*before.described, *self._attributes}),
        )

    def rewound(self, version: int) -> Rows:
        """Return the rows as they were in an earlier version."""
        return self if version >= self.version else self._base.rewound(version)

    def expect(
        self,
        *,
        meters: Iterable[str] = (),
        usage_points: Iterable[str] = (),
        accounts: Iterable[str] = (),
        numbers: Iterable[tuple[NumberKind, str]] = (),
        described: Iterable[str] = (),
    ) -> None:
        """Let the base fetch them together."""
        self._base.expect(
            meters=meters, usage_points=usage_points, accounts=accounts, numbers=numbers, described=described
        )


def in_batches(things: Iterable[T], size: int = AHEAD) -> Iterator[list[T]]:
    """Yield lists of at most `size`."""
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some


def is_visible(row: DirectoryRow, version: int) -> bool:
    """Say whether a version has the row: recorded by then, and not superseded by then."""
    return row.recorded.version <= version and (row.superseded is None or row.superseded.version > version)


def is_touched(rows: Iterable[DirectoryRow], old: int, new: int) -> bool:
    """Say whether any row was recorded or superseded after version `old`, up to `new`."""
    for row in rows:
        if old < row.recorded.version <= new:
            return True
        if row.superseded is not None and old < row.superseded.version <= new:
            return True
    return False


def rewound_rows(rows: tuple[RowT, ...], version: int) -> tuple[RowT, ...]:
    """Return one key's rows as they were in a version."""
    for row in rows:
        if row.recorded.version > version or (
            row.superseded is not None and row.superseded.version > version
        ):
            break
    else:
        return rows
    return tuple(
        r._replace(superseded=None) if r.superseded is not None and r.superseded.version > version else r
        for r in rows
        if r.recorded.version <= version
    )


def _rewound(relation: Mapping[str, tuple[RowT, ...]], version: int) -> dict[str, tuple[RowT, ...]]:
    return {key: known for key, rows in relation.items() if (known := rewound_rows(rows, version))}


def _only(kind: type[RowT], rows: Iterable[object]) -> list[RowT]:
    return [r for r in rows if isinstance(r, kind)]


def _merged(
    base: Callable[[str], tuple[RowT, ...]],
    expect: Callable[[list[str]], None],
    gone: list[RowT],
    new: list[RowT],
    change: ChangeSet,
) -> dict[str, tuple[RowT, ...]]:
    ended = set(gone)
    fresh: dict[str, list[RowT]] = {row[0]: [] for row in gone}
    for row in new:
        fresh.setdefault(row[0], []).append(row)
    merged: dict[str, tuple[RowT, ...]] = {}
    for some in in_batches(fresh):
        expect(some)
        for key in some:
            rows: list[RowT] = [r._replace(superseded=change) if r in ended else r for r in base(key)]
            rows.extend(fresh[key])
            merged[key] = in_order(rows)
    return merged


def _joined(have: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*have, *more]))
