"""A change set being worked out on top of a snapshot: checked, then the rows to supersede and to add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mapping import draft_holdings, draft_installations
from mapping.account import AccountNumber, LegacyNumber
from mapping.changes import (
    Change,
    CorrectAttributes,
    CorrectHoldings,
    CorrectInstallations,
    CrossHoldings,
    CrossMeters,
    Install,
    MoveIn,
    MoveOut,
    Name,
    Remove,
    Replace,
    SetAttributes,
    SetMultiplier,
    SetPaymentMode,
)
from mapping.directory import DirectoryRow, Naming, NumberKind, Role, RowT
from mapping.draft_state import DraftState, check_names
from mapping.errors import ChangeRefused, NumberRefused
from mapping.rows import in_batches
from mapping.snapshot_json import in_order


class Difference(NamedTuple):
    """What a change set does to the rows: `gone` lose their currency, `new` are recorded."""

    gone: list[DirectoryRow]
    new: list[DirectoryRow]


class Draft(DraftState):
    """Applies changes one by one, refusing what contradicts the directory; `finish` checks the whole.

    A refused change leaves the draft as it was, so a caller may go on with the next.
    """

    def expect(self, changes: Iterable[Change]) -> None:
        """Let the rows that these changes will look at be fetched together."""
        meters: list[str] = []
        points: list[str] = []
        names: list[Name] = []
        described: list[str] = []
        for change in changes:
            match change:
                case Name():
                    names.append(change)
                case Install():
                    meters.append(change.meter)
                    points.append(change.usage_point)
                case Remove() | SetMultiplier():
                    meters.append(change.meter)
                case Replace():
                    meters += [change.old, change.new]
                    points += [] if change.usage_point is None else [change.usage_point]
                case CrossMeters():
                    meters += change.meters
                case CorrectInstallations():
                    meters.append(change.meter)
                    points += [span.usage_point for span in change.spans]
                case CrossHoldings():
                    points += change.usage_points
                case MoveIn() | MoveOut() | SetPaymentMode() | CorrectHoldings():
                    points.append(change.usage_point)
                case SetAttributes() | CorrectAttributes():
                    described.append(change.usage_point)
        numbers = [(one.kind, one.number) for one in names if one.number is not None]
        self.base.rows.expect(
            meters=meters,
            usage_points=points,
            accounts=[one.account_id for one in names],
            numbers=numbers,
            described=described,
        )
        # Who has the number that an account gives up is asked, too: one by one it takes minutes for an undone re-key.
        given_up = [(one.kind, has) for one in names if (has := self.name(one.account_id, one.kind))]
        self.base.rows.expect(numbers=given_up)

    def apply(self, change: Change) -> None:
        """Apply one change; ChangeRefused says why not."""
        match change:
            case Name():
                self._rename(change)
            case Install():
                draft_installations.install(self, change)
            case Remove():
                draft_installations.remove(self, change)
            case Replace():
                draft_installations.replace(self, change)
            case SetMultiplier():
                draft_installations.set_multiplier(self, change)
            case CorrectInstallations():
                draft_installations.correct(self, change)
            case CrossMeters():
                draft_installations.cross(self, change)
            case MoveIn():
                draft_holdings.move_in(self, change)
            case MoveOut():
                draft_holdings.move_out(self, change)
            case SetPaymentMode():
                draft_holdings.set_payment_mode(self, change)
            case CorrectHoldings():
                draft_holdings.correct(self, change)
            case CrossHoldings():
                draft_holdings.cross(self, change)
            case SetAttributes():
                draft_holdings.set_attributes(self, change)
            case CorrectAttributes():
                draft_holdings.correct_attributes(self, change)

    def _rename(self, change: Name) -> None:
        kind, number, account = change.kind, change.number, change.account_id
        rows = self.namings(account)
        old = next((r for r in rows if r.kind is kind and r.valid_to is None), None)
        if (old.number if old else None) == number:
            return
        check_names(account)
        kept = [r for r in rows if r is not old]
        index = self.touched_owners[kind]
        if number is not None:
            _check_number(kind, number)
        if old is not None:
            # A number that was given and taken within one instant leaves no trace but the superseded row.
            if old.valid_from < self.change.at:
                kept.append(self.ended(old, self.change.at))
            # Two accounts may have the number while the set is worked out (a swap): `finish` looks again.
            index[old.number] = tuple(o for o in self.owners(kind, old.number) if o != account)
        if number is not None:
            since = self.change.at
            kept.append(Naming(account, kind, number, since, None, self.change, None, change.row))
            index[number] = (*self.owners(kind, number), account)
        self.touched_namings[account] = in_order(kept)

    # --- the whole --------------------------------------------------------------------------------

    def finish(self) -> Difference:
        """Check what only the whole can show, and return the rows; ChangeRefused otherwise."""
        for kind, index in self.touched_owners.items():
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
            for rows in self.touched_installations.values()
            for row in rows
            if row.role is Role.CONSUMER and row.recorded is self.change
        ]
        for some in in_batches(fresh):
            self.base.rows.expect(usage_points=[row.usage_point for row in some])
            for row in some:
                draft_installations.refuse_occupied(self, row)
        difference, rows, base = Difference([], []), self.base.rows, self.base
        for fitted in in_batches(self.touched_installations.items()):
            rows.expect(meters=[meter for meter, _ in fitted])
            for meter, installations in fitted:
                _differ(base.installations(meter), installations, difference)
        for held in in_batches(self.touched_holdings.items()):
            rows.expect(usage_points=[point for point, _ in held])
            for point, holdings in held:
                _differ(base.holdings(point), holdings, difference)
        for named in in_batches(self.touched_namings.items()):
            rows.expect(accounts=[account for account, _ in named])
            for account, namings in named:
                _differ(base.namings(account), namings, difference)
        for kept in in_batches(self.touched_attributes.items()):
            rows.expect(described=[point for point, _ in kept])
            for point, attributes in kept:
                _differ(base.attributes(point), attributes, difference)
        return difference


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


def _check_number(kind: NumberKind, number: str) -> None:
    try:
        AccountNumber(number) if kind is NumberKind.ACCOUNT else LegacyNumber(number)
    except NumberRefused as error:
        raise ChangeRefused(error.code, str(error)) from error
