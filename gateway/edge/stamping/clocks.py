"""When a meter's clock, or the time on one of its rows, is believed."""

from __future__ import annotations

from datetime import datetime, timedelta

from protocols.reading import MeterClock, ReadingSet

DRIFT_ALARM = timedelta(seconds=60)
"""Drift beyond which somebody should look at the clock, and a row counts as dated ahead."""
DRIFT_UNTRUSTED = timedelta(minutes=15)
"""Half a block: beyond it a stored row may lie in the wrong interval, so its time is not trusted."""
_CLOCK_DOUBT = 0b0000_0011
_STATUS_UNSPECIFIED = 0xFF


def clock_is_trusted(clock: MeterClock) -> bool:
    """Say whether a clock is neither flagged by the meter nor far off.

    Flags: clock status bit 0 invalid, bit 1 doubtful (Blue Book).
    """
    flagged = clock.status not in (None, _STATUS_UNSPECIFIED) and bool((clock.status or 0) & _CLOCK_DOUBT)
    return not flagged and abs(clock.drift) <= DRIFT_UNTRUSTED.total_seconds()


def is_ahead(row: ReadingSet, now: datetime) -> bool:
    """Say whether the row's time is still to come."""
    return row.at > now + DRIFT_ALARM
