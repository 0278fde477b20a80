"""What is believed of a register's values: cases from public reports, and a model of a meter that sometimes lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.belief.judge import Judge, all_bits_set
from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.belief.plausible import Found, step
from protocols.modbus.belief.rules import energy_kind, limits_of, rules_of
from protocols.modbus.format.library import load_model
from protocols.reading import Missing, MissingReason, Number, Quantity, RemarkWord, Value

START = datetime(2026, 11, 23, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
IMPORT, EXPORT = Quantity.of("1-0:1.8.0"), Quantity.of("1-0:2.8.0")
VOLTAGE, FREQUENCY, CURRENT = Quantity.of("1-0:12.7.0"), Quantity.of("1-0:14.7.0"), Quantity.of("1-0:11.7.0")


def wh(value: int | str, scaler: int = 0) -> Number:
    return Number(int(value), scaler, "Wh")


class Register:
    """One meter of a model, read again and again; `asked` counts the second reads."""

    def __init__(self, model: str = "sdm120", *, sanctioned_load: Decimal | None = None) -> None:
        self._judge = Judge(load_model(model), sanctioned_load)
        self.memory = MeterMemory(model=model)
        self.at = START
        self.asked = 0
        self.words: list[RemarkWord] = []

    def read(
        self,
        value: Value,
        *,
        quantity: Quantity = IMPORT,
        after: timedelta = QUARTER,
        again: Value | None = None,
    ) -> bool:
        """Read one quantity, `again` being what a second read gives; return whether it is believed."""
        return (
            self.read_set({quantity: value}, after=after, again={} if again is None else {quantity: again})
            == []
        )

    def read_set(
        self,
        values: dict[Quantity, Value],
        *,
        after: timedelta = QUARTER,
        again: dict[Quantity, Value] | None = None,
        unset: Sequence[Quantity] = (),
    ) -> list[Quantity]:
        """Read some quantities; return those that are suspect."""
        self.at += after
        found = {q: Found(value, q in unset) for q, value in values.items()}
        verdict = self._judge.first(self.memory, found, self.at)
        if verdict.again:
            self.asked += 1
            found |= {q: Found(value) for q, value in (again or {}).items() if q in verdict.again}
            verdict = self._judge.second(self.memory, found, self.at, first=verdict)
        settled = self._judge.settle(self.memory, found, verdict, self.at)
        self.memory = replace(self.memory, believed=settled.believed, doubted=settled.doubted)
        self.words = [remark.word for remark in settled.remarks]
        return list(settled.suspect)


def known(*values: int, model: str = "sdm120", step: timedelta = QUARTER) -> Register:
    register = Register(model)
    for value in values:
        assert register.read(wh(value), after=step), value
    return register


def test_zeros_after_power_up_are_read_twice_suspect_and_forgotten_when_the_register_is_back() -> None:
    register = known(1_234_560)
    assert not register.read(wh(0))
    assert register.words == [RemarkWord.ZEROED]
    assert register.read(wh(1_234_560))
    assert register.words == [RemarkWord.RETURNED]


def test_a_zero_that_the_second_read_does_not_show_is_nobodys_news() -> None:
    register = known(1_234_560)
    assert register.read(wh(0), again=wh(1_234_600))
    assert (register.words, register.asked) == ([], 2)
    assert register.memory.believed[str(IMPORT)].value == wh(1_234_600)


def test_a_register_that_falls_and_one_that_is_a_hundred_times_as_high_once_are_suspect() -> None:
    register = known(1_000_000, 1_000_300)
    assert not register.read(wh(1_000_200))
    assert register.words == [RemarkWord.FELL]
    assert register.read(wh(1_000_500))
    assert not register.read(wh(100_050_000))
    assert register.words == [RemarkWord.JUMPED]
    assert register.read(wh(1_000_700))


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Number(33 * 10**37, 0, "Wh"), RemarkWord.BEYOND_LIMITS),
        (wh(-5), RemarkWord.BEYOND_LIMITS),
        (Missing(MissingReason.SENTINEL), RemarkWord.UNREADABLE),
        (Missing(MissingReason.OUT_OF_RANGE), RemarkWord.UNREADABLE),
    ],
)
def test_what_no_register_can_show_is_suspect(value: Value, word: RemarkWord) -> None:
    register = known(5_000)
    assert not register.read(value)
    assert register.words == [word]
    assert not register.read(value)
    assert register.words == [], "it is told once"
    assert register.read(wh(5_100))


def test_a_power_of_more_than_its_kind_of_meter_can_carry_is_suspect() -> None:
    power = Quantity.of("1-0:16.7.0")
    house = Register(sanctioned_load=Decimal(1))
    assert house.read_set({power: Number(9_800, 0, "W")}) == [], "a motor starts"
    assert house.read_set({power: Number(98_000, 0, "W")}) == [power]
    assert Register("abb-b23").read_set({power: Number(98_000, 0, "W")}) == []


def test_a_value_that_the_meter_does_not_have_is_no_news() -> None:
    register = Register()
    assert register.read(Missing(MissingReason.SENTINEL))
    assert register.read(Missing(MissingReason.METER_REFUSED))


def test_all_bits_set_are_suspect_until_a_register_is_known_to_stand_there() -> None:
    register = Register("abb-b23")
    last = wh((1 << 32) - 1)
    assert register.read_set({IMPORT: wh(7), CURRENT: Number(65_535, -2, "A")}, unset=[]) == []
    assert register.read_set({EXPORT: last}, unset=[EXPORT]) == [EXPORT]
    assert register.words == [RemarkWord.UNSET]
    grown = known((1 << 32) - 100)
    assert grown.read_set({IMPORT: last}, unset=[IMPORT]) == [], "it follows what was believed"


def test_a_register_that_goes_back_and_stays_is_the_new_base_after_three_reads() -> None:
    register = known(9_000_000, 9_000_100)
    assert not register.read(wh(500))
    assert not register.read(wh(600))
    assert register.read(wh(700))
    assert register.words == [RemarkWord.WENT_BACK]
    assert register.read(wh(800))
    assert register.words == []


def test_three_reads_within_a_meters_start_do_not_make_a_new_base() -> None:
    register = known(9_000_000)
    second = timedelta(seconds=1)
    for value in (5, 5, 6, 6, 7):
        assert not register.read(wh(value), after=second)
    assert register.read(wh(9_000_000), after=second)


def test_a_register_at_zero_is_not_a_new_base_before_it_grows() -> None:
    register = known(9_000_000)
    for _ in range(20):
        assert not register.read(wh(0))
    for value in (10, 20, 30):
        believed = register.read(wh(value))
    assert believed, "three reads of a register that grows"
    idle = known(9_000_000)
    kept = [idle.read(wh(0)) for _ in range(100)]
    assert kept.index(True) == 96, "or a day"


def test_a_register_that_stays_far_higher_is_suspect_for_a_day() -> None:
    """A factor that was set wrong stays, too: somebody has a day to see the event."""
    register = known(100_000, 100_100, 100_200, 100_300)
    believed = [register.read(wh(10_030_000 + n)) for n in range(100)]
    assert believed.index(True) == 96
    assert known(0).read(wh(100)), "a new register grows"


def test_a_wrong_first_base_does_not_last() -> None:
    """A meter that is met while it starts up shows zero twice; three reads put it right, not a day."""
    register = Register()
    assert register.read(wh(0), again=wh(0))
    assert [register.read(wh(1_234_560)) for _ in range(3)] == [False, False, True]


def test_a_first_read_that_the_second_contradicts_is_believed_by_neither() -> None:
    register = Register()
    assert not register.read(wh(0), again=wh(1_234_560))
    assert register.memory.believed == {}
    assert register.read(wh(1_234_560))


@pytest.mark.parametrize(
    ("value", "believed"),
    [(Number(0, 1, "Wh"), True), (Number(300, 1, "Wh"), True), (Number(10**8, 1, "Wh"), False)],
)
def test_a_step_over_the_end_of_an_integer_register_is_exact(value: Number, believed: bool) -> None:
    rules = rules_of(load_model("abb-b23"))[IMPORT]
    assert rules.turns == (1 << 64,)
    end = Number((1 << 64) - 1, 1, "Wh")
    assert (step(rules, end, START, value, START + QUARTER) is None) is believed


def test_a_float_has_no_end_to_begin_again_at() -> None:
    register = known(1 << 32)
    assert not register.read(wh(10))


def test_a_long_outage_allows_a_large_step_and_a_short_one_does_not() -> None:
    register = known(100_000)
    assert not register.read(wh(600_000))
    assert register.read(wh(600_000), after=timedelta(days=30))


def test_the_sanctioned_load_bounds_the_step() -> None:
    small = Register(sanctioned_load=Decimal(2))
    assert small.read(wh(10_000))
    assert small.read(wh(11_000))
    assert not small.read(wh(20_000)), "9 kWh in a quarter of an hour are 36 kW"
    assert known(10_000).read(wh(19_000))


def test_a_float_that_wavers_by_its_last_digit_is_believed_and_does_not_creep_down() -> None:
    register = Register()
    assert register.read(Number(131_072_016, 0, "Wh"))
    assert register.read(Number(131_072_000, 0, "Wh")), "one step of a 32-bit float of that size"
    assert not register.read(Number(131_071_900, 0, "Wh"))
    creeping = Register()
    believed = [creeping.read(wh(100 - n)) for n in range(5)]
    assert believed[:2] == [True, True]
    assert not all(believed)


def test_a_register_of_whole_kilowatt_hours_may_step_by_one_at_any_moment() -> None:
    register = Register()
    assert register.read(Number(7, 3, "Wh"))
    assert register.read(Number(8, 3, "Wh"), after=timedelta(seconds=5))


def test_export_and_net_registers() -> None:
    register = Register()
    for value in (0, 0, 50, 100):
        assert register.read(wh(value), quantity=EXPORT)
    assert not register.read(wh(20), quantity=EXPORT)
    net = Quantity.of("1-0:16.8.0")
    assert (energy_kind(net), energy_kind(Quantity.of("1-0:36.8.0"))) == ("net", "net")
    assert energy_kind(Quantity.of("1-0:61.8.0")) == "growing"
    assert energy_kind(Quantity.of("1-0:1.29.0")) is None
    assert limits_of(Quantity.of("1-0:33.7.0"), Decimal(50_000))[1] == Decimal("1.05")


def test_a_model_that_does_not_fit_makes_everything_suspect_that_nothing_else_confirms() -> None:
    """A wrong word order: the voltage cannot be, so what has no history is not believed either."""
    register = known(1_000)
    volts = Number(2, -1, "V")
    values: dict[Quantity, Value] = {
        IMPORT: wh(1_100),
        EXPORT: wh(77),
        VOLTAGE: volts,
        CURRENT: Number(5, 0, "A"),
    }
    assert set(register.read_set(values)) == {EXPORT, VOLTAGE, CURRENT}
    assert register.words == [RemarkWord.MODEL_DOUBTED]


def test_a_low_voltage_is_a_fact_and_a_dead_supply_is_none() -> None:
    register = known(1_000)
    assert register.read_set({IMPORT: wh(1_100), VOLTAGE: Number(1_200, -1, "V")}) == []
    zeros: dict[Quantity, Value] = {
        IMPORT: wh(1_100), VOLTAGE: Number(0, -1, "V"), FREQUENCY: Number(0, -2, "Hz"), CURRENT: Number(0, -3, "A"),
    }  # fmt: skip
    assert set(register.read_set(zeros)) == {VOLTAGE, FREQUENCY, CURRENT}
    assert register.words == [RemarkWord.ZEROED]


BALANCE, RELAY = Quantity.of("0-0:94.96.24"), Quantity.of("0-0:96.3.10")


def inr(paise: int) -> Number:
    return Number(paise, -2, "INR")


def test_a_balance_that_is_suddenly_nothing_is_suspect_and_one_that_was_spent_is_not() -> None:
    register = Register("sdm320y-sim")
    assert register.read_set({BALANCE: inr(900_000), RELAY: Number(1)}) == []
    assert register.read_set({BALANCE: inr(0), RELAY: Number(0)}) == [BALANCE, RELAY]
    assert register.words == [RemarkWord.ZEROED]
    assert register.read_set({BALANCE: inr(880_000), RELAY: Number(1)}) == [], (
        "recharges and deductions are free"
    )
    assert register.read_set({BALANCE: inr(2_000), RELAY: Number(1)}) == []
    assert register.read_set({BALANCE: inr(0), RELAY: Number(0)}) == [], "twenty rupees are soon spent"
    assert register.read_set({BALANCE: inr(5_000_000), RELAY: Number(1)}) == []
    believed = [register.read_set({BALANCE: inr(0), RELAY: Number(1)}) == [] for _ in range(4)]
    assert believed == [False, False, True, True], "arrears may have taken it all"


def test_a_status_word_may_have_all_its_bits_set() -> None:
    model = load_model("sdm320y-sim")
    relay = model.of_quantity(str(RELAY))
    assert not all_bits_set(model, relay, [0xFFFF] * relay.size)
    balance = model.of_quantity(str(BALANCE))
    assert all_bits_set(model, balance, [0x7FFF] + [0xFFFF] * (balance.size - 1)) is (balance.type[0] == "s")


def test_a_dead_phase_is_believed_where_another_one_stands() -> None:
    one, two = Quantity.of("1-0:32.7.0"), Quantity.of("1-0:52.7.0")
    register = Register("abb-b23")
    assert register.read_set({one: Number(0, -1, "V"), two: Number(2_300, -1, "V")}) == []
    assert register.read_set({one: Number(0, -1, "V"), two: Number(0, -1, "V")}) == [one, two]


SHOWN = st.sampled_from(["true", "zero", "x100", "low", "huge"])


@given(st.lists(st.tuples(st.integers(0, 5_000), SHOWN), max_size=40))
def test_a_lie_is_never_believed_and_the_truth_always_is(steps: list[tuple[int, str]]) -> None:
    """Whatever lies come in between, never three alike in a row: the truth is believed, and nothing else is."""
    register = known(1_000_000, 1_000_001, 1_000_002, 1_000_003)
    true, lies = 1_000_003, 0
    for used, what in steps:
        true += used
        lies = 0 if what == "true" else lies + 1
        if lies >= 3:
            what, lies = "true", 0
        shown = {"true": true, "zero": 0, "x100": 100 * true, "low": true - 300_000, "huge": 33 * 10**37}[
            what
        ]
        assert register.read(wh(shown)) == (what == "true"), (what, shown)


@given(st.integers(0, 900_000), st.lists(st.integers(0, 3_000), min_size=3, max_size=30))
def test_a_meter_that_was_reset_is_believed_again_after_three_reads_that_agree(
    low: int, used: list[int]
) -> None:
    register = known(5_000_000, 5_000_001, 5_000_002, 5_000_003)
    believed = []
    for more in used:
        low += more + 1
        believed.append(register.read(wh(low)))
    assert believed[:2] == [False, False]
    assert all(believed[3:])
