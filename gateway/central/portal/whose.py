"""Whose a meter's captures are, what its energy is multiplied by, and which readings bound energy of one account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from gateway.central.ledger.records import StoredCapture
from gateway.central.portal.usage import RegisterReading
from mapping.directory import AttributionRole
from mapping.instants import MICROSECOND
from mapping.snapshot import DirectorySnapshot
from mapping.timeline import MeterTimeline


class Whose:
    """Who holds a meter, and what its energy is multiplied by."""

    def __init__(self, snapshot: DirectorySnapshot, meter: str) -> None:
        """Look at the meter as known now."""
        self._timeline = MeterTimeline(snapshot, meter)
        self._installed = snapshot.installations(meter)

    def accounts(self, stored: StoredCapture) -> list[str]:
        """Return the accounts under which a capture stands as a whole."""
        return self._accounts(stored.start, stored.at)

    def _accounts(self, start: datetime | None, end: datetime) -> list[str]:
        held = self._timeline.attributions(start, end).accounts
        return [one.account_id for one in held if one.role is not AttributionRole.PARTIAL]

    def stretches(
        self, account: str, readings: Sequence[RegisterReading]
    ) -> Iterator[tuple[Decimal, list[RegisterReading]]]:
        """Yield readings that bound energy of an account under one multiplier, with it: its register rose between them.

        Where another held the meter between two readings, or the multiplier changed, nobody knows what was whose.
        """
        stretch: list[RegisterReading] = []
        held: Decimal | None = None
        for one, following in pairwise(sorted(readings, key=lambda reading: reading.at)):
            factor = self._factor_between(one.at, following.at)
            if account not in self._accounts(one.at, following.at):
                factor = None
            if stretch and factor != held:
                yield held or Decimal(0), stretch
                stretch = []
            held = factor
            if factor is not None:
                stretch = [*(stretch or [one]), following]
        if stretch and held is not None:
            yield held, stretch

    def _factor_between(self, start: datetime, end: datetime) -> Decimal | None:
        """Return the multiplier of all of start..end, None where it changed."""
        factors = {
            self.factor(end),
            *(self.factor(one.valid_from) for one in self._installed if start < one.valid_from < end),
        }
        # That which holds from `start` on is what a moment later has.
        factors.add(self.factor(start + MICROSECOND))
        return factors.pop() if len(factors) == 1 else None

    def factor(self, at: datetime) -> Decimal:
        """Return the external multiplier (CT/PT) of the installation that ended or goes on at an instant."""
        fitted = [one for one in self._installed if one.valid_from < at]
        return fitted[-1].multiplier if fitted else Decimal(1)
