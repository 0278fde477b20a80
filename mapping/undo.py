"""Undoing a change set by a later one: what it changed is stated again as it was before it.

Nothing known is lost: what was believed in between can still be asked for, and both change sets have their actor.
"""

from __future__ import annotations

from collections.abc import Iterable

from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    InstallationSpan,
    Name,
)
from mapping.directory import Naming, NumberKind, RowT
from mapping.errors import ChangeRefused
from mapping.rows import in_batches, is_visible
from mapping.snapshot import DirectorySnapshot


def undo(snapshot: DirectorySnapshot, version: int) -> list[Change]:
    """Return the changes that undo change set `version`.

    Raises ChangeRefused: VERSION where there is no such change set, LATER_CHANGE where a later one left the same
    meter, usage point or account otherwise; that one must be undone first, or the history be corrected.
    """
    if not 1 <= version <= snapshot.version:
        raise ChangeRefused("VERSION", f"there is no change set {version}; the last is {snapshot.version}")
    rows, touched = snapshot.rows, snapshot.touched(version - 1, version)
    changes: list[Change] = []
    for meters in in_batches(touched.meters):
        rows.expect(meters=meters)
        for meter in meters:
            fitted = rows.installations(meter)
            _refuse_changed_again(fitted, version, f"meter {meter}")
            stays = tuple(
                InstallationSpan(r.usage_point, r.role, r.valid_from, r.valid_to, r.multiplier)
                for r in fitted
                if is_visible(r, version - 1)
            )
            changes.append(CorrectInstallations(meter, stays))
    for points in in_batches(touched.usage_points):
        rows.expect(usage_points=points)
        for point in points:
            held = rows.holdings(point)
            _refuse_changed_again(held, version, f"usage point {point}")
            spans = tuple(
                HoldingSpan(r.account_id, r.valid_from, r.valid_to, r.payment_mode)
                for r in held
                if is_visible(r, version - 1)
            )
            changes.append(CorrectHoldings(point, spans))
    for accounts in in_batches(touched.accounts):
        rows.expect(accounts=accounts)
        for account in accounts:
            _refuse_changed_again(rows.namings(account), version, f"account {account}")
            changes += [Name(account, kind, snapshot.name(account, kind, version - 1)) for kind in NumberKind]
    return changes


def _refuse_changed_again(rows: Iterable[RowT], version: int, what: str) -> None:
    """Raise ChangeRefused where what a change set said of these rows is otherwise now."""
    last = max(
        {row.recorded.version for row in rows}
        | {row.superseded.version for row in rows if row.superseded is not None}
    )
    if _said(rows, version) != _said(rows, last):
        raise ChangeRefused("LATER_CHANGE", f"change set {last} changed {what} again: undo that one first")


def _said(rows: Iterable[RowT], version: int) -> set[tuple[object, ...]]:
    """Return what was said in a version, without who said it. Of names only the present ones count."""
    visible = [row for row in rows if is_visible(row, version)]
    return {
        (row.kind, row.number) if isinstance(row, Naming) else row[:-3]
        for row in visible
        if not (isinstance(row, Naming) and row.valid_to is not None)
    }
