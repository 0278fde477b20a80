"""Reckons from captures the energy that each account used of a meter in local days, and keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LASTING_REASONS
from gateway.central.ledger.use import ALWAYS, METERED, REACH, DayUse, Span, StaleTime, joined
from gateway.central.portal import values
from gateway.central.portal.usage import RegisterReading, Use, register_difference
from gateway.central.portal.whose import Whose
from mapping.differences import touched
from mapping.instants import MICROSECOND, micros
from mapping.snapshot import DirectorySnapshot

BILLING_ZONE: Final = "Asia/Kolkata"
"""The zone of the meters' days, by which energy is billed."""
SETTLING: Final = timedelta(hours=2)
"""A day is reckoned when it is over for so long: most of it has come by then, and it is reckoned once."""
METERS_AT_ONCE: Final = 20
"""Meters reckoned in one round: what edges are told must not wait for a city's."""
DAYS_AT_ONCE: Final = 40
"""Days of meters reckoned in one round, all together: some 2,000 captures."""
_REACH: Final = timedelta(microseconds=REACH)
_BLOCKS, _REGISTERS = METERED


@dataclass(frozen=True, slots=True)
class Days:
    """The local days of one zone: 23 to 25 hours long where clocks are set."""

    zone: ZoneInfo

    def of(self, at: datetime) -> date:
        """Return the day that an instant lies in; a midnight begins one."""
        return at.astimezone(self.zone).date()

    def begin(self, day: date) -> datetime:
        """Return the instant at which a day begins, in UTC."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def span(self, day: date) -> tuple[datetime, datetime]:
        """Return the instants at which a day begins and ends, in UTC."""
        return self.begin(day), self.begin(day + timedelta(days=1))

    def between(self, first: date, last: date) -> list[date]:
        """Return the days first..last."""
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def reckon(
    ledger: Ledger, snapshot: DirectorySnapshot, days: Days, meter: str, wanted: Sequence[date]
) -> list[DayUse]:
    """Return what each account used of a meter in days that follow each other, where anything is known of it.

    An interval counts for who held the meter for all of it; one that lies in two days counts in none. A day without
    any interval is reckoned by the registers nearest to its ends. Nothing that is not believed counts.
    """
    if not wanted:
        return []
    whose = Whose(snapshot, meter)
    begin, end = days.begin(wanted[0]), days.span(wanted[-1])[1]
    found: dict[tuple[date, str], tuple[Decimal, list[Span]]] = {}
    with_intervals: set[date] = set()
    for stored in ledger.captures.between(meter, _BLOCKS, begin, end):
        if stored.start is None or stored.reason in LASTING_REASONS:
            continue
        kwh, day = values.interval_energy(stored.message), days.of(stored.start)
        if kwh is None or stored.at > days.span(day)[1] or stored.start < begin:
            continue
        with_intervals.add(day)
        for account in whose.accounts(stored):
            held, spans = found.get((day, account), (Decimal(0), []))
            spans.append((micros(stored.start), micros(stored.at)))
            found[day, account] = held + kwh * whose.factor(stored.at), spans
    uses = [
        DayUse(meter=meter, day=day, account_id=account, kwh=kwh, covered=tuple(joined(spans)))
        for (day, account), (kwh, spans) in found.items()
    ]
    for day in wanted:
        if day not in with_intervals:
            uses += _by_registers(ledger, whose, days, meter, day)
    return uses


def _by_registers(ledger: Ledger, whose: Whose, days: Days, meter: str, day: date) -> Iterator[DayUse]:
    begin, end = days.span(day)
    readings = []
    for stored in ledger.captures.between(meter, _REGISTERS, begin - _REACH, end + _REACH):
        kwh = None if stored.reason in LASTING_REASONS else values.energy(stored.message)
        if kwh is not None:
            readings.append((RegisterReading(meter=meter, at=stored.at, kwh=kwh), whose.accounts(stored)))
    used: dict[str, tuple[Decimal, list[Span]]] = {}
    for account in dict.fromkeys(account for _, accounts in readings for account in accounts):
        own = [one for one, accounts in readings if account in accounts]
        for factor, stretch in whose.stretches(account, own):
            found = register_difference(stretch, begin, end, _REACH)
            if found is not None:
                held, spans = used.setdefault(account, (Decimal(0), []))
                spans.append((micros(found[1]), micros(found[2])))
                used[account] = held + found[0] * factor, spans
    for account, (kwh, spans) in used.items():
        yield DayUse(meter=meter, day=day, account_id=account, kwh=kwh, covered=tuple(joined(spans)))


def use_of(uses: Iterable[DayUse], start: datetime, end: datetime) -> Use:
    """Put together what an account's meters say of one day, start..end; what none covers is missing."""
    parts = list(uses)
    covered = sum(stop - begin for begin, stop in joined(span for one in parts for span in one.covered))
    return Use(
        start=start,
        end=end,
        kwh=sum((one.kwh for one in parts), Decimal(0)) if parts else None,
        missing=max(end - start - covered * MICROSECOND, timedelta(0)),
    )


def account_days(
    ledger: Ledger, snapshot: DirectorySnapshot, days: Days, account_id: str, wanted: Sequence[date]
) -> list[Use]:
    """Return an account's use of days that follow each other: as kept, and of the captures where it is marked."""
    first, last = wanted[0], wanted[-1]
    mine = {meter for meter, _ in snapshot.meters_of_account(account_id)}
    kept: list[DayUse] = []
    stale: dict[str, tuple[date, date]] = dict.fromkeys(mine, (first, last))
    if ledger.use.is_kept_by(snapshot.version, days.zone.key):
        kept = ledger.use.of_account(account_id, first, last)
        mine |= {one.meter for one in kept}
        stale = {
            meter: (days.of(found.since), days.of(found.until))
            for meter, found in ledger.use.stale(sorted(mine)).items()
        }
    parts = [
        one
        for one in kept
        if one.meter not in stale or not stale[one.meter][0] <= one.day <= stale[one.meter][1]
    ]
    for meter, (since, until) in stale.items():
        anew = [day for day in wanted if since <= day <= until]
        parts += [one for one in reckon(ledger, snapshot, days, meter, anew) if one.account_id == account_id]
    return [use_of((one for one in parts if one.day == day), *days.span(day)) for day in wanted]


def follow_use(ledger: Ledger, snapshot: DirectorySnapshot, zone: str = BILLING_ZONE) -> None:
    """Mark what other installations, holdings and multipliers than those followed last may have made of use. Blocks."""
    done, version = ledger.use.followed(), snapshot.version
    if done == version and ledger.use.is_kept_by(version, zone):
        return
    meters = touched(snapshot, done, version)[0] if 0 < done < version else None
    ledger.use.follow(version, zone, meters)


def reckon_due(ledger: Ledger, snapshot: DirectorySnapshot, now: datetime, zone: str = BILLING_ZONE) -> int:
    """Reckon some of what is marked and over, the oldest first; return of how many meters. Blocks."""
    days = Days(ZoneInfo(zone))
    today = days.of(now - SETTLING)
    due = ledger.use.due(days.begin(today), METERS_AT_ONCE)
    snapshot.expect(one.meter for one in due)
    left = DAYS_AT_ONCE
    for one in due:
        if left > 0:
            left -= _reckon_stale(ledger, snapshot, days, one, today, left)
    return len(due)


def _reckon_stale(
    ledger: Ledger, snapshot: DirectorySnapshot, days: Days, stale: StaleTime, today: date, most: int
) -> int:
    """Reckon the oldest `most` days of a time that is marked; return how many they were."""
    since, until = stale.since, stale.until
    if micros(since) == ALWAYS[0]:
        there, kept = ledger.use.extent(stale.meter), ledger.use.days_kept(stale.meter)
        spans = [] if there is None else [(there[0] - _REACH, there[1] + _REACH)]
        # Days that all captures have left since are reckoned, too: to nothing.
        spans += [] if kept is None else [(days.begin(kept[0]), days.begin(kept[1]))]
        if not spans:
            ledger.use.keep(stale, (), (), None, version=snapshot.version)
            return 0
        since, until = min(begin for begin, _ in spans), min(until, max(end for _, end in spans))
    first, last = days.of(since), min(days.of(until), today - timedelta(days=1))
    wanted = days.between(first, min(last, first + timedelta(days=most - 1)))
    done = days.span(wanted[-1])[1] if wanted else days.begin(today)
    rest = None if done > until else (done, until)
    uses = reckon(ledger, snapshot, days, stale.meter, wanted)
    ledger.use.keep(stale, wanted, uses, rest, version=snapshot.version)
    return len(wanted)
