"""What a change of the directory does to energy: whose kilowatt hours become whose, by the ledger's captures.

No reading is touched. A meter's energy of one span leaves the old holder and reaches the new one, so that all moves
together are 0.000; only another multiplier makes more or less of it, and that is told by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.portal import values
from gateway.central.portal.usage import RegisterReading, Use, register_use
from mapping.differences import touched
from mapping.directory import Holder
from mapping.snapshot import DirectorySnapshot
from mapping.standing import Standing, standing_spans

WINDOW: Final = timedelta(days=31)
"""Captures of so long a span are held at once."""
ENERGY_OF: Final = 200
"""Meters of which a preview sums the energy: of a city's it would take hours."""
REGISTERS: Final = ("instantaneous", "daily", "billing")
"""Profiles of meters that store no intervals, which tell energy as a register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedSpan:
    """A span (`end` None: open) in which a meter's energy stands otherwise after a change.

    `metered` is what the meter counted in it, in kWh without any multiplier; None where nothing tells. `missing` is
    the time of it without data.
    """

    meter: str
    start: datetime
    end: datetime | None
    old: Standing
    new: Standing
    metered: Decimal | None
    missing: timedelta

    @property
    def lost(self) -> Decimal | None:
        """Return the kWh that leave the old holder."""
        return None if self.metered is None else self.metered * self.old.multiplier

    @property
    def gained(self) -> Decimal | None:
        """Return the kWh that reach the new holder."""
        return None if self.metered is None else self.metered * self.new.multiplier


@dataclass(slots=True)
class Balance:
    """What many spans come to: kWh by account (its id, or why nobody's), of moves alone and by other multipliers."""

    by_account: dict[str, Decimal]
    by_multiplier: Decimal = Decimal(0)
    unknown: int = 0
    """Spans of which nothing tells the energy."""

    def add(self, span: TouchedSpan) -> None:
        """Count a span in."""
        lost, gained = span.lost, span.gained
        if lost is None or gained is None:
            self.unknown += 1
            return
        for who, kwh in ((span.old.who, -lost), (span.new.who, gained)):
            name = who.account_id if isinstance(who, Holder) else who.value
            self.by_account[name] = self.by_account.get(name, Decimal(0)) + kwh
        self.by_multiplier += gained - lost

    @property
    def moved(self) -> Decimal:
        """Return the kWh that accounts gain, those that lose left out."""
        return sum((kwh for kwh in self.by_account.values() if kwh > 0), Decimal(0))

    @property
    def net(self) -> Decimal:
        """Return what all moves come to, without what other multipliers make: 0 by construction."""
        return sum(self.by_account.values(), Decimal(0)) - self.by_multiplier


def in_kwh(kwh: Decimal) -> str:
    """Return kWh as previews write them, to the watt hour: `12.500`."""
    return f"{kwh:.3f}"


def touched_spans(
    snapshot: DirectorySnapshot, old: int, new: int, ledger: Ledger | None, *, now: datetime, energy_of: int
) -> Iterator[TouchedSpan]:
    """Yield the spans in which a meter's energy stands otherwise in version `new` than in `old`, by meter and time.

    The energy of the first `energy_of` meters is summed up to `now`, a month at a time; without a ledger, of none.
    """
    meters, _ = touched(snapshot, old, new)
    for number, meter in enumerate(snapshot.each(meters)):
        for start, end, was, becomes in standing_spans(snapshot, meter, old, new):
            use = None
            if ledger is not None and number < energy_of and start < now:
                use = _use(ledger, meter, start, min(end or now, now))
            yield TouchedSpan(
                meter=meter,
                start=start,
                end=end,
                old=was,
                new=becomes,
                metered=None if use is None else use.kwh,
                missing=timedelta(0) if use is None else use.missing,
            )


def last_register(ledger: Ledger, meter: str, until: datetime) -> Decimal | None:
    """Return the newest register in kWh that a meter sent up to an instant, without a multiplier; None for none."""
    newest = ledger.captures.latest([meter], REGISTERS, until=until)[meter]
    for stored in sorted(newest.values(), key=lambda one: one.at, reverse=True):
        kwh = values.energy(stored.message)
        if kwh is not None:
            return kwh
    return None


def _use(ledger: Ledger, meter: str, start: datetime, end: datetime) -> Use:
    """Return what a meter counted in a span, without a multiplier: from stored intervals, else from its register."""
    total: Decimal | None = None
    covered = timedelta(0)
    begun = start
    while begun < end:
        until = min(begun + WINDOW, end)
        for stored in ledger.captures.between(meter, "block_load", begun, until):
            kwh = values.interval_energy(stored.message)
            # One that straddles a hand-over is never split: the registers at that instant tell its parts.
            if kwh is not None and stored.start is not None and stored.start >= start:
                total = (total or Decimal(0)) + kwh
                covered += stored.at - stored.start
        begun = until
    if total is not None:
        return Use(start=start, end=end, kwh=total, missing=max(end - start - covered, timedelta(0)))
    return register_use(list(_registers(ledger, meter, start, end)), start, end)


def _registers(ledger: Ledger, meter: str, start: datetime, end: datetime) -> Iterator[RegisterReading]:
    """Yield the first and the last readings of the register in a span: what lies between them is not needed."""
    for profile in REGISTERS:
        for since, until in ((start, min(start + WINDOW, end)), (max(start, end - WINDOW), end)):
            for stored in ledger.captures.between(meter, profile, since, until):
                kwh = values.energy(stored.message)
                if kwh is not None:
                    yield RegisterReading(meter=meter, at=stored.at, kwh=kwh)
