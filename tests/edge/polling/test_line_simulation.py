"""Who has the line, on simulated time: dead meters, feeders that come back, random loads of every kind for months."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.turns import BURST, MOST_DEBT, TERMS, Claim, Turns
from protocols.reading import ProfileName
from tests.support.edge.line_simulation import T0, Job, LineSimulation, Meter, Turn, bus, cost

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIVE = ProfileName.INSTANTANEOUS


def seconds(simulation: LineSimulation) -> float:
    return (simulation.now - T0).total_seconds()


@pytest.mark.parametrize("minutes", [1, 15])
@pytest.mark.parametrize("dead", [1, 16, 31])
def test_dead_meters_cost_the_living_two_percent_at_most_and_are_back_in_a_minute(
    dead: int, minutes: int
) -> None:
    simulation = LineSimulation(bus(dead, until=T0 + 4 * HOUR, minutes=minutes))
    simulation.run(T0 + 4 * HOUR)
    lost = cost(simulation.turns, Urgency.SILENT)
    assert lost == pytest.approx(simulation.state.dead_cost, abs=0.01)
    assert lost <= 0.02 * seconds(simulation)
    assert cost(simulation.turns, Urgency.SILENT, gated=True) <= 0.0001 * seconds(simulation), (
        "idle wire is free"
    )
    for meter in list(simulation.meters.values())[dead:]:
        assert len(meter.visits) >= 4 * 60 // minutes, "the living miss nothing"
        assert all((began - wanted).total_seconds() <= 33 * 1.5 for wanted, began in meter.visits)
    simulation.run(T0 + 4 * HOUR + MINUTE)
    assert len(simulation.back) == dead
    assert max(max(times) for times in simulation.back.values()) <= 60


@pytest.mark.parametrize("dead", [1, 16, 31])
def test_a_dead_meter_that_comes_back_alone_is_back_in_a_minute(dead: int) -> None:
    meters = bus(dead, until=T0 + DAY)
    for n, meter in enumerate(meters[:dead]):
        meter.off = [(T0, T0 + 2 * HOUR + n * 7.3 * MINUTE)]
    simulation = LineSimulation(meters)
    simulation.run(T0 + 8 * HOUR)
    assert len(simulation.back) == dead
    assert max(max(times) for times in simulation.back.values()) <= 60
    assert cost(simulation.turns, Urgency.SILENT) <= 0.02 * seconds(simulation)


@pytest.mark.parametrize("dead", [1, 16, 31])
def test_on_a_line_without_idle_wire_dead_meters_have_their_two_percent_and_no_more(dead: int) -> None:
    """The living alone want more than there is: each of the dead is tried in its turn all the same."""
    meters = bus(dead, until=T0 + DAY, minutes=1, visit=59.5 if dead == 31 else 66.0 / (32 - dead))
    simulation = LineSimulation(meters)
    simulation.run(T0 + 12 * HOUR)
    turns = simulation.turns
    lost = cost(turns, Urgency.SILENT)
    first = sum(turn.seconds for turn in turns if turn.first_silence)
    assert lost <= 0.02 * seconds(simulation)
    assert lost >= (0.01 if dead == 31 else 0.018) * seconds(simulation), "what they may have they get"
    for meter in meters[:dead]:
        tried = [turn.began for turn in turns if turn.meter == meter.name]
        assert max(b - a for a, b in pairwise(tried)) <= timedelta(seconds=(1.2 * dead * 1.5 + first) / 0.019)


def test_a_meter_that_comes_and_goes_costs_the_living_its_own_failures_only() -> None:
    meters = bus(16, until=T0 + DAY)
    meters[0].off = [(T0 + n * MINUTE, T0 + n * MINUTE + 30 * timedelta(seconds=1)) for n in range(24 * 60)]
    simulation = LineSimulation(meters)
    simulation.run(T0 + DAY)
    assert cost(simulation.turns, Urgency.SILENT) <= 0.02 * seconds(simulation)


def test_an_order_waits_for_the_turn_in_hand_and_nothing_else() -> None:
    jobs = [Job(T0 + n * 97 * timedelta(seconds=1), Urgency.ORDERED, 3.0, 3.0) for n in range(800)]
    simulation = LineSimulation(bus(16, until=T0 + DAY, minutes=1), jobs)
    simulation.run(T0 + DAY)
    orders = [turn for turn in simulation.turns if turn.urgency is Urgency.ORDERED]
    assert len(orders) == 800
    assert max(turn.waited for turn in orders) <= 1.5 + 1e-6


def test_missing_rows_have_idle_wire_and_a_fifth_where_there_is_none() -> None:
    jobs = [Job(T0, Urgency.BACKFILL, 4.0, 4.0) for _ in range(400)]
    simulation = LineSimulation(bus(0, until=T0, minutes=1, visit=66.0 / 32), jobs)
    simulation.run(T0 + HOUR)
    lost = cost(simulation.turns, Urgency.BACKFILL)
    assert 0.19 * seconds(simulation) <= lost <= 0.2 * seconds(simulation) + 4
    idle = LineSimulation(bus(0, until=T0), jobs)
    idle.run(T0 + HOUR)
    assert not idle.pending(), "on an idle line all are read at once"
    assert cost(idle.turns, Urgency.BACKFILL) <= 0.01 * seconds(idle)


def test_within_an_urgency_the_earliest_deadline_is_first() -> None:
    turns, at = Turns(T0), [T0 + n * MINUTE for n in (3, 1, 2)]
    claims = [Claim(number=n, urgency=Urgency.BACKFILL, ready=T0, wanted_by=by) for n, by in enumerate(at, 1)]
    order = []
    while claims:
        claim = turns.next(claims, T0).claim
        assert claim is not None
        order.append(claim.number)
        claims.remove(claim)
    assert order == [2, 3, 1]


# -- random loads


@dataclass(frozen=True)
class Stream:
    """Jobs of one kind: every so many units, or all at once; `count` of them at most."""

    urgency: Urgency
    every: float
    long: float
    burst: bool

    def jobs(self, unit: timedelta, length: timedelta) -> list[Job]:
        count = min(200, int(length / (unit * self.every)))
        ats = [T0 + (0 * unit if self.burst else n * self.every * unit) for n in range(count)]
        return [Job(at, self.urgency, self.long, self.long) for at in ats]


@dataclass(frozen=True)
class Load:
    """A line's load for some days: the longer, the more rarely each thing happens."""

    days: int
    meters: tuple[tuple[int, float, float, float, tuple[tuple[float, int], ...]], ...]
    streams: tuple[Stream, ...]

    @property
    def length(self) -> timedelta:
        return self.days * DAY if self.days > 7 else self.days * DAY / 8

    def simulation(self) -> LineSimulation:
        unit, length = self.days * MINUTE, self.length
        meters = [
            Meter(
                f"GEN:{n}",
                {LIVE: unit * every, ProfileName.BLOCK_LOAD: unit * 5},
                visit=visit,
                silence=silence,
                quiet=quiet,
                off=[(T0 + at * length, T0 + at * length + timedelta(seconds=long)) for at, long in off],
            )
            for n, (every, visit, silence, quiet, off) in enumerate(self.meters)
        ]
        return LineSimulation(meters, [job for stream in self.streams for job in stream.jobs(unit, length)])


OUTAGES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.6, 0.9]), st.sampled_from([1, 20, 300, 3_600, 10_000])), max_size=3
)
METERS = st.tuples(
    st.sampled_from([1, 2, 5]),
    st.sampled_from([0.05, 0.4, 3.0, 12.0]),
    st.sampled_from([0.2, 1.0, 6.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    OUTAGES.map(tuple),
)
STREAMS = st.builds(
    Stream,
    urgency=st.sampled_from([Urgency.ORDERED, Urgency.BACKFILL, Urgency.CLOCK, Urgency.IDENTIFY]),
    every=st.sampled_from([0.05, 0.3, 2, 30]),
    long=st.sampled_from([0.1, 2.0, 10.0]),
    burst=st.booleans(),
)
LOADS = st.builds(
    Load,
    days=st.sampled_from([1, 7, 31, 92]),
    meters=st.lists(METERS, min_size=1, max_size=6).map(tuple),
    streams=st.lists(STREAMS, max_size=4).map(tuple),
)


class Used:
    """Seconds of turns of some urgencies that began in a span."""

    def __init__(self, turns: list[Turn], urgencies: Collection[Urgency]) -> None:
        mine = [turn for turn in turns if turn.claimed in urgencies]
        self._began = [turn.began for turn in mine]
        self._sums = list(accumulate((turn.seconds for turn in mine), initial=0.0))

    def between(self, begin: datetime, end: datetime) -> float:
        return self._sums[bisect_left(self._began, end)] - self._sums[bisect_left(self._began, begin)]


BACK_UNDER_ORDERS = Load(
    days=1,
    meters=((1, 0.05, 0.2, 0.0, ()), (1, 0.05, 6.0, 0.0, ((0.0, 300),))),
    streams=(Stream(Urgency.ORDERED, every=0.05, long=10.0, burst=False),),
)


@given(LOADS)
@example(BACK_UNDER_ORDERS)
@settings(max_examples=30)
def test_whatever_the_load_nobody_starves_and_nobody_takes_more_than_his_share(load: Load) -> None:
    simulation = load.simulation()
    simulation.run(T0 + load.length)
    turns, total = simulation.turns, seconds(simulation)
    longest = max((turn.seconds for turn in turns), default=0.0)
    assert all(a.free <= b.began for a, b in pairwise(turns)), "one talker at a time"
    for urgency, terms in TERMS.items():
        if urgency is not Urgency.DUE:
            taken = cost(turns, urgency, against=[Urgency.DUE], gated=True)
            assert taken <= terms.share * total + BURST + longest, urgency
    now = simulation.now
    waits = [*turns, *(Turn(job.urgency, job.urgency, job.at, now, now) for job in simulation.pending())]
    own = {urgency: Used(turns, [urgency]) for urgency in TERMS}
    others = Used(turns, list(TERMS))
    shares = sum(terms.share for terms in TERMS.values())
    for turn in waits:
        if turn.claimed is Urgency.ORDERED:
            # The turn in hand, and what the others may take of an order's time; other orders aside.
            took = others.between(turn.wanted, turn.began)
            assert took <= shares * (turn.waited + longest) + len(TERMS) * (BURST + longest), turn
        else:
            terms = TERMS[turn.claimed]
            mine = own[turn.claimed].between(turn.wanted, turn.began)
            most = terms.patience + (mine + MOST_DEBT + 2 * longest) / terms.share
            assert turn.waited <= most, (turn, most)
