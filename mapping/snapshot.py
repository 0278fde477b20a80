"""The directory as an immutable snapshot in memory: lookups in microseconds, of now or as known earlier."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Set
from datetime import datetime
from itertools import accumulate

from mapping import snapshot_json
from mapping.attribution import FOREVER, INSTANT, Segment, Stand, roles, segments, standing, why_nobody
from mapping.directory import (
    AccountNames,
    Attribution,
    AttributionRole,
    Attributions,
    ChangeSet,
    DirectoryCounts,
    DirectoryRow,
    Holding,
    Installation,
    Naming,
    NumberKind,
    RowT,
    Unattributed,
)
from mapping.snapshot_indexes import Indexes


class DirectorySnapshot:
    """All rows of one directory version, with what was known before; never changed after it is made.

    It answers whose a reading is (`attributions`), now or as it was known at an earlier instant, what an account
    is called (`name`, `account_by_number`) and which meters it has (`meters_of_account`), in microseconds and
    without I/O. `DirectoryStore.snapshot` makes it; `to_json` and `from_json` carry it elsewhere, exactly.

    >>> nobody = DirectorySnapshot()
    >>> from datetime import UTC
    >>> nobody.attributions("GEN:12345678", None, datetime(2026, 11, 1, tzinfo=UTC)).reason
    <Unattributed.NO_ACCOUNT: 'no_account'>
    """

    def __init__(
        self,
        changes: tuple[ChangeSet, ...] = (),
        installations: Mapping[str, tuple[Installation, ...]] | None = None,
        holdings: Mapping[str, tuple[Holding, ...]] | None = None,
        namings: Mapping[str, tuple[Naming, ...]] | None = None,
        indexes: Indexes | None = None,
    ) -> None:
        """Take rows grouped by meter, usage point and account; `changes` in rising version."""
        self._changes = changes
        # What was dated ahead of a later change set was known when that was made, at the latest.
        self._times = list(accumulate((c.at for c in reversed(changes)), min))[::-1]
        self._installations = dict(installations or {})
        self._holdings = dict(holdings or {})
        self._namings = dict(namings or {})
        self._indexes = indexes

    # --- what it is -------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The directory version; 0 is the empty directory."""
        return self._changes[-1].version if self._changes else 0

    @property
    def changes(self) -> tuple[ChangeSet, ...]:
        """All change sets up to this version; in a part, provenance only of those that concern it."""
        return self._changes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DirectorySnapshot):
            return NotImplemented
        return self.relations() == other.relations() and self._changes == other.changes

    def __hash__(self) -> int:
        return hash((self.version, len(self._installations)))

    def relations(
        self,
    ) -> tuple[
        dict[str, tuple[Installation, ...]], dict[str, tuple[Holding, ...]], dict[str, tuple[Naming, ...]]
    ]:
        """Return all rows by meter, by usage point and by account, superseded ones too; do not change them."""
        return self._installations, self._holdings, self._namings

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        owners = self.indexes.owners
        return DirectoryCounts(
            meters=sum(1 for m in self._installations if self.installations(m)),
            usage_points=len(self.indexes.meters_at),
            accounts=len(self._namings.keys() | self.indexes.points_of.keys()),
            account_numbers=len(owners[NumberKind.ACCOUNT]),
            legacy_numbers=len(owners[NumberKind.LEGACY]),
        )

    def version_at(self, known_at: datetime) -> int:
        """Return the version that was current at an instant; 0 before the first change."""
        index = bisect_right(self._times, known_at)
        return self._changes[index - 1].version if index else 0

    # --- whose reading it is ----------------------------------------------------------------------

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        """Return whose a capture is: of the interval start < .. <= end, or of the snapshot at `end` (start None).

        Holding is resolved at the capture's time, naming as known now or at `known_at`. Times carry a zone. The
        answer names every account with its role: `normal` for one that held the meter for all of it, `final` and
        `opening` at the instant of a hand-over, `partial` for an interval that straddles one, with the span that it
        held. Without an account it says why; an unknown meter is answered so, too. Raises ValueError when start > end.
        """
        if start is not None and start > end:
            raise ValueError(f"an interval cannot start ({start}) after its end ({end})")
        version = self.version if known_at is None else self.version_at(known_at)
        fitted, held = self._rows(meter, version)
        accounts = tuple(
            Attribution(
                account_id=segment.account_id,
                account_number=self._name(segment.account_id, NumberKind.ACCOUNT, version),
                legacy_number=self._name(segment.account_id, NumberKind.LEGACY, version),
                usage_point=segment.usage_point,
                role=role,
                since=segment.start if role is AttributionRole.PARTIAL else None,
                until=segment.end if role is AttributionRole.PARTIAL else None,
            )
            for segment, role in roles(segments(fitted, held), start, end)
        )
        reason: Unattributed | None = None
        if not accounts:
            # One capture has one reason: that which holds at its end.
            reason = why_nobody(fitted, held, end if start in {None, end} else end - INSTANT)
        elif any(a.account_number is None for a in accounts):
            reason = Unattributed.NO_ACCOUNT
        return Attributions(accounts=accounts, reason=reason, directory_version=version)

    def timeline(self, meter: str, version: int | None = None) -> list[Segment]:
        """Return the meter's accounts over all time, as known in a version (None: this one)."""
        return segments(*self._rows(meter, self.version if version is None else version))

    def standing(self, meter: str, version: int | None = None) -> list[Stand]:
        """Return whose the meter is over all time, or why nobody's, as known in a version (None: this one)."""
        return standing(*self._rows(meter, self.version if version is None else version))

    def _rows(self, meter: str, version: int) -> tuple[list[Installation], dict[str, list[Holding]]]:
        fitted = _visible(self._installations.get(meter, ()), version)
        return fitted, {
            f.usage_point: _visible(self._holdings.get(f.usage_point, ()), version) for f in fitted
        }

    def name(self, account_id: str, kind: NumberKind, version: int | None = None) -> str | None:
        """Return an account's number of one kind, as known in a version (None: this one)."""
        return self._name(account_id, kind, self.version if version is None else version)

    def _name(self, account_id: str, kind: NumberKind, version: int) -> str | None:
        for naming in self._namings.get(account_id, ()):
            if naming.kind is kind and naming.valid_to is None and _is_visible(naming, version):
                return naming.number
        return None

    # --- rows and indexes -------------------------------------------------------------------------

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's installations as known now, by time."""
        return _current(self._installations.get(meter, ()))

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's holdings as known now, by time."""
        return _current(self._holdings.get(usage_point, ()))

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's namings as known now, former ones too."""
        return _current(self._namings.get(account_id, ()))

    def meters(self) -> Iterator[str]:
        """Return every meter that the directory ever knew."""
        return iter(self._installations)

    def names(self, account_id: str) -> AccountNames:
        """Return an account's present names."""
        return AccountNames(
            account_id=account_id,
            account_number=self.name(account_id, NumberKind.ACCOUNT),
            legacy_number=self.name(account_id, NumberKind.LEGACY),
        )

    def account_by_number(self, kind: NumberKind | str, text: str) -> str | None:
        """Return the id of the account that has this number of this kind now; exact text, no cross-search."""
        index = self.indexes.owners
        return index[kind if isinstance(kind, NumberKind) else NumberKind(kind)].get(text)

    def candidates(self, text: str) -> dict[NumberKind, str]:
        """Return what a number may mean, by kind; two answers mean: ask "old or new?" (row 11)."""
        return {kind: owner for kind, index in self.indexes.owners.items() if (owner := index.get(text))}

    def usage_point(self, meter: str, at: datetime) -> str | None:
        """Return where the meter is installed at an instant, whatever its role."""
        for row in self.installations(meter):
            if row.valid_from <= at < (row.valid_to or FOREVER):
                return row.usage_point
        return None

    def usage_points(self) -> Set[str]:
        """Return every usage point that was ever recorded, with a meter or with a holder."""
        return self._holdings.keys() | self.indexes.meters_at.keys()

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return every meter that was ever recorded at a usage point."""
        return self.indexes.meters_at.get(usage_point, ())

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return every usage point that the account was ever recorded to hold."""
        return self.indexes.points_of.get(account_id, ())

    def meters_of_account(self, account_id: str) -> tuple[tuple[str, Segment], ...]:
        """Return the meters that the account has or had, each with the span, as known now."""
        found = [
            (meter, segment)
            for point in self.usage_points_of(account_id)
            for meter in self.meters_at(point)
            for segment in self.timeline(meter)
            if segment.account_id == account_id and segment.usage_point == point
        ]
        return tuple(sorted(found, key=lambda f: (f[1].start, f[0])))

    # --- other snapshots --------------------------------------------------------------------------

    def part(self, meters: set[str]) -> DirectorySnapshot:
        """Return an edge's part: only rows that concern its meters, with all their history."""
        fitted = {m: self._installations[m] for m in sorted(meters) if m in self._installations}
        points = {row.usage_point for rows in fitted.values() for row in rows}
        held = {p: self._holdings[p] for p in sorted(points) if p in self._holdings}
        owners = {row.account_id for rows in held.values() for row in rows}
        named = {a: self._namings[a] for a in sorted(owners) if a in self._namings}
        kept = _versions(fitted) | _versions(held) | _versions(named)
        # Who changed other meters, and from which file, is none of this edge's business; nor are the versions that
        # leave its rows as they are, but for the last: it says up to where this part holds.
        changes = [c for c in self._changes if c.version in kept]
        if self._changes and (last := self._changes[-1]).version not in kept:
            changes.append(ChangeSet(version=last.version, at=last.at, by="", source=""))
        return DirectorySnapshot(tuple(changes), fitted, held, named)

    def as_known_at(self, known_at: datetime) -> DirectorySnapshot:
        """Return the snapshot as it was at an instant: what was learned later is not in it."""
        version = self.version_at(known_at)
        changes = tuple(c for c in self._changes if c.version <= version)
        return DirectorySnapshot(
            changes,
            _rewound(self._installations, version),
            _rewound(self._holdings, version),
            _rewound(self._namings, version),
        )

    def to_json(self) -> str:
        """Write it exactly; `from_json` reads it back equal."""
        return snapshot_json.dump(self._changes, self._installations, self._holdings, self._namings)

    @classmethod
    def from_json(cls, text: str | bytes) -> DirectorySnapshot:
        """Read what `to_json` wrote; anything else is a DirectoryFault."""
        return cls(*snapshot_json.load(text))

    @property
    def indexes(self) -> Indexes:
        """Look-up tables, made on first use."""
        if self._indexes is None:
            self._indexes = Indexes.of(self._installations, self._holdings, self._namings)
        return self._indexes


def _is_visible(row: DirectoryRow, version: int) -> bool:
    return row.recorded.version <= version and (row.superseded is None or row.superseded.version > version)


def _versions(relation: Mapping[str, tuple[DirectoryRow, ...]]) -> set[int]:
    found = set()
    for rows in relation.values():
        for row in rows:
            found.add(row.recorded.version)
            if row.superseded:
                found.add(row.superseded.version)
    return found


def _visible(rows: tuple[RowT, ...], version: int) -> list[RowT]:
    return [r for r in rows if _is_visible(r, version)]


def _current(rows: tuple[RowT, ...]) -> tuple[RowT, ...]:
    for row in rows:
        if row.superseded is not None:
            break
    else:
        return rows
    return tuple(r for r in rows if r.superseded is None)


def _rewound(relation: dict[str, tuple[RowT, ...]], version: int) -> dict[str, tuple[RowT, ...]]:
    found = {}
    for key, rows in relation.items():
        known = tuple(
            r._replace(superseded=None) if r.superseded and r.superseded.version > version else r
            for r in rows
            if r.recorded.version <= version
        )
        if known:
            found[key] = known
    return found
