"""One simulated local day: running registers at every half-hour, recharges, maximum demand.

Energy is kept in watt-seconds, so that whatever is summed from half-hours equals the registers exactly.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from protocols.simulator.demand import SLOT_S, SLOTS, STEP_S, STEPS, DayPlan

WS_PER_WH = 3600
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """The greatest half-hour demand of the billing month so far: watts, and the second it was reached."""

    watts: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a day begins with: registers in watt-seconds, powered seconds, money, demand, events so far.

    `events` counts logged events of the voltage and power logs.
    """

    ws: int
    vas: int
    powered_s: int
    recharged: int
    last_recharge: Span
    demand: Demand
    events: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DayBook:
    """A finished day. `ws`, `vas` and `demand` have 49 entries: at midnight and after each slot."""

    plan: DayPlan
    opening: Opening
    idle: tuple[Span, ...]
    ws: array[int]
    vas: array[int]
    demand: tuple[Demand, ...]
    recharges: tuple[Span, ...]

    def use(self, second: int) -> Span:
        """Give the cumulative watt-seconds and volt-ampere-seconds at a second of this day."""
        slot, rest = divmod(second - self.plan.start, SLOT_S)
        if not rest:
            return self.ws[slot], self.vas[slot]
        ws, vas = slot_use(self.plan, self.idle, slot, rest)
        return self.ws[slot] + ws, self.vas[slot] + vas

    def recharged(self, second: int) -> tuple[int, Span]:
        """Give the total recharged until a second, and the last recharge (second, paise)."""
        total, last = self.opening.recharged, self.opening.last_recharge
        for at, paise in self.recharges:
            if at <= second:
                total, last = total + paise, (at, paise)
        return total, last

    def powered_s(self, second: int) -> int:
        """Give the seconds with supply since the history began."""
        dark = overlap(self.plan.cuts, self.plan.start, second)
        return self.opening.powered_s + second - self.plan.start - dark

    def closing(self) -> Opening:
        """Give what the next day begins with."""
        end = self.plan.start + SLOTS * SLOT_S
        total, last = self.recharged(end)
        voltage, power = self.opening.events
        return Opening(
            ws=self.ws[-1],
            vas=self.vas[-1],
            powered_s=self.powered_s(end),
            recharged=total,
            last_recharge=last,
            demand=self.demand[-1],
            events=(voltage + (2 if self.plan.sag else 0), power + 2 * len(self.plan.cuts)),
        )


def run_day(
    plan: DayPlan, opening: Opening, *, open_spans: Sequence[Span], recharges: tuple[Span, ...]
) -> DayBook:
    """Run a day's plan: `open_spans` are the seconds in which the relay is open."""
    end = plan.start + SLOTS * SLOT_S
    idle = merge([*plan.cuts, *(s for s in open_spans if s[0] < end and s[1] > plan.start)])
    ws, vas, demand = array("q", (opening.ws,)), array("q", (opening.vas,)), [opening.demand]
    for slot in range(SLOTS):
        used_ws, used_vas = slot_use(plan, idle, slot, SLOT_S)
        ws.append(ws[-1] + used_ws)
        vas.append(vas[-1] + used_vas)
        watts = (ws[-1] // WS_PER_WH - ws[-2] // WS_PER_WH) * 2
        reached = Demand(watts, plan.start + (slot + 1) * SLOT_S)
        demand.append(reached if watts > demand[-1].watts else demand[-1])
    return DayBook(plan, opening, idle, ws, vas, tuple(demand), recharges)


def slot_use(plan: DayPlan, idle: Sequence[Span], slot: int, seconds: int) -> Span:
    """Give what the first `seconds` of a slot use: watt-seconds and volt-ampere-seconds."""
    begin = plan.start + slot * SLOT_S
    touched = overlap(idle, begin, begin + seconds) > 0
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


def overlap(spans: Sequence[Span], begin: int, end: int) -> int:
    """Give the seconds of begin..end that the (disjoint) spans cover."""
    return sum(max(0, min(e, end) - max(s, begin)) for s, e in spans)


def merge(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Join spans that touch; give them in order."""
    out: list[Span] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return tuple(out)
