"""The six associations of the simulated household meter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from protocols.dlms.server.model import AssociationPolicy
from protocols.reading import Obis
from protocols.session import Auth
from protocols.simulator.cosem.model import (
    DISPLAY,
    FIRMWARE,
    PUBLIC,
    PUSH,
    READER,
    UTILITY,
    HouseholdModel,
)
from tests.support.dlms.trap_site import NOW, SECRETS

CURRENT = Obis(0, 0, 40, 0, 0)

MASTER = b"m" * 16

CLOCK = Obis(0, 0, 1, 0, 0)


def six() -> dict[int, AssociationPolicy]:
    keys: dict[str, Any] = {"encryption_key": SECRETS["ek"], "authentication_key": SECRETS["ak"]}
    hls = AssociationPolicy(auth=Auth.HLS2, ciphered=True, secret=SECRETS["hls"], may_write=True, **keys)
    return {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        READER: AssociationPolicy(auth=Auth.LLS, ciphered=True, secret=SECRETS["lls"], **keys),
        UTILITY: hls,
        PUSH: AssociationPolicy(auth=Auth.NONE, ciphered=True, pre_established=True, **keys),
        FIRMWARE: replace(hls, secret=b"f" * 16),
        DISPLAY: AssociationPolicy(auth=Auth.NONE, pre_established=True),
    }


def codes(model: HouseholdModel) -> list[int]:
    return [code for _, log, code in model.household.event_codes(NOW.replace(hour=0), NOW) if log == 3]
