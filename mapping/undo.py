"""Undoing a change set by a later one: what it changed is stated again as it was before it.

Where others built upon it, their word stays: time by time what was before the change set, what it made of it and what
is said now are compared, and only what nobody has changed since is undone. The rest is a conflict, and is named.
Nothing known is lost: what was believed in between can still be asked for, and both change sets have their actor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple

from mapping.attribution import FOREVER
from mapping.changes import (
    AttributeSpan,
    Change,
    CorrectAttributes,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    InstallationSpan,
    Name,
)
from mapping.directory import AttributeKind, ChangeSet, DirectoryRow, NumberKind, RowT
from mapping.errors import ChangeRefused
from mapping.instants import IST
from mapping.rows import in_batches, is_visible
from mapping.snapshot import DirectorySnapshot

NAMED: Final = 20
"""Conflicts that a refusal names; all can be asked for."""


class Conflict(NamedTuple):
    """What of a change set cannot be undone: `what` was changed again by `later` over `start`..`end` (None: open)."""

    what: str
    start: datetime | None
    end: datetime | None
    later: ChangeSet

    def __str__(self) -> str:
        said = f"change set {self.later.version} of {self.later.by} changed {self.what} again"
        if self.start is None:
            return said
        start = self.start.astimezone(IST)
        end = "now on" if self.end is None else f"{self.end.astimezone(IST):%Y-%m-%d %H:%M}"
        return f"{said}, from {start:%Y-%m-%d %H:%M} to {end} IST"


class Span(NamedTuple):
    """One stretch of a history and what it says."""

    start: datetime
    end: datetime | None
    value: tuple[Any, ...]


class Undo:
    """What undoing change set `version` does: changes, and conflicts. Both are worked out as they are asked for."""

    def __init__(self, snapshot: DirectorySnapshot, version: int) -> None:
        """Raises ChangeRefused (VERSION) where there is no such change set."""
        if not 1 <= version <= snapshot.version:
            raise ChangeRefused(
                "VERSION", f"there is no change set {version}; the last is {snapshot.version}"
            )
        self.version = version
        self._snapshot = snapshot
        self._touched = snapshot.touched(version - 1, version)

    def changes(self) -> Iterator[Change]:
        """Yield the changes that undo all that can be undone."""
        return (one for one in self._all() if not isinstance(one, Conflict))

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what was changed again since, and stays as it is."""
        return (one for one in self._all() if isinstance(one, Conflict))

    def refuse_conflicts(self) -> None:
        """Raise ChangeRefused (LATER_CHANGE) where anything was changed again."""
        found = list(islice(self.conflicts(), NAMED + 1))
        if found:
            more = "; and more" if len(found) > NAMED else ""
            raise ChangeRefused(
                "LATER_CHANGE",
                f"{'; '.join(map(str, found[:NAMED]))}{more}: undo that one first, or the rest alone",
            )

    def _all(self) -> Iterator[Change | Conflict]:
        rows, touched = self._snapshot.rows, self._touched
        for meters in in_batches(touched.meters):
            rows.expect(meters=meters)
            for meter in meters:
                yield from self._fitted(meter)
        for points in in_batches(touched.usage_points):
            rows.expect(usage_points=points)
            for point in points:
                yield from self._held(point)
        for described in in_batches(touched.described):
            rows.expect(described=described)
            for point in described:
                for kind in AttributeKind:
                    yield from self._kept(point, kind)
        for accounts in in_batches(touched.accounts):
            rows.expect(accounts=accounts)
            numbers = [(kind, n) for a in accounts for kind in NumberKind if (n := self._before(a, kind))]
            rows.expect(numbers=numbers)
            for account in accounts:
                yield from self._named(account)

    def _fitted(self, meter: str) -> Iterator[Change | Conflict]:
        def spans(found: Sequence[Span]) -> Change:
            return CorrectInstallations(
                meter, tuple(InstallationSpan(p, role, s, e, factor) for s, e, (p, role, factor) in found)
            )

        rows = self._snapshot.rows.installations(meter)
        yield from self._restated(rows, f"meter {meter}", lambda r: r[1:4], spans)

    def _held(self, point: str) -> Iterator[Change | Conflict]:
        def spans(found: Sequence[Span]) -> Change:
            held = (HoldingSpan(account, s, e, mode) for s, e, (account, mode) in found)
            return CorrectHoldings(point, tuple(held))

        rows = self._snapshot.rows.holdings(point)
        yield from self._restated(rows, f"usage point {point}", lambda r: r[1:3], spans)

    def _kept(self, point: str, kind: AttributeKind) -> Iterator[Change | Conflict]:
        def spans(found: Sequence[Span]) -> Change:
            return CorrectAttributes(point, kind, tuple(AttributeSpan(v, s, e) for s, e, (v,) in found))

        rows = [row for row in self._snapshot.rows.attributes(point) if row.kind is kind]
        what = f"the {kind.replace('_', ' ')} of usage point {point}"
        yield from self._restated(rows, what, lambda r: (r.value,), spans)

    def _restated(
        self,
        rows: Sequence[RowT],
        what: str,
        value: Callable[[RowT], tuple[Any, ...]],
        spans: Callable[[Sequence[Span]], Change],
    ) -> Iterator[Change | Conflict]:
        version = self.version

        def known(at: int) -> list[Span]:
            return [Span(r.valid_from, r.valid_to, value(r)) for r in rows if is_visible(r, at)]

        now = known(self._snapshot.version)
        found, again = merged(known(version - 1), known(version), now)
        for start, end in again:
            yield Conflict(what, start, end, _last(rows, start, end, version))
        if set(found) != set(now):
            yield spans(found)

    def _before(self, account: str, kind: NumberKind) -> str | None:
        return self._snapshot.name(account, kind, self.version - 1)

    def _named(self, account: str) -> Iterator[Change | Conflict]:
        snapshot = self._snapshot
        for kind in NumberKind:
            before, made = self._before(account, kind), snapshot.name(account, kind, self.version)
            now = snapshot.name(account, kind)
            if before in (made, now):
                continue
            what = f"the {kind.replace('_', ' ')} of account {account}"
            if now != made:
                rows = snapshot.rows.namings(account)
                yield Conflict(what, None, None, _last(rows, None, None, self.version))
                continue
            owner = None if before is None else snapshot.account_by_number(kind, before)
            if owner is not None and not self._gives_back(owner, kind, before):
                rows = snapshot.rows.namings(owner)
                later = _last(rows, None, None, self.version)
                yield Conflict(f"{what} by giving {before} to account {owner}: it was", None, None, later)
                continue
            yield Name(account, kind, before)

    def _gives_back(self, owner: str, kind: NumberKind, number: str | None) -> bool:
        """Say whether this undoing takes the number from the account that has it now."""
        made = self._snapshot.name(owner, kind, self.version)
        return made == number and self._before(owner, kind) != number


def undo(snapshot: DirectorySnapshot, version: int) -> list[Change]:
    """Return the changes that undo the whole of change set `version`.

    Raises ChangeRefused: VERSION where there is no such change set, LATER_CHANGE where a later one left a part of it
    otherwise; `Undo` names each of these, and undoes the rest.
    """
    plan = Undo(snapshot, version)
    plan.refuse_conflicts()
    return list(plan.changes())


def merged(
    before: Sequence[Span], made: Sequence[Span], now: Sequence[Span]
) -> tuple[list[Span], list[tuple[datetime, datetime | None]]]:
    """Return the history `now` without what a change made of `before`, and the times at which that was changed again.

    Time by time: what the change left as it was is as it is now; what nobody changed since is as it was before.
    """
    lines = (before, made, now)
    edges = sorted({t for line in lines for s in _lasting(line) for t in (s.start, s.end or FOREVER)})
    found: list[Span] = []
    again: list[tuple[datetime, datetime | None]] = []
    for start, edge in pairwise(edges):
        was, became, is_now = (_at(line, start) for line in lines)
        end = None if edge == FOREVER else edge
        value = was if was != became and is_now == became else is_now
        if was != became and is_now not in (became, was):
            if again and again[-1][1] == start:
                again[-1] = (again[-1][0], end)
            else:
                again.append((start, end))
        if value is None:
            continue
        if found and found[-1].end == start and found[-1].value == value and not _is_cut(lines, start):
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Span(start, end, value))
    points = [{s for s in line if s.start == s.end} for line in lines]
    kept = (points[2] - (points[1] - points[0])) | (points[0] - points[1])
    return [*found, *sorted(kept, key=lambda s: (s.start, str(s.value)))], again


def _lasting(line: Iterable[Span]) -> Iterator[Span]:
    return (span for span in line if span.start != span.end)


def _at(line: Iterable[Span], at: datetime) -> tuple[Any, ...] | None:
    return next((s.value for s in line if s.start <= at < (s.end or FOREVER)), None)


def _is_cut(lines: tuple[Sequence[Span], ...], at: datetime) -> bool:
    """Say whether two rows meet at an instant though they say the same: decided as what they say is."""
    was, became, is_now = (any(at in (s.start, s.end) for s in _lasting(line)) for line in lines)
    return is_now if was == became else was


def _last(
    rows: Iterable[DirectoryRow], start: datetime | None, end: datetime | None, version: int
) -> ChangeSet:
    """Return the last change set after `version` that recorded or superseded a row of that time."""
    found: list[ChangeSet] = []
    for row in rows:
        if start is None or (row.valid_from < (end or FOREVER) and start < (row.valid_to or FOREVER)):
            found += [c for c in (row.recorded, row.superseded) if c is not None and c.version > version]
    return max(found, key=lambda change: change.version)
