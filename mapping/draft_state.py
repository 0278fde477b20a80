"""What a change set has made of a snapshot so far, looked at and put by key; here only single rows are checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from mapping.account import is_canonical_meter
from mapping.attribution import FOREVER
from mapping.directory import (
    Attribute,
    ChangeSet,
    DirectoryRow,
    Holding,
    Installation,
    Naming,
    NumberKind,
    RowT,
)
from mapping.errors import ChangeRefused
from mapping.instants import AHEAD, FIRST_YEAR, IST
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_json import MAX_NAME, in_order


class DraftState:
    """The rows that a change set has touched, over those of its base."""

    def __init__(self, base: DirectorySnapshot, change: ChangeSet) -> None:
        """Work on `base`; new rows will be recorded by `change`."""
        self.base = base
        self.change = change
        self.touched_installations: dict[str, tuple[Installation, ...]] = {}
        self.touched_holdings: dict[str, tuple[Holding, ...]] = {}
        self.touched_namings: dict[str, tuple[Naming, ...]] = {}
        self.touched_attributes: dict[str, tuple[Attribute, ...]] = {}
        self.touched_owners: dict[NumberKind, dict[str, tuple[str, ...]]] = {kind: {} for kind in NumberKind}
        self._new_meters_at: dict[str, tuple[str, ...]] = {}

    # --- looking ----------------------------------------------------------------------------------

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's installations as the draft has them."""
        found = self.touched_installations.get(meter)
        return self.base.installations(meter) if found is None else found

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's holdings as the draft has them."""
        found = self.touched_holdings.get(usage_point)
        return self.base.holdings(usage_point) if found is None else found

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's namings as the draft has them."""
        found = self.touched_namings.get(account_id)
        return self.base.namings(account_id) if found is None else found

    def attributes(self, usage_point: str) -> tuple[Attribute, ...]:
        """Return the usage point's attributes as the draft has them."""
        found = self.touched_attributes.get(usage_point)
        return self.base.attributes(usage_point) if found is None else found

    def meters_at(self, usage_point: str) -> set[str]:
        """Return every meter that was ever recorded at a usage point, or is in the draft."""
        return {*self.base.meters_at(usage_point), *self._new_meters_at.get(usage_point, ())}

    def owners(self, kind: NumberKind, number: str) -> tuple[str, ...]:
        """Return the accounts that have this number in the draft; more than one is refused in the end."""
        found = self.touched_owners[kind].get(number)
        if found is not None:
            return found
        owner = self.base.account_by_number(kind, number)
        return () if owner is None else (owner,)

    def name(self, account_id: str, kind: NumberKind) -> str | None:
        """Return the account's present number of a kind in the draft."""
        for row in self.namings(account_id):
            if row.kind is kind and row.valid_to is None:
                return row.number
        return None

    # --- putting ----------------------------------------------------------------------------------

    def put_installations(self, meter: str, rows: Iterable[Installation]) -> None:
        """Let these be the meter's installations."""
        self.touched_installations[meter] = in_order(rows)
        for row in self.touched_installations[meter]:
            have = self._new_meters_at.get(row.usage_point, ())
            if meter not in have:
                self._new_meters_at[row.usage_point] = (*have, meter)

    def put_holdings(self, usage_point: str, rows: Iterable[Holding]) -> None:
        """Let these be the usage point's holdings."""
        self.touched_holdings[usage_point] = in_order(rows)

    def put_attributes(self, usage_point: str, rows: Iterable[Attribute]) -> None:
        """Let these be the usage point's attributes."""
        self.touched_attributes[usage_point] = in_order(rows)

    def ended(self, row: RowT, at: datetime) -> RowT:
        """Return a row as it is when it ends at an instant."""
        return row._replace(valid_to=at, recorded=self.change)

    def inside(self, rows: Iterable[RowT], start: datetime, end: datetime) -> list[RowT]:
        """Return what of some rows lies within start..end, cut to it; nothing of rows of no length."""
        return [
            row._replace(
                valid_from=max(row.valid_from, start),
                valid_to=None if min(upto(row), end) == FOREVER else min(upto(row), end),
                recorded=self.change,
            )
            for row in rows
            if max(row.valid_from, start) < min(upto(row), end)
        ]

    def outside(self, rows: Iterable[RowT], start: datetime, end: datetime) -> list[RowT]:
        """Return what of some rows lies before start and from end on; whole rows as they are."""
        found: list[RowT] = []
        for row in rows:
            if max(row.valid_from, start) >= min(upto(row), end):
                found.append(row)
                continue
            if row.valid_from < start:
                found.append(self.ended(row, start))
            if end < upto(row):
                found.append(row._replace(valid_from=end, recorded=self.change))
        return found

    # --- single rows ------------------------------------------------------------------------------

    def dated(self, at: datetime, what: str, known: Iterable[DirectoryRow] = ()) -> datetime:
        """Return an instant in UTC; refused (TIME) without a zone, and (DATE_IMPOSSIBLE) where it cannot be.

        `what` names in the refusal whose instant it is. One that stands in a `known` row is not judged again.
        """
        if at.utcoffset() is None:
            raise ChangeRefused("TIME", f"{what}: {at} has no zone: write +05:30 or Z behind it")
        local = at.astimezone(IST)
        if local.year < FIRST_YEAR or at > self.change.at + AHEAD:
            if any(at in (row.valid_from, row.valid_to) for row in known):
                return at.astimezone(UTC)
            early = f"nothing of ours is older than {FIRST_YEAR}: was it the time of a clock without battery?"
            late = f"it is more than a year after {self.change.at:%Y-%m-%d}: look at the year"
            raise ChangeRefused(
                "DATE_IMPOSSIBLE",
                f"{what}: {local:%Y-%m-%d %H:%M} IST cannot be: {early if local.year < FIRST_YEAR else late}",
            )
        return at.astimezone(UTC)

    def dated_or_open(
        self, at: datetime | None, what: str, known: Iterable[DirectoryRow] = ()
    ) -> datetime | None:
        """Do the same for an end that may be open."""
        return None if at is None else self.dated(at, what, known)


def upto(row: DirectoryRow) -> datetime:
    """Return the end of a row; FOREVER of an open one."""
    return row.valid_to or FOREVER


def covering(rows: Iterable[RowT], at: datetime) -> RowT | None:
    """Return the row that holds at an instant."""
    return next((r for r in rows if r.valid_from <= at < upto(r)), None)


def next_after(rows: Iterable[RowT], at: datetime) -> datetime | None:
    """Return the first beginning of a row after an instant."""
    return min((r.valid_from for r in rows if r.valid_from > at), default=None)


def is_gapless(rows: Sequence[RowT], start: datetime, end: datetime) -> bool:
    """Say whether some rows in order cover all of start..end."""
    for row in rows:
        if row.valid_from <= start:
            start = max(start, upto(row))
    return start >= end


def check_installation(row: Installation) -> None:
    """Refuse a row that names no meter, no usage point or no multiplier."""
    check_names(row.usage_point)
    if not is_canonical_meter(row.meter):
        raise ChangeRefused("METER_FORMAT", f"{row.meter[:64]!r} is not a meter: write MAKE:SERIAL")
    check_multiplier(row.multiplier)


def check_multiplier(multiplier: Decimal) -> None:
    """Refuse what is no multiplier."""
    if not (multiplier.is_finite() and multiplier > 0):
        raise ChangeRefused("MULTIPLIER", f"{multiplier} is no multiplier: give a number above 0")


def check_names(*names: str) -> None:
    """Refuse ids of usage points and accounts that are none."""
    for name in names:
        if not name or len(name) > MAX_NAME or name != name.strip() or not name.isprintable():
            raise ChangeRefused("NAME", f"{name[:64]!r} is no name: 1 to {MAX_NAME} printable characters")


def refuse_overlap(rows: Sequence[RowT], *, points_too: bool = False) -> None:
    """Refuse stretches that end before they start, or overlap; `points_too` lets those of no length be."""
    ordered = sorted(rows, key=lambda r: r.valid_from)
    for row in ordered:
        if row.valid_to is not None and (
            row.valid_to < row.valid_from or (row.valid_to == row.valid_from and not points_too)
        ):
            raise ChangeRefused("SPAN", f"a span ends ({row.valid_to}) before it starts ({row.valid_from})")
    stretches = [row for row in ordered if row.valid_from != row.valid_to]
    for earlier, later in pairwise(stretches):
        if earlier.valid_to is None or earlier.valid_to > later.valid_from:
            raise ChangeRefused("OVERLAP", f"two spans overlap at {later.valid_from}: end the one before it")


def stretches(rows: Sequence[Installation] | Sequence[Holding]) -> str:
    """Say when it is otherwise; the last few stretches are enough to find the right date."""
    if not rows:
        return ", and never was"
    said = [
        f"{r.valid_from:%Y-%m-%d %H:%M} to {'now' if r.valid_to is None else format(r.valid_to, '%Y-%m-%d %H:%M')}"
        for r in rows[-3:]
    ]
    return f", but from {', '.join(said)} (UTC): give a time within"
