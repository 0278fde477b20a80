"""A household's meter: what it measures and stores at any instant, a pure function of seed and time.

Only what is done to it (relay, clock, money) changes its course, and only from that instant on.
Rows and events carry true UTC stamps; the meter's clock drift shows in its clock alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protocols.simulator.chance import Dice
from protocols.simulator.daybook import (
    WS_PER_WH,
    DayBook,
    Demand,
    Opening,
    Span,
    overlap,
    run_day,
)
from protocols.simulator.demand import (
    DAY_S,
    SLOT_S,
    SLOTS,
    STEP_S,
    Habits,
    local_date,
    midnight,
    plan_day,
)
from protocols.simulator.state import BlockRow, DailyRow, EventRow, MeterState

VOLTAGE_LOG, POWER_LOG, TRANSACTION_LOG, CONTROL_LOG = 0, 2, 3, 6
_POWER_FAILED, _POWER_BACK, _CLOCK_SET, _DISCONNECTED, _CONNECTED = 101, 102, 151, 301, 302
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER = 1 << 62
_LOW_BALANCE_PAISE = 15_000
_RECHARGES_PAISE = (20_000, 30_000, 50_000, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRow:
    """A closed billing month: the instant of closing (local 1st, 00:00, as UTC), state then, its demand."""

    at: datetime
    state: MeterState
    max_demand_w: int
    max_demand_at: datetime
    power_on_minutes: int
    reset_count: int


class Household:
    """One meter and the people behind it; implements `SimMeter`.

    `history_from` is the beginning (taken back to local midnight). `area` names the feeder whose power cuts
    it shares; `cuts_until` keeps later time free of cuts. `prepaid` False gives a feeder's or stock meter:
    no money moves. `load_percent` scales the load (0 for a meter on the shelf).
    """

    def __init__(
        self,
        seed: int | str,
        manufacturer: str,
        serial: str,
        history_from: datetime,
        *,
        area: str = "",
        load_percent: int = 100,
        prepaid: bool = True,
        cuts_until: datetime | None = None,
    ) -> None:
        name = f"{seed}|{manufacturer}|{serial}"
        dice = Dice(name, "household")
        self._manufacturer = manufacturer
        self._serial = serial
        self._prepaid = prepaid
        self._start = midnight(_seconds(history_from))
        self._habits = Habits(
            seed=name,
            area=f"{seed}|{area or serial}",
            load_percent=load_percent * dice.between(70, 140) // 100,
            power_factor_milli=dice.between(920, 990),
            cuts_until=None if cuts_until is None else _seconds(cuts_until),
        )
        self._tariff = dice.between(620, 840)
        self._fixed_paise = dice.between(250, 500)
        self._tamper_count = dice.below(3)
        self._billing_base = dice.between(4, 30)
        first_paise = dice.between(8_000, 70_000) if prepaid else 0
        register = dice.between(200_000, 9_000_000) * WS_PER_WH if load_percent else 0
        self._first = Opening(
            ws=register,
            vas=register * 1000 // 950,
            powered_s=dice.between(20_000, 600_000) * 60,
            recharged=first_paise,
            last_recharge=(self._start - 3 * DAY_S, first_paise),
            demand=Demand(0, self._start),
            events=(0, 0),
        )
        self._days: list[DayBook] = []
        self._relay: list[tuple[int, bool]] = []
        self._paid: list[Span] = []
        self._corrections: list[Span] = []
        self._drifts: list[Span] = [(self._start, dice.between(-20, 40))]

    @property
    def manufacturer(self) -> str:
        """Three-letter code."""
        return self._manufacturer

    @property
    def serial(self) -> str:
        """Printed serial."""
        return self._serial

    @property
    def history_from(self) -> datetime:
        """The instant before which nothing is known (UTC)."""
        return _utc(self._start)

    def state(self, at: datetime) -> MeterState:
        """Give the state at an instant; ValueError before the beginning of the history."""
        second = _seconds(at)
        day = self._day(second)
        slot, rest = divmod(second - day.plan.start, SLOT_S)
        powered = not overlap(day.plan.cuts, second, second + 1)
        closed = self._relay_closed(second)
        loaded = powered and closed
        watts = day.plan.step_watts(slot, rest // STEP_S) if loaded else 0
        va = watts + day.plan.extra_va[slot] if loaded else 0
        millivolts = day.plan.voltage(second) if powered else 0
        ws, vas = day.use(second)
        total, (paid_at, paid) = day.recharged(second)
        demand = day.demand[slot]
        return MeterState(
            at=_utc(second),
            powered=powered,
            relay_closed=closed,
            voltage_mv=millivolts,
            current_ma=va * 1_000_000 // millivolts if millivolts else 0,
            power_w=watts,
            apparent_va=va,
            power_factor_milli=watts * 1000 // va if va else 1000,
            frequency_mhz=50_000 + (watts * 7 + slot * 13) % 160 - 80 if powered else 0,
            energy_import_wh=ws // WS_PER_WH,
            energy_export_wh=0,
            apparent_energy_vah=vas // WS_PER_WH,
            max_demand_w=demand.watts,
            max_demand_at=_utc(demand.at),
            balance_paise=self._balance(day, second),
            balance_at=_utc(max(second - rest, paid_at)),
            last_recharge_paise=paid,
            last_recharge_at=_utc(paid_at),
            total_recharged_paise=total,
            payment_mode=1 if self._prepaid else 0,
            power_on_minutes=day.powered_s(second) // 60,
            tamper_count=self._tamper_count,
            billing_count=self._billing_base + self._months(second),
            clock_drift_s=self._drift(second),
        )

    def block_rows(self, since: datetime, until: datetime) -> list[BlockRow]:
        """Half-hours with since < end <= until; one wholly inside a cut left no row."""
        low, high = _seconds(since), _seconds(until)
        rows: list[BlockRow] = []
        for day in self._days_between(low, high):
            for slot in range(SLOTS):
                end = day.plan.start + (slot + 1) * SLOT_S
                if low < end <= high and overlap(day.plan.cuts, end - SLOT_S, end) < SLOT_S:
                    rows.append(_block_row(day, slot, end))
        return rows

    def daily_rows(self, since: datetime, until: datetime) -> list[DailyRow]:
        """Registers at the local midnights with since < at <= until."""
        low, high = _seconds(since), _seconds(until)
        return [
            DailyRow(
                at=_utc(day.plan.start),
                energy_import_wh=day.ws[0] // WS_PER_WH,
                energy_export_wh=0,
                apparent_energy_vah=day.vas[0] // WS_PER_WH,
            )
            for day in self._days_between(low, high)
            if low < day.plan.start <= high
        ]

    def billing_rows(self, since: datetime, until: datetime) -> list[BillingRow]:
        """Closed months with since < closing instant <= until."""
        low, high = _seconds(since), _seconds(until)
        rows: list[BillingRow] = []
        for day in self._days_between(low - DAY_S, high):
            end = day.plan.start + DAY_S
            if low < end <= high and local_date(end).day == 1:
                state = self.state(_utc(end))
                month = max(self._start, midnight(end - (local_date(end - 1).day - 1) * DAY_S - 1))
                rows.append(
                    BillingRow(
                        at=_utc(end),
                        state=state,
                        max_demand_w=day.demand[-1].watts,
                        max_demand_at=_utc(day.demand[-1].at),
                        power_on_minutes=state.power_on_minutes - self.state(_utc(month)).power_on_minutes,
                        reset_count=state.billing_count,
                    )
                )
        return rows

    def event_rows(self, since: datetime, until: datetime) -> list[EventRow]:
        """Events with since < at <= until, oldest first; each log numbers its own from 1."""
        low, high = _seconds(since), _seconds(until)
        found = sorted(event for event in self._events(low, high) if low < event[0] <= high)
        return [
            EventRow(at=_utc(at), log=log, code=code, sequence=number, state=self.state(_utc(at)))
            for at, log, number, code in found
        ]

    def switch_relay(self, *, closed: bool, at: datetime) -> None:
        """Move the contact at an instant not before its last move; repeating a state changes nothing."""
        second = _seconds(at)
        if self._relay and second < self._relay[-1][0]:
            raise ValueError(f"the relay moved after {at}: its history goes forward only")
        if self._relay_closed(second) != closed:
            self._relay.append((second, closed))
            self._forget_from(second)

    def set_clock_drift(self, seconds: int) -> None:
        """Change how far the meter's clock is ahead, without a trace in its logs."""
        self._drifts[-1] = (self._drifts[-1][0], seconds)

    def set_clock(self, *, drift: int, at: datetime) -> None:
        """Set the meter's clock at an instant so that it is `drift` seconds ahead; logged as event 151."""
        self._drifts.append((max(_seconds(at), self._drifts[-1][0]), drift))

    def recharge(self, paise: int, at: datetime) -> None:
        """Add money."""
        self._paid.append((_seconds(at), paise))
        self._forget_from(_seconds(at))

    def set_balance(self, paise: int, at: datetime) -> None:
        """Write the balance, as a head-end does."""
        second = _seconds(at)
        self._corrections.append((second, paise - self.state(at).balance_paise))
        self._forget_from(second + DAY_S)

    def _day(self, second: int) -> DayBook:
        if second < self._start:
            raise ValueError(f"the history of {self._manufacturer}:{self._serial} begins {_utc(self._start)}")
        index = (second - self._start) // DAY_S
        while len(self._days) <= index:
            self._days.append(self._next_day())
        return self._days[index]

    def _next_day(self) -> DayBook:
        start = self._start + len(self._days) * DAY_S
        opening = self._days[-1].closing() if self._days else self._first
        if local_date(start).day == 1:
            opening = _with_new_month(opening, start)
        plan = plan_day(self._habits, start)
        return run_day(
            plan, opening, open_spans=self._open_spans(), recharges=self._recharges(opening, start)
        )

    def _recharges(self, opening: Opening, start: int) -> tuple[Span, ...]:
        """Decide whether these people recharge on this day: seldom, or when the balance runs low."""
        paid = [span for span in self._paid if start <= span[0] < start + DAY_S]
        if self._prepaid:
            dice = Dice(self._habits.seed, "recharge", local_date(start).isoformat(), draws=4)
            low = self._money(opening.recharged, opening.ws, start) < _LOW_BALANCE_PAISE
            if dice.chance(650 if low else 25):
                paise = _RECHARGES_PAISE[dice.below(len(_RECHARGES_PAISE))]
                paid.append((start + dice.between(8 * 3600, 20 * 3600), paise))
        return tuple(sorted(paid))

    def _balance(self, day: DayBook, second: int) -> int:
        slot = (second - day.plan.start) // SLOT_S
        return self._money(day.recharged(second)[0], day.ws[slot], second)

    def _money(self, recharged: int, ws: int, second: int) -> int:
        if not self._prepaid:
            return 0
        used = (ws // WS_PER_WH - self._first.ws // WS_PER_WH) * self._tariff // 1000
        fixed = (second - self._start) // DAY_S * self._fixed_paise
        return recharged - used - fixed + sum(paise for at, paise in self._corrections if at <= second)

    def _relay_closed(self, second: int) -> bool:
        return next((closed for at, closed in reversed(self._relay) if at <= second), True)

    def _open_spans(self) -> list[Span]:
        ends = [at for at, _ in self._relay[1:]] + [_FOREVER]
        return [(at, end) for (at, closed), end in zip(self._relay, ends, strict=False) if not closed]

    def _drift(self, second: int) -> int:
        return next((d for at, d in reversed(self._drifts) if at <= second), self._drifts[0][1])

    def _months(self, second: int) -> int:
        first, now = local_date(self._start), local_date(second)
        return (now.year - first.year) * 12 + now.month - first.month

    def _events(self, low: int, high: int) -> Iterator[tuple[int, int, int, int]]:
        """Give (second, log, number, code) of every event near low..high."""
        for day in self._days_between(low, high):
            voltage, power = day.opening.events
            if sag := day.plan.sag:
                yield sag.start, VOLTAGE_LOG, voltage + 1, sag.codes[0]
                yield sag.end, VOLTAGE_LOG, voltage + 2, sag.codes[1]
            for index, (begin, end) in enumerate(day.plan.cuts):
                yield begin, POWER_LOG, power + 2 * index + 1, _POWER_FAILED
                yield end, POWER_LOG, power + 2 * index + 2, _POWER_BACK
        for index, (at, _) in enumerate(self._drifts[1:]):
            yield at, TRANSACTION_LOG, index + 1, _CLOCK_SET
        for index, (at, closed) in enumerate(self._relay):
            yield at, CONTROL_LOG, index + 1, _CONNECTED if closed else _DISCONNECTED

    def _days_between(self, low: int, high: int) -> Iterator[DayBook]:
        second = midnight(max(low, self._start))
        while second <= high:
            yield self._day(second)
            second += DAY_S

    def _forget_from(self, second: int) -> None:
        del self._days[max(0, (second - self._start) // DAY_S) :]


def _with_new_month(opening: Opening, start: int) -> Opening:
    """Reset the maximum demand, as billing does at the month's first midnight."""
    return Opening(
        ws=opening.ws,
        vas=opening.vas,
        powered_s=opening.powered_s,
        recharged=opening.recharged,
        last_recharge=opening.last_recharge,
        demand=Demand(0, start),
        events=opening.events,
    )


def _block_row(day: DayBook, slot: int, end: int) -> BlockRow:
    """Make one stored half-hour; averages are over the time with supply."""
    wh = day.ws[slot + 1] // WS_PER_WH - day.ws[slot] // WS_PER_WH
    vah = day.vas[slot + 1] // WS_PER_WH - day.vas[slot] // WS_PER_WH
    on = SLOT_S - overlap(day.plan.cuts, end - SLOT_S, end)
    moments = [s for s in range(end - SLOT_S, end, STEP_S) if not overlap(day.plan.cuts, s, s + 1)]
    volts = [day.plan.voltage(s) for s in moments] or [day.plan.millivolts[slot]]
    millivolts = sum(volts) // len(volts)
    va = (day.vas[slot + 1] - day.vas[slot]) // on
    return BlockRow(
        at=_utc(end),
        voltage_mv=millivolts,
        current_ma=va * 1_000_000 // millivolts,
        energy_import_wh=wh,
        energy_export_wh=0,
        apparent_energy_vah=vah,
    )


def _seconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(seconds=1)


def _utc(second: int) -> datetime:
    return _EPOCH + timedelta(seconds=second)
