"""Push setups (class 40) of a simulated Indian meter: what each push holds, in which order."""

from __future__ import annotations

from protocols.dlms.companion import companion
from protocols.dlms.push_body import ALERT_SETUP, ESW, PROFILE_OF_SETUP, PUSH_SETUP_CLASS
from protocols.dlms.types import Data, array, capture_object
from protocols.reading import Obis
from protocols.simulator.cosem_objects import Served, constant

DEVICE_ID = Obis(0, 0, 96, 1, 2)
_CLOCK = Obis(0, 0, 1, 0, 0)


def push_setups() -> dict[Obis, Served]:
    """Give the setups by OBIS code, with push_object_list (#2) only."""
    objects = {
        setup: _setup(setup, capture_object(7, companion().profiles[profile].obis))
        for setup, profile in PROFILE_OF_SETUP.items()
    }
    objects[ALERT_SETUP] = _setup(ALERT_SETUP, capture_object(1, ESW))
    return objects


def _setup(setup: Obis, payload: Data) -> Served:
    head = (
        capture_object(1, DEVICE_ID),
        capture_object(PUSH_SETUP_CLASS, setup, 1),
        capture_object(8, _CLOCK),
    )
    return Served(PUSH_SETUP_CLASS, {2: constant(array(*head, payload))})
