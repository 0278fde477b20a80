"""The directory as an immutable snapshot: whose a reading is, what an account is called; of now or as known earlier."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from itertools import accumulate

from mapping import snapshot_json
from mapping.attribution import FOREVER, INSTANT, Segment, Stand, roles, segments, standing, why_nobody
from mapping.directory import (
    AccountNames,
    Attribute,
    AttributeKind,
    Attribution,
    AttributionRole,
    Attributions,
    ChangeSet,
    DirectoryCounts,
    Holding,
    Installation,
    Naming,
    NumberKind,
    RowT,
    Unattributed,
)
from mapping.rows import MemoryRows, Rows, Touched, in_batches, is_visible


class DirectorySnapshot:
    """One directory version, with what was known before; it never changes.

    It answers whose a reading is (`attributions`), now or as it was known at an earlier instant, what an account
    is called (`name`, `account_by_number`) and which meters it has (`meters_of_account`). `DirectoryStore.snapshot`
    makes one that asks the database for what it needs; a `part` of it has its rows in memory and answers in
    microseconds without I/O. `to_json` and `from_json` carry it elsewhere, exactly.

    >>> nobody = DirectorySnapshot()
    >>> from datetime import UTC
    >>> nobody.attributions("GEN:12345678", None, datetime(2026, 11, 1, tzinfo=UTC)).reason
    <Unattributed.NO_ACCOUNT: 'no_account'>
    """

    def __init__(self, rows: Rows | None = None) -> None:
        """Take the rows of a version; without any it is the empty directory."""
        self.rows: Rows = MemoryRows() if rows is None else rows

    # --- what it is -------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The directory version; 0 is the empty directory."""
        return self.rows.version

    @property
    def changes(self) -> tuple[ChangeSet, ...]:
        """All change sets up to this version; in a part, provenance only of those that concern it."""
        return tuple(self.rows.changes)

    @cached_property
    def _times(self) -> list[datetime]:
        # What was dated ahead of a later change set was known when that was made, at the latest.
        return list(accumulate((c.at for c in reversed(self.rows.changes)), min))[::-1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DirectorySnapshot):
            return NotImplemented
        return (
            self.relations() == other.relations()
            and self.described() == other.described()
            and self.changes == other.changes
        )

    def __hash__(self) -> int:
        return hash((self.version, len(self.rows.changes)))

    def relations(
        self,
    ) -> tuple[
        dict[str, tuple[Installation, ...]], dict[str, tuple[Holding, ...]], dict[str, tuple[Naming, ...]]
    ]:
        """Return all rows by meter, by usage point and by account, superseded ones too: of a city, far too many."""
        rows = self.rows
        return (
            {meter: rows.installations(meter) for meter in rows.meters()},
            {point: held for point in rows.usage_points() if (held := rows.holdings(point))},
            {account: named for account in rows.accounts() if (named := rows.namings(account))},
        )

    def described(self) -> dict[str, tuple[Attribute, ...]]:
        """Return all attributes by usage point, superseded ones too: of a city, far too many."""
        return {point: kept for point in self.rows.described() if (kept := self.rows.attributes(point))}

    def counts(self) -> DirectoryCounts:
        """Count what holds now."""
        return self.rows.counts()

    def touched(self, old: int, new: int) -> Touched:
        """Return the keys of rows that were recorded or superseded after version `old`, up to `new`."""
        return self.rows.touched(old, new)

    def version_at(self, known_at: datetime) -> int:
        """Return the version that was current at an instant; 0 before the first change."""
        index = bisect_right(self._times, known_at)
        return self.rows.changes[index - 1].version if index else 0

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

    def expect(self, meters: Iterable[str]) -> None:
        """Let what the attributions of these meters need be fetched together; some thousand of them at most."""
        rows, wanted = self.rows, list(meters)
        rows.expect(meters=wanted)
        points = [row.usage_point for meter in wanted for row in rows.installations(meter)]
        rows.expect(usage_points=points)
        rows.expect(accounts=[row.account_id for point in points for row in rows.holdings(point)])

    def each(self, meters: Iterable[str]) -> Iterator[str]:
        """Yield the meters, each when what its attributions need is at hand."""
        for some in in_batches(meters):
            self.expect(some)
            yield from some

    def timeline(self, meter: str, version: int | None = None) -> list[Segment]:
        """Return the meter's accounts over all time, as known in a version (None: this one)."""
        return segments(*self._rows(meter, self.version if version is None else version))

    def standing(self, meter: str, version: int | None = None) -> list[Stand]:
        """Return whose the meter is over all time, or why nobody's, as known in a version (None: this one)."""
        return standing(*self._rows(meter, self.version if version is None else version))

    def _rows(self, meter: str, version: int) -> tuple[list[Installation], dict[str, list[Holding]]]:
        fitted = _visible(self.rows.installations(meter), version)
        return fitted, {f.usage_point: _visible(self.rows.holdings(f.usage_point), version) for f in fitted}

    def name(self, account_id: str, kind: NumberKind, version: int | None = None) -> str | None:
        """Return an account's number of one kind, as known in a version (None: this one)."""
        return self._name(account_id, kind, self.version if version is None else version)

    def _name(self, account_id: str, kind: NumberKind, version: int) -> str | None:
        for naming in self.rows.namings(account_id):
            if naming.kind is kind and naming.valid_to is None and is_visible(naming, version):
                return naming.number
        return None

    # --- rows and indexes -------------------------------------------------------------------------

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's installations as known now, by time."""
        return _current(self.rows.installations(meter))

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's holdings as known now, by time."""
        return _current(self.rows.holdings(usage_point))

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's namings as known now, former ones too."""
        return _current(self.rows.namings(account_id))

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes as known now, by time."""
        return _current(self.rows.attributes(usage_point))

    def attribute(self, usage_point: str, kind: AttributeKind, at: datetime) -> str | None:
        """Return what one attribute of a usage point is at an instant; None where it is not known."""
        for row in self.attributes(usage_point):
            if row.kind is kind and row.valid_from <= at < (row.valid_to or FOREVER):
                return row.value
        return None

    def meters(self) -> Iterator[str]:
        """Return every meter that the directory ever knew."""
        return self.rows.meters()

    def names(self, account_id: str) -> AccountNames:
        """Return an account's present names."""
        return AccountNames(
            account_id=account_id,
            account_number=self.name(account_id, NumberKind.ACCOUNT),
            legacy_number=self.name(account_id, NumberKind.LEGACY),
        )

    def account_by_number(self, kind: NumberKind | str, text: str) -> str | None:
        """Return the id of the account that has this number of this kind now; exact text, no cross-search."""
        return self.rows.owner(kind if isinstance(kind, NumberKind) else NumberKind(kind), text)

    def candidates(self, text: str) -> dict[NumberKind, str]:
        """Return what a number may mean, by kind; two answers mean: ask "old or new?" (row 11)."""
        return {kind: owner for kind in NumberKind if (owner := self.rows.owner(kind, text))}

    def legacy_alike(self, folded_number: str) -> tuple[str, ...]:
        """Return the accounts that have a legacy number now that is this one without separators; some, of many."""
        return self.rows.legacy_alike(folded_number)

    def numbers(self, kind: NumberKind) -> Iterator[str]:
        """Yield every number of a kind that an account has now."""
        return self.rows.numbers(kind)

    def usage_point(self, meter: str, at: datetime) -> str | None:
        """Return where the meter is installed at an instant, whatever its role."""
        for row in self.installations(meter):
            if row.valid_from <= at < (row.valid_to or FOREVER):
                return row.usage_point
        return None

    def usage_points(self) -> Iterator[str]:
        """Yield every usage point that was ever recorded, with a meter or with a holder."""
        return self.rows.usage_points()

    def has_usage_point(self, usage_point: str) -> bool:
        """Say whether a usage point was ever recorded: with a meter, a holder or an attribute."""
        rows = self.rows
        return bool(rows.holdings(usage_point) or rows.meters_at(usage_point) or rows.attributes(usage_point))

    def accounts(self) -> Iterator[str]:
        """Yield every account that was ever recorded, with a number or as a holder."""
        return self.rows.accounts()

    def meters_at(self, usage_point: str) -> tuple[str, ...]:
        """Return every meter that was ever recorded at a usage point."""
        return self.rows.meters_at(usage_point)

    def usage_points_of(self, account_id: str) -> tuple[str, ...]:
        """Return every usage point that the account was ever recorded to hold."""
        return self.rows.usage_points_of(account_id)

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

    def part(self, meters: Iterable[str]) -> DirectorySnapshot:
        """Return an edge's part, in memory: only rows that concern its meters, with all their history.

        Installations of no length are left out, and attributes: no reading stands under an account by them.
        """
        rows = self.rows
        fitted: dict[str, tuple[Installation, ...]] = {}
        held: dict[str, tuple[Holding, ...]] = {}
        named: dict[str, tuple[Naming, ...]] = {}
        for some in in_batches(sorted(set(meters))):
            rows.expect(meters=some)
            fitted.update({meter: one for meter in some if (one := _lasting(rows.installations(meter)))})
        for some in in_batches(sorted({row.usage_point for found in fitted.values() for row in found})):
            rows.expect(usage_points=some)
            held.update({point: two for point in some if (two := rows.holdings(point))})
        for some in in_batches(sorted({row.account_id for found in held.values() for row in found})):
            rows.expect(accounts=some)
            named.update({account: three for account in some if (three := rows.namings(account))})
        kept = _versions(fitted) | _versions(held) | _versions(named)
        # Who changed other meters, and from which file, is none of this edge's business; nor are the versions that
        # leave its rows as they are, but for the last: it says up to where this part holds.
        changes = [c for c in rows.changes if c.version in kept]
        if rows.changes and (last := rows.changes[-1]).version not in kept:
            changes.append(ChangeSet(version=last.version, at=last.at, by="", source=""))
        return DirectorySnapshot(MemoryRows(changes, fitted, held, named))

    def as_known_at(self, known_at: datetime) -> DirectorySnapshot:
        """Return the snapshot as it was at an instant: what was learned later is not in it."""
        return DirectorySnapshot(self.rows.rewound(self.version_at(known_at)))

    def to_json(self) -> str:
        """Write it exactly; `from_json` reads it back equal."""
        return snapshot_json.dump(self.changes, *self.relations(), self.described())

    @classmethod
    def from_json(cls, text: str | bytes) -> DirectorySnapshot:
        """Read what `to_json` wrote; anything else is a DirectoryFault."""
        return cls(MemoryRows(*snapshot_json.load(text)))


def _versions(relation: dict[str, tuple[RowT, ...]]) -> set[int]:
    found = set()
    for rows in relation.values():
        for row in rows:
            found.add(row.recorded.version)
            if row.superseded:
                found.add(row.superseded.version)
    return found


def _lasting(rows: tuple[Installation, ...]) -> tuple[Installation, ...]:
    return tuple(r for r in rows if r.valid_from != r.valid_to)


def _visible(rows: tuple[RowT, ...], version: int) -> list[RowT]:
    return [r for r in rows if is_visible(r, version)]


def _current(rows: tuple[RowT, ...]) -> tuple[RowT, ...]:
    for row in rows:
        if row.superseded is not None:
            break
    else:
        return rows
    return tuple(r for r in rows if r.superseded is None)
