"""Plans that are applied later: approved today, due at an instant, judged again where the directory moved on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mapping.errors import ChangeRefused, FileRefused, MappingError
from mapping.instants import micros
from mapping.rekey import apply_rekey, check_approval
from mapping.rekey_plan import RekeyPlan, find_plan, kept_plans, open_plan
from mapping.rekey_questions import asked_again, batches
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePlan:
    """What became of a plan whose time had come: the directory version, or None and the reason."""

    fingerprint: str
    name: str
    version: int | None
    reason: str


def schedule(plan: RekeyPlan, *, at: datetime, by: str, approver: str | None) -> None:
    """Keep when a reviewed plan is to be applied, by whom, and who approved it; FileRefused as `apply_rekey`."""
    check_approval(plan, by=by, approver=approver)
    plan.note("due_by", by)
    plan.note("due_approver", approver or "")
    plan.note("due", str(micros(at)))


def apply_due(store: DirectoryStore, folder: Path, *, at: datetime, sure: bool = False) -> list[DuePlan]:
    """Apply the scheduled plans whose time has come, the earliest first, each in a change set of its own.

    Where the directory moved on since the review, a plan is applied if the directory says of each of its rows what it
    said then. One that cannot be applied stays scheduled, and is tried and told again each time.
    """
    due: list[tuple[datetime, str]] = []
    damaged: list[DuePlan] = []
    for path in kept_plans(folder):
        try:
            # Central does this each minute: whole plans of a city are gone through only where they wait.
            with open_plan(path, whole=False) as plan:
                when = plan.waits_until
                if when is not None:
                    plan.check()
                    if when <= at:
                        due.append((when, path.stem))
        except FileRefused as error:
            damaged.append(DuePlan(fingerprint=path.stem, name="", version=None, reason=str(error)))
    return damaged + [_applied(store, folder, one, at=at, sure=sure) for _, one in sorted(due)]


def _applied(store: DirectoryStore, folder: Path, fingerprint: str, *, at: datetime, sure: bool) -> DuePlan:
    name = ""
    try:
        with find_plan(folder, fingerprint) as plan:
            name = plan.name
            snapshot = store.snapshot()
            if snapshot.version != plan.version:
                _refuse_otherwise(snapshot, plan)
            version = apply_rekey(
                store,
                plan,
                by=plan.noted("due_by") or "",
                approver=plan.noted("due_approver") or None,
                at=at,
                sure=sure,
                judged_on=snapshot.version,
            )
    except MappingError as error:
        return DuePlan(fingerprint=fingerprint, name=name, version=None, reason=str(error))
    return DuePlan(fingerprint=fingerprint, name=name, version=version, reason="")


def _refuse_otherwise(snapshot: DirectorySnapshot, plan: RekeyPlan) -> None:
    for batch in batches(plan.iterate()):
        done = [row for row in batch if row.verdict in ("applied", "repaired")]
        for was, row in zip(done, asked_again(snapshot, done), strict=True):
            if row != was or row.relation:
                raise ChangeRefused(
                    "STALE_PLAN",
                    f"the directory moved on to version {snapshot.version}, and line {row.line} would end otherwise "
                    "than it was reviewed: plan again",
                )
