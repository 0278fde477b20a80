"""A household's meter: what it measures and stores at any instant, a pure function of seed and time.

Only what is done to it (relay, clock, money, resets, settings) changes its course, and only from that instant on.
Rows and events carry true UTC stamps; the meter's clock drift shows in its clock alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from protocols.simulator.household.chance import Dice
from protocols.simulator.household.daybook import (
    WS_PER_WH,
    DatedAmount,
    DayBook,
    DayStart,
    Demand,
    Energies,
    TimeSpan,
    Zone,
    first_zones,
    overlap,
    run_day,
)
from protocols.simulator.household.demand import (
    DAY_S,
    SLOT_S,
    STEP_S,
    Habits,
    local_date,
    midnight,
    month_start,
    plan_day,
)
from protocols.simulator.household.events import CLOCK_SET, TRANSACTION_LOG, LoggedEvent, events, last_number
from protocols.simulator.household.history import History
from protocols.simulator.household.interventions import Interventions
from protocols.simulator.household.phases import Wiring
from protocols.simulator.household.prepayment import Purse
from protocols.simulator.household.state import (
    NO_REACTIVE,
    BillingRow,
    BlockRow,
    DailyRow,
    EventRow,
    TrueState,
    ZoneState,
)

PERIODS = (900, 1800, 3600)
"""Seconds that a block may have."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Household:
    """One household and its meter; implements `SimMeter`.

    `history_from` is the beginning (taken back to local midnight). `area` names the feeder whose power cuts
    it shares; `cuts_until` keeps later time free of cuts. `prepaid` is False for a feeder's or stock meter:
    no money moves. `load_percent` scales the load (0 for a meter on the shelf). `three_phase` spreads the same
    load over three phases; `period` is the seconds of a block.
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
        three_phase: bool = False,
        period: int = SLOT_S,
    ) -> None:
        name = f"{seed}|{manufacturer}|{serial}"
        dice = Dice(name, "household")
        self._manufacturer = manufacturer
        self._serial = serial
        self._start = midnight(_seconds(history_from))
        self._habits = Habits(
            seed=name,
            area=f"{seed}|{area or serial}",
            load_percent=load_percent * dice.between(70, 140) // 100,
            power_factor_milli=dice.between(920, 990),
            cuts_until=None if cuts_until is None else _seconds(cuts_until),
        )
        tariff, fixed_paise = dice.between(620, 840), dice.between(250, 500)
        self._tamper_count = dice.below(3)
        self._billing_base = dice.between(4, 30)
        first_paise = dice.between(8_000, 70_000) if prepaid else 0
        register = dice.between(200_000, 9_000_000) * WS_PER_WH if load_percent else 0
        first = DayStart(
            ws=register,
            vas=register * 1000 // 950,
            powered_s=dice.between(20_000, 600_000) * 60,
            recharged=first_paise,
            last_recharge=(self._start - 3 * DAY_S, first_paise),
            demand=Demand(0, self._start),
            events=(0, 0),
            zones=first_zones(register, self._start),
        )
        drift = dice.between(-20, 40)
        self._interventions = Interventions(drifts=[(self._start, drift)], periods=[(self._start, period)])
        self._purse = (
            Purse(
                self._habits.seed,
                self._interventions,
                start=self._start,
                first_ws=first.ws,
                tariff=tariff,
                fixed_paise=fixed_paise,
            )
            if prepaid
            else None
        )
        self._wiring = Wiring.drawn(Dice(name, "wiring")) if three_phase else None
        self._history = History(self._start, first, self._run, f"{manufacturer}:{serial}")

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

    def state(self, at: datetime) -> TrueState:
        """Return the state at an instant; ValueError before the beginning of the history."""
        second = _seconds(at)
        day = self._history.day(second)
        slot, rest = divmod(second - day.plan.start, SLOT_S)
        powered = not overlap(day.plan.cuts, second, second + 1)
        closed = self._interventions.relay_closed(second)
        loaded = powered and closed
        watts = day.plan.step_watts(slot, rest // STEP_S) if loaded else 0
        va = watts + day.plan.extra_va[slot] if loaded else 0
        millivolts = day.plan.voltage(second) if powered else 0
        ws, vas = day.use(second)
        total, (paid_at, paid) = day.recharged(second)
        demand = day.greatest(second)
        powered_s = day.powered_s(second)
        var = day.var(slot) if loaded and self._wiring else 0
        wired = self._wiring
        return TrueState(
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
            balance_paise=self._purse.balance(day, second) if self._purse else 0,
            balance_at=_utc(max(second - rest, paid_at)),
            last_recharge_paise=paid,
            last_recharge_at=_utc(paid_at),
            total_recharged_paise=total,
            payment_mode=1 if self._purse else 0,
            power_on_minutes=powered_s // 60,
            tamper_count=self._tamper_count,
            billing_count=self._billing_base
            + self._months(second)
            + self._interventions.resets_until(second),
            clock_drift_s=self._interventions.drift(second),
            billed_at=_utc(
                max([month_start(second), *(r for r in self._interventions.resets if r <= second)])
            ),
            phases=wired.phases(watts, va, millivolts, leading=var < 0) if wired else (),
            reactive_var=var,
            reactive_varh=self._quadrants(day.reactive(second)),
            power_fail_count=day.opening.events[1] // 2 + sum(begin <= second for begin, _ in day.plan.cuts),
            power_off_minutes=(second - self._start - powered_s + self._history.first.powered_s) // 60,
        )

    def zones(self, at: datetime) -> tuple[ZoneState, ...]:
        """Return the tariff zones at an instant."""
        second = _seconds(at)
        return tuple(_zone_state(zone) for zone in self._history.day(second).zones(second))

    def block_rows(self, since: datetime, until: datetime) -> list[BlockRow]:
        """Blocks with since < end <= until; one wholly inside a cut left no row."""
        low, high = _seconds(since), _seconds(until)
        return [
            self._block(self._history.day(begin), begin, end) for begin, end in self._stored_blocks(low, high)
        ]

    def count_blocks(self, since: datetime, until: datetime) -> int:
        """Count the rows of `block_rows` without working them out."""
        return sum(1 for _ in self._stored_blocks(_seconds(since), _seconds(until)))

    def daily_rows(self, since: datetime, until: datetime) -> list[DailyRow]:
        """Registers at the local midnights with since < at <= until."""
        low, high = _seconds(since), _seconds(until)
        return [
            DailyRow(
                at=_utc(note.start),
                energy_import_wh=note.opening.ws // WS_PER_WH,
                energy_export_wh=0,
                apparent_energy_vah=note.opening.vas // WS_PER_WH,
                reactive_varh=self._quadrants(note.opening.reactive),
            )
            for note in self._history.notes(low, high)
            if low < note.start <= high
        ]

    def billing_rows(self, since: datetime, until: datetime) -> list[BillingRow]:
        """Closed periods with since < closing instant <= until, oldest first."""
        low, high = _seconds(since), _seconds(until)
        months = [
            note.start + DAY_S
            for note in self._history.notes(low - DAY_S, high)
            if low < note.start + DAY_S <= high and local_date(note.start + DAY_S).day == 1
        ]
        resets = [at for at in self._interventions.resets if low < at <= high]
        return [self._bill(end) for end in sorted({*months, *resets})]

    def event_rows(self, since: datetime, until: datetime, *, log: int | None = None) -> list[EventRow]:
        """Events with since < at <= until, oldest first, of one log or all; each log numbers its own from 1."""
        return [
            EventRow(
                at=_utc(event.at),
                log=event.log,
                code=event.code,
                sequence=event.number,
                state=self.state(_utc(event.at)),
            )
            for event in self._events(since, until)
            if log in (None, event.log)
        ]

    def last_number(self, log: int, at: datetime) -> int:
        """Return the number of the last event of a log at an instant, 0 before its first."""
        return last_number(self._history, self._interventions, log, _seconds(at))

    def event_codes(self, since: datetime, until: datetime) -> list[tuple[datetime, int, int]]:
        """Return (instant, log, code) of the events with since < at <= until, oldest first."""
        return [(_utc(event.at), event.log, event.code) for event in self._events(since, until)]

    def _events(self, since: datetime, until: datetime) -> list[LoggedEvent]:
        return events(self._history, self._interventions, _seconds(since), _seconds(until))

    def period(self, at: datetime) -> int:
        """Return the seconds of a block at an instant."""
        return self._interventions.period(max(_seconds(at), self._start))

    def switch_relay(self, *, closed: bool, at: datetime) -> None:
        """Move the contact at an instant not before its last move; repeating a state changes nothing."""
        second = _seconds(at)
        moves = self._interventions.relay
        if moves and second < moves[-1][0]:
            raise ValueError(f"the relay moved after {at}: its history goes forward only")
        if self._interventions.relay_closed(second) != closed:
            moves.append((second, closed))
            self._history.forget_from(second)

    def set_clock_drift(self, seconds: int) -> None:
        """Change how far the meter's clock is ahead, without a trace in its logs."""
        self._interventions.drifts[-1] = (self._interventions.drifts[-1][0], seconds)

    def set_clock(self, *, drift: int, at: datetime) -> None:
        """Set the meter's clock at an instant so that it is `drift` seconds ahead; logged as event 151."""
        second = max(_seconds(at), self._interventions.drifts[-1][0])
        self._interventions.drifts.append((second, drift))
        self._interventions.log(second, TRANSACTION_LOG, CLOCK_SET)

    def recharge(self, paise: int, at: datetime) -> None:
        """Add money."""
        self._interventions.paid.append((_seconds(at), paise))
        self._history.forget_from(_seconds(at))

    def set_balance(self, paise: int, at: datetime) -> None:
        """Write the balance, as a head-end does."""
        second = _seconds(at)
        self._interventions.corrections.append((second, paise - self.state(at).balance_paise))
        self._history.forget_from(second + DAY_S)

    def log_event(self, log: int, code: int, at: datetime) -> None:
        """Log an event that something done to the meter left."""
        self._interventions.log(_seconds(at), log, code)

    def reset_demand(self, at: datetime) -> None:
        """Close the billing period now: a billing row is stored and the maximum demands begin anew."""
        second = _seconds(at)
        if not self._interventions.resets or second > self._interventions.resets[-1]:
            self._interventions.resets.append(second)
            self._history.forget_from(second)

    def set_period(self, seconds: int, at: datetime, *, keep: bool) -> None:
        """Change the seconds of a block (one of PERIODS) from now on; without `keep` the old blocks are cleared."""
        second = _seconds(at)
        if seconds == self._interventions.period(second):
            return
        self._interventions.periods.append((second, seconds))
        if not keep:
            self._interventions.cleared = second

    def _run(self, start: int, opening: DayStart) -> DayBook:
        return run_day(
            plan_day(self._habits, start),
            opening,
            open_spans=self._interventions.open_spans(),
            recharges=self._recharges(opening, start),
            resets=self._interventions.resets,
            measures_reactive=self._wiring is not None,
        )

    def _recharges(self, opening: DayStart, start: int) -> tuple[DatedAmount, ...]:
        """Return the day's recharges: those ordered, and one of the household's own where it is prepaid."""
        paid = [one for one in self._interventions.paid if start <= one[0] < start + DAY_S]
        if self._purse is not None:
            paid += self._purse.recharges(opening, start)
        return tuple(sorted(paid))

    def _months(self, second: int) -> int:
        first, now = local_date(self._start), local_date(second)
        return (now.year - first.year) * 12 + now.month - first.month

    def _quadrants(self, reactive: Energies) -> tuple[int, int, int, int]:
        if self._wiring is None:
            return NO_REACTIVE
        return reactive[0] // WS_PER_WH, 0, 0, reactive[1] // WS_PER_WH

    def _stored_blocks(self, low: int, high: int) -> Iterator[TimeSpan]:
        """Yield begin and end of the blocks with low < end <= high that were stored."""
        for note in self._history.notes(low, high):
            begin = note.start
            while begin < note.start + DAY_S:
                period = self._interventions.period(begin)
                end = begin + period - (begin - note.start) % period
                changed = self._interventions.period(end - 1) != period
                dark = overlap(note.cuts, begin, end) >= end - begin
                if low < end <= high and end > self._interventions.cleared and not changed and not dark:
                    yield begin, end
                begin = end

    def _block(self, day: DayBook, begin: int, end: int) -> BlockRow:
        """Make one stored block; averages are over the time with supply."""
        (ws, vas), (ws_0, vas_0) = day.use(end), day.use(begin)
        on = end - begin - overlap(day.plan.cuts, begin, end)
        moments = [s for s in range(begin, end, STEP_S) if not overlap(day.plan.cuts, s, s + 1)]
        volts = [day.plan.voltage(s) for s in moments]
        volts = volts or [day.plan.millivolts[(begin - day.plan.start) // SLOT_S]]
        millivolts = sum(volts) // len(volts)
        va = (vas - vas_0) // on
        wired = self._wiring
        now, then = self._quadrants(day.reactive(end)), self._quadrants(day.reactive(begin))
        return BlockRow(
            at=_utc(end),
            voltage_mv=millivolts,
            current_ma=va * 1_000_000 // millivolts,
            energy_import_wh=ws // WS_PER_WH - ws_0 // WS_PER_WH,
            energy_export_wh=0,
            apparent_energy_vah=vas // WS_PER_WH - vas_0 // WS_PER_WH,
            phases_mv=wired.voltages(millivolts) if wired else (),
            phases_ma=wired.currents(va, millivolts) if wired else (),
            reactive_varh=(now[0] - then[0], 0, 0, now[3] - then[3]),
        )

    def _bill(self, end: int) -> BillingRow:
        """Close a billing period: at a reset, or at the midnight that begins a month."""
        reset = end in self._interventions.resets
        day = self._history.day(end if reset else end - 1)
        demand = day.greatest(end, before=reset)
        month = max(self._start, month_start(end - 1))
        begin = max([month, *(at for at in self._interventions.resets if at < end)])
        state = self.state(_utc(end))
        return BillingRow(
            at=_utc(end),
            state=state,
            max_demand_w=demand.watts,
            max_demand_at=_utc(demand.at),
            power_on_minutes=state.power_on_minutes - self.state(_utc(begin)).power_on_minutes,
            reset_count=state.billing_count,
            zones=tuple(_zone_state(zone) for zone in day.zones(end, before=reset)),
        )


def _zone_state(zone: Zone) -> ZoneState:
    return ZoneState(zone.ws // WS_PER_WH, zone.vas // WS_PER_WH, zone.demand.watts, _utc(zone.demand.at))


def _seconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(seconds=1)


def _utc(second: int) -> datetime:
    return _EPOCH + timedelta(seconds=second)
