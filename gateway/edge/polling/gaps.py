"""Gaps: spans that a meter's memory should cover and does not; opened, then filled or given up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from gateway.contract.messages import Gap
from gateway.edge.journal.entry import GapRecord, GapState
from gateway.edge.stamping.stamp import gap_record

OPEN, FILLED, UNFILLABLE = "open", "filled", "unfillable"
NOT_IN_METER = "not_in_meter"
PATIENCE = timedelta(hours=24)
"""How long after the gap's end rows may come late; then it is declared unfillable, once read again in vain."""
RETRY = timedelta(hours=1)
"""Time from noticing to the first new try; the time between tries doubles."""
DEFAULT_BLOCK = timedelta(minutes=30)
"""IS 15959 block load capture period until a row has shown the meter's own."""

Span = tuple[datetime, datetime]


class Coverage:
    """Follows the intervals of one meter, oldest first, and finds what they leave out.

    `upto` is the end of what is covered or known to be missing, None before the first row: what the meter
    held before its first row is not a gap.
    """

    def __init__(self, upto: datetime | None) -> None:
        self.upto = upto
        self.period = DEFAULT_BLOCK
        self.missing: list[Span] = []

    def row(self, start: datetime, end: datetime) -> None:
        """Take one interval; a repeated or older one changes nothing."""
        if end - start <= timedelta(days=1):
            self.period = end - start
        if self.upto is not None and start > self.upto:
            self.missing.append((self.upto, start))
        if self.upto is None or end > self.upto:
            self.upto = end

    def settled(self, until: datetime) -> None:
        """Note that nothing came up to `until`, long ago: whole periods without a row are missing."""
        if self.upto is None:
            return
        periods = (until - self.upto) // self.period
        if periods > 0:
            end = self.upto + periods * self.period
            self.missing.append((self.upto, end))
            self.upto = end

    def take(self) -> list[Span]:
        """Return and forget the spans found since the last call."""
        found, self.missing = self.missing, []
        return found


def opened(meter: str, profile: str, spans: Iterable[Span], *, noticed_at: datetime) -> tuple[GapRecord, ...]:
    """Return the records that open these gaps."""
    return tuple(
        gap_record(meter, profile, after, until, state=OPEN, reason=NOT_IN_METER, noticed_at=noticed_at)
        for after, until in spans
    )


def covers(rows: Iterable[Span], gap: GapState) -> bool:
    """Say whether the intervals, in any order, leave nothing of the gap out."""
    reached = gap.after
    for start, end in sorted(rows):
        if start > reached:
            break
        reached = max(reached, end)
    return reached >= gap.until


def closed(gap: GapState, state: str) -> GapRecord:
    """Return the record that ends a gap; its reason and the time when it was noticed stay."""
    opened_as = Gap.model_validate_json(gap.body)
    return gap_record(
        gap.meter,
        gap.profile,
        gap.after,
        gap.until,
        state=state,
        reason=opened_as.reason,
        noticed_at=opened_as.noticed_at,
    )


def retry_due(gap: GapState, last: datetime | None, now: datetime) -> bool:
    """Say whether the gap should be read again; `last` is the last try, None before the first.

    An hour after it was noticed, then after twice as long each time. Past its PATIENCE once more, soon:
    that try decides.
    """
    noticed = Gap.model_validate_json(gap.body).noticed_at
    if last is None:
        return now - noticed >= RETRY
    return now - last >= (RETRY if hopeless(gap, now) else max(RETRY, last - noticed))


def hopeless(gap: GapState, now: datetime) -> bool:
    """Say whether its rows will not come any more."""
    return now - gap.until >= PATIENCE
