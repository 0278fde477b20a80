"""Data and registers: classes 1, 3, 4 and 5 (Blue Book 4.3.1 to 4.3.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.dlms.data.units import unit_name
from protocols.dlms.objects.codec import (
    ANY,
    DATE_TIME,
    DOUBLE_LONG_UNSIGNED,
    ENUM,
    INTEGER,
    LONG_UNSIGNED,
    record,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method


@dataclass(frozen=True, slots=True)
class ScalerUnit:
    """A value counts in `unit` (code of the unit table) times 10^`scaler`."""

    scaler: int
    unit: int

    def __str__(self) -> str:
        return f"10^{self.scaler} {unit_name(self.unit)}".rstrip()


SCALER_UNIT = replace(record(ScalerUnit, scaler=INTEGER, unit=ENUM), show=str, kind="scaler_unit")


class DataObject(CosemObject):
    """Data (class 1)."""

    CLASS_ID = 1
    value = Attribute(ANY)


class Register(CosemObject):
    """Register (class 3)."""

    CLASS_ID = 3
    value = Attribute(ANY)
    scaler_unit = Attribute(SCALER_UNIT)
    reset = Method(NOTHING)


class ExtendedRegister(CosemObject):
    """Extended register (class 4): a register with the time of its value."""

    CLASS_ID = 4
    value = Attribute(ANY)
    scaler_unit = Attribute(SCALER_UNIT)
    status = Attribute(ANY)
    capture_time = Attribute(DATE_TIME)
    reset = Method(NOTHING)


class DemandRegister(CosemObject):
    """Demand register (class 5); period in seconds."""

    CLASS_ID = 5
    current_average_value = Attribute(ANY)
    last_average_value = Attribute(ANY)
    scaler_unit = Attribute(SCALER_UNIT)
    status = Attribute(ANY)
    capture_time = Attribute(DATE_TIME)
    start_time_current = Attribute(DATE_TIME)
    period = Attribute(DOUBLE_LONG_UNSIGNED)
    number_of_periods = Attribute(LONG_UNSIGNED)
    reset = Method(NOTHING)
    next_period = Method(NOTHING)
