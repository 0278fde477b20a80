"""Corrections as people say them, made into histories stated anew: a date was another, a period was another's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from mapping.attribution import FOREVER
from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    InstallationSpan,
)
from mapping.directory import Holding, Installation
from mapping.errors import ChangeRefused
from mapping.snapshot import DirectorySnapshot

SpanT = TypeVar("SpanT", InstallationSpan, HoldingSpan)


def chosen_installations(
    snapshot: DirectorySnapshot, meter: str, spans: Sequence[InstallationSpan]
) -> list[Change]:
    """Return the change after which a meter was where `spans` say; what they leave open stays as it is."""
    kept = _beside((_fitted(row) for row in snapshot.installations(meter)), spans)
    return [CorrectInstallations(meter, (*kept, *spans))]


def chosen_holdings(
    snapshot: DirectorySnapshot, usage_point: str, spans: Sequence[HoldingSpan]
) -> list[Change]:
    """Return the change after which a usage point was held as `spans` say; what they leave open stays as it is."""
    kept = _beside((_held(row) for row in snapshot.holdings(usage_point)), spans)
    return [CorrectHoldings(usage_point, (*kept, *spans))]


def moved_date(
    snapshot: DirectorySnapshot, usage_point: str, *, was: datetime, now: datetime
) -> list[Change]:
    """Return the changes after which all that is recorded at a usage point for one instant was at another.

    Meters fitted or taken away then, and holders that moved in or out. Raises ChangeRefused: NO_SUCH_DATE where
    nothing is recorded for it, with the dates that there are.
    """
    found: list[Change] = []
    dates: set[datetime] = set()
    for meter in snapshot.meters_at(usage_point):
        rows = snapshot.installations(meter)
        here = [row for row in rows if row.usage_point == usage_point]
        dates |= _dates(here)
        if was in _dates(here):
            found.append(CorrectInstallations(meter, tuple(_moved(map(_fitted, rows), was, now))))
    held = snapshot.holdings(usage_point)
    dates |= _dates(held)
    if was in _dates(held):
        found.append(CorrectHoldings(usage_point, tuple(_moved(map(_held, held), was, now))))
    if not found:
        known = ", ".join(f"{at:%Y-%m-%d %H:%M}" for at in sorted(dates)[-5:]) or "none at all"
        raise ChangeRefused(
            "NO_SUCH_DATE",
            f"nothing is recorded at usage point {usage_point} for {was:%Y-%m-%d %H:%M} UTC; there is {known}",
        )
    return found


def _fitted(row: Installation) -> InstallationSpan:
    return InstallationSpan(row.usage_point, row.role, row.valid_from, row.valid_to, row.multiplier)


def _held(row: Holding) -> HoldingSpan:
    return HoldingSpan(row.account_id, row.valid_from, row.valid_to, row.payment_mode)


def _dates(rows: Iterable[Installation] | Iterable[Holding]) -> set[datetime]:
    return {at for row in rows for at in (row.valid_from, row.valid_to) if at is not None}


def _moved(spans: Iterable[SpanT], was: datetime, now: datetime) -> list[SpanT]:
    return [
        replace(
            span,
            valid_from=now if span.valid_from == was else span.valid_from,
            valid_to=now if span.valid_to == was else span.valid_to,
        )
        for span in spans
    ]


def _beside(spans: Iterable[SpanT], others: Sequence[SpanT]) -> list[SpanT]:
    """Return what of some spans lies beside all of the others."""
    left = list(spans)
    for other in others:
        end = other.valid_to or FOREVER
        cut: list[SpanT] = []
        for span in left:
            if max(span.valid_from, other.valid_from) >= min(span.valid_to or FOREVER, end):
                cut.append(span)
                continue
            if span.valid_from < other.valid_from:
                cut.append(replace(span, valid_to=other.valid_from))
            if end < (span.valid_to or FOREVER):
                cut.append(replace(span, valid_from=end))
        left = cut
    return left
