"""Associations of the simulated meter: rights, own counters, secrets and keys that change, pre-established ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import GetRequest, GetResponse, decode_apdu, encode_apdu
from protocols.dlms.data.types import Data, Tag, array, enum, octets, structure
from protocols.dlms.objects.object_list import parse_object_list
from protocols.dlms.security.key_wrap import wrap_key
from protocols.dlms.server.connection import SendCounter, ServerConnection, ServerSettings
from protocols.dlms.server.model import AccessDenied
from protocols.dlms.session import DlmsSession
from protocols.errors import AssociationRefused
from protocols.reading import Obis, ProfileName
from protocols.simulator.cosem.access import CLIENTS, association_object, counter_object
from protocols.simulator.cosem.model import (
    DISPLAY,
    FIRMWARE,
    PUBLIC,
    READER,
    UTILITY,
    HouseholdModel,
    system_title,
)
from tests.support.dlms.household_access import CLOCK, CURRENT, MASTER, codes, six
from tests.support.dlms.trap_site import SECRETS, energies, site

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def model() -> AsyncIterator[HouseholdModel]:
    async with site("period-change-clears", extra=six(), master_key=MASTER) as meter:
        yield meter.meter.household


def test_every_association_has_its_object_counter_and_name(model: HouseholdModel) -> None:
    for index, client in enumerate(CLIENTS, 1):
        own = association_object(client)
        assert own == Obis(0, 0, 40, 0, index)
        for obis in (CURRENT, own):
            partners = model.get(client, Target(15, obis, 3)).items
            assert partners[0].integer == client
            assert model.get(client, Target(15, obis, 8)).integer == 2
        name = model.get(client, Target(15, CURRENT, 6)).octets
        assert name is not None
        assert name[-1] == {READER: 1, UTILITY: 2, FIRMWARE: 2}.get(client, 0)
        model.note_frame_counter(client, 100 + index)
    for index, client in enumerate(CLIENTS, 1):
        assert model.get(PUBLIC, Target(1, counter_object(client))).integer == 100 + index
        assert model.get(client, Target(1, Obis(0, 0, 42, 0, 0))).octets == b"GEN10000001"
    assert len(model.get(UTILITY, Target(17, Obis(0, 0, 41, 0, 0))).items) == 1


def test_each_client_sees_what_its_list_says_and_no_more(model: HouseholdModel) -> None:
    model.get(PUBLIC, Target(8, CLOCK))
    sizes = {}
    for client in CLIENTS:
        entries = parse_object_list(model.get(client, Target(15, CURRENT)))
        listed = {entry.obis: entry for entry in entries}
        sizes[client] = len(entries)
        for obis, served in model._objects.items():
            attribute = min(served.read)
            if obis in listed:
                model.get(client, Target(served.class_id, obis, attribute))
            else:
                with pytest.raises(AccessDenied):
                    model.get(client, Target(served.class_id, obis, attribute))
    assert sizes[PUBLIC] < sizes[FIRMWARE] < sizes[DISPLAY] < sizes[READER] <= sizes[UTILITY]
    entries = parse_object_list(model.get(READER, Target(15, CURRENT)))
    assert not any(entry.writable(n) for entry in entries for n in entry.attributes)


def test_keys_are_transferred_all_or_none_under_the_master_key(model: HouseholdModel) -> None:
    setup = Obis(0, 0, 43, 0, 3)
    new = b"E" * 16

    def entry(name: int, key: bytes, master: bytes = MASTER) -> Data:
        return structure(enum(name), octets(wrap_key(master, key)))

    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(64, setup, 2), array(entry(0, new), entry(2, new, b"x" * 16)))
    with pytest.raises(AccessDenied):
        model.action(UTILITY, Target(64, setup, 2), array(entry(4, new)))
    assert model.associations()[UTILITY].encryption_key == SECRETS["ek"]
    model.action(
        UTILITY, Target(64, setup, 2), array(entry(0, new), entry(2, b"A" * 16), entry(3, b"M" * 16))
    )
    changed = model.associations()[UTILITY]
    assert (changed.encryption_key, changed.authentication_key) == (new, b"A" * 16)
    assert model.associations()[READER].encryption_key == SECRETS["ek"]
    model.action(UTILITY, Target(64, Obis(0, 0, 43, 0, 2), 2), array(entry(0, new, b"M" * 16)))
    assert model.associations()[READER].encryption_key == new
    assert codes(model) == [164, 164]


async def test_new_keys_hold_from_the_next_association() -> None:
    async with site("period-change-clears", extra=six(), master_key=MASTER) as meter:
        old, new = SECRETS["ek"], b"N" * 16
        try:
            async with meter.open() as session:
                parameter = array(structure(enum(0), octets(wrap_key(MASTER, new))))
                assert isinstance(session, DlmsSession)
                await session.exchange.action(Target(64, Obis(0, 0, 43, 0, 3), 2), parameter)
                assert energies(await meter.blocks(session)) == meter.true_blocks()  # the old key still holds
            with pytest.raises(AssociationRefused):
                async with meter.open():
                    pytest.fail("opened with the old key")
            SECRETS["ek"] = new
            async with meter.open() as session:
                assert energies(await meter.blocks(session)) == meter.true_blocks()
        finally:
            SECRETS["ek"] = old


def test_secrets_change_and_are_never_shown(model: HouseholdModel) -> None:
    reader = association_object(READER)
    model.set(UTILITY, Target(15, reader, 7), octets(b"another password"))
    assert model.associations()[READER].secret == b"another password"
    model.action(UTILITY, Target(15, association_object(UTILITY), 2), octets(b"k" * 16))
    assert model.associations()[UTILITY].secret == b"k" * 16
    model.action(FIRMWARE, Target(15, CURRENT, 2), octets(wrap_key(MASTER, b"w" * 16)))
    assert model.associations()[FIRMWARE].secret == b"w" * 16
    assert codes(model) == [161, 162, 163]
    with pytest.raises(AccessDenied):
        model.get(UTILITY, Target(15, reader, 7))
    for wrong in (octets(b""), octets(b"x" * 65), Data(Tag.UNSIGNED, 3)):
        with pytest.raises(AccessDenied):
            model.set(UTILITY, Target(15, reader, 7), wrong)
    with pytest.raises(AccessDenied):
        model.set(READER, Target(15, reader, 7), octets(b"mine"))


def test_a_pre_established_client_is_served_without_aarq(model: HouseholdModel) -> None:
    connection = ServerConnection(model, DISPLAY, ServerSettings(), SendCounter())
    instantaneous = model.build.kind.profiles[ProfileName.INSTANTANEOUS].obis
    for class_id, obis, allowed in (
        (8, CLOCK, True),
        (7, instantaneous, True),
        (7, Obis(1, 0, 99, 1, 0), False),
    ):
        (answer,) = connection.handle(encode_apdu(GetRequest(target=Target(class_id, obis, 2))))
        got = decode_apdu(answer)
        assert isinstance(got, GetResponse)
        assert (got.data is not None) is allowed
    assert len(system_title("GEN", "10000001")) == 8
