"""Which objects take new keys: the companion's, never those of another client than was meant."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from protocols.dlms.acts.keys import (
    CURRENT_ASSOCIATION,
    CURRENT_SETUP,
    KeyPlaces,
    key_changer,
    key_places,
)
from protocols.dlms.companion import companion
from protocols.errors import MeterConfigError
from protocols.obis import Obis
from protocols.session import COMPANIONS


def test_is_15959_has_an_object_for_each_client_and_48_changes_all() -> None:
    india = companion("is15959")
    assert key_changer(india) == 48
    for client in (32, 48, 80):
        for acting in (client, 48):
            assert key_places(india, client, acting) == KeyPlaces(
                association=Obis(0, 0, 40, 0, client // 16), security_setup=Obis(0, 0, 43, 0, client // 16)
            )


def test_other_companions_name_their_own() -> None:
    assert key_changer(companion("idis")) == 1
    assert key_places(companion("idis"), 1, 1) == KeyPlaces(
        association=Obis(0, 0, 40, 0, 1), security_setup=CURRENT_SETUP
    )
    assert key_changer(companion("spodes")) == 48
    assert key_changer(companion("generic")) is None


@pytest.mark.parametrize("name", COMPANIONS)
def test_the_current_objects_are_only_ever_those_of_the_client_that_is_meant(name: str) -> None:
    known = companion(name)
    for client in range(1, 128):
        mine = key_places(known, client, client)
        declared = known.associations.get(client)
        assert declared is not None or mine == KeyPlaces(
            association=CURRENT_ASSOCIATION, security_setup=CURRENT_SETUP
        )
        acting = 127 if client != 127 else 126
        if declared is None or declared.security_setup is None:
            with pytest.raises(MeterConfigError, match=f"keys of client {client} from client {acting}"):
                key_places(known, client, acting)


def test_a_companion_without_a_client_that_changes_keys_lets_each_change_its_own() -> None:
    india = companion("is15959")
    without = {c: replace(one, changes_keys=False) for c, one in india.associations.items()}
    assert key_changer(replace(india, associations=MappingProxyType(without))) is None
