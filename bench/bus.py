"""What reading Modbus meters costs a bus, beside the optimal plan's wire time and pymodbus in a plain loop, in one run.

A process of its own is the bus, on a pty at 9600 8N1 in true time: start and stop bits, t3.5, each meter's own time
before it answers (15 to 60 ms); `requests_early` are those that came before t3.5. The edge reads 30 meters with its
journal, all profiles due, once it knows them. `efficiency_30_meters`: wire time of the optimal plans of these meters
÷ the bus's time from the first octet to the last, less what the bus itself was late by; the least of three models, or,
quick, of one bus with all three. `vs_pymodbus_blocks`: the time that pymodbus' client takes for the optimal blocks,
one after the other, ÷ ours. `plan_excess`: cost of our plans with blocks of distinct lengths ÷ of the cheapest of all
plans there are, over random maps of up to seven values; `plan_excess_most` the worst of them. `tcp_meters_per_s`:
meters read per second over Modbus TCP from a process that answers at once, eight on a connection; `rss_per_1000_meters`
the edge's resident octets for 1,000 of them.

On simulated time: `dead_meter_cost` is the share of the line's time that living meters of a bus of 32 wait for dead
ones, with 1, 16 and 31 of them dead (the most of the three), `dead_meter_wire` what dead meters take of it in all, idle
wire included; `return_s` the seconds from the return of power to the last meter's answer after hours without, the most
of these. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bus_dead import measure_dead
from bench.bus_roles import BAUD, LIVE, PACE, UNITS, BusMeter, Edge, quiet
from bench.role import Role, running
from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock
from protocols.lines.serial import SerialLine
from protocols.modbus.decoding.values import spans_of
from protocols.modbus.format.library import load_model
from protocols.modbus.planning.plan import ReadLimits, RegisterBlock, RegisterSpan, plan
from protocols.modbus.planning.wire_time import wire_cost
from protocols.modbus.session.reader import limits_of
from tests.support.modbus.all_plans import least_cost

role = partial(running, Path(__file__).parent / "bus_roles.py")
MODELS = ("abb-b23", "sdm120", "sdm320y-sim")
METERS = 30
LATENCIES = (0.015, 0.022, 0.03, 0.042, 0.06)
"""Seconds before a meter answers, beyond t3.5."""


def argument(meters: Sequence[BusMeter]) -> str:
    """Return meters as the roles take them."""
    return json.dumps([astuple(meter) for meter in meters])


def meters_on(models: Sequence[str], count: int, *, units: int = 247) -> list[BusMeter]:
    """Return meters of these models in turn, with latencies in turn."""
    return [
        BusMeter(
            model=models[number % len(models)],
            unit=number % units + 1,
            serial=str(10_000_000 + number),
            latency=LATENCIES[number % len(LATENCIES)],
        )
        for number in range(count)
    ]


def optimal(meter: BusMeter) -> tuple[list[RegisterBlock], float]:
    """Return the cheapest requests for all that is due of a meter, and their wire time in seconds."""
    model = load_model(meter.model)
    spans = spans_of(model, (r for p in LIVE for r in model.of_profile(p)))
    cost = wire_cost("rtu", PACE, meter.latency)
    blocks = plan(spans, limits_of(model), cost)
    exact = 13 * PACE.octet + 2 * PACE.gap + meter.latency
    return list(blocks), sum(exact + 2 * block.count * PACE.octet for block in blocks)


def measure_bus(models: Sequence[str], rounds: int) -> dict[str, float]:
    """Read 30 meters of these models on one bus, then let pymodbus read the same blocks."""
    meters = meters_on(models, METERS)
    plans = {meter.unit: optimal(meter) for meter in meters}
    least = sum(seconds for _, seconds in plans.values())
    blocks = [(unit, b.function, b.address, b.count) for unit, (found, _) in plans.items() for b in found]
    with role("bus", argument(meters)) as wire, role("bus", argument(meters)) as other:
        # The peer reads a bus of its own while ours becomes known to the edge, and has ended when that is measured.
        device = wire.hear()["device"]
        with role("pymodbus", other.hear()["device"], 1, json.dumps(blocks)) as peer:
            ours = asyncio.run(_read(device, meters, wire, peer, rounds))
        theirs = other.ask()
    took = min(_span(one) for one in ours)
    best = min(ours, key=_span)
    print(
        f"{', '.join(models)}: optimum {least:.2f} s, ours {took:.2f} s in {best['requests']} requests for"
        f" {best['registers']} registers ({best['wire']:.2f} s on the wire, idle {best['idle']:.2f} s, between meters"
        f" {best['between']:.2f} s, {best['early']} early), pymodbus"
        f" {_span(theirs):.2f} s in {theirs['requests']}"
    )
    return {
        "efficiency": least / took,
        "peer": _span(theirs) / took,
        "early": sum(one["early"] for one in ours),
    }


def _span(counted: dict[str, Any]) -> float:
    return float(counted["ended"] - counted["begun"] - counted["late"])


async def _read(
    device: str, meters: Sequence[BusMeter], wire: Role, peer: Role, rounds: int
) -> list[dict[str, Any]]:
    """Return what the bus counted in each round, after the one in which the meters become known."""
    line = SerialLine("bus", device, baud=BAUD)
    with tempfile.TemporaryDirectory() as made:
        journal = await Journal.open(Path(made) / "journal.db", clock=SystemClock())
        edge = Edge(Path(made), journal, {"bus": line}, [meter.polled("bus", "rtu") for meter in meters])
        await edge.round()
        wire.ask()
        assert peer.hear()["failed"] == 0, "pymodbus did not read all blocks"
        found = []
        for _ in range(rounds):
            await edge.round()
            found.append(wire.ask())
        await edge.end()
        await line.close()
        await journal.close()
    return found


def measure_plans(maps: int) -> dict[str, float]:
    """Plan random maps, and try all plans of each."""
    rng = random.Random(11)
    ours = least = 0.0
    most = 1.0
    for _ in range(maps):
        align = rng.choice((1, 1, 2))
        places = rng.sample(range(0, 160, 4), rng.randint(2, 7))
        spans = [RegisterSpan(3, place + rng.choice((0, align)), 2) for place in places]
        limits = ReadLimits(max_read=rng.choice((20, 60, 125)), align=align)
        cost = wire_cost("rtu", PACE, rng.choice(LATENCIES))
        planned = sum(cost.of(block.count) for block in plan(spans, limits, cost, distinct=True))
        cheapest = least_cost(spans, limits, cost)
        ours, least = ours + planned, least + cheapest
        most = max(most, planned / cheapest)
    return {"plan_excess": ours / least, "plan_excess_most": most}


def measure_tcp(count: int) -> dict[str, float]:
    """Read meters behind Modbus TCP."""
    meters = meters_on(MODELS, count, units=UNITS)
    with role("gateways", argument(meters)) as served:
        with role("tcp", json.dumps(served.hear()["ports"]), argument(meters)) as edge:
            found = edge.hear()
    return {
        "tcp_meters_per_s": found["meters_per_s"],
        "rss_per_1000_meters": found["rss_per_meter"] * 1000,
    }


def main(*, quick: bool) -> None:
    """Measure and print; `quick` reads one bus with three models, and fewer meters."""
    quiet()
    result = measure_plans(40 if quick else 300)
    buses = [measure_bus(MODELS, 1)] if quick else [measure_bus((model,), 3) for model in MODELS]
    result["efficiency_30_meters"] = min(one["efficiency"] for one in buses)
    result["vs_pymodbus_blocks"] = min(one["peer"] for one in buses)
    result["requests_early"] = sum(one["early"] for one in buses)
    result |= measure_tcp(120 if quick else 1000)
    result |= measure_dead(1 if quick else 8)
    for name, goal in (
        ("efficiency_30_meters", ">= 0.97"),
        ("vs_pymodbus_blocks", ">= 1.0"),
        ("plan_excess", "<= 1.02"),
        ("dead_meter_cost", "<= 0.02"),
        ("return_s", "<= 60"),
    ):
        print(f"{name:26} {result[name]:8.3f}   goal {goal}")
    print(json.dumps({key: round(value, 4) for key, value in result.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="end within 50 s")
    main(quick=parser.parse_args().quick)
