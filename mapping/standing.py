"""What holds of a meter's energy over time, and where two directory versions say otherwise of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from mapping.attribution import FOREVER, why_nobody
from mapping.differences import touched
from mapping.directory import Holder, Holding, PaymentMode, Role, Unattributed
from mapping.rows import is_visible
from mapping.snapshot import DirectorySnapshot


class Standing(NamedTuple):
    """What holds of a meter's energy: whose it is (or why nobody's), how much it counts, how it is paid."""

    who: Holder | Unattributed
    multiplier: Decimal
    payment_mode: PaymentMode | None


class StandingSpan(NamedTuple):
    """From `start` to `end` (None: open) a meter's energy stands as `new`, and stood as `old`."""

    start: datetime
    end: datetime | None
    old: Standing
    new: Standing


def count_touched(snapshot: DirectorySnapshot, old: int, new: int) -> tuple[int, int]:
    """Return how many meters and accounts a change touches: renamed, of another holder, counted or paid otherwise."""
    meters, renamed = touched(snapshot, old, new)
    accounts = set(renamed)
    for meter in snapshot.each(meters):
        for span in standing_spans(snapshot, meter, old, new):
            accounts |= {one.who.account_id for one in span[2:] if isinstance(one.who, Holder)}
    return len(meters), len(accounts)


def standing_spans(snapshot: DirectorySnapshot, meter: str, old: int, new: int) -> Iterator[StandingSpan]:
    """Yield where the two versions differ; pieces of one difference that touch are one."""
    lines = [_Line(snapshot, meter, version) for version in (old, new)]
    edges = sorted({at for line in lines for at in line.edges})
    pending: StandingSpan | None = None
    for number, start in enumerate(edges):
        end = edges[number + 1] if number + 1 < len(edges) else None
        was, becomes = (line.at(start) for line in lines)
        if was == becomes or (isinstance(was.who, Unattributed) and isinstance(becomes.who, Unattributed)):
            continue
        if pending is not None and pending[1:] == (start, was, becomes):
            pending = pending._replace(end=end)
            continue
        if pending is not None:
            yield pending
        pending = StandingSpan(start, end, was, becomes)
    if pending is not None:
        yield pending


class _Line:
    """One meter in one version of the directory."""

    def __init__(self, snapshot: DirectorySnapshot, meter: str, version: int) -> None:
        rows = snapshot.rows
        self._fitted = [r for r in rows.installations(meter) if is_visible(r, version)]
        self._held: dict[str, list[Holding]] = {
            r.usage_point: [h for h in rows.holdings(r.usage_point) if is_visible(h, version)]
            for r in self._fitted
        }
        self.edges = {t for r in self._fitted for t in (r.valid_from, r.valid_to) if t is not None}
        for held in self._held.values():
            self.edges |= {t for h in held for t in (h.valid_from, h.valid_to) if t is not None}

    def at(self, at: datetime) -> Standing:
        row = next((r for r in self._fitted if r.valid_from <= at < (r.valid_to or FOREVER)), None)
        held = next(
            (
                h
                for h in (
                    self._held[row.usage_point] if row is not None and row.role is Role.CONSUMER else ()
                )
                if h.valid_from <= at < (h.valid_to or FOREVER)
            ),
            None,
        )
        factor = Decimal(1) if row is None else row.multiplier
        if held is None:
            return Standing(why_nobody(self._fitted, self._held, at), factor, None)
        return Standing(Holder(held.account_id, held.usage_point), factor, held.payment_mode)
