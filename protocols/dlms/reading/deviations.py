"""The deviation from UTC in a range's ends: meters differ in its sign, and some read it although it is unspecified."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time


class Deviations:
    """The form in which the deviation is written: first as the companion says, then otherwise.

    `proven` says that an answer showed the present form to be the one that the meter understands. A deviation by
    which the meter means local time is tried first.
    """

    def __init__(self, zone: ZoneInfo, *, east: bool, known: int | None = None) -> None:
        """Begin with the companion's form, or with one that an earlier session proved."""
        self._zone = zone
        self._constants = sorted(cosem_time.local_deviations(zone))
        self._signs = (1, -1, 0) if east else (-1, 1, 0)
        self.forms = len(self._signs) + len(self._constants)
        self._first = len(self._signs) if self._constants else 0
        self.form = self._first if known is None else known % self.forms
        self.proven = known is not None

    def next(self, attempt: int) -> None:
        """Take the next form, after `attempt` others failed; after the last comes the first again."""
        self.form = (self.form + 1) % self.forms if attempt < self.forms - 1 else self._first

    def matter(self, at: datetime) -> bool:
        """Say whether the forms differ at `at`."""
        return bool(at.astimezone(self._zone).utcoffset())

    def encode(self, at: datetime) -> bytes:
        """Write an end of a range as the meter's wall clock."""
        offset = at.astimezone(self._zone).utcoffset() or timedelta()
        return cosem_time.encode(at, self._zone, deviation=self._minutes(offset // timedelta(minutes=1)))

    def _minutes(self, offset: int) -> int | None:
        if self.form >= len(self._signs):
            return self._constants[self.form - len(self._signs)]
        sign = self._signs[self.form]
        return sign * offset if sign else None


def full_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Round down to the local hour: some meters select only from full hours."""
    return at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
