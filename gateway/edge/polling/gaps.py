"""Gaps: spans of which nothing was read; opened, then filled from the meter's memory, or given up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.contract.messages import Gap
from gateway.edge.journal.entry import GapRecord, GapState
from gateway.edge.polling.rhythm import LONGER, Span, stored_rhythm
from gateway.edge.stamping.stamp import gap_record
from protocols.reading import ProfileName

OPEN, FILLED, UNFILLABLE = "open", "filled", "unfillable"
NOT_IN_METER = "not_in_meter"
NOT_READ = "not_read"
"""The meter was not read when it was due; what it keeps is read when it answers again."""
NO_MEMORY = "no_memory"
"""What was not read when it was due: the meter keeps none of it."""
PATIENCE = timedelta(hours=24)
"""How long after the gap's end rows may come late; then it is declared unfillable, once read again in vain."""
NOTHING = timedelta(0)
LATER = {ProfileName.BILLING: LONGER}
"""How far behind a gap's end a row may stand that fills it."""
Row = tuple[datetime | None, datetime]
"""When what a row says began, None where it says nothing of a span, and its own time."""
RETRY = timedelta(hours=1)
"""Time from noticing to the first new try; the time between tries doubles."""


def records(
    meter: str,
    profile: str,
    spans: Iterable[Span],
    *,
    noticed_at: datetime,
    state: str = OPEN,
    reason: str = NOT_IN_METER,
) -> tuple[GapRecord, ...]:
    """Return the records of these gaps."""
    return tuple(
        gap_record(meter, profile, after, until, state=state, reason=reason, noticed_at=noticed_at)
        for after, until in spans
    )


def covers(rows: Iterable[Row], gap: GapState, zone: ZoneInfo) -> bool:
    """Say whether the rows of a meter's memory, in any order, leave nothing of the gap out."""
    profile = ProfileName(gap.profile)
    rhythm = stored_rhythm(profile, gap.after, zone)
    if rhythm is None:
        return False
    end = reach(gap)
    within = [row for row in rows if (row[1] <= end if row[0] is None else row[0] < end)]
    for start, at in sorted(within, key=lambda row: row[1]):
        rhythm.row(start, at)
    if profile is ProfileName.BLOCK_LOAD:
        return not rhythm.take() and rhythm.upto is not None and rhythm.upto >= gap.until
    rhythm.settled(gap.until)
    return not rhythm.take()


def was_not_read(gap: GapState) -> bool:
    """Say whether a gap was opened since its meter was away."""
    return Gap.model_validate_json(gap.body).reason == NOT_READ


def reach(gap: GapState) -> datetime:
    """Return up to when a meter's memory is read for a gap: a billing date may have been moved behind its end."""
    return gap.until + LATER.get(ProfileName(gap.profile), NOTHING)


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
