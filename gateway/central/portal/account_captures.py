"""What the captures of one account tell: balance, supply, recharge and use, from its own captures only."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LASTING_REASONS, StoredCapture
from gateway.central.portal import values
from gateway.central.portal.usage import IntervalEnergy, RegisterReading, Use, interval_use, register_use
from gateway.central.portal.view_models import BalanceSource, BalanceView, Recharge, Supply
from gateway.central.portal.whose import Whose
from gateway.contract.messages import Capture
from mapping.snapshot import DirectorySnapshot

SNAPSHOTS = ("instantaneous", "prepayment", "daily", "billing")
"""Profiles that are registers at an instant; the newest of any of them tells balance and supply."""
MAX_CAPTURES = 5000
"""Captures read of one profile and span: a week of half-hours is 336, a week of five-minute snapshots 2,016."""
LOOK_BACK = timedelta(days=62)
"""How far back the newest captures are looked for: a billing capture comes once a month, and may come late."""
NEWEST = 3
"""Snapshots looked at of each profile: a value that is missing in the newest may stand in the one before."""
SLOT = timedelta(minutes=30)
"""One bar of today's chart."""
TODAY_REACH = timedelta(hours=1)
"""How long before today's midnight its first reading may have been taken."""
SLOT_REACH = timedelta(minutes=5)
"""How far from a slot's ends a register may have been read: further, and the bar would be its neighbour's."""


class AccountCaptures:
    """Captures attributed to one account by one directory snapshot: money over start..now, energy since `today` began.

    An interval that straddles a hand-over (`partial`) is never counted; a capture whose time or meter is not
    trusted is nobody's. Nothing is read outside the spans in which the account held the meter.
    """

    def __init__(
        self,
        ledger: Ledger,
        snapshot: DirectorySnapshot,
        account_id: str,
        start: datetime,
        today: datetime,
        now: datetime,
    ) -> None:
        self._ledger = ledger
        self._snapshot = snapshot
        self._account_id = account_id
        self._start = start
        self._today = today - TODAY_REACH
        self._now = now
        self._whose: dict[str, Whose] = {}
        self._spans = [
            (meter, span.start, min(span.end, now))
            for meter, span in snapshot.meters_of_account(account_id)
            if span.start <= now
        ]

    def _read(self, profile: str, since: datetime, limit: int = MAX_CAPTURES) -> list[Capture]:
        """Return the newest `limit` captures of a profile since an instant in each span, oldest first."""
        found: list[Capture] = []
        for meter, start, end in self._spans:
            if end < since:
                continue
            stored = self._ledger.captures.between(meter, profile, max(start, since), end, limit=limit)
            found += [s.message for s in stored if self._is_own(s)]
        return sorted(found, key=lambda c: c.at)

    def _is_own(self, stored: StoredCapture) -> bool:
        if stored.reason in LASTING_REASONS:
            return False
        return self._account_id in self._of(stored.meter).accounts(stored)

    def _of(self, meter: str) -> Whose:
        whose = self._whose.get(meter)
        if whose is None:
            whose = self._whose[meter] = Whose(self._snapshot, meter)
        return whose

    @cached_property
    def _newest(self) -> list[Capture]:
        """A few of the newest snapshots of each profile, newest first."""
        since = self._now - LOOK_BACK
        found = [c for profile in SNAPSHOTS for c in self._read(profile, since, NEWEST)]
        return sorted(found, key=lambda c: c.at, reverse=True)

    def last_at(self) -> datetime | None:
        """Return when the newest capture of any kind was taken, None where there is none."""
        blocks = self._read("block_load", self._now - LOOK_BACK, 1)
        return max((c.at for c in (*self._newest, *blocks)), default=None)

    def serial(self) -> str | None:
        """Return the serial of the meter that the account holds now, else held last."""
        if not self._spans:
            return None
        meter = max(self._spans, key=lambda span: (span[2], span[1]))[0]
        return meter.partition(":")[2] or meter

    def balance(self) -> BalanceView | None:
        """Return the meter's copy of the balance, with the meter's own as-of time where it tells one."""
        for capture in self._newest:
            rupees = values.rupees(capture)
            if rupees is not None:
                as_of = values.moment(capture, values.BALANCE_TIME) or capture.at
                return BalanceView(rupees=rupees, as_of=min(as_of, capture.at), source=BalanceSource.METER)
        return None

    def balances(self) -> list[tuple[datetime, Decimal]]:
        """Return every balance known since the start, oldest first."""
        found = ((c.at, values.rupees(c)) for c in self._read("prepayment", self._start))
        return [(at, rupees) for at, rupees in found if rupees is not None]

    def supply(self) -> tuple[Supply, datetime | None]:
        """Return on or off as the supply contact was last seen, and when."""
        for capture in self._newest:
            seen = values.relay(capture)
            if seen is not None:
                return (Supply.ON if seen == "closed" else Supply.OFF), capture.at
        return Supply.UNKNOWN, None

    def recharge(self) -> Recharge | None:
        """Return the last recharge that the meter knows; none of zero rupees."""
        for capture in self._newest:
            rupees = values.rupees(capture, values.RECHARGE)
            if rupees:
                return Recharge(rupees=rupees, at=values.moment(capture, values.RECHARGE_TIME))
        return None

    @cached_property
    def _intervals(self) -> list[IntervalEnergy]:
        found = []
        for capture in self._read("block_load", self._today):
            kwh = values.interval_energy(capture)
            if kwh is not None and capture.start is not None:
                kwh *= self._of(capture.meter).factor(capture.at)
                found.append(
                    IntervalEnergy(meter=capture.meter, start=capture.start, end=capture.at, kwh=kwh)
                )
        return found

    @cached_property
    def _registers(self) -> list[RegisterReading]:
        """Registers of meters that store no intervals: of each stretch as if it were a meter of its own."""
        with_blocks = {i.meter for i in self._intervals}
        by_meter: dict[str, list[RegisterReading]] = {}
        for capture in self._read("instantaneous", self._today):
            kwh = values.energy(capture)
            if kwh is not None and capture.meter not in with_blocks:
                reading = RegisterReading(meter=capture.meter, at=capture.at, kwh=kwh)
                by_meter.setdefault(capture.meter, []).append(reading)
        return [
            RegisterReading(meter=f"{meter}/{number}", at=one.at, kwh=one.kwh * factor)
            for meter, readings in by_meter.items()
            for number, (factor, stretch) in enumerate(self._of(meter).stretches(self._account_id, readings))
            for one in stretch
        ]

    def use(self, start: datetime, end: datetime, *, reach: timedelta | None = None) -> Use:
        """Return the energy used in start..end: stored intervals where the meter has them, else registers."""
        stored = interval_use(self._intervals, start, end)
        if not self._registers:
            return stored
        metered = register_use(self._registers, start, end, reach=reach or SLOT)
        if stored.kwh is None or metered.kwh is None:
            return metered if stored.kwh is None else stored
        missing = max(stored.missing + metered.missing - (end - start), timedelta(0))
        return Use(start=start, end=end, kwh=stored.kwh + metered.kwh, missing=missing)

    def today(self, midnight: datetime, now: datetime) -> Use:
        """Return the energy used since midnight, up to the newest data of today."""
        ends = [i.end for i in self._intervals] + [r.at for r in self._registers]
        newest = max((at for at in ends if midnight < at <= now), default=now)
        return self.use(midnight, newest)

    def slots(self, midnight: datetime, now: datetime) -> tuple[Use, ...]:
        """Return today's half-hours that have ended."""
        count = max(0, (now - midnight) // SLOT)
        begins = [midnight + i * SLOT for i in range(count)]
        return tuple(self.use(begun, begun + SLOT, reach=SLOT_REACH) for begun in begins)
