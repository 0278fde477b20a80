"""Instants as whole microseconds since 1970 UTC, exactly: as every store of ours keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
IST = timezone(timedelta(hours=5, minutes=30), "IST")
"""Indian time: a day without a zone begins at its midnight."""
FIRST_YEAR = 2000
"""Nothing of ours is older: 1980 is a clock without battery (users.md §6 row 29)."""
AHEAD = timedelta(days=366)
"""What would begin later than this from now is a mistyped year."""


def micros(at: datetime) -> int:
    """Return an instant as whole microseconds since 1970 UTC; `at` carries a zone."""
    return (at - EPOCH) // MICROSECOND


def instant(count: int) -> datetime:
    """Return the UTC instant of a count of microseconds."""
    return EPOCH + count * MICROSECOND
