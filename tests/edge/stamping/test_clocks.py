"""What a poll says of times: runs of a meter's clock, and when a row truly came though our clock was set meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.edge.stamping.clocks import (
    MeterClocks,
    MeterEvidence,
    Receipts,
)
from gateway.timekeeping.clock import EvidenceClock
from gateway.timekeeping.evidence import Observation, Voice
from protocols.reading import MeterClock, Number, ProfileName, Quantity, ReadingSet
from tests.support.fakes import HandClock

T0 = datetime(2026, 11, 30, 6, tzinfo=UTC)
H5_30 = timedelta(hours=5, minutes=30)


class Machine(HandClock):
    """A gateway's machine: `at` is what its clock shows, `ran` its steady clock, `true` the time."""

    def __init__(self) -> None:
        super().__init__(T0)
        self.true, self.ran = T0, 5_000.0
        self.clock = EvidenceClock(clock=self, steady=lambda: self.ran, boot="b00t", sources=[])
        self.meters = MeterClocks(self.clock)

    def run(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.true += timedelta(seconds=seconds)
        self.ran += seconds

    def learn(self) -> None:
        self.clock.observe(
            Observation(voice=Voice.CENTRAL, source="central", steady=self.ran, instant=self.true, error=0.5)
        )

    def look(self, ahead: timedelta = timedelta(0), status: int = 0, takes: float = 0.0) -> MeterEvidence:
        seen = MeterClock(meter=self.true + ahead, gateway=self.at, deviation=330, status=status, takes=takes)
        return self.meters.seen("GEN:1", seen)

    def row(self) -> ReadingSet:
        return ReadingSet(
            profile=ProfileName.INSTANTANEOUS,
            at=self.at,
            values=((Quantity.of("1-0:12.7.0*255"), Number(230, 0, "V")),),
            received_at=self.at,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def told(row: ReadingSet, machine: Machine, evidence: MeterEvidence) -> dict[str, object]:
    return dict(json.loads(Receipts(machine.clock, evidence).evidence(row) or "{}"))


def test_a_gateway_that_knows_nothing_tells_where_its_steady_clock_stood(machine: Machine) -> None:
    evidence = machine.look(H5_30)
    assert evidence.trusted  # who does not know the time calls no meter wrong
    machine.run(3)
    row = machine.row()
    machine.run(20)
    assert told(row, machine, evidence) == {"steady": "b00t/5003.000", "drift": "19800.000", "held": 0}
    assert not Receipts(machine.clock, evidence).known(row)


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(minutes=-25), timedelta(days=-900)])
def test_a_clock_that_is_set_between_reading_and_stamping_deceives_nobody(
    machine: Machine, jump: timedelta
) -> None:
    """The row says when it came by the clock as it was; the steady clock says which of the two was meant."""
    machine.at += jump
    evidence = machine.look()
    machine.run(3)
    row = machine.row()
    machine.run(2)
    machine.at = machine.true  # NTP comes and sets it right
    machine.learn()
    assert machine.clock.disciplined()
    assert Receipts(machine.clock, evidence).steady(row) == pytest.approx(5_003)
    assert not Receipts(machine.clock, evidence).known(row)
    assert str(told(row, machine, evidence)["steady"]) == "b00t/5003.000"


def test_a_clock_that_is_set_between_the_meter_s_answer_and_our_look_makes_no_meter_wrong(
    machine: Machine,
) -> None:
    """The answer came while our clock was three days slow; it is judged when ours is right."""
    machine.at -= timedelta(days=3)
    answer = MeterClock(meter=machine.true, gateway=machine.at, deviation=330, status=0, steady=machine.ran)
    machine.run(2)
    machine.at = machine.true
    machine.learn()
    evidence = machine.meters.seen("GEN:1", answer)
    assert evidence.known
    assert evidence.trusted
    assert evidence.drift == 0
    assert evidence.looked == 5_000


def test_what_came_with_an_earlier_list_speaks_of_the_time_when_it_came(machine: Machine) -> None:
    for number in range(5):
        answer = MeterClock(
            meter=machine.true, gateway=machine.at, deviation=330, status=0, steady=machine.ran
        )
        machine.run(15)
        assert machine.meters.seen(f"GEN:{number}", answer).drift == 0
    assert machine.clock.refresh().offset == pytest.approx(0, abs=1)


def test_a_meter_that_was_looked_at_by_a_doubtful_clock_is_not_trusted_by_a_sure_one(
    machine: Machine,
) -> None:
    evidence = machine.look(H5_30)
    machine.learn()
    row = machine.row()
    assert not Receipts(machine.clock, evidence).known(row)
    again = machine.look(H5_30)
    assert Receipts(machine.clock, again).known(row)
    assert not again.trusted
    assert told(row, machine, again) == {"drift": "19800.000", "held": 0}


def test_a_receipt_that_fits_neither_clock_is_unknown_for_good(machine: Machine) -> None:
    evidence = machine.look()
    row = replace(machine.row(), received_at=T0 + timedelta(days=7))
    assert Receipts(machine.clock, evidence).steady(row) is None
    assert told(row, machine, evidence)["steady"] == "unknown/0.000"


def test_a_run_of_the_meters_clock_is_measured_by_the_steady_one(machine: Machine) -> None:
    machine.look()
    machine.run(1_800)
    machine.at += timedelta(hours=2)  # ours jumps: that is none of the meter's
    evidence = machine.look()
    assert (evidence.held, evidence.former) == (1_800, None)
    machine.run(1_800)
    evidence = machine.look(timedelta(seconds=40))
    assert (evidence.held, evidence.former) == (3_600, None)


def test_a_meter_that_is_set_begins_a_new_run_and_its_rows_are_suspect(machine: Machine) -> None:
    machine.learn()
    assert not machine.look(H5_30).trusted
    machine.run(1_800)
    evidence = machine.look()
    assert (evidence.trusted, evidence.held, round(evidence.former or 0)) == (True, 0, 19_800)
    before, after = machine.row(), replace(machine.row(), at=machine.true + H5_30 + timedelta(seconds=1))
    assert not evidence.trusts(replace(before, at=machine.true + timedelta(hours=5)))
    assert evidence.trusts(after)
    machine.run(1_800)
    assert machine.look().held == 1_800


def test_a_meters_drift_is_told_against_the_clock_by_which_the_row_came(machine: Machine) -> None:
    """Looked at by a right clock, read by one that was set 25 minutes back: the meter was right all the time."""
    evidence = machine.look()
    machine.run(3)
    machine.at -= timedelta(minutes=25)
    row = machine.row()
    machine.run(1)
    assert told(row, machine, evidence) == {"steady": "b00t/5003.000", "drift": "1500.000", "held": 0}


def test_a_clock_that_was_set_twice_during_a_poll_is_followed(machine: Machine) -> None:
    evidence = machine.look()
    machine.run(10)
    machine.at -= timedelta(minutes=25)
    assert not machine.clock.disciplined()  # somebody stamps another meter meanwhile
    machine.run(10)
    row = machine.row()
    machine.run(10)
    machine.at += timedelta(days=3)
    assert told(row, machine, evidence) == {"steady": "b00t/5020.000", "drift": "1500.000", "held": 0}


def test_a_question_that_took_long_proves_no_drift(machine: Machine) -> None:
    """Over a radio link, or on a machine that has much to do, the answer is older than it seems."""
    machine.learn()
    off = timedelta(minutes=20)
    assert not machine.look(off, takes=500.0).trusted
    assert machine.look(off, takes=700.0).trusted, "it may be 5 min 50 s less"
    machine.run(60)
    evidence = machine.look(-off, takes=2_000.0)
    assert evidence.suspect_until is None, "nor is it a jump of the meter's clock"
