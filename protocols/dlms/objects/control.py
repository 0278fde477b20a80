"""The supply contact and its limit: disconnect control and limiter (70, 71; Blue Book 4.5.8, 4.5.9)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

from protocols.dlms.data.cosem_dates import CosemDateTime
from protocols.dlms.data.types import Tag
from protocols.dlms.objects.catalogue import attribute_label
from protocols.dlms.objects.codec import (
    ANY,
    BOOLEAN,
    DATE_TIME,
    DOUBLE_LONG_UNSIGNED,
    INTEGER,
    LOGICAL_NAME,
    LONG_UNSIGNED,
    listing,
    members,
    number,
    record,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.dlms.objects.schedules import SCRIPT_REF, ScriptRef
from protocols.errors import MeterBusy, MeterRefused, NotSupported
from protocols.reading import Obis, RelayState

T = TypeVar("T")


class ControlState(IntEnum):
    """Control states of a supply contact."""

    DISCONNECTED = 0
    CONNECTED = 1
    READY_FOR_RECONNECTION = 2


_RELEASE = "reconnect at the meter once released remotely"
_MODES = {
    0: "none: always connected",
    1: f"disconnect remotely, by hand, by limits; {_RELEASE}",
    2: "disconnect remotely, by hand, by limits; reconnect remotely",
    3: f"disconnect remotely, by limits; {_RELEASE}",
    4: "disconnect remotely, by limits; reconnect remotely",
    5: f"disconnect remotely, by hand, by limits; {_RELEASE}, or by limits",
    6: f"disconnect remotely, by limits; {_RELEASE}, or by limits",
}
"""Control modes. Indian meters use 4 for "load limit function enabled" and 0 for disabled."""


def relay_state(output: bool | None, control: ControlState | None) -> RelayState:
    """Return what output_state and control_state say together: UNKNOWN for a contradiction, and for nothing."""
    connected = None if control is None else control is ControlState.CONNECTED
    if output is None and connected is None:
        return RelayState.UNKNOWN
    if output is not None and connected is not None and output is not connected:
        return RelayState.UNKNOWN
    return RelayState.CLOSED if (output if output is not None else connected) else RelayState.OPEN


class DisconnectControl(CosemObject):
    """Disconnect control (class 70). A method's success is acceptance, not movement: read the state."""

    CLASS_ID = 70
    output_state = Attribute(BOOLEAN)
    control_state = Attribute(members(ControlState))
    control_mode = Attribute(number(Tag.ENUM, _MODES))
    remote_disconnect = Method(NOTHING)
    remote_reconnect = Method(NOTHING)

    async def read(self) -> RelayState:
        """Return what the contact is by both states; one that the meter does not give is left out.

        Raises what the exchange raises when the meter gives neither, MeterBusy when it is busy, and
        MeterProtocolError for values that are no state.
        """
        output = await _or_none(self.output_state.get())
        if output is None:
            return relay_state(None, await self.control_state.get())
        return relay_state(output, await _or_none(self.control_state.get()))


async def _or_none(answer: Awaitable[T]) -> T | None:
    try:
        return await answer
    except MeterBusy:
        raise
    except (NotSupported, MeterRefused):
        return None


@dataclass(frozen=True, slots=True)
class MonitoredValue:
    """The attribute that a limiter watches."""

    class_id: int
    logical_name: Obis
    attribute_index: int

    def __str__(self) -> str:
        return attribute_label(self.class_id, self.logical_name, self.attribute_index)


@dataclass(frozen=True, slots=True)
class EmergencyProfile:
    """An emergency: its id, when it begins and for how many seconds it lasts."""

    emergency_profile_id: int
    emergency_activation_time: CosemDateTime
    emergency_duration: int


@dataclass(frozen=True, slots=True)
class LimiterActions:
    """Scripts that are run when the value stays above or below the threshold."""

    action_over_threshold: ScriptRef
    action_under_threshold: ScriptRef


MONITORED_VALUE = replace(
    record(
        MonitoredValue,
        class_id=LONG_UNSIGNED,
        logical_name=LOGICAL_NAME,
        attribute_index=INTEGER,
    ),
    show=str,
)
EMERGENCY_PROFILE = record(
    EmergencyProfile,
    emergency_profile_id=LONG_UNSIGNED,
    emergency_activation_time=DATE_TIME,
    emergency_duration=DOUBLE_LONG_UNSIGNED,
)
LIMITER_ACTIONS = record(LimiterActions, action_over_threshold=SCRIPT_REF, action_under_threshold=SCRIPT_REF)


class Limiter(CosemObject):
    """Limiter (class 71): thresholds in the type and scale of the watched value, durations in seconds.

    Indian meters take the load limit at threshold_normal.
    """

    CLASS_ID = 71
    monitored_value = Attribute(MONITORED_VALUE)
    threshold_active = Attribute(ANY)
    threshold_normal = Attribute(ANY)
    threshold_emergency = Attribute(ANY)
    min_over_threshold_duration = Attribute(DOUBLE_LONG_UNSIGNED)
    min_under_threshold_duration = Attribute(DOUBLE_LONG_UNSIGNED)
    emergency_profile = Attribute(EMERGENCY_PROFILE)
    emergency_profile_group_id_list = Attribute(listing(LONG_UNSIGNED))
    emergency_profile_active = Attribute(BOOLEAN)
    actions = Attribute(LIMITER_ACTIONS)
