"""Three-phase meters: phases add up to the totals, zones to the registers, reactive energy to its blocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import companion
from protocols.dlms.server.model import AccessDenied, AssociationPolicy
from protocols.reading import Obis, ProfileName
from protocols.session import Auth
from protocols.simulator.cosem.meter import Build
from protocols.simulator.cosem.model import UTILITY, HouseholdModel
from protocols.simulator.household.household import Household

START = datetime(2026, 10, 18, 18, 30, tzinfo=UTC)
NOW = START + timedelta(days=20, hours=9, minutes=17)


class Still:
    def now(self) -> datetime:
        return NOW


def household(category: str) -> Household:
    period = companion().categories[category].profiles[ProfileName.BLOCK_LOAD].capture_period
    return Household(8, "HPL", "20000001", START, three_phase=category != "D1", period=period)


def model(category: str) -> HouseholdModel:
    policies = {UTILITY: AssociationPolicy(auth=Auth.HLS2, secret=b"s" * 16, may_write=True)}
    return HouseholdModel(household(category), Still(), policies, build=Build(category=category))


@pytest.mark.parametrize("hours", [0, 3, 9, 12, 20])
def test_phases_add_up(hours: int) -> None:
    state = household("D2").state(NOW + timedelta(hours=hours))
    assert sum(p.power_w for p in state.phases) == state.power_w
    assert sum(p.apparent_va for p in state.phases) == state.apparent_va
    assert len({p.voltage_mv for p in state.phases}) == 3
    leading = state.reactive_var < 0
    assert all((p.power_factor_milli < 0) is leading for p in state.phases if p.power_w)
    assert state.reactive_var**2 <= (state.apparent_va + 1) ** 2


def test_reactive_energy_of_blocks_is_the_registers_difference() -> None:
    home = household("D3")
    low, high = NOW - timedelta(days=2), NOW
    blocks = home.block_rows(low, high)
    assert blocks[1].at - blocks[0].at == timedelta(minutes=15)
    first, last = home.state(blocks[0].at - timedelta(minutes=15)), home.state(blocks[-1].at)
    if len(blocks) == 192:  # without cuts every quarter of an hour is there
        for quadrant in range(4):
            total = last.reactive_varh[quadrant] - first.reactive_varh[quadrant]
            assert sum(b.reactive_varh[quadrant] for b in blocks) == total
    assert last.reactive_varh[0] > first.reactive_varh[0]
    assert last.reactive_varh[3] > first.reactive_varh[3]
    assert last.reactive_varh[1:3] == (0, 0)


def test_zones_add_up_to_the_register() -> None:
    home = household("D2")
    at = NOW
    zones, state = home.zones(at), home.state(at)
    assert len(zones) == 4
    assert (
        abs(sum(z.energy_import_wh for z in zones) - state.energy_import_wh) < 4
    )  # each is cut to a whole Wh
    assert max(z.max_demand_w for z in zones) == state.max_demand_w


def test_what_is_done_does_not_change_single_phase_readings() -> None:
    one, three = household("D1").state(NOW), household("D2").state(NOW)
    assert one.energy_import_wh == three.energy_import_wh
    assert one.balance_paise == three.balance_paise
    assert (one.phases, one.reactive_varh) == ((), (0, 0, 0, 0))


@pytest.mark.parametrize("category", ["D1", "D2", "D3"])
def test_every_declared_column_has_a_value_of_its_type(category: str) -> None:
    meter = model(category)
    for info in companion().categories[category].profiles.values():
        rows = meter.get(UTILITY, Target(7, info.obis)).items
        assert rows, info.name
        for row in rows:
            assert [c.tag for c in row.items] == [c.tag for c in info.columns], info.name
    for log in companion().categories[category].event_logs:
        captured = meter.get(UTILITY, Target(7, log.obis, 3)).items
        assert len(captured) == len(log.columns)
        for row in meter.get(UTILITY, Target(7, log.obis)).items:
            assert [c.tag for c in row.items] == [c.tag for c in log.columns]


def test_a_meter_behind_transformers_has_ratios_and_no_relay() -> None:
    meter = model("D3")
    assert meter.get(UTILITY, Target(1, Obis(1, 0, 0, 4, 2))).integer == 20
    assert meter.get(UTILITY, Target(7, Obis(1, 0, 99, 1, 0), 4)).integer == 900
    for class_id, obis in ((70, Obis(0, 0, 96, 3, 10)), (71, Obis(0, 0, 17, 0, 0))):
        with pytest.raises(AccessDenied) as refused:
            meter.get(UTILITY, Target(class_id, obis))
        assert refused.value.code == 4
