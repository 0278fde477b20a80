"""A change set being worked out on top of a snapshot: checked, then the rows to supersede and to add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from mapping.account import AccountNumber, LegacyNumber, is_canonical_meter
from mapping.attribution import FOREVER
from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    Install,
    MoveIn,
    MoveOut,
    Name,
    Remove,
)
from mapping.directory import ChangeSet, DirectoryRow, Holding, Installation, Naming, NumberKind, Role, RowT
from mapping.errors import ChangeRefused, NumberRefused
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_json import MAX_NAME, in_order

EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)


class Difference(NamedTuple):
    """What a change set does to the rows: `gone` lose their currency, `new` are recorded."""

    gone: list[DirectoryRow]
    new: list[DirectoryRow]


class Draft:
    """Applies changes one by one, refusing what contradicts the directory; `finish` checks the whole.

    A refused change leaves the draft as it was, so a caller may go on with the next.
    """

    def __init__(self, base: DirectorySnapshot, change: ChangeSet) -> None:
        """Work on `base`; new rows will be recorded by `change`."""
        self.base = base
        self.change = change
        self._installations: dict[str, tuple[Installation, ...]] = {}
        self._holdings: dict[str, tuple[Holding, ...]] = {}
        self._namings: dict[str, tuple[Naming, ...]] = {}
        self._owners: dict[NumberKind, dict[str, tuple[str, ...]]] = {kind: {} for kind in NumberKind}
        self._new_meters_at: dict[str, tuple[str, ...]] = {}

    # --- looking ----------------------------------------------------------------------------------

    def installations(self, meter: str) -> tuple[Installation, ...]:
        """Return the meter's installations as the draft has them."""
        found = self._installations.get(meter)
        return self.base.installations(meter) if found is None else found

    def holdings(self, usage_point: str) -> tuple[Holding, ...]:
        """Return the usage point's holdings as the draft has them."""
        found = self._holdings.get(usage_point)
        return self.base.holdings(usage_point) if found is None else found

    def namings(self, account_id: str) -> tuple[Naming, ...]:
        """Return the account's namings as the draft has them."""
        found = self._namings.get(account_id)
        return self.base.namings(account_id) if found is None else found

    def owners(self, kind: NumberKind, number: str) -> tuple[str, ...]:
        """Return the accounts that have this number in the draft; more than one is refused in the end."""
        found = self._owners[kind].get(number)
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

    # --- changing ---------------------------------------------------------------------------------

    def expect(self, changes: Iterable[Change]) -> None:
        """Let the rows that these changes will look at be fetched together."""
        rows = self.base.rows
        meters: list[str] = []
        points: list[str] = []
        names: list[Name] = []
        for change in changes:
            match change:
                case Name():
                    names.append(change)
                case Install():
                    meters.append(change.meter)
                    points.append(change.usage_point)
                case Remove():
                    meters.append(change.meter)
                case CorrectInstallations():
                    meters.append(change.meter)
                    points += [span.usage_point for span in change.spans]
                case MoveIn() | MoveOut() | CorrectHoldings():
                    points.append(change.usage_point)
        numbers = [(one.kind, one.number) for one in names if one.number is not None]
        rows.expect(
            meters=meters, usage_points=points, accounts=[one.account_id for one in names], numbers=numbers
        )

    def apply(self, change: Change) -> None:
        """Apply one change; ChangeRefused says why not."""
        match change:
            case Name():
                self._rename(change)
            case Install():
                self._install(change)
            case Remove():
                self._remove(change)
            case MoveIn():
                self._move_in(change)
            case MoveOut():
                self._move_out(change)
            case CorrectInstallations():
                self._correct_installations(change)
            case CorrectHoldings():
                self._correct_holdings(change)

    def _install(self, change: Install) -> None:
        at = _utc(change.valid_from)
        rows = self.installations(change.meter)
        upto: datetime | None = None
        kept: list[Installation] = []
        for row in rows:
            if row.valid_from > at:
                # Paper that comes late, for a time before what is known: it holds until then and no longer.
                upto = min(upto or FOREVER, row.valid_from)
            elif at < (row.valid_to or FOREVER):
                same = (row.usage_point, row.role, row.multiplier)
                if same == (change.usage_point, change.role, change.multiplier):
                    return  # the same paper once more
                if row.role is Role.CONSUMER:
                    # Without the paper of its removal nobody knows until when its readings are the old account's.
                    raise ChangeRefused(
                        "METER_IN_USE",
                        f"meter {row.meter} is fitted at {row.usage_point} since {row.valid_from:%Y-%m-%d %H:%M} UTC: "
                        "remove it there first (from when it was taken away)",
                    )
                # From stock to a house: the stay in stock ends here, and nothing need say so.
                upto = row.valid_to or upto
                if row.valid_from < at:
                    kept.append(self._ended(row, at))
                continue
            kept.append(row)
        new = Installation(
            change.meter,
            change.usage_point,
            change.role,
            change.multiplier,
            at,
            upto,
            self.change,
            None,
            change.row,
        )
        self._check_installation(new)
        if new.role is Role.CONSUMER:
            self._refuse_occupied(new)
        self._put_installations(change.meter, [*kept, new])

    def _remove(self, change: Remove) -> None:
        at = _utc(change.at)
        rows = self.installations(change.meter)
        row = _covering(rows, at)
        if row is None:
            raise ChangeRefused(
                "METER_NOT_FITTED",
                f"meter {change.meter} is not fitted anywhere then{_stretches(rows)}",
            )
        # Removed at the instant it was fitted: it never was there, so no row of no length is kept.
        ended = [] if row.valid_from == at else [self._ended(row, at)]
        self._put_installations(change.meter, [*(r for r in rows if r is not row), *ended])

    def _move_in(self, change: MoveIn) -> None:
        at = _utc(change.valid_from)
        rows = self.holdings(change.usage_point)
        held = _covering(rows, at)
        if held is not None:
            if (held.account_id, held.payment_mode) == (change.account_id, change.payment_mode):
                return
            if held.account_id != change.account_id:
                # A new tenant before the old one's final reading: the move-out must come first.
                raise ChangeRefused(
                    "HELD",
                    f"usage point {change.usage_point} is held then by account {held.account_id}, since "
                    f"{held.valid_from:%Y-%m-%d %H:%M} UTC: it must move out first",
                )
        # The same account with another payment mode goes on to the end of its holding; a new one until the next.
        upto = held.valid_to if held else min((r.valid_from for r in rows if r.valid_from > at), default=None)
        kept = [r for r in rows if r is not held]
        if held is not None and held.valid_from < at:
            kept.append(self._ended(held, at))
        new = Holding(
            change.usage_point,
            change.account_id,
            change.payment_mode,
            at,
            upto,
            self.change,
            None,
            change.row,
        )
        _check_names(new.usage_point, new.account_id)
        self._holdings[change.usage_point] = in_order([*kept, new])

    def _move_out(self, change: MoveOut) -> None:
        at = _utc(change.at)
        rows = self.holdings(change.usage_point)
        row = _covering(rows, at)
        if row is None:
            raise ChangeRefused(
                "NOT_HELD", f"usage point {change.usage_point} has no holder then{_stretches(rows)}"
            )
        ended = [] if row.valid_from == at else [self._ended(row, at)]
        self._holdings[change.usage_point] = in_order([*(r for r in rows if r is not row), *ended])

    def _rename(self, change: Name) -> None:
        kind, number, account = change.kind, change.number, change.account_id
        rows = self.namings(account)
        old = next((r for r in rows if r.kind is kind and r.valid_to is None), None)
        if (old.number if old else None) == number:
            return
        _check_names(account)
        kept = [r for r in rows if r is not old]
        if old is not None:
            # A number that was given and taken within one instant leaves no trace but the superseded row.
            if old.valid_from < self.change.at:
                kept.append(self._ended(old, self.change.at))
            # Two accounts may have the number while the set is worked out (a swap): `finish` looks again.
            self._owners[kind][old.number] = tuple(o for o in self.owners(kind, old.number) if o != account)
        if number is not None:
            _check_number(kind, number)
            since = self.change.at
            kept.append(Naming(account, kind, number, since, None, self.change, None, change.row))
            self._owners[kind][number] = (*self.owners(kind, number), account)
        self._namings[account] = in_order(kept)

    def _correct_installations(self, change: CorrectInstallations) -> None:
        new = [
            Installation(
                change.meter,
                s.usage_point,
                s.role,
                s.multiplier,
                _utc(s.valid_from),
                None if s.valid_to is None else _utc(s.valid_to),
                self.change,
                None,
                change.row,
            )
            for s in change.spans
        ]
        for row in new:
            self._check_installation(row)
        _refuse_overlap(new)
        self._put_installations(change.meter, new)

    def _correct_holdings(self, change: CorrectHoldings) -> None:
        new = [
            Holding(
                change.usage_point,
                s.account_id,
                s.payment_mode,
                _utc(s.valid_from),
                None if s.valid_to is None else _utc(s.valid_to),
                self.change,
                None,
                change.row,
            )
            for s in change.spans
        ]
        for row in new:
            _check_names(row.usage_point, row.account_id)
        _refuse_overlap(new)
        self._holdings[change.usage_point] = in_order(new)

    # --- the whole --------------------------------------------------------------------------------

    def finish(self) -> Difference:
        """Check what only the whole can show, and return the rows; ChangeRefused otherwise."""
        for kind, index in self._owners.items():
            for number, owners in index.items():
                if len(owners) > 1:
                    raise ChangeRefused(
                        "NUMBER_TAKEN",
                        f"{kind} {number} would name {len(owners)} accounts ({', '.join(owners[:3])}): "
                        "take it from the others in the same change set, or give another",
                    )
        # Two crossed meters are corrected one after the other, and in between both stand at one usage point:
        # only the whole set can be judged.
        fresh = [
            row
            for rows in self._installations.values()
            for row in rows
            if row.role is Role.CONSUMER and row.recorded is self.change
        ]
        for some in in_batches(fresh):
            self.base.rows.expect(usage_points=[row.usage_point for row in some])
            for row in some:
                self._refuse_occupied(row)
        difference, rows = Difference([], []), self.base.rows
        for fitted in in_batches(self._installations.items()):
            rows.expect(meters=[meter for meter, _ in fitted])
            for meter, installations in fitted:
                _differ(self.base.installations(meter), installations, difference)
        for held in in_batches(self._holdings.items()):
            rows.expect(usage_points=[point for point, _ in held])
            for point, holdings in held:
                _differ(self.base.holdings(point), holdings, difference)
        for named in in_batches(self._namings.items()):
            rows.expect(accounts=[account for account, _ in named])
            for account, namings in named:
                _differ(self.base.namings(account), namings, difference)
        return difference

    def _put_installations(self, meter: str, rows: Iterable[Installation]) -> None:
        self._installations[meter] = in_order(rows)
        for row in self._installations[meter]:
            have = self._new_meters_at.get(row.usage_point, ())
            if meter not in have:
                self._new_meters_at[row.usage_point] = (*have, meter)

    def _ended(self, row: RowT, at: datetime) -> RowT:
        return row._replace(valid_to=at, recorded=self.change)

    def _check_installation(self, row: Installation) -> None:
        _check_names(row.usage_point)
        if not is_canonical_meter(row.meter):
            raise ChangeRefused("METER_FORMAT", f"{row.meter[:64]!r} is not a meter: write MAKE:SERIAL")
        if not (row.multiplier.is_finite() and row.multiplier > 0):
            raise ChangeRefused("MULTIPLIER", f"{row.multiplier} is no multiplier: give a number above 0")

    def _refuse_occupied(self, new: Installation) -> None:
        point = new.usage_point
        for meter in {*self.base.meters_at(point), *self._new_meters_at.get(point, ())} - {new.meter}:
            for row in self.installations(meter):
                if (
                    row.usage_point == point
                    and row.role is Role.CONSUMER
                    and row.valid_from < (new.valid_to or FOREVER)
                    and new.valid_from < (row.valid_to or FOREVER)
                ):
                    raise ChangeRefused(
                        "USAGE_POINT_OCCUPIED",
                        f"usage point {point} has the consumer's meter {meter} then: remove it first",
                    )


def _differ(old: tuple[RowT, ...], new: tuple[RowT, ...], into: Difference) -> None:
    """Add to `into` what is learned anew and what no longer holds; rows that say the same as before stay.

    A correction states a whole history, of which most is as it was: recorded again, every such row would be a
    change of attribution to billing.
    """
    had = {_statement(r): r for r in old}
    stay = set()
    for row in new:
        statement = _statement(row)
        if statement in had:
            stay.add(statement)
        else:
            into.new.append(row)
    into.gone.extend(r for statement, r in had.items() if statement not in stay)


def _statement(row: DirectoryRow) -> tuple[object, ...]:
    """Return what a row says, without who recorded or superseded it and from which line of a file."""
    return row[:-3]


def _stretches(rows: Sequence[Installation] | Sequence[Holding]) -> str:
    """Say when it is otherwise; the last few stretches are enough to find the right date."""
    if not rows:
        return ", and never was"
    said = [
        f"{r.valid_from:%Y-%m-%d %H:%M} to {'now' if r.valid_to is None else format(r.valid_to, '%Y-%m-%d %H:%M')}"
        for r in rows[-3:]
    ]
    return f", but from {', '.join(said)} (UTC): give a time within"


def _covering(rows: Iterable[RowT], at: datetime) -> RowT | None:
    return next((r for r in rows if r.valid_from <= at < (r.valid_to or FOREVER)), None)


def _refuse_overlap(rows: Sequence[Installation | Holding]) -> None:
    ordered = sorted(rows, key=lambda r: r.valid_from)
    for row in ordered:
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            raise ChangeRefused("SPAN", f"a span ends ({row.valid_to}) before it starts ({row.valid_from})")
    for earlier, later in pairwise(ordered):
        if earlier.valid_to is None or earlier.valid_to > later.valid_from:
            raise ChangeRefused("OVERLAP", f"two spans overlap at {later.valid_from}: end the one before it")


def _check_names(*names: str) -> None:
    for name in names:
        if not name or len(name) > MAX_NAME or name != name.strip() or not name.isprintable():
            raise ChangeRefused("NAME", f"{name[:64]!r} is no name: 1 to {MAX_NAME} printable characters")


def _check_number(kind: NumberKind, number: str) -> None:
    try:
        AccountNumber(number) if kind is NumberKind.ACCOUNT else LegacyNumber(number)
    except NumberRefused as error:
        raise ChangeRefused(error.code, str(error)) from error


def _utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ChangeRefused("TIME", f"{at} has no zone: write +05:30 or Z behind it")
    if at < EARLIEST:
        raise ChangeRefused("TIME", f"{at} is before any meter was made")
    return at.astimezone(UTC)
