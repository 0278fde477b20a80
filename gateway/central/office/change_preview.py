"""What a change set would do: whose energy changes hands and when, and which of its changes are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.moved_energy import ENERGY_OF, Balance, TouchedSpan, in_kwh, touched_spans
from gateway.central.office.change_documents import MAX_FAULTS, changes_by_place
from gateway.central.office.change_errors import ChangesRefused, Fault
from mapping.changes import Change
from mapping.differences import naming_changes, touched
from mapping.directory import ChangeSet, Holder, NamingChange
from mapping.draft import Draft
from mapping.errors import ChangeRefused
from mapping.kinds import AnyForm
from mapping.snapshot import DirectorySnapshot
from mapping.standing import Standing, count_touched

MAX_TOLD: Final = 100
"""Spans and names that one document lists; it counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change set would do to the directory of `version`; `fingerprint` names exactly this.

    `meters` and `accounts` are counted as the commands count them (`mapping.standing.count_touched`). `balance` is
    None where nobody asked for the energy.
    """

    version: int
    fingerprint: str
    changes: int
    new: bool
    spans: tuple[TouchedSpan, ...]
    names: tuple[NamingChange, ...]
    meters: int
    accounts: int
    needs_approval: bool
    balance: Balance | None = None

    @staticmethod
    def kwh(amount: Decimal) -> str:
        """Return kWh as a page writes them."""
        return in_kwh(amount)

    def document(self) -> dict[str, Any]:
        """Return it as JSON: at most 100 spans and names, and how many were left out."""
        spans, names = self.spans[:MAX_TOLD], self.names[: max(0, MAX_TOLD - len(self.spans))]
        told: dict[str, Any] = {
            "directory_version": self.version,
            "fingerprint": self.fingerprint,
            "would_change": self.new,
            "needs_approval": self.needs_approval,
            "counts": {
                "changes": self.changes,
                "meters": self.meters,
                "accounts": self.accounts,
                "spans": len(self.spans),
                "names": len(self.names),
            },
            "spans": [_span(one) for one in spans],
            "names": [
                {"account_id": one.account_id, "kind": one.kind.value, "old": one.old, "new": one.new}
                for one in names
            ],
            "left_out": len(self.spans) + len(self.names) - len(spans) - len(names),
        }
        if self.balance is not None:
            told["energy"] = {
                "unit": "kWh",
                "moved": in_kwh(self.balance.moved),
                "net": in_kwh(self.balance.net),
                "by_multiplier": in_kwh(self.balance.by_multiplier),
                "unknown_spans": self.balance.unknown,
            }
        return told


def _span(span: TouchedSpan) -> dict[str, Any]:
    return {
        "meter": span.meter,
        "since": span.start.isoformat(),
        "until": None if span.end is None else span.end.isoformat(),
        "old": _told(span.old, span.lost),
        "new": _told(span.new, span.gained),
    }


def _told(standing: Standing, kwh: Decimal | None) -> dict[str, str]:
    who = standing.who
    if not isinstance(who, Holder):
        return {"reason": who.value}
    told = {
        "account_id": who.account_id,
        "usage_point": who.usage_point,
        "multiplier": f"{standing.multiplier:f}",
    }
    if standing.payment_mode is not None:
        told["payment_mode"] = standing.payment_mode.value
    return told if kwh is None else told | {"kwh": in_kwh(kwh)}


def preview_of(
    after: DirectorySnapshot,
    old: int,
    *,
    fingerprint: str,
    changes: int,
    approve_above: int,
    ledger: Ledger | None,
    now: datetime,
) -> Preview:
    """Return what leads from version `old` to that of `after`; with a ledger how much energy it moves up to `now`."""
    new = after.version
    meters, accounts = count_touched(after, old, new)
    spans = tuple(touched_spans(after, old, new, ledger, now=now, energy_of=ENERGY_OF))
    balance = None if ledger is None else Balance({})
    if balance is not None:
        for span in spans:
            balance.add(span)
    return Preview(
        version=old,
        fingerprint=fingerprint,
        changes=changes,
        new=new != old,
        spans=spans,
        names=tuple(naming_changes(after, touched(after, old, new)[1], old, new)),
        meters=meters,
        accounts=accounts,
        needs_approval=max(meters, accounts) > approve_above,
        balance=balance,
    )


def placed(forms: Sequence[AnyForm], base: DirectorySnapshot, at: datetime) -> list[tuple[int, Change]]:
    """Return the changes that forms stand for, each with its form's place from 0.

    Raises ChangesRefused with every form that names what is not there, and every one that the directory refuses.
    """
    found, faults = changes_by_place(forms, base)
    if faults:
        both = [*faults, *refusals(base, found, at)]
        raise ChangesRefused(sorted(both, key=lambda one: one.place or 0)[:MAX_FAULTS])
    return found


def refusals(base: DirectorySnapshot, changes: Sequence[tuple[int, Change]], at: datetime) -> list[Fault]:
    """Return every change that is refused by itself, with its place; at most 20."""
    draft = Draft(base, ChangeSet(version=base.version + 1, at=at, by="-", source="-"))
    draft.expect([change for _, change in changes])
    found: dict[int, Fault] = {}
    for place, change in changes:
        try:
            draft.apply(change)
        except ChangeRefused as error:
            found.setdefault(place, Fault(place, error.code, str(error)))
            if len(found) >= MAX_FAULTS:
                break
    return list(found.values())
