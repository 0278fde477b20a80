"""A simulated week on both protocols: each interval is in central's ledger once, or declared to be missing.

`make soak-weeks` goes on for longer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.edge.polling.clock_rule import ClockRule
from gateway.edge.polling.schedule import PolledMeter, Schedule
from protocols.line import Line
from protocols.reading import ProfileName
from protocols.session import MeterSpec
from tests.support.edge.own_clock import (
    PERIOD,
    DlmsMeter,
    LoggingMeter,
    OwnClock,
    dlms_meter,
    modbus_spec,
    put_logger,
)
from tests.support.edge.polled_meters import Polled, memory_folder, polled
from tests.support.modbus.far_side import Act, Heard, far_endpoint
from tests.support.modbus.raw_meters import RawMeters
from tests.support.virtual_time import VirtualClock

pytestmark = pytest.mark.virtual_time

BEGIN = datetime(2026, 11, 23, 6, 37, tzinfo=UTC)
WEEKS = int(os.environ.get("WEEKS", "1"))
HOUR = timedelta(hours=1)
BLOCK = ProfileName.BLOCK_LOAD
RULE = ClockRule(least=10, most=120, step=60, margin=120)
SCHEDULE = Schedule(periods={BLOCK: 2 * HOUR})
FAR_BEHIND = timedelta(hours=5)
"""What is due later than this before the end may be on its way."""


class Bus(RawMeters):
    """Modbus meters on one line, of which some do not answer, or none."""

    def __init__(self) -> None:
        super().__init__([], "tcp")
        self.down = False
        self.away: set[int] = set()

    def __call__(self, heard: Heard) -> list[Act]:
        meter = self.meters.get(self.unit_of(heard.octets))
        if self.down or meter is None or meter.unit in self.away:
            return []
        return super().__call__(heard) if getattr(meter, "powered", True) else []


@dataclass
class Week:
    """The meters, what polls them, and what is to happen, in hours from the beginning."""

    clock: VirtualClock
    bus: Bus
    models: Path
    p: Polled = field(init=False)
    logging: dict[str, LoggingMeter] = field(default_factory=dict)
    dlms: dict[str, DlmsMeter] = field(default_factory=dict)
    script: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def modbus(self, unit: int, serial: str, *, ahead: float = 0.0, ppm: float = 0.0) -> LoggingMeter:
        meter = LoggingMeter(unit, serial, OwnClock(self.clock, ahead, ppm))
        self.logging[f"WHO:{serial}"] = meter
        return meter

    def polled(self, meter: LoggingMeter) -> PolledMeter:
        return self._polled(f"WHO:{meter.serial}", "bus", modbus_spec(meter, self.models))

    def _polled(self, name: str, line: str, spec: MeterSpec) -> PolledMeter:
        return PolledMeter(meter=name, line=line, spec=spec, profiles=(BLOCK,))

    def at(self, hours: float, act: Callable[[], object]) -> None:
        self.script.append((hours, act))

    async def run(self, until: float) -> None:
        for hours, act in sorted(self.script, key=lambda one: one[0]):
            await self.p.run_until(BEGIN + hours * HOUR)
            for meter in self.logging.values():
                meter.tick()
            done = act()
            if isinstance(done, Awaitable):
                await done
        await self.p.run_until(BEGIN + until * HOUR)
        for meter in self.logging.values():
            meter.tick()


async def test_a_week_of_mishaps_leaves_nothing_missing_in_silence() -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(memory_folder())
        clock = VirtualClock(BEGIN)
        week = Week(clock, Bus(), put_logger(folder))
        lines: dict[str, Line] = {"bus": await stack.enter_async_context(far_endpoint(week.bus))}
        good, drifting, away, dead, jumping, reset, swapped = [
            week.modbus(n, f"AB00000{n}", ahead=5 * n - 12, ppm=200 if n == 2 else 0) for n in range(1, 8)
        ]
        week.bus.meters = {meter.unit: meter for meter in week.logging.values()}
        meters = [week.polled(meter) for meter in week.logging.values()]
        for serial, cuts in (("10000001", False), ("10000002", False), ("10000003", True)):
            served = await stack.enter_async_context(
                dlms_meter(serial, clock, BEGIN - timedelta(days=3), cuts=cuts)
            )
            week.dlms[f"GEN:{serial}"], lines[served.line.name] = served, served.line
            meters.append(
                PolledMeter(meter=f"GEN:{serial}", line=served.line.name, spec=served.spec, profiles=(BLOCK,))
            )
        drifter, jumper = (week.dlms[f"GEN:1000000{n}"].home for n in (1, 2))
        drifter.set_clock_drift(-38)
        week.p = await stack.enter_async_context(
            polled(folder, clock, lines, meters, rule=RULE, schedule=SCHEDULE, backfill=timedelta(days=2))
        )
        _mishaps(week, away=away, dead=dead, jumping=jumping, reset=reset)
        week.at(50, lambda: jumper.set_clock(drift=7_200, at=clock.now()))
        week.at(61, lambda: jumper.set_clock(drift=0, at=clock.now()))
        successor = _swap(week, swapped)
        await week.run(168 * WEEKS)
        ledger = Ledger(folder / "ledger.db")
        stack.callback(ledger.close)
        await week.p.deliver(ledger)
        _check(week, ledger)
        # The clocks that ran wrong by little were put right on the way.
        corrected = {meter for meter, _, _, outcome in week.p.told if outcome == "done"}
        assert corrected >= {"WHO:AB000002", "GEN:10000001"}
        assert abs(drifting.clock.drift) < RULE.least + 20
        assert len(drifting.sets) >= 4 * WEEKS
        # No correction made an interval twice, or left one out.
        assert drifting.closed == [drifting.closed[0] + n * PERIOD for n in range(len(drifting.closed))]
        assert good.sets == []
        assert successor.closed
        assert max(Counter(jumping.closed).values()) == 2


def _mishaps(
    week: Week, *, away: LoggingMeter, dead: LoggingMeter, jumping: LoggingMeter, reset: LoggingMeter
) -> None:
    bus = week.bus
    week.at(20, lambda: bus.away.add(away.unit))
    week.at(49, lambda: bus.away.discard(away.unit))  # it recorded on
    week.at(30, lambda: setattr(dead, "powered", False))
    week.at(52.3, lambda: setattr(dead, "powered", True))  # it did not
    week.at(72, lambda: setattr(bus, "down", True))
    week.at(75, lambda: setattr(bus, "down", False))
    week.at(80.1, lambda: jumping.set_clock(jumping.clock.shown() + timedelta(minutes=50)))
    week.at(86.2, lambda: jumping.set_clock(week.clock.now()))
    week.at(100, lambda: bus.away.add(reset.unit))
    week.at(104.5, reset.forget)  # what it recorded meanwhile is gone
    week.at(104.6, lambda: bus.away.discard(reset.unit))


def _swap(week: Week, swapped: LoggingMeter) -> LoggingMeter:
    """Exchange a meter for another at its unit; the configuration follows some hours later."""
    successor = week.modbus(swapped.unit, "AB000009")
    successor.powered = False
    name = f"WHO:{swapped.serial}"

    def exchange() -> None:
        swapped.powered, successor.powered = False, True
        week.bus.meters[swapped.unit] = successor

    async def follow() -> None:
        await week.p.poller.remove_meter(name)
        week.p.poller.add_meter(week.polled(successor))

    week.at(110, exchange)
    week.at(118, follow)
    return successor


def _check(week: Week, ledger: Ledger) -> None:
    """Hold what central has against what the meters did."""
    end = week.clock.now() - FAR_BEHIND
    stored: dict[str, Counter[datetime]] = {}
    revised = []
    for one in ledger.captures.each():
        if one.profile == BLOCK:
            stored.setdefault(one.meter, Counter())[one.at] += 1
            revised += [one.capture_id] * (one.value_rev > 1)
    assert revised == []
    gaps = [gap for gap in ledger.gaps.all() if gap.state in ("open", "unfillable")]
    assert {gap.reason for gap in gaps} <= {"not_in_meter", "not_read"}
    for name in (*week.logging, *week.dlms):
        held = stored[name]
        mine = [gap for gap in gaps if gap.meter == name]
        dlms = week.dlms.get(name)
        if dlms is None:
            recorded = Counter(at for at, _ in week.logging[name].memory)
            last = end if week.logging[name].powered else max(held)
        else:
            recorded = Counter(row.at for row in dlms.home.block_rows(BEGIN - 2 * HOUR, end))
            last = end
        # Once: whatever the meter still has is there, as often as it closed it, and nothing else is there twice.
        for at, times in recorded.items():
            if min(held) <= at <= last:
                assert held[at] == times, (name, at, "lost or doubled")
        assert all(times == 1 for at, times in held.items() if recorded[at] <= 1), name
        # Or declared: no interval from the first to the last is missing in silence.
        at = min(held)
        while at <= last:
            declared = any(gap.after < at <= gap.until for gap in mine)
            assert held[at] or declared, (name, at, "missing in silence")
            at += PERIOD
    assert {gap.meter for gap in gaps} >= {"WHO:AB000004", "WHO:AB000006"}
