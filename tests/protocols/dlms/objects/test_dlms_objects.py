"""Interface classes: build and parse are a pair, hostile shapes have one error, Indian examples, key transfer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import objects
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest
from protocols.dlms.data import axdr
from protocols.dlms.data.cosem_dates import ClockStatus, CosemDate, CosemDateTime, CosemTime
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    boolean,
    capture_object,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    scaler_unit,
    structure,
    unsigned,
)
from protocols.dlms.objects import association, clock, codec, schedules, security_setup, setups
from protocols.dlms.objects.codec import Codec, Where
from protocols.dlms.objects.interface import Attribute, Method
from protocols.dlms.objects.object_list import MAX_OBJECTS
from protocols.errors import (
    LocalError,
    MeterProtocolError,
)
from protocols.reading import Obis
from tests.support.dlms.object_values import FAST, JUNE, MASTER, RELAY, WRAPPED
from tests.support.dlms.strategies import LEAVES

WHERE = Where("here")
BILLING = Obis(0, 0, 15, 0, 0)
SCRIPTS = Obis(0, 0, 10, 0, 1)
MONITORED = structure(long_unsigned(3), octets(bytes((1, 0, 1, 7, 0, 255))), integer(2))
LISTS = st.sampled_from((structure, array))
TREES = st.recursive(
    LEAVES,
    lambda d: st.tuples(LISTS, st.lists(d, max_size=4)).map(lambda parts: parts[0](*parts[1])),
    max_leaves=12,
)

# ---- strategies of values

OBIS = st.binary(min_size=6, max_size=6).map(Obis.from_bytes)
U8, U16, U32, I8 = (st.integers(*r) for r in ((0, 255), (0, 0xFFFF), (0, 0xFFFFFFFF), (-128, 127)))
NAMES = st.binary(max_size=8)
DATES = st.builds(
    CosemDate,
    year=st.none() | st.integers(0, 0xFFFE),
    month=st.none() | st.sampled_from((1, 12, 0xFD, 0xFE)),
    day=st.none() | st.sampled_from((1, 31, 0xFD, 0xFE)),
    weekday=st.none() | st.integers(1, 7),
)
TIMES = st.builds(
    CosemTime,
    hour=st.none() | st.integers(0, 23),
    minute=st.none() | st.integers(0, 59),
    second=st.none() | st.integers(0, 59),
    hundredths=st.none() | st.integers(0, 99),
)
MOMENTS = st.builds(
    CosemDateTime,
    date=DATES,
    time=TIMES,
    deviation=st.none() | st.sampled_from((330, -330, 0)),
    status=st.none() | st.integers(0, 254).map(ClockStatus),
)
SCRIPT = st.builds(objects.ScriptRef, OBIS, U16)
CAPTURED = st.builds(objects.CaptureObject, U16, OBIS, I8, U16)
DAY = st.builds(
    objects.Day, U8, st.lists(st.builds(objects.DayAction, TIMES, OBIS, U16), max_size=3).map(tuple)
)
ACTION = st.builds(objects.ScriptAction, st.sampled_from((1, 2, 9)), U16, OBIS, I8, LEAVES)
ENTRY = st.builds(
    objects.ObjectEntry,
    class_id=st.integers(0, 14) | st.integers(16, 0xFFFF),
    version=U8,
    obis=OBIS,
    attributes=st.dictionaries(I8, st.integers(0, 6), max_size=4),
    methods=st.dictionaries(I8, st.integers(0, 2), max_size=3),
)


def many(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=4).map(tuple)


VALUES: dict[tuple[int, str], st.SearchStrategy[Any]] = {
    (1, "value"): LEAVES,
    (3, "scaler_unit"): st.builds(objects.ScalerUnit, I8, U8),
    (4, "capture_time"): MOMENTS,
    (5, "period"): U32,
    (5, "number_of_periods"): U16,
    (7, "capture_objects"): many(CAPTURED),
    (7, "sort_object"): st.none() | CAPTURED,
    (7, "sort_method"): U8,
    (8, "time"): MOMENTS,
    (8, "time_zone"): st.integers(-720, 720),
    (8, "status"): U8.map(ClockStatus),
    (8, "daylight_savings_deviation"): I8,
    (8, "daylight_savings_enabled"): st.booleans(),
    (9, "scripts"): many(st.builds(objects.Script, U16, many(ACTION))),
    (11, "entries"): many(st.builds(objects.SpecialDay, U16, DATES, U8)),
    (15, "object_list"): many(ENTRY),
    (15, "associated_partners_id"): st.builds(association.Partners, I8, U16),
    (15, "application_context_name"): st.integers(1, 4).map(lambda n: (2, 16, 756, 5, 8, 1, n)),
    (15, "xDLMS_context_info"): st.builds(
        association.XdlmsContext, st.text("01", min_size=24, max_size=24), U16, U16, U8, I8, NAMES
    ),
    (15, "secret"): st.binary(max_size=64),
    (15, "security_setup_reference"): st.none() | OBIS,
    (15, "user_list"): many(st.builds(association.User, U8, NAMES)),
    (20, "calendar_name_active"): NAMES,
    (20, "season_profile_active"): many(st.builds(objects.Season, NAMES, MOMENTS, NAMES)),
    (20, "week_profile_table_active"): many(st.builds(objects.Week, NAMES, U8, U8, U8, U8, U8, U8, U8)),
    (20, "day_profile_table_passive"): many(DAY),
    (22, "executed_script"): SCRIPT,
    (22, "type"): st.integers(1, 5),
    (22, "execution_time"): many(st.builds(objects.ExecutionTime, TIMES, DATES)),
    (23, "device_address"): U16,
    (40, "push_object_list"): many(
        st.builds(objects.PushObject, CAPTURED, st.lists(LEAVES, max_size=2).map(tuple))
    ),
    (40, "send_destination_and_method"): st.builds(objects.Destination, U8, NAMES, U8),
    (40, "communication_window"): many(st.builds(objects.Window, MOMENTS, MOMENTS)),
    (40, "repetition_delay"): U16 | st.builds(setups.RepetitionDelay, U16, U16, U16),
    (40, "confirmation_parameters"): st.builds(setups.Confirmation, MOMENTS, U32),
    (64, "security_policy"): U8,
    (64, "client_system_title"): st.binary(max_size=8),
    (70, "output_state"): st.booleans(),
    (70, "control_state"): st.sampled_from(objects.ControlState),
    (70, "control_mode"): U8,
    (71, "monitored_value"): st.builds(objects.MonitoredValue, U16, OBIS, I8),
    (71, "threshold_normal"): LEAVES,
    (71, "emergency_profile"): st.builds(objects.EmergencyProfile, U16, MOMENTS, U32),
    (71, "emergency_profile_group_id_list"): many(U16),
    (71, "actions"): st.builds(objects.LimiterActions, SCRIPT, SCRIPT),
}
PARAMETERS: list[tuple[Codec[Any], st.SearchStrategy[Any]]] = [
    (clock.PRESET_TIME, st.builds(objects.PresetTime, MOMENTS, MOMENTS, MOMENTS)),
    (schedules.SPECIAL_DAY, st.builds(objects.SpecialDay, U16, DATES, U8)),
    (
        security_setup.WRAPPED_KEYS,
        many(
            st.builds(
                objects.WrappedKey, st.sampled_from(objects.KeyKind), st.binary(min_size=24, max_size=24)
            )
        ),
    ),
]
ALL_CODECS = [
    (class_id, version, member.number)
    for class_id, cls in objects.TYPED.items()
    for version in range(4)
    for member in (d.member for d in vars(cls).values() if isinstance(d, Attribute))
]


def complaint(parse: Callable[[], object], without: str = "here") -> str:
    """Give the message of the one error that parsing may raise, or `without`."""
    try:
        parse()
    except MeterProtocolError as error:
        return str(error)
    return without


@pytest.mark.parametrize("key", VALUES, ids=lambda k: f"{k[0]}-{k[1]}")
@FAST
@given(st.data())
def test_a_value_that_is_built_parses_to_itself_through_its_octets(key: tuple[int, str], data: Any) -> None:
    value = data.draw(VALUES[key])
    ref = getattr(objects.TYPED[key[0]](RELAY), key[1])
    assert ref.parse(axdr.decode(axdr.encode(ref.build(value)))) == value
    assert ref.set_request(value) == SetRequest(
        target=Target(key[0], RELAY, ref.number), value=ref.build(value)
    )


@pytest.mark.parametrize("index", range(len(PARAMETERS)))
@FAST
@given(st.data())
def test_a_parameter_that_is_built_parses_to_itself(index: int, data: Any) -> None:
    kind, values = PARAMETERS[index]
    value = data.draw(values)
    assert kind.parse(axdr.decode(axdr.encode(kind.build(value))), WHERE) == value


@settings(max_examples=400)
@given(st.sampled_from(ALL_CODECS), TREES)
def test_hostile_shapes_raise_one_error_and_are_described_all_the_same(
    key: tuple[int, int, int], data: Data
) -> None:
    kind = objects.codec_of(*key)
    assert kind is not None
    assert complaint(lambda: kind.parse(data, WHERE)).startswith("here")
    objects.describe(*key, data)


@settings(max_examples=200)
@given(st.sampled_from(sorted(VALUES)), st.data(), TREES)
def test_a_value_with_one_part_changed_raises_one_error_or_parses(
    key: tuple[int, str], draw: st.DataObject, hostile: Data
) -> None:
    ref = getattr(objects.TYPED[key[0]](RELAY), key[1])
    built = ref.build(draw.draw(VALUES[key]))
    changed = _changed(built, hostile, draw.draw)
    assert complaint(lambda: ref.parse(changed), key[1]).count(key[1])


def _changed(data: Data, hostile: Data, draw: Callable[[Any], Any]) -> Data:
    if not data.items or draw(st.booleans()):
        return hostile
    at = draw(st.integers(0, len(data.items) - 1))
    items = list(data.items)
    items[at] = _changed(items[at], hostile, draw)
    return Data(data.tag, tuple(items))


def test_every_declared_member_has_the_number_and_name_of_the_catalogue() -> None:
    for class_id, cls in objects.TYPED.items():
        found = objects.catalogue(class_id)
        assert found is not None
        declared = [d.member for d in vars(cls).values() if isinstance(d, Attribute)]
        assert sorted(m.number for m in declared) == [m.number for m in found.attributes[1:]]
        for declaration in vars(cls).values():
            if isinstance(declaration, Method):
                number = declaration.member.number
                assert found.method_name(number) == declaration.member.name


@pytest.mark.parametrize(
    ("class_id", "version", "attribute", "name"),
    [
        (3, None, 3, "scaler_unit"),
        (7, 1, 8, "profile_entries"),
        (8, 0, 9, "clock_base"),
        (15, 0, 9, "attribute 9"),
        (15, 1, 9, "security_setup_reference"),
        (20, 0, 10, "activate_passive_calendar_time"),
        (40, 0, 7, "repetition_delay"),
        (40, 0, 8, "attribute 8"),
        (40, 2, 13, "last_confirmation_date_time"),
        (64, 0, 6, "attribute 6"),
        (64, 99, 6, "certificates"),
        (71, 0, 4, "threshold_normal"),
        (71, 0, 1, "logical_name"),
        (111, 0, 2, "attribute 2"),
        (3, 0, -1, "attribute -1"),
    ],
)
def test_attributes_have_blue_book_names(
    class_id: int, version: int | None, attribute: int, name: str
) -> None:
    found = objects.catalogue(class_id, version)
    assert found is not None
    assert found.attribute_name(attribute) == name


def test_methods_have_names_and_unknown_classes_none() -> None:
    relay, association_sn = objects.catalogue(70), objects.catalogue(12)
    assert relay is not None
    assert association_sn is not None
    assert [m.name for m in relay.methods] == ["remote_disconnect", "remote_reconnect"]
    assert association_sn.method_name(8) == "reply_to_HLS_authentication"
    assert association_sn.method_name(1) == "method 1"
    assert objects.catalogue(9999) is None
    assert objects.class_name(9999) == "class 9999"
    assert {6, 10, 17, 18, 21, 41, 45, 61, 62, 111, 115} <= set(objects.class_ids())


def test_an_object_makes_requests_without_io() -> None:
    register = objects.Register(Obis(1, 0, 1, 8, 0))
    assert register.value.request() == GetRequest(target=Target(3, Obis(1, 0, 1, 8, 0), 2))
    limiter = objects.Limiter(Obis(0, 0, 17, 0, 0))  # the load limit is written to threshold_normal
    assert limiter.threshold_normal.set_request(double_long_unsigned(5000)).target.index == 4
    bill_now = objects.ScriptTable(SCRIPTS).execute.request(1)
    assert bill_now == ActionRequest(target=Target(9, SCRIPTS, 1), parameter=long_unsigned(1))
    open_ = objects.DisconnectControl(RELAY).remote_disconnect.request(None)
    assert (open_.target.index, open_.parameter) == (1, integer(0))


def test_errors_name_class_attribute_expected_and_got() -> None:
    with pytest.raises(
        MeterProtocolError,
        match=r"disconnect control 0-0:96\.3\.10\*255 #3 control_state: expected one of \[0, 1, 2\], got enum 7",
    ):
        objects.DisconnectControl(RELAY).control_state.parse(enum(7))
    with pytest.raises(
        MeterProtocolError, match=r"scaler_unit unit: expected enum .*, got octet-string of 3"
    ):
        objects.Register(RELAY).scaler_unit.parse(structure(integer(0), octets(b"abc")))


def test_a_narrower_or_wider_integer_is_taken_when_it_fits() -> None:
    period = objects.ProfileGeneric(RELAY).capture_period
    assert period.parse(long_unsigned(1800)) == 1800
    with pytest.raises(MeterProtocolError, match="got integer -1"):
        period.parse(integer(-1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: objects.Clock(RELAY).shift_time.request(901),
        lambda: objects.ScriptTable(SCRIPTS).execute.request(1 << 16),
        lambda: objects.SecuritySetup(RELAY).client_system_title.build(bytes(9)),
        lambda: objects.AssociationLN(RELAY).application_context_name.build((2, 16)),
        lambda: objects.between(datetime(2026, 1, 1), datetime(2026, 1, 2)),
        lambda: objects.entries(0),
        lambda: objects.entries(5, 4),
        lambda: objects.entries(1, first_column=3, last_column=2),
        lambda: objects.build_key_transfer(MASTER, {}),
        lambda: objects.build_object_list([objects.ObjectEntry(class_id=-1, version=0, obis=RELAY)]),
    ],
)
def test_what_cannot_be_built_is_our_error(build: Callable[[], object]) -> None:
    with pytest.raises(LocalError):
        build()


def test_an_array_above_its_bound_is_refused() -> None:
    too_many = array(*[long_unsigned(1)] * (codec.MAX_ITEMS + 1))
    with pytest.raises(MeterProtocolError, match="array of at most 1024"):
        objects.Limiter(RELAY).emergency_profile_group_id_list.parse(too_many)
    with pytest.raises(MeterProtocolError, match="4096"):
        objects.parse_object_list(array(*[NULL] * (MAX_OBJECTS + 1)))
    rights = structure(array(*[structure(integer(1), enum(1), NULL)] * 257), array())
    with pytest.raises(MeterProtocolError, match="256"):
        objects.parse_object_list(
            array(structure(long_unsigned(1), unsigned(0), octets(RELAY.to_bytes()), rights))
        )


# ---- Indian examples (dlms-india, sections 1.4 and 4)


def test_the_billing_date_of_an_indian_meter() -> None:
    data = array(structure(octets(bytes(4)), octets(bytes.fromhex("FFFFFF01FF"))))
    schedule = objects.SingleActionSchedule(BILLING)
    (when,) = schedule.execution_time.parse(data)
    assert (when.time, when.date) == (
        CosemTime(hour=0, minute=0, second=0, hundredths=0),
        CosemDate(day=1),
    )
    assert schedule.execution_time.build((when,)) == data
    assert objects.describe(22, 0, 4, data) == ["*-*-01 00:00:00"]


def test_an_activity_calendar_reads_as_words() -> None:
    seasons = array(
        structure(octets(b"S1"), octets(bytes.fromhex("FFFF0101FF000000008000FF")), octets(b"W1"))
    )
    weeks = array(structure(octets(b"W1"), *map(unsigned, (1, 1, 1, 1, 1, 1, 2))))
    days = array(
        structure(
            unsigned(1),
            array(structure(octets(bytes((6, 0, 0, 0))), octets(SCRIPTS.to_bytes()), long_unsigned(3))),
        )
    )
    assert objects.describe(20, 0, 7, seasons) == ["season S1 from *-01-01 00:00:00: week W1"]
    assert objects.describe(20, 0, 8, weeks) == ["week W1: Mon 1, Tue 1, Wed 1, Thu 1, Fri 1, Sat 1, Sun 2"]
    assert objects.describe(20, 0, 9, days) == [
        {"day_id": 1, "day_schedule": ["06:00:00 script 3 of 0-0:10.0.1*255"]}
    ]


def test_the_push_script_and_destination_of_an_indian_meter() -> None:
    push = Obis(0, 0, 25, 9, 0)
    action = structure(enum(2), long_unsigned(40), octets(push.to_bytes()), integer(1), integer(0))
    assert objects.describe(9, 0, 2, array(structure(long_unsigned(1), array(action)))) == [
        {
            "script_identifier": 1,
            "actions": ["execute push setup 0-0:25.9.0*255 method 1 push with 0"],
        }
    ]
    destination = structure(enum(0), octets(b"10.0.0.1:4059"), enum(0))
    assert objects.describe(40, 0, 3, destination) == "TCP 10.0.0.1:4059 (A-XDR)"
    listed = array(capture_object(1, Obis(0, 0, 96, 1, 2)), capture_object(8, Obis(0, 0, 1, 0, 0)))
    assert objects.describe(40, 0, 2, listed) == [
        "data 0-0:96.1.2*255 #2 value",
        "clock 0-0:1.0.0*255 #2 time",
    ]


@pytest.mark.parametrize(
    ("key", "data", "shown"),
    [
        ((3, 0, 3), scaler_unit(-2, 35), "10^-2 V"),
        ((3, 0, 3), scaler_unit(-3, 255), "10^-3"),
        ((3, 0, 1), octets(bytes((1, 0, 1, 8, 0, 255))), "1-0:1.8.0*255"),
        ((7, 1, 3), array(capture_object(3, Obis(1, 0, 1, 8, 0))), ["register 1-0:1.8.0*255 #2 value"]),
        ((7, 1, 5), enum(2), "2 (last in first out)"),
        ((7, 1, 6), NULL, None),
        ((8, 0, 2), octets(JUNE.octets), "2026-06-01 14:15:00 deviation +330 min"),
        ((8, 0, 4), unsigned(0x82), "doubtful value, daylight saving active"),
        ((8, 0, 4), unsigned(0), "good"),
        ((15, 0, 4), octets(bytes.fromhex("60857405080103")), "2.16.756.5.8.1.3 (logical names, ciphered)"),
        ((15, 0, 6), octets(bytes.fromhex("60857405080202")), "2.16.756.5.8.2.2 (HLS)"),
        ((15, 0, 7), octets(b"password"), "not shown"),
        ((19, 1, 7), octets(b"password"), "not shown"),
        ((45, 0, 3), long_unsigned(1234), "not shown"),
        ((23, 1, 2), enum(5), "5 (9600 baud)"),
        ((64, 0, 2), enum(3), "3 (authenticated and encrypted)"),
        ((64, 1, 2), enum(0x0C), "12 (authenticated requests, encrypted requests)"),
        ((64, 0, 3), enum(0), "0 (AES-GCM-128, AES-128 key wrap)"),
        ((70, 0, 2), boolean(True), True),
        ((70, 0, 3), enum(2), "2 (ready for reconnection)"),
        ((70, 0, 4), enum(4), "4 (disconnect remotely, by limits; reconnect remotely)"),
        ((71, 0, 4), double_long_unsigned(5000), 5000),
        ((71, 0, 2), MONITORED, "register 1-0:1.7.0*255 #2 value"),
        ((41, 0, 2), long_unsigned(4059), 4059),
        ((1, 0, 2), octets(b"\x01\x02"), "0102"),
        ((9999, 0, 2), octets(b"text"), "text"),
    ],
)  # fmt: skip
def test_attributes_are_described(key: tuple[int, int, int], data: Data, shown: object) -> None:
    assert objects.describe(*key, data) == shown


def test_a_value_of_another_shape_is_shown_with_what_is_wrong() -> None:
    assert objects.describe(70, 0, 3, octets(b"\x01")) == {
        "malformed": "disconnect control #3 control_state: expected enum (0..255), got octet-string of 1",
        "value": "01",
    }


def test_the_bits_of_an_event_status_word_are_listed_by_name() -> None:
    word = Data(Tag.BIT_STRING, "0001" + "0" * 80 + "1" + "0" * 43)
    names = {3: "over voltage"}
    assert objects.describe(1, 0, 2, word, bit_names=names) == ["3 over voltage", "84"]
    assert objects.describe(1, 0, 2, Data(Tag.BIT_STRING, "01")) == "01"


def test_secrets_are_in_no_representation() -> None:
    password = b"\xabsecret-password"
    key = objects.WrappedKey(objects.KeyKind.MASTER, WRAPPED)
    context = association.XdlmsContext("1" * 24, 1, 1, 6, 0, password)
    shown = [repr(key), repr(context), str(association.CONTEXT.show(context))]
    shown.append(repr(objects.AssociationLN(RELAY).change_HLS_secret.request(password)))
    with pytest.raises(MeterProtocolError) as error:
        association.SECRET.parse(octets(password * 9), WHERE)
    shown.append(str(error.value))
    shown.append(str(objects.describe(15, 0, 5, structure(octets(password)))))
    for text in shown:
        assert "secret-password" not in text
        assert WRAPPED.hex() not in text.lower()
