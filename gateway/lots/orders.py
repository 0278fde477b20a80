"""What a person may tell a lot, from another program as well: pause, resume, cancel, try the failed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from gateway.errors import UsageError
from gateway.lots.core import Facts, Item, ItemState, Lot, LotState
from gateway.lots.store import LotStore

Keeps = Callable[[Facts], Facts]
"""Says what is left of a meter's kept facts when it is tried again."""


def _all(kept: Facts) -> Facts:
    return kept


class Order(Protocol):
    """What tells a lot something: `pause`, `resume`, `cancel`."""

    def __call__(self, store: LotStore, /, *, at: datetime, by: str) -> Lot:
        """Return the lot as it stands then; UsageError when it cannot be told so now."""


def pause(store: LotStore, *, at: datetime, by: str) -> Lot:
    """Let no further visit begin; those that go on end at their next step. UsageError when the lot does not run."""
    lot = replace(store.lot(), state=LotState.PAUSED, reason=f"paused by {by}")
    return _decided(store, lot, at, by, "paused", LotState.READY)


def resume(store: LotStore, *, at: datetime, by: str) -> Lot:
    """Let a paused or stopped lot go on: failures that are there stop it no second time. UsageError otherwise."""
    return _decided(store, store.core().resumed(), at, by, "resumed", LotState.PAUSED, LotState.STOPPED)


def cancel(store: LotStore, *, at: datetime, by: str) -> Lot:
    """End the lot for good: meters that no visit is with are cancelled. UsageError when it ended already."""
    lot = replace(store.lot(), state=LotState.CANCELLED, reason=f"cancelled by {by}")
    lot = _decided(store, lot, at, by, "cancelled", LotState.READY, LotState.PAUSED, LotState.STOPPED)
    if not store.in_use():  # visits of a program that died end here
        left = [item for item in store.items() if item.state is ItemState.VISITED]
        store.put(*(replace(item, state=ItemState.CANCELLED, ended=at) for item in left))
    return lot


def retry(
    store: LotStore, *, at: datetime, by: str, meter: str | None = None, keeps: Keeps = _all
) -> list[Item]:
    """Let the meters that failed (or one of them) be visited again; return them.

    `keeps` says what is left of the facts that their visits kept. UsageError when none failed, when the lot was
    cancelled, or while a program runs it.
    """
    with store.owned():
        failed = [
            replace(item, state=ItemState.BEGUN, tries=0, reason="", ended=None, not_before=None)
            for item in store.items()
            if item.state is ItemState.FAILED and meter in (None, item.meter)
        ]
        if not failed:
            raise UsageError("no meter of the lot failed" if meter is None else f"{meter} did not fail")
        lot = store.core().resumed()
        what = f"{len(failed)} failed meters again"
        _decided(store, lot, at, by, what, *set(LotState) - {LotState.CANCELLED})
        for item in failed:
            store.keep(item.position, keeps(item.kept))
        store.put(*failed)
    return failed


def _decided(store: LotStore, lot: Lot, at: datetime, by: str, what: str, *only_from: LotState) -> Lot:
    if not store.decide(lot, at=at, by=by, what=what, only_from=only_from):
        raise UsageError(f"the lot is {store.lot().state}: it cannot be changed so")
    return lot
