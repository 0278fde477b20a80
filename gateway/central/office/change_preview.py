"""What a change set would do: whose energy changes hands and when, and which of its changes are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.central.office.change_documents import MAX_FAULTS, changes_by_place
from gateway.central.office.change_errors import ChangesRefused, Fault
from mapping.changes import Change
from mapping.directory import AttributionSpan, ChangeSet, Holder, NamingChange, Unattributed
from mapping.draft import Draft
from mapping.errors import ChangeRefused
from mapping.kinds import AnyForm
from mapping.snapshot import DirectorySnapshot

MAX_TOLD: Final = 100
"""Spans and names that one document lists; it counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change set would do to the directory of `version`; `fingerprint` names exactly this."""

    version: int
    fingerprint: str
    changes: int
    new: bool
    spans: tuple[AttributionSpan, ...]
    names: tuple[NamingChange, ...]
    needs_approval: bool

    @property
    def meters(self) -> int:
        """Count the meters that change hands for some time."""
        return len({span.meter for span in self.spans})

    @property
    def accounts(self) -> int:
        """Count the accounts that gain or lose energy, or change a number."""
        held = {getattr(who, "account_id", None) for span in self.spans for who in (span.old, span.new)}
        return len((held | {name.account_id for name in self.names}) - {None})

    def document(self) -> dict[str, Any]:
        """Return it as JSON: at most 100 spans and names, and how many were left out."""
        spans, names = self.spans[:MAX_TOLD], self.names[: max(0, MAX_TOLD - len(self.spans))]
        return {
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


def _span(span: AttributionSpan) -> dict[str, Any]:
    return {
        "meter": span.meter,
        "since": span.start.isoformat(),
        "until": None if span.end is None else span.end.isoformat(),
        "old": _told(span.old),
        "new": _told(span.new),
    }


def _told(who: Holder | Unattributed) -> dict[str, str]:
    if isinstance(who, Holder):
        return {"account_id": who.account_id, "usage_point": who.usage_point}
    return {"reason": who.value}


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
