"""A meter over months, against what is believed of it: glitches, resets, outages, restarts, and steps of any length."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import TypeAdapter

from protocols.modbus.belief.judge import Judge
from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.belief.plausible import ENOUGH, Found
from protocols.modbus.format.library import load_model
from protocols.reading import Number, Quantity, RemarkWord

IMPORT = Quantity.of("1-0:1.8.0")
KEPT: TypeAdapter[MeterMemory] = TypeAdapter(MeterMemory)
QUARTER = timedelta(minutes=15)
ENDS = {RemarkWord.RETURNED, RemarkWord.WENT_BACK, RemarkWord.WENT_AHEAD}
MOST_WH = 12_000
"""What a single-phase meter of 50 kW counts in a quarter of an hour, a little less."""


class MeterOverMonths(RuleBasedStateMachine):
    """`true` is what the meter has counted; `lies` wrong reads in a row, `since_reset` reads since it was reset."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = Judge(load_model("sdm120"))
        self.memory = MeterMemory(model="sdm120")
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.true = 700_000
        self.lies = 0
        self.since_reset: int | None = None
        self.doubted = False
        for _ in range(ENOUGH + 1):
            assert self.show(self.true)

    def show(self, value: int, *, again: int | None = None, after: timedelta = QUARTER) -> bool:
        """Let the meter show a value (and `again` a moment later); return whether it is believed."""
        self.at += after
        found = {IMPORT: Found(Number(value, 0, "Wh"))}
        verdict = self.judge.first(self.memory, found, self.at)
        if verdict.again:
            found[IMPORT] = Found(Number(value if again is None else again, 0, "Wh"))
            verdict = self.judge.second(self.memory, found, self.at, first=verdict)
        settled = self.judge.settle(self.memory, found, verdict, self.at)
        self.memory = replace(self.memory, believed=settled.believed, doubted=settled.doubted)
        for remark in settled.remarks:
            begins = remark.word not in ENDS and remark.word is not RemarkWord.ROLLED_OVER
            assert begins is not self.doubted, "each doubt begins once and ends once"
            self.doubted = begins
        assert self.doubted is bool(settled.suspect)
        return not settled.suspect

    @rule(wh=st.integers(0, MOST_WH), wavers=st.booleans())
    def counts(self, wh: int, wavers: bool) -> None:
        self.true += wh
        believed = self.show(self.true - (1 if wavers and not wh else 0))
        self.lies = 0
        if self.since_reset is None:
            assert believed, "the truth"
        else:
            self.since_reset += 1
            assert believed is (self.since_reset >= ENOUGH), "a reset is believed by the third read"
            if believed:
                self.since_reset = None

    @rule(kind=st.sampled_from(["zero", "x100", "low", "huge", "negative"]))
    def lies_once(self, kind: str) -> None:
        if self.since_reset is not None or self.lies >= ENOUGH - 1:
            return  # what is neither the old register nor the new one begins the count anew
        shown = {
            "zero": 0,
            "x100": 100 * self.true,
            "low": self.true - 300_000,
            "huge": 33 * 10**37,
            "negative": -5,
        }[kind]
        self.lies += 1
        assert not self.show(shown), "a lie"

    @rule(kind=st.sampled_from([0, 7]))
    def slips(self, kind: int) -> None:
        """One answer is wrong, the next is right: nobody hears of it."""
        if self.since_reset is None:
            assert self.show(kind, again=self.true)
            self.lies = 0

    @rule(days=st.integers(2, 60))
    def is_away(self, days: int) -> None:
        """A long outage, in which it counted on."""
        if self.since_reset is None:
            self.true += days * 100_000
            assert self.show(self.true, after=timedelta(days=days))
            self.lies = 0

    @rule(left=st.integers(1, 5_000))
    def is_reset(self, left: int) -> None:
        if self.since_reset is None and self.true > 500_000 + left:
            self.true, self.since_reset, self.lies = left, 0, 0

    @rule()
    def restarts(self) -> None:
        self.memory = KEPT.validate_json(KEPT.dump_json(self.memory))

    @invariant()
    def what_is_believed_is_near_the_truth(self) -> None:
        if self.since_reset is None:
            believed = self.memory.believed[str(IMPORT)].value
            assert believed.mantissa <= self.true


TestMeterOverMonths = MeterOverMonths.TestCase
TestMeterOverMonths.settings = settings(max_examples=150, stateful_step_count=40)
