"""What orders do to a simulated meter: calendars, schedules, scripts, resets, periods, alerts, messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    double_long_unsigned,
    enum,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.server.model import AccessDenied
from protocols.dlms.session import DlmsSession
from protocols.reading import Obis, ProfileName
from protocols.simulator.cosem.control import (
    BILLING_SCHEDULE,
    CALENDAR_OBIS,
    LIMITER_OBIS,
    MESSAGES,
    PUSH_SCRIPTS,
    RELAY_OBIS,
    RESET_SCRIPTS,
    SPECIAL_DAYS_OBIS,
)
from protocols.simulator.cosem.meter import BLOCK_PERIOD, DEMAND_PERIOD
from protocols.simulator.cosem.model import PUSH, UTILITY, HouseholdModel
from tests.support.dlms.household_access import codes, six
from tests.support.dlms.trap_site import NOW, TrapSite, energies, site, whole

pytestmark = pytest.mark.virtual_time

BILLING = Obis(1, 0, 98, 1, 0)
BLOCKS = Obis(1, 0, 99, 1, 0)
ESW, ESWF = Obis(0, 0, 94, 91, 18), Obis(0, 0, 94, 91, 26)


@pytest.fixture
async def meter() -> AsyncIterator[TrapSite]:
    async with site("period-change-clears", extra=six()) as found:
        yield found


@pytest.fixture
def model(meter: TrapSite) -> HouseholdModel:
    return meter.meter.household


def get(model: HouseholdModel, class_id: int, obis: Obis, attribute: int = 2) -> Data:
    return model.get(UTILITY, Target(class_id, obis, attribute))


async def test_a_reset_of_the_demand_closes_a_billing_period(meter: TrapSite, model: HouseholdModel) -> None:
    count = get(model, 1, Obis(0, 0, 0, 1, 0)).integer
    async with meter.open() as session:
        before = [s async for s in session.read(ProfileName.BILLING)]
        demand = meter.household.state(NOW).max_demand_w
        assert demand > 0
        assert isinstance(session, DlmsSession)
        await session.exchange.action(Target(9, RESET_SCRIPTS, 1), long_unsigned(1))
        bills = [s async for s in session.read(ProfileName.BILLING)]
    assert len(bills) == len(before) + 1
    assert bills[-1].at == NOW
    assert whole(bills[-1], "1-0:1.6.0*255") == demand
    assert get(model, 4, Obis(1, 0, 1, 6, 0)).integer == 0
    assert get(model, 1, Obis(0, 0, 0, 1, 0)).integer == (count or 0) + 1
    assert codes(model) == [166]
    meter.clock.advance(timedelta(hours=2))
    peak = max(r.energy_import_wh * 2 for r in meter.household.block_rows(NOW, meter.clock.now()))
    assert get(model, 4, Obis(1, 0, 1, 6, 0)).integer == peak
    model.action(UTILITY, Target(7, BILLING, 2), None)
    assert len(get(model, 7, BILLING).items) == len(bills) + 1
    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(9, RESET_SCRIPTS, 1), long_unsigned(2))


@pytest.mark.parametrize(
    ("script", "kept"), [("period-change-clears", False), ("period-change-splits", True)]
)
async def test_a_new_capture_period_clears_or_splits_the_history(script: str, kept: bool) -> None:
    async with site(script) as meter:
        old = meter.true_blocks()
        meter.meter.household.set(UTILITY, Target(1, BLOCK_PERIOD), long_unsigned(900))
        changed = NOW
        meter.clock.advance(timedelta(hours=3))
        async with meter.open() as session:
            found = [s async for s in session.read(ProfileName.BLOCK_LOAD, NOW - timedelta(days=2))]
        new = [e for e in energies(found) if e[0] > changed]
        assert [at for at, _, _ in new] == sorted(at for at, _, _ in new)
        assert new[1][0] - new[0][0] == timedelta(minutes=15)
        assert len(new) == 10  # the block in which it changed is not stored
        total = (
            meter.household.state(new[-1][0]).energy_import_wh
            - meter.household.state(new[0][0] - timedelta(minutes=15)).energy_import_wh
        )
        assert sum(wh for _, wh, _ in new) == total
        assert [e for e in energies(found) if e[0] <= changed] == (old if kept else [])
        assert codes(meter.meter.household) == [153]
        with pytest.raises(AccessDenied):
            meter.meter.household.set(UTILITY, Target(7, BLOCKS, 4), long_unsigned(77))


def test_calendars_are_activated_and_special_days_kept(model: HouseholdModel) -> None:
    model.set(UTILITY, Target(20, CALENDAR_OBIS, 6), octets(b"Summer"))
    assert get(model, 20, CALENDAR_OBIS).octets == b"Default"
    model.action(UTILITY, Target(20, CALENDAR_OBIS, 1), None)
    assert get(model, 20, CALENDAR_OBIS).octets == b"Summer"
    for day in (1, 2, 1):
        entry = structure(long_unsigned(day), octets(bytes.fromhex("FFFF010FFF")), unsigned(1))
        model.action(UTILITY, Target(11, SPECIAL_DAYS_OBIS, 1), entry)
    assert len(get(model, 11, SPECIAL_DAYS_OBIS).items) == 2
    model.action(UTILITY, Target(11, SPECIAL_DAYS_OBIS, 2), long_unsigned(1))
    assert len(get(model, 11, SPECIAL_DAYS_OBIS).items) == 1
    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(11, SPECIAL_DAYS_OBIS, 1), octets(b"no entry"))


def test_settings_are_kept_and_logged(model: HouseholdModel) -> None:
    time = array(structure(octets(bytes(4)), octets(bytes.fromhex("FFFFFF05FF"))))
    model.set(UTILITY, Target(22, BILLING_SCHEDULE, 4), time)
    model.set(UTILITY, Target(1, DEMAND_PERIOD), long_unsigned(900))
    model.set(UTILITY, Target(71, LIMITER_OBIS, 4), double_long_unsigned(3000))
    model.set(UTILITY, Target(70, RELAY_OBIS, 4), enum(0))
    model.set(UTILITY, Target(70, RELAY_OBIS, 4), enum(4))
    model.set(UTILITY, Target(1, MESSAGES[0]), octets(b"Supply stops at ten"))
    assert get(model, 22, BILLING_SCHEDULE, 4) == time
    assert get(model, 1, DEMAND_PERIOD).integer == 900
    assert get(model, 71, LIMITER_OBIS, 3).integer == 3000
    assert get(model, 1, MESSAGES[0]).octets == b"Supply stops at ten"
    assert sorted(codes(model)) == [152, 154, 158, 159, 160]
    assert get(model, 1, Obis(0, 0, 96, 2, 0)).integer == 6
    for wrong in (octets(b"x" * 5000), unsigned(1)):
        with pytest.raises(AccessDenied):
            model.set(UTILITY, Target(1, MESSAGES[0]), wrong)


def test_the_status_word_says_what_happened_as_far_as_the_filter_lets_it(model: HouseholdModel) -> None:
    assert "1" not in str(get(model, 1, ESW).value)
    model.action(UTILITY, Target(70, RELAY_OBIS, 1), None)
    assert str(get(model, 1, ESW).value)[84] == "1"
    model.action(UTILITY, Target(70, RELAY_OBIS, 2), None)
    assert str(get(model, 1, ESW).value)[84] == "1"  # it happened; the state is the relay's own
    mask = "1" * 84 + "0" + "1" * 43
    model.set(UTILITY, Target(1, ESWF), Data(Tag.BIT_STRING, mask))
    assert "1" not in str(get(model, 1, ESW).value)
    with pytest.raises(AccessDenied):
        model.set(UTILITY, Target(1, ESWF), Data(Tag.BIT_STRING, "1"))


def test_scripts_and_setups_push_what_their_lists_name(model: HouseholdModel) -> None:
    pushed: list[Obis] = []
    model.on_push = pushed.append
    model.action(UTILITY, Target(9, PUSH_SCRIPTS, 1), long_unsigned(5))
    model.action(UTILITY, Target(40, Obis(0, 0, 25, 9, 0), 1), None)
    assert pushed == [Obis(0, 4, 25, 9, 0), Obis(0, 0, 25, 9, 0)]
    for setup in pushed:
        for entry in model.get(PUSH, Target(40, setup)).items:
            class_id, name, attribute, _ = entry.items
            assert name.octets is not None
            get(model, class_id.integer or 0, Obis.from_bytes(name.octets), attribute.integer or 0)
    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(9, PUSH_SCRIPTS, 1), long_unsigned(6))
    with pytest.raises(AccessDenied):
        get(model, 1, Obis(0, 0, 77, 7, 7))


def test_the_clock_is_rounded_and_shifted(model: HouseholdModel) -> None:
    clock = Obis(0, 0, 1, 0, 0)
    model.action(UTILITY, Target(8, clock, 3), None)
    assert (get(model, 8, clock).octets or b"")[7] == 0
    model.action(UTILITY, Target(8, clock, 6), Data(Tag.LONG, 20))
    assert (get(model, 8, clock).octets or b"")[7] == 20
    model.action(UTILITY, Target(8, clock, 1), None)
    assert (get(model, 8, clock).octets or b"")[6] in (0, 15, 30, 45)
    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(8, clock, 6), Data(Tag.LONG, 2000))
