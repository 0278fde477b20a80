"""The simulated meter's COSEM side: what each client may see, rows, scalers, ranges, orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.companion import companion
from protocols.dlms.data.types import Data, Tag, octets
from protocols.dlms.server.model import AccessDenied, AssociationPolicy
from protocols.reading import Obis, ProfileName
from protocols.session import Auth
from protocols.simulator.cosem.meter import Build
from protocols.simulator.cosem.model import PUBLIC, READER, UTILITY, HouseholdModel, system_title
from protocols.simulator.cosem.rows import instant, stamp
from protocols.simulator.household.household import Household

START = datetime(2026, 10, 18, 18, 30, tzinfo=UTC)
NOW = START + timedelta(days=36, hours=3, minutes=11)
CLOCK = Obis(0, 0, 1, 0, 0)
BLOCKS = Obis(1, 0, 99, 1, 0)
RELAY = Obis(0, 0, 96, 3, 10)


class Still:
    """A clock that stands."""

    at = NOW

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def model() -> HouseholdModel:
    home = Household(4, "GEN", "10000001", START, cuts_until=NOW - timedelta(hours=2))
    policies = {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        READER: AssociationPolicy(auth=Auth.LLS, secret=b"password"),
        UTILITY: AssociationPolicy(auth=Auth.HLS2, secret=b"s" * 16, may_write=True),
    }
    return HouseholdModel(home, Still(), policies)


def read(model: HouseholdModel, class_id: int, obis: Obis, attribute: int = 2, sel: object = None) -> Data:
    return model.get(UTILITY, Target(class_id, obis, attribute, sel))  # type: ignore[arg-type]


def test_the_clock_is_indian(model: HouseholdModel) -> None:
    value = model.get(PUBLIC, Target(8, CLOCK)).octets
    assert value is not None
    assert value[9:11] == bytes.fromhex("014A")
    drift = model.household.state(NOW).clock_drift_s
    assert instant(value) == NOW + timedelta(seconds=drift)
    assert stamp(datetime(2026, 6, 1, 8, 45, tzinfo=UTC))[:9] == bytes.fromhex("07EA0601FF0E0F00FF")


def test_rights(model: HouseholdModel) -> None:
    for client, class_id, obis in ((PUBLIC, 7, BLOCKS), (7, 8, CLOCK)):
        with pytest.raises(AccessDenied) as refused:
            model.get(client, Target(class_id, obis))
        assert refused.value.code == 3
    assert model.get(PUBLIC, Target(1, Obis(0, 0, 43, 1, 3))) == Data(Tag.DOUBLE_LONG_UNSIGNED, 0)
    assert model.get(PUBLIC, Target(1, Obis(0, 0, 96, 1, 0))).octets == b"10000001"
    with pytest.raises(AccessDenied):
        model.set(READER, Target(8, CLOCK), octets(stamp(NOW)))
    with pytest.raises(AccessDenied):
        model.action(READER, Target(70, RELAY, 1), None)
    with pytest.raises(AccessDenied) as unknown:
        read(model, 3, Obis(1, 0, 77, 7, 0))
    assert unknown.value.code == 4


def test_counters_only_rise(model: HouseholdModel) -> None:
    model.note_frame_counter(UTILITY, 9)
    model.note_frame_counter(UTILITY, 5)
    assert model.get(READER, Target(1, Obis(0, 0, 43, 1, 3))).integer == 9
    assert model.frame_counter(READER) == 0


def test_every_profile_matches_its_columns_and_scalers(model: HouseholdModel) -> None:
    for info in companion().profiles.values():
        captured = read(model, 7, info.obis, 3).items
        assert len(captured) == len(info.columns)
        rows = read(model, 7, info.obis).items
        assert rows
        for row in rows:
            assert [cell.tag for cell in row.items] == [c.tag for c in info.columns]
        if info.scaler_profile is not None:
            objects = read(model, 7, info.scaler_profile, 3).items
            (scalers,) = read(model, 7, info.scaler_profile).items
            assert len(objects) == len(scalers.items) == sum(c.scaler is not None for c in info.columns)
            assert {o.items[2].integer for o in objects} == {3}


def test_block_range_selection_is_inclusive_and_kept_days_only(model: HouseholdModel) -> None:
    whole = read(model, 7, BLOCKS).items
    assert 1500 < len(whole) <= 35 * 48
    assert len(whole) == read(model, 7, BLOCKS, 7).integer
    first, last = (instant(whole[i].items[0].octets or b"") for i in (-48, -1))
    assert first is not None
    assert last is not None
    chosen = read(model, 7, BLOCKS, 2, RangeSelection(CLOCK, 2, stamp(first), stamp(last)))
    assert chosen.items == whole[-48:]
    open_end = RangeSelection(CLOCK, 2, stamp(first), b"\xff" * 12)
    assert read(model, 7, BLOCKS, 2, open_end).items == whole[-48:]
    assert read(model, 7, BLOCKS, 2, EntrySelection(1, 3)).items == whole[:3]
    assert read(model, 7, BLOCKS, 2, EntrySelection(len(whole), 0)).items == whole[-1:]
    future = RangeSelection(CLOCK, 2, stamp(NOW), stamp(datetime(9998, 1, 1, tzinfo=UTC)))
    assert read(model, 7, BLOCKS, 2, future).items == ()
    with pytest.raises(AccessDenied):
        read(model, 7, BLOCKS, 2, RangeSelection(RELAY, 2, stamp(first), stamp(last)))
    with pytest.raises(AccessDenied):
        read(model, 7, BLOCKS, 2, EntrySelection(0, 3))


def test_registers_agree_with_the_household(model: HouseholdModel) -> None:
    state = model.household.state(NOW)
    assert read(model, 3, Obis(1, 0, 1, 8, 0)).integer == state.energy_import_wh
    assert read(model, 3, Obis(1, 0, 12, 7, 0)).integer == state.voltage_mv // 10
    assert [d.integer for d in read(model, 3, Obis(1, 0, 12, 7, 0), 3).items] == [-2, 35]
    assert read(model, 4, Obis(1, 0, 1, 6, 0), 5).octets == stamp(state.max_demand_at)
    assert read(model, 1, Obis(0, 0, 94, 96, 24)).integer == state.balance_paise
    with pytest.raises(AccessDenied):
        read(model, 1, Obis(0, 0, 94, 91, 24))


def test_events_by_log(model: HouseholdModel) -> None:
    events = model.household.event_rows(NOW - timedelta(days=35), NOW)
    for log in companion().event_logs:
        rows = read(model, 7, log.obis).items
        assert [r.items[1].integer for r in rows] == [e.code for e in events if e.log == log.index]
        assert all(len(r.items) == len(log.columns) for r in rows)


def test_relay_and_clock_orders(model: HouseholdModel) -> None:
    assert read(model, 70, RELAY).value is True
    model.action(UTILITY, Target(70, RELAY, 1), Data(Tag.INTEGER, 0))
    assert read(model, 70, RELAY).value is False
    assert read(model, 70, RELAY, 3).integer == 0
    assert read(model, 3, Obis(1, 0, 1, 7, 0)).integer == 0
    assert read(model, 7, Obis(0, 0, 99, 98, 6)).items[-1].items[1].integer == 301
    model.action(UTILITY, Target(70, RELAY, 2), None)
    assert read(model, 70, RELAY).value is True
    model.set(UTILITY, Target(8, CLOCK), octets(stamp(NOW + timedelta(seconds=3))))
    assert model.household.state(NOW).clock_drift_s == 3
    assert read(model, 1, Obis(0, 0, 96, 11, 3)).integer == 151
    for wrong in (octets(b"short"), octets(b"\xff" * 12), Data(Tag.LONG, 4), octets(stamp(START) * 2)):
        with pytest.raises(AccessDenied):
            model.set(UTILITY, Target(8, CLOCK), wrong)


def test_prepayment_is_written_by_the_utility(model: HouseholdModel) -> None:
    balance = Obis(0, 0, 94, 96, 24)
    model.set(UTILITY, Target(1, balance), Data(Tag.DOUBLE_LONG, -1234))
    assert read(model, 1, balance).integer == -1234
    amount = Obis(0, 0, 94, 96, 21)
    model.set(UTILITY, Target(1, amount), Data(Tag.DOUBLE_LONG, 5000))
    assert read(model, 1, amount).integer == 5000
    with pytest.raises(AccessDenied):
        model.set(UTILITY, Target(1, balance), Data(Tag.UNSIGNED, 1))
    with pytest.raises(AccessDenied):
        model.set(UTILITY, Target(1, Obis(0, 0, 94, 96, 20)), Data(Tag.UNSIGNED, 7))


def test_association_lists_what_the_client_sees(model: HouseholdModel) -> None:
    current = Obis(0, 0, 40, 0, 0)
    everything = model.get(UTILITY, Target(15, current)).items
    public = model.get(PUBLIC, Target(15, current)).items
    assert len(everything) > 50
    assert 8 <= len(public) <= 16


def test_older_meters_keep_money_at_91() -> None:
    home = Household(4, "GEN", "10000002", START)
    policies = {UTILITY: AssociationPolicy(auth=Auth.HLS2, secret=b"s" * 16)}
    older = HouseholdModel(home, Still(), policies, build=Build(older_prepayment=True, numbered_events=True))
    rows = read(older, 7, Obis(0, 0, 99, 98, 2)).items
    numbers = [row.items[-1].integer or 0 for row in rows]
    assert numbers == list(range(numbers[0], numbers[0] + len(rows)))
    assert read(older, 1, Obis(0, 0, 94, 91, 24)).integer == home.state(NOW).balance_paise
    assert older.system_title == b"GEN" + (10000002).to_bytes(5, "big")
    assert len(system_title("GE", "K7")) == 8
    assert older.household.serial == "10000002"
    assert ProfileName.BILLING in companion().profiles
