"""Interface classes in use: object lists, key transfer, and objects reached through an exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import objects
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import ColumnName, EntrySelection
from protocols.dlms.data.types import (
    NULL,
    Data,
    array,
    boolean,
    capture_object,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.objects import clock, control
from protocols.dlms.server.model import AssociationPolicy
from protocols.errors import (
    LocalError,
    MeterBusy,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    SecurityFailure,
)
from protocols.reading import Obis, RelayState
from protocols.session import Auth
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.household.household import Household
from tests.support.dlms.object_values import FAST, MASTER, RELAY, WRAPPED

KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")


# ---- object list


def listed(class_id: int, version: int, obis: Obis, rights: Data) -> Data:
    return structure(long_unsigned(class_id), unsigned(version), octets(obis.to_bytes()), rights)


def test_an_object_list_is_read_in_any_order_with_any_class() -> None:
    rights = structure(
        array(
            structure(integer(1), enum(1), NULL),
            structure(integer(2), enum(3), array(integer(1), integer(2))),
            structure(integer(-1), enum(6), NULL),
        ),
        array(structure(integer(1), boolean(True)), structure(integer(2), enum(2))),
    )
    date = Obis(0, 0, 0, 1, 2)
    entries = objects.parse_object_list(
        array(
            listed(7, 1, Obis(1, 0, 99, 1, 0), rights),
            listed(1, 0, date, structure(array(), array())),
            listed(3, 0, date, NULL),  # the same name as another class, without rights
            listed(8200, 9, RELAY, structure(NULL, NULL)),
            listed(15, 1, Obis(0, 0, 40, 0, 0), rights),
        )
    )
    assert [(e.class_id, e.version) for e in entries] == [(7, 1), (1, 0), (3, 0), (8200, 9), (15, 1)]
    profile = entries[0]
    assert (profile.attributes, profile.methods) == ({1: 1, 2: 3, -1: 6}, {1: 1, 2: 2})
    assert profile.selectors == {2: (1, 2)}
    assert (profile.readable(1), profile.writable(1), profile.writable(2), profile.readable(9)) == (
        True,
        False,
        True,
        False,
    )
    assert (profile.executable(1), profile.executable(3)) == (True, False)
    assert profile.access_name(-1) == "read, write authenticated"
    assert profile.method_access_name(2) == "execute authenticated"


def test_from_version_3_modes_are_bits() -> None:
    rights = structure(array(structure(integer(2), enum(0x25), NULL)), array(structure(integer(1), enum(5))))
    register, _ = objects.parse_object_list(array(listed(3, 0, RELAY, rights), listed(15, 3, RELAY, rights)))
    assert (register.readable(2), register.writable(2), register.executable(1)) == (True, False, True)
    assert register.access_name(2) == "read, authenticated request, authenticated response"
    assert register.method_access_name(1) == "execute, authenticated request"


@pytest.mark.parametrize(
    "data",
    [
        NULL,
        structure(),
        array(NULL),
        array(structure(long_unsigned(3), unsigned(0), octets(b"short"), NULL)),
        array(listed(3, 0, RELAY, structure(array()))),
        array(listed(3, 0, RELAY, structure(array(integer(1)), array()))),
        array(listed(3, 0, RELAY, structure(array(structure(integer(1), octets(b""))), array()))),
        array(listed(3, 0, RELAY, structure(octets(b""), array()))),
    ],
)
def test_a_malformed_object_list_is_an_error(data: Data) -> None:
    with pytest.raises(MeterProtocolError, match="object_list"):
        objects.parse_object_list(data)


def test_an_object_list_is_described_by_name() -> None:
    entry = objects.ObjectEntry(class_id=70, version=0, obis=RELAY, attributes={2: 1, 7: 3}, methods={1: 1})
    assert objects.describe(15, 1, 2, objects.build_object_list([entry])) == [
        {
            "object": "disconnect control 0-0:96.3.10*255",
            "version": 0,
            "attributes": {"2 output_state": "read", "7 attribute 7": "read, write"},
            "methods": {"1 remote_disconnect": "execute"},
        }
    ]


# ---- key transfer


def test_key_transfer_carries_the_vector_of_rfc_3394() -> None:
    data = objects.build_key_transfer(MASTER, {objects.KeyKind.GLOBAL_UNICAST_ENCRYPTION: KEY})
    assert data == array(structure(enum(0), octets(WRAPPED)))
    assert objects.parse_key_transfer(data, MASTER) == {objects.KeyKind.GLOBAL_UNICAST_ENCRYPTION: KEY}


KEYS = st.binary(min_size=16, max_size=16)


@FAST
@given(KEYS, st.dictionaries(st.sampled_from(objects.KeyKind), KEYS, min_size=1))
def test_transferred_keys_come_back(master: bytes, keys: dict[objects.KeyKind, bytes]) -> None:
    assert objects.parse_key_transfer(objects.build_key_transfer(master, keys), master) == keys


def test_keys_under_another_master_key_are_refused() -> None:
    data = objects.build_key_transfer(MASTER, {objects.KeyKind.AUTHENTICATION: KEY})
    with pytest.raises(SecurityFailure, match="does not open"):
        objects.parse_key_transfer(data, MASTER[::-1])
    with pytest.raises(MeterConfigError, match="16"):
        objects.build_key_transfer(MASTER, {objects.KeyKind.MASTER: b"short"})


@pytest.mark.parametrize(
    "data",
    [
        NULL,
        array(),
        array(structure(enum(4), octets(WRAPPED))),
        array(structure(enum(0), octets(WRAPPED[:16]))),
        array(*[structure(enum(0), octets(WRAPPED))] * 2),
        array(*[structure(enum(0), octets(WRAPPED))] * 5),
    ],
)
def test_a_malformed_key_transfer_is_an_error(data: Data) -> None:
    with pytest.raises(MeterProtocolError, match="key_transfer"):
        objects.parse_key_transfer(data, MASTER)


# ---- through an exchange


class Meter:
    """Answers as an association does; an attribute may be an error."""

    def __init__(self, attributes: dict[int, Data | Exception]) -> None:
        self.attributes = attributes
        self.written: list[tuple[int, int, Data]] = []
        self.run: list[tuple[int, int, Data]] = []
        self.selections: list[object] = []

    async def get(self, target: Target) -> Data:
        self.selections.append(target.selection)
        answer = self.attributes.get(target.index, NotSupported(str(target)))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def set(self, target: Target, value: Data) -> None:
        self.written.append((target.class_id, target.index, value))

    async def action(self, target: Target, parameter: Data) -> Data | None:
        self.run.append((target.class_id, target.index, parameter))
        return None


OPEN, CLOSED, UNKNOWN = RelayState.OPEN, RelayState.CLOSED, RelayState.UNKNOWN
NOT_THERE, DENIED = NotSupported("no"), MeterRefused("denied", reason_code=3)


@pytest.mark.parametrize(
    ("output", "control_state", "state"),
    [
        (boolean(True), enum(1), CLOSED),
        (boolean(False), enum(0), OPEN),
        (boolean(False), enum(2), OPEN),
        (boolean(True), enum(0), UNKNOWN),
        (boolean(True), enum(2), UNKNOWN),
        (boolean(False), enum(1), UNKNOWN),
        (boolean(True), NOT_THERE, CLOSED),
        (boolean(False), DENIED, OPEN),
        (NOT_THERE, enum(1), CLOSED),
        (DENIED, enum(2), OPEN),
    ],
)
async def test_the_contact_is_what_both_states_say(
    output: Data | Exception, control_state: Data | Exception, state: RelayState
) -> None:
    meter = Meter({2: output, 3: control_state})
    assert await objects.DisconnectControl(RELAY, meter).read() is state


async def test_a_contact_that_shows_nothing_or_nonsense_is_an_error() -> None:
    cases: list[tuple[dict[int, Data | Exception], type[Exception]]] = [
        ({}, NotSupported),
        ({2: MeterBusy("busy"), 3: enum(1)}, MeterBusy),
        ({2: boolean(True), 3: MeterBusy("busy")}, MeterBusy),
        ({2: unsigned(1), 3: enum(1)}, MeterProtocolError),
        ({2: boolean(True), 3: enum(3)}, MeterProtocolError),
    ]
    for attributes, error in cases:
        with pytest.raises(error):
            await objects.DisconnectControl(RELAY, Meter(attributes)).read()
    assert control.relay_state(None, None) is UNKNOWN


async def test_a_clock_that_is_no_time_is_an_error_that_names_it() -> None:
    with pytest.raises(MeterProtocolError, match=r"clock 0-0:1\.0\.0\*255 #2 time: expected date-time"):
        await objects.Clock(clock.CLOCK, Meter({2: octets(b"?")})).read()


async def test_attributes_are_read_written_and_methods_run() -> None:
    start = datetime(2026, 6, 1, tzinfo=UTC)
    meter = Meter({2: array(), 3: array(capture_object(8, clock.CLOCK)), 4: double_long_unsigned(5000)})
    profile = objects.ProfileGeneric(Obis(1, 0, 99, 1, 0), meter)
    assert await profile.capture_objects.get() == (objects.CaptureObject(8, clock.CLOCK, 2, 0),)
    await profile.buffer.get(objects.entries(1, 10))
    energy = objects.CaptureObject(3, Obis(1, 0, 1, 29, 0), 2)
    hour = objects.between(start, start + timedelta(hours=1), columns=[energy])
    await profile.buffer.get(hour)
    assert hour.columns == (ColumnName(3, Obis(1, 0, 1, 29, 0)),)
    assert objects.entries(1, 5, first_column=2).first_column == 2
    assert meter.selections[1] == EntrySelection(1, 10)
    await profile.capture.run(None)
    await objects.Limiter(RELAY, meter).threshold_normal.set(double_long_unsigned(4000))
    await objects.SecuritySetup(RELAY, meter).transfer_keys(MASTER, {objects.KeyKind.AUTHENTICATION: KEY})
    assert meter.written == [(71, 4, double_long_unsigned(4000))]
    assert meter.run == [(7, 2, integer(0)), (64, 2, array(structure(enum(2), octets(WRAPPED))))]
    with pytest.raises(LocalError, match="without an exchange"):
        await objects.Register(RELAY).value.get()


# ---- a whole meter


class Noon:
    """A clock that stands."""

    def now(self) -> datetime:
        return datetime(2026, 6, 2, 6, 30, tzinfo=UTC)


def test_every_readable_attribute_of_the_simulated_meter_has_a_name_and_its_class_s_shape() -> None:
    home = Household(4, "GEN", "10000001", Noon().now() - timedelta(days=2))
    policy = AssociationPolicy(auth=Auth.HLS2, secret=bytes(16), may_write=True)
    meter = HouseholdModel(home, Noon(), {48: policy})
    entries = objects.parse_object_list(meter.get(48, Target(15, Obis(0, 0, 40, 0, 0))))
    assert len(entries) > 50
    for entry in entries:
        found = objects.catalogue(entry.class_id, entry.version)
        assert found is not None
        for number in filter(entry.readable, entry.attributes):  # a password is written only
            assert not found.attribute_name(number).startswith("attribute "), entry
            data = meter.get(48, Target(entry.class_id, entry.obis, number))
            assert "malformed" not in str(objects.describe(entry.class_id, entry.version, number, data)), (
                entry
            )
