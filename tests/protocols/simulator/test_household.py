"""The household is a pure function of seed and time, and its registers, rows and money agree."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.simulator.household.household import Household
from tests.support.steps import steps_of

START = datetime(2026, 10, 14, 18, 30, tzinfo=UTC)
END = START + timedelta(days=40)
seeds = st.integers(0, 10_000)
seconds = st.integers(0, int((END - START).total_seconds()))


def home(seed: int = 7, **kw: object) -> Household:
    return Household(seed, "GEN", "10000001", START, **kw)  # type: ignore[arg-type]


@settings(max_examples=40)
@given(seeds, st.lists(seconds, min_size=2, max_size=12), seconds)
def test_registers_never_fall(seed: int, moments: list[int], opened: int) -> None:
    meter = home(seed)
    meter.switch_relay(closed=False, at=START + timedelta(seconds=opened))
    meter.switch_relay(closed=True, at=START + timedelta(seconds=opened + 5000))
    states = [meter.state(START + timedelta(seconds=s)) for s in sorted(moments)]
    for before, after in pairwise(states):
        assert before.energy_import_wh <= after.energy_import_wh
        assert before.apparent_energy_vah <= after.apparent_energy_vah
        assert before.power_on_minutes <= after.power_on_minutes
        assert before.total_recharged_paise <= after.total_recharged_paise
    for state in states:
        assert state.apparent_va >= state.power_w >= 0
        assert state.power_w == 0 or (state.powered and state.relay_closed)
        assert (state.voltage_mv > 150_000) == state.powered


@settings(max_examples=30)
@given(seeds, seconds, st.integers(1, 30 * 48))
def test_block_rows_sum_to_register_differences(seed: int, opened: int, slots: int) -> None:
    meter = home(seed)
    meter.switch_relay(closed=False, at=START + timedelta(seconds=opened))
    until = START + timedelta(minutes=30 * slots)
    rows = meter.block_rows(START, until)
    first, last = meter.state(START), meter.state(until)
    assert sum(r.energy_import_wh for r in rows) == last.energy_import_wh - first.energy_import_wh
    assert sum(r.apparent_energy_vah for r in rows) == last.apparent_energy_vah - first.apparent_energy_vah
    assert [r.at for r in rows] == sorted({r.at for r in rows})
    for row in rows[:50]:
        begin = meter.state(row.at - timedelta(minutes=30))
        assert row.energy_import_wh == meter.state(row.at).energy_import_wh - begin.energy_import_wh


@settings(max_examples=25)
@given(seeds)
def test_no_rows_inside_cuts(seed: int) -> None:
    meter = home(seed)
    stored = {row.at for row in meter.block_rows(START, END)}
    power = [e for e in meter.event_rows(START, END) if e.log == 2]
    assert [e.sequence for e in power] == list(range(1, len(power) + 1))
    dark = set()
    for failed, back in zip(power[::2], power[1::2], strict=True):
        assert (failed.code, back.code) == (101, 102)
        assert not failed.state.powered
        assert back.state.powered
        slot = START
        while slot < back.at:
            if slot >= failed.at and slot + timedelta(minutes=30) <= back.at:
                dark.add(slot + timedelta(minutes=30))
            slot += timedelta(minutes=30)
    whole = {START + timedelta(minutes=30 * i) for i in range(1, 40 * 48 + 1)}
    assert stored == whole - dark


def test_balance_falls_with_use_and_rises_with_recharges() -> None:
    meter = home(3)
    fell = rose = 0
    for day in range(39):
        before, after = (meter.state(START + timedelta(days=day + d)) for d in (0, 1))
        paid = after.total_recharged_paise - before.total_recharged_paise
        used = after.energy_import_wh - before.energy_import_wh
        assert (after.balance_paise - before.balance_paise - paid < 0) == (used > 0 or paid == 0)
        fell += paid == 0
        rose += paid > 0
    assert fell
    assert rose


def test_relay_is_dated() -> None:
    meter = home(5, cuts_until=START)
    at = START + timedelta(days=36, hours=13, minutes=7)
    undisturbed = home(5, cuts_until=START)
    later = at + timedelta(hours=4)
    meter.state(END)
    meter.switch_relay(closed=False, at=at)
    assert meter.state(at - timedelta(seconds=1)) == undisturbed.state(at - timedelta(seconds=1))
    assert meter.state(later).power_w == 0
    assert meter.state(later).energy_import_wh == meter.state(at).energy_import_wh
    meter.switch_relay(closed=True, at=later)
    assert meter.state(later + timedelta(hours=1)).energy_import_wh > meter.state(later).energy_import_wh
    control = [(e.at, e.code, e.sequence) for e in meter.event_rows(START, END) if e.log == 6]
    assert control == [(at, 301, 1), (later, 302, 2)]
    with pytest.raises(ValueError, match="forward only"):
        meter.switch_relay(closed=False, at=at)


def test_clock_setting_is_logged_and_dated() -> None:
    meter = home(9)
    at = START + timedelta(days=2)
    before = meter.state(at - timedelta(hours=1)).clock_drift_s
    meter.set_clock(drift=0, at=at)
    assert meter.state(at).clock_drift_s == 0
    assert meter.state(at - timedelta(hours=1)).clock_drift_s == before
    assert [(e.code, e.log) for e in meter.event_rows(at - timedelta(seconds=1), at)] == [(151, 3)]


def test_maximum_demand_is_the_greatest_half_hour_of_the_month() -> None:
    meter = home(11)
    month = datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
    rows = meter.block_rows(month, END)
    assert meter.state(END).max_demand_w == max(2 * r.energy_import_wh for r in rows)
    (bill,) = meter.billing_rows(START, END)
    assert bill.at == month
    assert bill.max_demand_w == max(2 * r.energy_import_wh for r in meter.block_rows(START, month))
    assert meter.state(month).max_demand_w == 0


def test_a_meter_on_the_shelf_uses_nothing() -> None:
    meter = home(1, load_percent=0, prepaid=False)
    assert meter.state(END).energy_import_wh == meter.state(START).energy_import_wh
    assert meter.state(END).balance_paise == 0


def test_before_the_history_is_an_error() -> None:
    with pytest.raises(ValueError, match="begins"):
        home().state(START - timedelta(seconds=1))


def test_same_seed_same_rows_in_another_process() -> None:
    script = (
        "from datetime import *;from protocols.simulator.household.household import Household;"
        "s=datetime(2026,10,14,18,30,tzinfo=UTC);m=Household(7,'GEN','10000001',s);e=s+timedelta(days=35);"
        "print(hash((tuple(map(str,m.block_rows(s,e))),)) and "
        "__import__('hashlib').sha256(str((m.block_rows(s,e),m.event_rows(s,e),m.state(e))).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1
    assert len(runs.pop().strip()) == 64


def test_what_it_costs() -> None:
    """A household is made at once and shows its state at once; its rows cost what they are many."""
    assert steps_of(lambda: home(2)) <= 1_000
    meter, half, end = home(2), START + timedelta(days=17), START + timedelta(days=34)
    meter.state(end)
    assert steps_of(lambda: meter.state(end + timedelta(seconds=1))) <= 1_000
    rows = len(meter.block_rows(START, end))
    assert rows > 1550
    cost = steps_of(lambda: home(2).block_rows(START, end))
    assert cost <= 500 * rows
    assert cost <= 2.5 * steps_of(lambda: home(2).block_rows(START, half))
