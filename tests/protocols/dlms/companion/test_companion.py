"""The companions' declarations are complete and consistent, and a broken one is named exactly."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from protocols.dlms.companion import (
    BufferSource,
    ColumnInfo,
    EventLog,
    LogsSource,
    ObjectsSource,
    companion,
    event_name,
    in_order,
)
from protocols.dlms.companion.parser import parse
from protocols.dlms.companion.sources import Pattern
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    NULL,
    Data,
    array,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.objects.object_list import parse_object_list
from protocols.dlms.push.body import Alert
from protocols.errors import MeterConfigError, NotSupported
from protocols.names import NAMES
from protocols.reading import Obis, ProfileName, Quantity, name_of
from protocols.session import COMPANIONS

KNOWN = companion()
GENERIC = companion("generic")
STORED = {
    ProfileName.NAMEPLATE,
    ProfileName.INSTANTANEOUS,
    ProfileName.BLOCK_LOAD,
    ProfileName.DAILY,
    ProfileName.BILLING,
}


def columns() -> Iterator[ColumnInfo]:
    for category in KNOWN.categories.values():
        for info in category.profiles.values():
            yield from (*info.columns, *info.more)
        for log in category.event_logs:
            yield from log.columns


def test_each_category_has_every_profile_and_seven_logs() -> None:
    assert list(KNOWN.categories) == ["D1", "D2", "D3", "D4"]
    for category in KNOWN.categories.values():
        assert set(category.profiles) == STORED
        assert [log.index for log in category.event_logs] == list(range(7))
        assert category.profiles[ProfileName.BLOCK_LOAD].capture_period in category.block_periods
    assert {c.name for c in KNOWN.categories.values() if c.relay} == {"D1", "D2"}
    assert KNOWN.profiles is KNOWN.categories["D1"].profiles


def test_only_transformer_meters_have_ratios_and_only_the_others_a_relay() -> None:
    ratios = {Quantity.of("1-0:0.4.2"), Quantity.of("1-0:0.4.3")}
    for category in KNOWN.categories.values():
        plate = {c.quantity for c in category.profiles[ProfileName.NAMEPLATE].columns}
        now = {c.quantity for c in category.profiles[ProfileName.INSTANTANEOUS].columns}
        assert (ratios <= plate) == (category.name in ("D3", "D4"))
        assert (Quantity.of("0-0:96.3.10") in now) == category.relay


def test_three_phase_meters_capture_each_phase() -> None:
    now = {str(c.quantity) for c in KNOWN.categories["D2"].profiles[ProfileName.INSTANTANEOUS].columns}
    block = KNOWN.categories["D2"].profiles[ProfileName.BLOCK_LOAD].columns
    assert len(block) == 13
    assert len(KNOWN.categories["D3"].profiles[ProfileName.BLOCK_LOAD].columns) == 15
    for c in (31, 51, 71, 32, 52, 72, 33, 53, 73):
        assert f"1-0:{c}.7.0*255" in now
    assert "1-0:31.7.0*255" in {str(c.quantity) for c in KNOWN.categories["D2"].event_logs[0].columns}
    assert [len(log.columns) for log in KNOWN.categories["D2"].event_logs] == [12, 12, 2, 2, 12, 2, 2]
    bill = [str(c.quantity) for c in KNOWN.categories["D2"].profiles[ProfileName.BILLING].columns]
    assert bill[bill.index("1-0:1.6.3*255") + 1] == "1-0:1.6.3*255#5"
    assert {f"1-0:1.8.{zone}*255" for zone in range(9)} <= set(bill)


def test_no_object_of_the_standard_is_two_things() -> None:
    for category in KNOWN.categories.values():
        places = [log.obis for log in category.event_logs]
        places += [p for info in category.profiles.values() for p in (info.obis, *info.also)]
        places += [info.scaler_profile for info in category.profiles.values() if info.scaler_profile]
        assert KNOWN.event_scaler_profile not in places
        assert len(places) == len(set(places))
    classes: dict[Obis, set[int]] = {}
    for column in columns():
        classes.setdefault(column.quantity.obis, set()).add(column.class_id)
    assert {obis: found for obis, found in classes.items() if len(found) > 1} == {}


def test_every_captured_quantity_has_a_name_of_its_own() -> None:
    unnamed = {str(c.quantity) for c in columns()} - set(NAMES)
    assert unnamed == set()
    assert len(set(NAMES.values())) == len(NAMES)
    assert all(name == name.lower() and name.isidentifier() for name in NAMES.values())
    assert all(str(Quantity.of(text)) == text for text in NAMES)
    assert name_of(Quantity.of("1-0:52.27.0")) == "average_voltage_l2"


def test_every_code_has_a_group_a_name_and_a_kind() -> None:
    logs = [log.name for log in KNOWN.event_logs]
    for code, known in KNOWN.event_codes.items():
        assert known.code == code
        assert known.name
        if known.kind == "vendor":
            assert (known.group, known.log) == ("vendor", None)
        else:
            assert known.log is not None
            assert known.group == logs[known.log]
            assert known.kind in ("occurrence", "restoration", "single")
        if known.kind == "occurrence":
            after = KNOWN.event_codes[code + 1]
            assert (after.name, after.kind) == (known.name, "restoration")
    disputed = {code for code, known in KNOWN.event_codes.items() if known.disputed}
    assert disputed == {159, 160, 182, 205, 206}
    assert {124, 132, 889, 899, 996, 999} <= set(KNOWN.event_codes)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (8, "over voltage (restored)"),
        (251, "meter cover opened"),
        (302, "load connected"),
        (125, "vendor event 125"),
        (9999, "event 9999"),
    ],
)
def test_codes_are_named(code: int, name: str) -> None:
    assert event_name(code) == name


def test_status_bits_are_named_and_unknown_ones_keep_their_number() -> None:
    assert KNOWN.esw is not None
    assert all(0 <= bit <= 127 for bit in KNOWN.esw.bits)
    assert len(KNOWN.esw.bits) == 21
    word = "".join("1" if n in (0, 51, 84, 99) else "0" for n in range(128))
    names = [KNOWN.esw_bit(bit) for bit in Alert(word).set_bits]
    assert names == ["voltage missing, phase R", "earth loading", "load switched", "bit 99"]
    assert GENERIC.esw_bit(1) == "bit 1"


def test_associations_have_their_counters_and_rights() -> None:
    assert sorted(KNOWN.associations) == [16, 32, 48, 64, 80, 96]
    for client, info in KNOWN.associations.items():
        assert info.client == client
        assert info.counter == Obis(0, 0, 43, 1, client // 16)
        assert info.association_object == Obis(0, 0, 40, 0, client // 16)
    assert {c for c, info in KNOWN.associations.items() if info.pre_established} == {64, 96}
    assert KNOWN.associations[16].rights == ("get",)
    assert "action" in KNOWN.associations[48].rights
    assert "set" not in KNOWN.associations[32].rights


def test_push_setups_say_what_they_send() -> None:
    alert = KNOWN.push_setups[Obis(0, 4, 25, 9, 0)]
    assert (alert.name, alert.payload, alert.profile) == ("alert", "bits", None)
    block = KNOWN.push_setups[Obis(0, 5, 25, 9, 0)]
    assert (block.profile, block.payload) == (ProfileName.BLOCK_LOAD, "rows")
    logs = [KNOWN.push_setups[Obis(0, 120 + n, 25, 9, 0)].log for n in range(7)]
    assert logs == list(range(7))
    (form,) = KNOWN.push.forms
    assert [str(field) for field in form.fields] == ["device_id", "setup", "clock", "payload"]


def test_control_objects_and_schedules_are_where_meters_have_them() -> None:
    switch = KNOWN.control["load_switch"]
    assert (switch.class_id, switch.methods) == (70, {"remote_disconnect": 1, "remote_reconnect": 2})
    assert switch.values["control_mode"][4] == "load limit function enabled"
    assert KNOWN.control["limiter"].attributes["threshold_normal"] == 4
    assert KNOWN.schedules["billing_date"] == Obis(0, 0, 15, 0, 0)
    assert KNOWN.load_switch() == Obis(0, 0, 96, 3, 10)


def test_every_deviation_of_the_clock_rules_gives_the_same_instant() -> None:
    at = datetime(2026, 6, 1, 8, 45, tzinfo=UTC)
    assert KNOWN.clock.unspecified_deviation
    for deviation in (*KNOWN.clock.deviations, None):
        stamp = cosem_time.decode(cosem_time.encode(at, deviation=deviation))
        assert (stamp.at, stamp.trusted) == (at, True)


def test_prepayment_modes_have_names() -> None:
    items = {item.name: item for item in KNOWN.prepayment}
    assert items["payment_mode"].modes == {0: "postpaid", 1: "prepaid"}
    assert items["balance"].modes == {}
    assert all(name_of(Quantity(item.obis)) == item.name for item in KNOWN.prepayment)


def test_where_a_profile_comes_from() -> None:
    block = KNOWN.source(ProfileName.BLOCK_LOAD)
    assert block == BufferSource((Obis(1, 0, 99, 1, 0),), Obis(1, 0, 94, 91, 4))
    plate = KNOWN.source(ProfileName.NAMEPLATE)
    assert isinstance(plate, BufferSource)
    assert plate.places == (Obis(0, 0, 94, 91, 10), Obis(1, 0, 94, 91, 10))
    events = KNOWN.source(ProfileName.EVENTS)
    assert isinstance(events, LogsSource)
    assert len(events.logs) == 7
    money = KNOWN.source(ProfileName.PREPAYMENT)
    assert isinstance(money, ObjectsSource)
    assert money.reads[5].places == (Obis(0, 0, 94, 96, 24), Obis(0, 0, 94, 91, 24))
    assert money.reads[5].scale == (-2, "INR")


def entry(class_id: int, name: str, modes: dict[int, int] | None = None) -> Data:
    rights = array(*(structure(integer(a), enum(m), NULL) for a, m in (modes or {2: 1}).items()))
    return structure(
        long_unsigned(class_id), unsigned(0), octets(Obis.parse(name).to_bytes()), structure(rights, array())
    )


def test_an_object_list_may_come_in_any_order_and_name_an_object_twice() -> None:
    listed = in_order(
        parse_object_list(
            array(
                entry(3, "1-0:2.8.0"), entry(15, "0-0:40.0.0"), entry(3, "1-0:1.8.0"), entry(3, "1-0:1.8.0")
            )
        )
    )
    assert [str(one.obis) for one in listed] == ["0-0:40.0.0*255", "1-0:1.8.0*255", "1-0:2.8.0*255"]


def test_objects_without_any_rights_are_tried() -> None:
    bare = structure(long_unsigned(7), unsigned(0), octets(Obis(1, 0, 99, 2, 0).to_bytes()), NULL)
    found = GENERIC.source(ProfileName.DAILY, parse_object_list(array(bare)))
    assert found == BufferSource((Obis(1, 0, 99, 2, 0),))


def test_rules_find_profiles_registers_and_the_switch_in_a_foreign_list() -> None:
    listed = in_order(
        parse_object_list(
            array(
                entry(7, "1-0:98.1.0"),
                entry(7, "1-1:99.1.0"),
                entry(7, "0-0:99.98.3"),
                entry(7, "0-0:99.98.0"),
                entry(3, "1-0:1.8.0"),
                entry(3, "1-0:99.8.0"),
                entry(3, "1-0:2.8.0", {2: 0}),
                entry(4, "1-0:1.6.0", {2: 1, 5: 1}),
                entry(5, "1-0:1.4.0", {3: 1}),
                entry(3, "1-0:32.7.0"),
                entry(70, "0-0:96.3.10"),
            )
        )
    )
    assert GENERIC.source(ProfileName.BLOCK_LOAD, listed) == BufferSource((Obis(1, 1, 99, 1, 0),))
    events = GENERIC.source(ProfileName.EVENTS, listed)
    assert isinstance(events, LogsSource)
    assert [log.places[0].e for log in events.logs] == [0, 3]
    now = GENERIC.source(ProfileName.INSTANTANEOUS, listed)
    assert isinstance(now, ObjectsSource)
    assert [str(read.quantity) for read in now.reads] == [
        "1-0:32.7.0*255",
        "1-0:1.8.0*255",
        "1-0:1.6.0*255",
        "1-0:1.6.0*255#5",
        "1-0:1.4.0*255#3",
    ]
    assert GENERIC.load_switch(listed) == Obis(0, 0, 96, 3, 10)
    assert GENERIC.load_switch(()) is None
    assert (GENERIC.profiles, GENERIC.event_logs) == ({}, ())
    with pytest.raises(NotSupported, match="generic declares no scaler profile of events"):
        _ = GENERIC.event_scaler_profile
    for profile in (ProfileName.DAILY, ProfileName.PREPAYMENT):
        with pytest.raises(NotSupported, match=f"nothing for the {profile} profile"):
            GENERIC.source(profile, listed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.0.1.8.0", "a pattern has 6 groups, not 5: '1.0.1.8.0'"),
        ("1.0.x.8.0.255", "a group is a number, a span or *: 'x' in '1.0.x.8.0.255'"),
        ("1.0.9-1.8.0.255", "group 9-1 is outside 0..255 in '1.0.9-1.8.0.255'"),
        ("1.0.1.8.0.256", "group 256 is outside 0..255 in '1.0.1.8.0.256'"),
    ],
)
def test_a_bad_pattern_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Pattern.parse(text)
    assert str(caught.value) == message


def declared(name: str) -> dict[str, Any]:
    folder = files("protocols.dlms.companion").joinpath(name)
    return {f.name: tomllib.loads(f.read_text("utf-8")) for f in sorted(folder.iterdir(), key=str)}


def test_a_companion_may_say_which_deviations_mean_nothing() -> None:
    raw = deepcopy(declared("is15959"))
    raw["control.toml"]["clock"]["local_deviations"] = [0, 60]
    assert parse("acme", raw).clock.local == (0, 60)
    assert KNOWN.clock.local == ()


MISTAKES = tomllib.loads(Path(__file__).with_name("companion_mistakes.toml").read_text("utf-8"))["mistake"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake['path'][0]}-{mistake['key']}")
def test_a_broken_declaration_is_named_exactly(mistake: dict[str, Any]) -> None:
    raw = deepcopy(declared("is15959"))
    table = raw
    for part in mistake["path"]:
        table = table[part]
    if "value" in mistake:
        table[mistake["key"]] = mistake["value"]
    else:
        del table[mistake["key"]]
    with pytest.raises(MeterConfigError) as caught:
        parse("is15959", raw)
    assert str(caught.value) == mistake["message"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"tea": {"buffer": []}}, "generic/rules.toml [rules] [tea]: no such profile"),
        (
            {"daily": {"most": 3}},
            "generic/rules.toml [rules] [daily]: one of buffer, logs, objects must be given",
        ),
        (
            {"daily": {"buffer": ["1.2"]}},
            "generic/rules.toml [rules] [daily]: buffer: a pattern has 6 groups, not 2: '1.2'",
        ),
    ],
)
def test_a_broken_rule_is_named_exactly(rule: dict[str, Any], message: str) -> None:
    raw = declared("generic")
    raw["rules.toml"]["rules"] = rule
    with pytest.raises(MeterConfigError) as caught:
        parse("generic", raw)
    assert str(caught.value) == message


def test_companions_are_read_once_and_others_are_a_configuration_error() -> None:
    for name in COMPANIONS:
        assert companion(name) is companion(name)
        bases = [] if name in ("is15959", "generic") else [("generic", declared("generic"))]
        assert parse(name, declared(name), bases) == companion(name)
    with pytest.raises(MeterConfigError, match="unknown companion 'x': there are is15959, generic"):
        companion("x")
    assert isinstance(KNOWN.event_logs[0], EventLog)
