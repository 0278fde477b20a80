"""Pushes of many makes by the grammars of their companions: octets from the field, and siblings that were made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.companion import companion
from protocols.dlms.data import axdr
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    text,
)
from protocols.dlms.data.units import UNIT_CODES
from protocols.dlms.push.body import PushedValues, body_of
from protocols.dlms.push.explain import ExplainedPush, explained
from protocols.dlms.push.framing import PushStream
from protocols.dlms.push.places import MAX_CELLS, NoForm
from protocols.dlms.push.values import value_set
from protocols.errors import MeterProtocolError
from protocols.reading import Bits, Missing, MissingReason, Number, Obis, ProfileName, ReadingSet, Text, Value
from tests.support.dlms.pushes import case

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OSLO = ZoneInfo("Europe/Oslo")
CLOCK = bytes.fromhex("07E60102070E2512FF800000")
LIST_OF_A_METER = 40


@lru_cache
def read(name: str, grammar: str, zone: str = "Europe/Oslo") -> ExplainedPush:
    data, keys = case(name)
    found = explained(data, companion(grammar).push, keys=keys, zone=ZoneInfo(zone), received_at=NOW)
    assert found.mistakes == ()
    (push,) = found.pushes
    assert push.mistakes == ()
    return push


def the_set(push: ExplainedPush) -> ReadingSet:
    (one,) = push.sets
    return one


def number(value: str, unit: str = "") -> Number:
    return Number.from_text(value, unit)


def shown(one: ReadingSet, quantity: str) -> str:
    value = one.value(quantity)
    return f"{value.text()} {value.unit}".strip() if isinstance(value, Number) else repr(value)


def test_a_self_described_push_has_serial_and_alarm_word_and_the_name_of_the_bit_that_is_known() -> None:
    push = read("ru-spodes-push-alarm", "spodes")
    assert push.body is not None
    assert (push.body.device, push.body.setup) == ("12345678901", Obis(0, 0, 25, 9, 0))
    one = the_set(push)
    assert one.profile is ProfileName.EVENTS
    assert one.value("0-0:96.1.0*255") == Text("12345678901")
    assert one.value("0-0:97.98.20*255") == Number(0x2012)
    names = {q.index - 1: v for q, v in one if q.index}
    assert names == {1: Text("bit 1"), 4: Text("meter cover opened"), 13: Text("bit 13")}


def test_the_same_make_pushes_bare_fields_with_the_setup_first() -> None:
    push = read("ru-push-hdlc-setup-first", "spodes")
    assert push.body is not None
    assert (push.body.device, push.body.setup) == ("12345678901", Obis(0, 0, 25, 9, 0))
    assert the_set(push).value("0-0:97.98.20*255") == Number(16)
    assert the_set(push).value("0-0:97.98.20*255#2[5]") == Text("meter cover opened")


def test_registers_of_a_self_described_push_have_the_scalers_that_are_pushed_with_them() -> None:
    one = the_set(read("ru-spodes-energies", "spodes"))
    assert one.profile is ProfileName.INSTANTANEOUS
    assert [shown(one, f"1-0:{c}.8.0*255") for c in (1, 2, 3, 4)] == [
        "810 Wh",
        "130 Wh",
        "850 varh",
        "60 varh",
    ]
    assert one.value("0-0:42.0.0*255") == Text("ELC0000000000001")
    assert not any(q.attribute == 3 for q, _ in one)


def test_a_header_time_written_with_its_tag_and_an_i_frame_hide_no_power() -> None:
    push = read("no-kaifa-list1", "kaifa")
    assert push.body is not None
    assert push.body.clock == CLOCK
    one = the_set(push)
    assert one.meter_time is not None
    assert one.meter_time.wall == "2022-01-02 14:37:18"
    assert one.values == (((one.values[0][0]), number("4117", "W")),)
    assert one.at == datetime(2022, 1, 2, 13, 37, 18, tzinfo=UTC)


def test_kaifa_s_longest_list_has_scales_of_its_companion() -> None:
    push = read("se-kaifa-list3", "kaifa", "Europe/Stockholm")
    assert push.body is not None
    assert push.body.device == "7340157030904045"
    one = the_set(push)
    wanted = {
        "1-0:1.7.0*255": "425 W",
        "1-0:4.7.0*255": "4 var",
        "1-0:71.7.0*255": "1.476 A",
        "1-0:32.7.0*255": "229.8 V",
        "1-0:1.8.0*255": "478133 Wh",
        "1-0:4.8.0*255": "159478 varh",
    }
    assert {q: shown(one, q) for q in wanted} == wanted


def test_kaifa_in_austria_comes_in_segments_of_m_bus_with_pairs_and_the_device_id_last() -> None:
    push = read("at-kaifa-mbus", "kaifa", "Europe/Vienna")
    assert push.body is not None
    assert (push.control, push.counter, push.title[:3]) == (0x20, 35, b"KFM")
    assert push.body.device == "181220000009"
    one = the_set(push)
    assert one.at == datetime(2021, 9, 27, 7, 47, 15, tzinfo=UTC)
    assert (shown(one, "1-0:1.8.0*255"), shown(one, "1-0:32.7.0*255"), shown(one, "1-0:13.7.0*255")) == (
        "12937 Wh",
        "233.7 V",
        "1.000",
    )


def test_aidon_s_structures_carry_their_own_scales() -> None:
    one = the_set(read("se-aidon-27", "aidon"))
    assert len(one.values) == 26  # the clock stamps the set
    wanted = {
        "1-0:1.7.0*255": "3547 W",
        "1-0:4.7.0*255": "659 var",
        "1-0:31.7.0*255": "9.6 A",
        "1-0:52.7.0*255": "230.3 V",
        "1-0:1.8.0*255": "62414155 Wh",
        "1-0:4.8.0*255": "11737029 varh",
    }
    assert {q: shown(one, q) for q in wanted} == wanted
    assert one.meter_time is not None
    assert one.meter_time.wall == "2021-12-01 09:24:50"


def test_kamstrup_s_pairs_have_the_scales_of_its_companion() -> None:
    push = read("dk-kamstrup-0x30", "kamstrup", "Europe/Copenhagen")
    assert push.body is not None
    assert (push.body.device, push.control, push.counter) == ("12343400", 0x30, 17784996)
    one = the_set(push)
    wanted = {
        "1-1:1.8.0*255": "63074980 Wh",
        "1-1:1.7.0*255": "1083 W",
        "1-1:4.7.0*255": "718 var",
        "1-1:32.7.0*255": "222 V",
        "1-1:71.7.0*255": "3.33 A",
        "1-1:13.7.0*255": "0.83",
        "1-1:61.8.0*255": "26876440 Wh",
        "1-1:0.0.1*255": "12343400",
    }
    assert {q: shown(one, q) for q in wanted} == wanted
    assert one.at == datetime(2026, 3, 12, 14, 24, 30, tzinfo=UTC)


def test_iskra_s_naked_values_are_named_by_the_list_that_fits_their_count_and_types() -> None:
    push = read("si-iskra-plain", "iskra", "Europe/Ljubljana")
    assert push.body is not None
    assert push.body.device == "12345678"
    one = the_set(push)
    wanted = {
        "1-0:1.7.0*255": "1393 W",
        "1-0:4.7.0*255": "738 var",
        "1-0:32.7.0*255": "237.9 V",
        "1-0:72.7.0*255": "229.6 V",
        "1-0:31.7.0*255": "1.03 A",
        "1-0:61.7.0*255": "1325 W",
        "1-0:62.7.0*255": "0 W",
    }
    assert {q: shown(one, q) for q in wanted} == wanted


# siblings


def pushed(grammar: str, body: Data, clock: bytes = CLOCK) -> ReadingSet:
    found = body_of(DataNotification(body=body, date_time=clock), companion(grammar).push)
    assert isinstance(found.payload, PushedValues)
    return value_set(found, found.payload, zone=OSLO, received_at=NOW)


def name(obis: str) -> Data:
    return octets(Obis.parse(obis).to_bytes())


def scaler_unit(scaler: int, unit: str) -> Data:
    return structure(integer(scaler), enum(UNIT_CODES[unit]))


def triple(obis: str, value: Data, scaler: int, unit: str) -> Data:
    return structure(name(obis), value, scaler_unit(scaler, unit))


POWER = triple("1-0:1.7.0*255", double_long_unsigned(1234), -1, "W")
ID = structure(name("0-0:96.1.0*255"), text("73590001"))


@pytest.mark.parametrize(
    "body",
    [
        array(ID, POWER),
        structure(ID, POWER),
        structure(array(ID, POWER)),
        structure(name("0-0:96.1.0*255"), text("73590001"), POWER),
        structure(
            name("0-0:96.1.0*255"),
            text("73590001"),
            name("1-0:1.7.0*255"),
            double_long_unsigned(1234),
            scaler_unit(-1, "W"),
        ),
    ],
    ids=["array", "structure", "array inside", "mixed", "flat"],
)
def test_pairs_may_lie_side_by_side_in_structures_or_in_an_array_of_them(body: Data) -> None:
    one = pushed("aidon", body)
    assert one.value("0-0:96.1.0*255") == Text("73590001")
    assert one.value("1-0:1.7.0*255") == Number(1234, -1, "W")


def test_a_value_that_looks_like_an_obis_code_is_a_value_where_it_stands_as_one() -> None:
    one = pushed("iskra", array(structure(name("0-0:96.1.1*255"), octets(b"160456")), POWER))
    assert one.value("0-0:96.1.1*255") == Text("160456")


def test_a_register_without_any_scale_is_missing_and_never_a_guess() -> None:
    one = pushed("aidon", array(structure(name("1-0:1.8.0*255"), double_long_unsigned(9))))
    assert one.value("1-0:1.8.0*255") == Missing(MissingReason.NOT_SUPPORTED)
    null = pushed("aidon", array(triple("1-0:51.7.0*255", NULL, -1, "A")))
    assert null.value("1-0:51.7.0*255") == Missing(MissingReason.NOT_SPECIFIED)


def test_an_empty_place_for_a_phase_that_is_not_there_leaves_the_others_alone() -> None:
    head = (text("Kamstrup_V0001"), name("1-1:0.0.1*255"), double_long_unsigned(7))
    one = pushed(
        "kamstrup", structure(*head, name("1-1:51.7.0*255"), NULL, name("1-1:32.7.0*255"), long_unsigned(230))
    )
    assert one.value("1-1:51.7.0*255") == Missing(MissingReason.NOT_SPECIFIED)
    assert one.value("1-1:32.7.0*255") == Number(230, 0, "V")


@pytest.mark.parametrize(
    ("grammar", "body", "why"),
    [
        (
            "kamstrup",
            structure(text("Kamstrup_V0001"), name("1-1:1.7.0*255")),
            "nothing follows the OBIS code",
        ),
        ("kamstrup", structure(text("Other_V0001"), name("1-1:1.7.0*255"), NULL), "no text that begins with"),
        ("kaifa", structure(*[double_long_unsigned(1)] * 13), "no text that begins with 'KFM_001'"),
        ("aidon", array(structure(name("1-0:1.7.0*255"), NULL, NULL)), "a structure of 3 that begins with"),
        ("aidon", array(), "it has 0 elements"),
        ("spodes", structure(array(), NULL), "array of 0 is no push object list"),
        (
            "spodes",
            structure(octets(b"\0\0\x19\x09\x07\xff"), text("1"), long_unsigned(1)),
            "not for push setup",
        ),
        ("iskra", structure(text("ISK1"), text("1"), *[long_unsigned(1)] * 3), "the push has ended"),
    ],
)
def test_what_fits_no_form_says_for_each_form_why(grammar: str, body: Data, why: str) -> None:
    with pytest.raises(NoForm, match=why):
        body_of(DataNotification(body=body), companion(grammar).push)


def test_more_elements_than_are_read_are_no_push() -> None:
    for count in (MAX_CELLS + 1,):
        with pytest.raises(NoForm, match="elements"):
            body_of(DataNotification(body=array(*[POWER] * count)), companion("aidon").push)
    nested = array(*[array(*[POWER] * 200)] * 2)
    with pytest.raises(NoForm, match=f"more than {MAX_CELLS} values"):
        body_of(DataNotification(body=nested), companion("aidon").push)


def entry(class_id: int, obis: str, attribute: int, parts: int = 4) -> Data:
    more = (structure(enum(0), NULL), array(), array(), NULL)
    head = (long_unsigned(class_id), name(obis), integer(attribute), long_unsigned(0))
    return structure(*head, *more[: parts - 4])


@pytest.mark.parametrize("parts", [4, 5, 6, 8])
@pytest.mark.parametrize("own", [True, False])
def test_a_described_list_may_have_entries_of_any_version_and_its_own_entry_or_not(
    parts: int, own: bool
) -> None:
    described = [
        *([entry(LIST_OF_A_METER, "0-1:25.9.0*255", 2, parts)] if own else []),
        entry(1, "0-0:96.1.0*255", 2, parts),
        entry(3, "1-0:1.8.0*255", 2, parts),
        entry(3, "1-0:1.8.0*255", 3, parts),
        entry(3, "1-0:2.8.0*255", 2, parts),
    ]
    values = (octets(b"77"), double_long_unsigned(5), scaler_unit(1, "Wh"), double_long_unsigned(6))
    body = structure(array(*described), *values)
    found = body_of(DataNotification(body=body), companion("spodes").push)
    assert (found.device, found.setup) == ("77", Obis(0, 1, 25, 9, 0) if own else None)
    one = pushed("spodes", body)
    assert one.value("1-0:1.8.0*255") == Number(5, 1, "Wh")
    assert one.value("1-0:2.8.0*255") == Missing(MissingReason.NOT_SUPPORTED)
    with pytest.raises(NoForm, match="values follow a push object list of"):
        body_of(DataNotification(body=structure(array(*described), *values[:-1])), companion("spodes").push)


def test_the_setup_s_own_name_may_be_pushed_as_a_value() -> None:
    described = array(entry(LIST_OF_A_METER, "0-2:25.9.0*255", 1), entry(1, "0-0:96.1.0*255", 2))
    found = body_of(
        DataNotification(body=structure(described, name("0-2:25.9.0*255"), octets(b"77"))),
        companion("spodes").push,
    )
    assert (found.device, found.setup) == ("77", Obis(0, 2, 25, 9, 0))


def alarm(value: Data, *more: tuple[Data, Data]) -> ReadingSet:
    entries = [entry(1, "0-0:96.1.0*255", 2), entry(1, "0-0:97.98.20*255", 2), *(e for e, _ in more)]
    return pushed("spodes", structure(array(*entries), octets(b"77"), value, *(v for _, v in more)))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (double_long_unsigned(0), []),
        (double_long_unsigned(1 << 31), ["bit 31"]),
        (Data(Tag.BIT_STRING, "00001000"), ["meter cover opened"]),
    ],
)
def test_an_alarm_word_alone_is_an_event_whatever_it_says(value: Data, names: list[str]) -> None:
    one = alarm(value)
    assert one.profile is ProfileName.EVENTS
    word = one.value("0-0:97.98.20*255")
    assert isinstance(word, Number | Bits)
    assert [v.text for q, v in one if q.index and isinstance(v, Text)] == names


def test_a_word_without_a_bit_among_readings_is_a_reading_and_the_same_alarm_again_the_same_event() -> None:
    energy = (entry(4, "1-0:1.8.0*255", 2), double_long_unsigned(5))
    assert alarm(double_long_unsigned(0), energy).profile is ProfileName.INSTANTANEOUS
    assert alarm(double_long_unsigned(2), energy).profile is ProfileName.EVENTS
    first, again, other = (alarm(double_long_unsigned(n)) for n in (2, 2, 3))
    assert (first.occurrence, first.at) == (again.occurrence, again.at)
    assert other.occurrence != first.occurrence


def test_lists_that_come_under_one_stamp_are_told_apart() -> None:
    power = pushed("kaifa", structure(double_long_unsigned(1)))
    head = (octets(b"KFM_001"), octets(b"7340"), octets(b"MA304"))
    longer = pushed("kaifa", structure(*head, *[double_long_unsigned(1)] * 10))
    assert power.at == longer.at
    assert power.occurrence != longer.occurrence


def test_a_push_without_any_clock_is_stamped_by_us() -> None:
    one = pushed("kaifa", structure(double_long_unsigned(1)), clock=b"")
    assert (one.at, one.meter_time) == (NOW, None)


SIMPLE: st.SearchStrategy[Data] = st.one_of(
    st.integers(0, 2**32 - 1).map(double_long_unsigned),
    st.integers(0, 2**16 - 1).map(long_unsigned),
    st.binary(max_size=13).map(octets),
    st.sampled_from(
        [NULL, name("1-0:1.7.0*255"), name("0-0:1.0.0*255"), scaler_unit(-1, "V"), octets(CLOCK)]
    ),
    st.sampled_from(
        [text("Kamstrup_V0001"), octets(b"KFM_001"), octets(b"ISK1"), entry(3, "1-0:1.8.0*255", 2)]
    ),
)
BODIES = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=8).flatmap(
        lambda items: st.sampled_from([array(*items), structure(*items)])
    ),
    max_leaves=30,
)


@given(BODIES, st.sampled_from(["spodes", "aidon", "kamstrup", "kaifa", "iskra", "is15959"]))
def test_any_body_gives_a_set_or_an_error_of_the_hierarchy_and_loses_no_value(
    body: Data, grammar: str
) -> None:
    encoded = notification.encode(DataNotification(body=body, date_time=CLOCK))
    apdu = notification.decode(encoded)
    assert isinstance(apdu, DataNotification)
    assert axdr.encode(apdu.body) == axdr.encode(body)
    try:
        found = body_of(apdu, companion(grammar).push)
    except MeterProtocolError:
        return
    if isinstance(found.payload, PushedValues):
        one = value_set(found, found.payload, zone=OSLO, received_at=NOW)
        values: list[Value] = [v for q, v in one if not q.index]
        assert len(values) >= len([v for v in found.payload.values if not v.quantity.index])


# null inside


def again(name: str, grammar: str, change: Callable[[list[Data]], list[Data]]) -> ExplainedPush:
    """A plain case's push with its elements changed."""
    data, _ = case(name)
    (found,) = PushStream().receive(data)
    told = notification.decode(found.octets)
    assert isinstance(told, DataNotification)
    body = Data(told.body.tag, tuple(change(list(told.body.items))))
    octets_ = notification.encode(replace(told, body=body))
    (push,) = explained(octets_, companion(grammar).push, keys=None, zone=OSLO, received_at=NOW).pushes
    return push


PLAIN_CASES = {
    "ru-spodes-push-alarm": "spodes",
    "ru-push-hdlc-setup-first": "spodes",
    "se-aidon-27": "aidon",
    "si-iskra-plain": "iskra",
    "no-kaifa-list1": "kaifa",
}


@pytest.mark.parametrize("name", PLAIN_CASES)
@pytest.mark.parametrize("nulls", [1, 3])
def test_null_behind_the_last_value_moves_none_of_the_others(name: str, nulls: int) -> None:
    """A meter's device id was read from its alarm word."""
    whole = read(name, PLAIN_CASES[name])
    padded = again(name, PLAIN_CASES[name], lambda items: [*items, *[NULL] * nulls])
    assert (padded.body, padded.sets) == (whole.body, whole.sets)


@pytest.mark.parametrize("place", [2, 8, 17])
def test_null_in_the_place_of_a_naked_value_is_missing_and_the_others_are_read(place: int) -> None:
    whole = the_set(read("si-iskra-plain", "iskra"))
    found = the_set(again("si-iskra-plain", "iskra", lambda i: [*i[:place], NULL, *i[place + 1 :]]))
    differ = [type(new) for (_, new), (_, old) in zip(found.values, whole.values, strict=True) if new != old]
    assert [quantity for quantity, _ in found.values] == [quantity for quantity, _ in whole.values]
    assert differ == [Missing]


@pytest.mark.parametrize("place", [0, 1, 13, 27])
def test_null_between_pairs_hides_none_of_them(place: int) -> None:
    whole = read("se-aidon-27", "aidon")
    found = again("se-aidon-27", "aidon", lambda items: [*items[:place], NULL, *items[place:]])
    assert found.sets == whole.sets


def test_null_that_lets_two_forms_fit_leaves_the_push_unread() -> None:
    """Which form it is was told by the type of what is null now: nobody can say what the other values are of."""
    grammar = companion("iskra").push
    powers = grammar.forms[0]
    fields = (*powers.fields[:2], replace(powers.fields[2], tag=Tag.BOOLEAN), *powers.fields[3:])
    both = replace(grammar, forms=(powers, replace(powers, name="another", fields=fields)))
    body = structure(text("ISK1"), text("1"), NULL, *[long_unsigned(1)] * (len(fields) - 3))
    with pytest.raises(NoForm, match="fits more than one form: 'powers, three phases', 'another'"):
        body_of(DataNotification(body=body), both)
