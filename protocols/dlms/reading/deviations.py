"""The deviation from UTC in a range's ends: meters differ in its sign, and some read it although it is unspecified."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time


class Deviations:
    """The form in which the deviation is written: first as the companion says, then otherwise.

    `proven` says that an answer showed the present form to be the one that the meter understands.
    """

    forms = 3

    def __init__(self, zone: ZoneInfo, *, east: bool, known: int | None = None) -> None:
        """Begin with the companion's form, or with one that an earlier session proved."""
        self._zone = zone
        self._signs = (1, -1, 0) if east else (-1, 1, 0)
        self.form = (known or 0) % self.forms
        self.proven = known is not None

    def next(self, attempt: int) -> None:
        """Take the next form, after `attempt` others failed; after the last comes the companion's again."""
        self.form = (self.form + 1) % self.forms if attempt < self.forms - 1 else 0

    def matter(self, at: datetime) -> bool:
        """Say whether the forms differ at `at`."""
        return bool(at.astimezone(self._zone).utcoffset())

    def encode(self, at: datetime) -> bytes:
        """Write an end of a range as the meter's wall clock."""
        offset = at.astimezone(self._zone).utcoffset() or timedelta()
        sign = self._signs[self.form]
        minutes = sign * (offset // timedelta(minutes=1)) if sign else None
        return cosem_time.encode(at, self._zone, deviation=minutes)


def full_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Round down to the local hour: some meters select only from full hours."""
    return at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
