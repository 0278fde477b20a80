"""A bus with dead meters on simulated time: the edge's own poller, true wire times, hours in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from bench.bus_roles import PACE, BusMeter, answer
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import DEFAULT_PERIODS, SETTLE, Schedule
from gateway.edge.push.layouts import PushLayouts
from protocols.known import Known
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.reading import ProfileName
from protocols.session import ModbusSettings, SessionContext
from protocols.simulator.modbus.frames import take_rtu
from tests.support.edge.memory_journal import MemoryJournal
from tests.support.fakes import NoCounters, NoSecrets
from tests.support.modbus.far_side import Act, Heard, paper_line
from tests.support.virtual_time import VirtualClock, run_virtually

BEGIN = datetime(2026, 11, 23, 10, 0, 1, tzinfo=UTC)
BUS = 32
DEAD = (1, 16, 31)
PERIOD = DEFAULT_PERIODS[ProfileName.INSTANTANEOUS]
SETTINGS = ModbusSettings(unit=1, model="sdm120")
BACK = timedelta(minutes=20)
"""How long the poller goes on after power is back."""


@dataclass
class DarkBus:
    """Meters of which some have no power until `back`, and every request that was made: when, to whom, answered."""

    meters: dict[int, BusMeter]
    dead: Collection[int]
    back: datetime
    asked: list[tuple[datetime, int, bool]] = field(default_factory=list)
    _cells: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)

    def __call__(self, heard: Heard) -> list[Act]:
        acts: list[Act] = []
        for asked in take_rtu(bytearray(heard.octets)):
            now = VirtualClock(BEGIN).now()
            lives = asked.unit not in self.dead or now >= self.back
            self.asked.append((now, asked.unit, lives))
            if lives:
                if asked.unit not in self._cells:
                    self._cells[asked.unit] = self.meters[asked.unit].cells()
                frame = asked.frame(asked.unit, answer(self._cells[asked.unit], asked.pdu))
                octets = len(heard.octets) + len(frame)
                acts.append((octets * PACE.octet + PACE.gap + self.meters[asked.unit].latency, frame))
        return acts

    def dead_spans(self) -> list[tuple[datetime, datetime]]:
        """Return when the wire was a dead meter's: until the next request, or until its late answer cannot come."""
        longest = timedelta(seconds=SETTINGS.timeout + SETTINGS.worst_latency)
        ends = [(at, unit, lives, until) for (at, unit, lives), (until, _, _) in pairwise(self.asked)]
        return [
            (at, min(until, at + longest))
            for at, unit, _, until in ends
            if unit in self.dead and at < self.back
        ]

    def waits(self) -> list[tuple[datetime, datetime]]:
        """Return when living meters waited: from their common due time until the last of them was begun."""
        living = {unit for unit in self.meters if unit not in self.dead}
        found: list[tuple[datetime, datetime]] = []
        due = BEGIN.replace(minute=15, second=0) + SETTLE
        while due + PERIOD <= self.back:
            first: dict[int, datetime] = {}
            for at, unit, _ in self.asked:
                if due <= at < due + PERIOD and unit in living:
                    first.setdefault(unit, at)
            assert first.keys() == living, f"units {living - first.keys()} were not read from {due}"
            found.append((due, max(first.values())))
            due += PERIOD
        return found

    def returned(self) -> float:
        """Return the seconds from the return of power until the last of the meters answered."""
        first: dict[int, datetime] = {}
        for at, unit, _ in self.asked:
            if at >= self.back and unit in self.dead:
                first.setdefault(unit, at)
        missing = set(self.dead) - first.keys()
        assert not missing, f"units {missing} were not asked in {BACK} of power"
        return max((at - self.back).total_seconds() for at in first.values())


async def _poll(bus: DarkBus) -> None:
    clock, journal, known = VirtualClock(BEGIN), MemoryJournal(), dict[Any, Any]()
    kept: Known = known
    book: Any = journal
    async with paper_line(bus, PACE) as line:
        poller = Poller(
            {"bus": line},
            [meter.polled("bus", "rtu") for meter in bus.meters.values()],
            collector=Collector(book, book, clock=clock, known=kept),
            open_session=partial(open_session, layouts=kept, memories=Memories(kept)),
            context=SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=clock),
            schedule=Schedule(),
            pushing=PushLayouts(clock),
        )
        running = asyncio.create_task(poller.run())
        await clock.sleep_until(bus.back + BACK)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def measure_dead(hours: float) -> dict[str, float]:
    """Poll a bus for some hours with dead meters, then give them power."""
    cost = wire = back = 0.0
    for dead in (*DEAD, BUS):
        meters = {unit: BusMeter("sdm120", unit, str(10_000_000 + unit), 0.03) for unit in range(1, BUS + 1)}
        bus = DarkBus(meters, range(1, dead + 1), BEGIN + timedelta(hours=hours))
        run_virtually(_poll(bus))
        returned = bus.returned()
        back = max(back, returned)
        if dead == BUS:
            print(f"{dead} of {BUS} dead: back in {returned:.0f} s (simulated)")
            continue
        spans, waits = bus.dead_spans(), bus.waits()
        elapsed = hours * 3600
        share = sum(_common(span, wait) for span in spans for wait in waits) / elapsed
        whole = sum((end - begin).total_seconds() for begin, end in spans) / elapsed
        print(
            f"{dead} of {BUS} dead for {hours:g} h (simulated): living ones wait {share:.2%} of the time for them,"
            f" {whole:.2%} of the wire in all; back in {returned:.0f} s"
        )
        cost, wire = max(cost, share), max(wire, whole)
    return {"dead_meter_cost": cost, "dead_meter_wire": wire, "return_s": back}


def _common(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> float:
    return max(0.0, (min(one[1], other[1]) - max(one[0], other[0])).total_seconds())
