"""One simulated local day: running registers at every half-hour, recharges, maximum demand.

Energy is kept in watt-seconds, so that whatever is summed from half-hours equals the registers exactly.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

from protocols.simulator.household.demand import SLOT_S, SLOTS, STEP_S, STEPS, DayPlan

WS_PER_WH = 3600
TimeSpan = tuple[int, int]
"""Begin and end, in seconds since 1970; the end is not part of it."""
DatedAmount = tuple[int, int]
"""The second at which something was set, and how much: paise, seconds of drift, seconds of a block."""
Energies = tuple[int, int]
"""Watt-seconds and volt-ampere-seconds; of reactive energy, var-seconds in quadrants 1 and 4."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The greatest half-hour demand of the billing month so far: watts, and the second it was reached."""

    watts: int
    at: int


@dataclass(frozen=True, slots=True)
class Zone:
    """One tariff zone so far: watt-seconds, volt-ampere-seconds, greatest demand of the billing period."""

    ws: int
    vas: int
    demand: Demand


ZONES = 4
ZONE_STARTS = (0, 6, 18, 22)
"""Local hours at which tariff zones 1 to 4 begin; the activity calendar shows them."""
_ZONE_SPANS = tuple(pairwise((*(2 * hour for hour in ZONE_STARTS), SLOTS)))
_NIGHT_SLOTS = 10
"""Slots from midnight in which lamps and idle supplies make a three-phase load lead (quadrant 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStart:
    """What a day begins with: registers in watt-seconds, powered seconds, money, demand, events so far.

    `events` counts logged events of the voltage and power logs; `reactive` is var-seconds in quadrants 1 and 4.
    """

    ws: int
    vas: int
    powered_s: int
    recharged: int
    last_recharge: DatedAmount
    demand: Demand
    events: tuple[int, int]
    zones: tuple[Zone, ...]
    reactive: Energies = (0, 0)


@dataclass(frozen=True, slots=True)
class DayBook:
    """A finished day. `ws`, `vas` and `demand` have 49 entries: at midnight and after each slot."""

    plan: DayPlan
    opening: DayStart
    idle: tuple[TimeSpan, ...]
    ws: array[int]
    vas: array[int]
    demand: tuple[Demand, ...]
    recharges: tuple[DatedAmount, ...]
    resets: tuple[int, ...] = ()
    measures_reactive: bool = False

    def use(self, second: int) -> Energies:
        """Return the cumulative watt-seconds and volt-ampere-seconds at a second of this day."""
        slot, rest = divmod(second - self.plan.start, SLOT_S)
        if not rest:
            return self.ws[slot], self.vas[slot]
        ws, vas = slot_use(self.plan, self.idle, slot, rest)
        return self.ws[slot] + ws, self.vas[slot] + vas

    def recharged(self, second: int) -> tuple[int, DatedAmount]:
        """Return the total recharged until a second, and the last recharge (second, paise)."""
        total, last = self.opening.recharged, self.opening.last_recharge
        for at, paise in self.recharges:
            if at <= second:
                total, last = total + paise, (at, paise)
        return total, last

    def powered_s(self, second: int) -> int:
        """Return the seconds with supply since the history began."""
        dark = overlap(self.plan.cuts, self.plan.start, second)
        return self.opening.powered_s + second - self.plan.start - dark

    def greatest(self, second: int, *, before: bool = False) -> Demand:
        """Return the greatest demand of the billing period at a second; `before` a reset at that second."""
        slot = min((second - self.plan.start) // SLOT_S, SLOTS)
        begin = self.plan.start + slot * SLOT_S
        reset = next((r for r in reversed(self.resets) if begin <= r <= second - before), None)
        return self.demand[slot] if reset is None else Demand(0, reset)

    def zones(self, second: int, *, before: bool = False) -> tuple[Zone, ...]:
        """Return the tariff zones at a second, as `greatest` does."""
        slots, rest = divmod(second - self.plan.start, SLOT_S)
        wh = [ws // WS_PER_WH for ws in self.ws[: slots + 1]]
        watts = [(after - ahead) * 2 for ahead, after in pairwise(wh)]
        reset = next((r for r in reversed(self.resets) if r <= second - before), None)
        first = 0 if reset is None else (reset - self.plan.start) // SLOT_S
        zones = []
        for (low, high), known in zip(_ZONE_SPANS, self.opening.zones, strict=True):
            begin, end = min(low, slots), min(high, slots)
            demand = known.demand if reset is None else Demand(0, reset)
            counted = watts[max(begin, first) : end]
            if counted and (most := max(counted)) > demand.watts:
                at = max(begin, first) + counted.index(most) + 1
                demand = Demand(most, self.plan.start + at * SLOT_S)
            ws, vas = self.ws[end] - self.ws[begin], self.vas[end] - self.vas[begin]
            if rest and low <= slots < high:
                now_ws, now_vas = self.use(second)
                ws, vas = ws + now_ws - self.ws[slots], vas + now_vas - self.vas[slots]
            zones.append(Zone(known.ws + ws, known.vas + vas, demand))
        return tuple(zones)

    def var(self, slot: int) -> int:
        """Return the reactive power of a slot's load, negative where it leads."""
        watts, extra = self.plan.watts[slot], self.plan.extra_va[slot]
        size = isqrt((watts + extra) ** 2 - watts**2)
        return -size if slot < _NIGHT_SLOTS else size

    def reactive(self, second: int) -> Energies:
        """Return the cumulative var-seconds in quadrants 1 and 4 at a second of this day."""
        lagging, leading = self.opening.reactive
        if not self.measures_reactive:
            return lagging, leading
        slots, rest = divmod(second - self.plan.start, SLOT_S)
        for slot in range(min(SLOTS, slots + (rest > 0))):
            begin = self.plan.start + slot * SLOT_S
            end = min(begin + SLOT_S, second)
            on = end - begin - overlap(self.idle, begin, end)
            var = self.var(slot)
            lagging, leading = (lagging + var * on, leading) if var >= 0 else (lagging, leading - var * on)
        return lagging, leading

    def closing(self) -> DayStart:
        """Return what the next day begins with."""
        end = self.plan.start + SLOTS * SLOT_S
        total, last = self.recharged(end)
        voltage, power = self.opening.events
        return DayStart(
            ws=self.ws[-1],
            vas=self.vas[-1],
            powered_s=self.powered_s(end),
            recharged=total,
            last_recharge=last,
            demand=self.demand[-1],
            events=(voltage + (2 if self.plan.sag else 0), power + 2 * len(self.plan.cuts)),
            zones=self.zones(end),
            reactive=self.reactive(end),
        )


def run_day(
    plan: DayPlan,
    opening: DayStart,
    *,
    open_spans: Sequence[TimeSpan],
    recharges: tuple[DatedAmount, ...],
    resets: Sequence[int] = (),
    measures_reactive: bool = False,
) -> DayBook:
    """Run a day's plan: the relay is open in `open_spans`, the maximum demand is reset at `resets`."""
    end = plan.start + SLOTS * SLOT_S
    idle = merge([*plan.cuts, *(s for s in open_spans if s[0] < end and s[1] > plan.start)])
    today = tuple(r for r in resets if plan.start <= r < end)
    ws, vas, demand = array("q", (opening.ws,)), array("q", (opening.vas,)), [opening.demand]
    for slot in range(SLOTS):
        used_ws, used_vas = slot_use(plan, idle, slot, SLOT_S)
        ws.append(ws[-1] + used_ws)
        vas.append(vas[-1] + used_vas)
        watts = (ws[-1] // WS_PER_WH - ws[-2] // WS_PER_WH) * 2
        end_of_slot = plan.start + (slot + 1) * SLOT_S
        here = [r for r in today if end_of_slot - SLOT_S <= r < end_of_slot] if today else ()
        base = Demand(0, here[-1]) if here else demand[-1]
        demand.append(Demand(watts, end_of_slot) if watts > base.watts else base)
    return DayBook(plan, opening, idle, ws, vas, tuple(demand), recharges, today, measures_reactive)


def slot_use(plan: DayPlan, idle: Sequence[TimeSpan], slot: int, seconds: int) -> Energies:
    """Return what the first `seconds` of a slot use: watt-seconds and volt-ampere-seconds."""
    begin = plan.start + slot * SLOT_S
    touched = bool(idle) and overlap(idle, begin, begin + seconds) > 0
    if seconds == SLOT_S and not touched:
        watts = plan.watts[slot]
        return watts * SLOT_S, (watts + plan.extra_va[slot]) * SLOT_S
    ws = vas = 0
    for step in range(STEPS):
        low = step * STEP_S
        if low >= seconds:
            break
        high = min(seconds, low + STEP_S)
        on = high - low - (overlap(idle, begin + low, begin + high) if touched else 0)
        watts = plan.step_watts(slot, step)
        ws += watts * on
        vas += (watts + plan.extra_va[slot]) * on
    return ws, vas


def overlap(spans: Sequence[TimeSpan], begin: int, end: int) -> int:
    """Return the seconds of begin..end that the (disjoint) spans cover."""
    return sum(max(0, min(e, end) - max(s, begin)) for s, e in spans)


def merge(spans: Sequence[TimeSpan]) -> tuple[TimeSpan, ...]:
    """Return the spans in order, joined where they touch."""
    out: list[TimeSpan] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return tuple(out)


def first_zones(ws: int, start: int) -> tuple[Zone, ...]:
    """Return the tariff zones of a meter that shows `ws` at first: equal parts, the rest in the first zone."""
    none = Demand(0, start)
    part, vas_part = ws // ZONES, ws * 1000 // 950 // ZONES
    first = Zone(ws - part * (ZONES - 1), ws * 1000 // 950 - vas_part * (ZONES - 1), none)
    return (first, *(Zone(part, vas_part, none) for _ in range(ZONES - 1)))
