"""Gaps: spans that a meter's memory should cover and does not; opened, then filled or given up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from gateway.edge.journal.entry import GapRecord
from gateway.edge.journal.types import GapState
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
        """Nothing came up to `until`, long ago: whole periods without a row are missing."""
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


def opened(meter: str, profile: str, spans: Iterable[Span], now: datetime) -> tuple[GapRecord, ...]:
    """Records that open these gaps."""
    return tuple(
        gap_record(meter, profile, after, until, state=OPEN, reason=NOT_IN_METER, noticed_at=now)
        for after, until in spans
    )


def covers(rows: Iterable[Span], gap: GapState) -> bool:
    """Whether the intervals, in any order, leave nothing of the gap out."""
    reached = gap.after
    for start, end in sorted(rows):
        if start > reached:
            break
        reached = max(reached, end)
    return reached >= gap.until


def closed(gap: GapState, state: str) -> GapRecord:
    """The record that ends a gap; reason and the time it was noticed stay."""
    told = _told(gap)
    return gap_record(
        gap.meter,
        gap.profile,
        gap.after,
        gap.until,
        state=state,
        reason=str(told.get("reason", NOT_IN_METER)),
        noticed_at=noticed_at(gap),
    )


def noticed_at(gap: GapState) -> datetime:
    """When the gap was opened."""
    text = str(_told(gap).get("noticed_at", ""))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return gap.until
    return at if at.utcoffset() is not None else at.replace(tzinfo=UTC)


def retry_due(gap: GapState, last: datetime | None, now: datetime) -> bool:
    """Whether the gap should be read again; `last` is the last try, None before the first."""
    noticed = noticed_at(gap)
    if last is None:
        return now - noticed >= RETRY
    return now - last >= (RETRY if hopeless(gap, now) else max(RETRY, last - noticed))


def hopeless(gap: GapState, now: datetime) -> bool:
    """Whether its rows will not come any more."""
    return now - gap.until >= PATIENCE


def _told(gap: GapState) -> Mapping[str, object]:
    try:
        told = json.loads(gap.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
