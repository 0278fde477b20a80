"""Clock: class 8 (Blue Book 4.5.1), read by the rule of `cosem_time`; `acts.clock` sets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_dates import ClockStatus, CosemDateTime
from protocols.dlms.data.cosem_time import INDIA, Stamp
from protocols.dlms.data.types import Tag
from protocols.dlms.objects.codec import (
    BOOLEAN,
    DATE_TIME,
    INTEGER,
    LONG,
    UNSIGNED,
    Codec,
    number,
    record,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.reading import Obis

CLOCK = Obis(0, 0, 1, 0, 0)
MAX_SHIFT = 900
"""Seconds by which shift_time moves a clock at most."""
_BASES = {
    0: "not defined",
    1: "internal crystal",
    2: "mains 50 Hz",
    3: "mains 60 Hz",
    4: "satellite",
    5: "radio",
}


@dataclass(frozen=True, slots=True)
class PresetTime:
    """Parameter of preset_adjusting_time: the time to take when adjust_to_preset_time comes in the interval."""

    preset_time: CosemDateTime
    validity_interval_start: CosemDateTime
    validity_interval_end: CosemDateTime


PRESET_TIME = record(
    PresetTime,
    preset_time=DATE_TIME,
    validity_interval_start=DATE_TIME,
    validity_interval_end=DATE_TIME,
)


STATUS: Codec[ClockStatus] = Codec(
    kind="unsigned",
    parse=lambda data, where: ClockStatus(UNSIGNED.parse(data, where)),
    build=UNSIGNED.build,
    show=lambda v: ", ".join(v.names) or "good",
)


class Clock(CosemObject):
    """Clock (class 8); zone and deviations in minutes."""

    CLASS_ID = 8
    time = Attribute(DATE_TIME)
    time_zone = Attribute(LONG)
    status = Attribute(STATUS)
    daylight_savings_begin = Attribute(DATE_TIME)
    daylight_savings_end = Attribute(DATE_TIME)
    daylight_savings_deviation = Attribute(INTEGER)
    daylight_savings_enabled = Attribute(BOOLEAN)
    clock_base = Attribute(number(Tag.ENUM, _BASES))
    adjust_to_quarter = Method(NOTHING)
    adjust_to_measuring_period = Method(NOTHING)
    adjust_to_minute = Method(NOTHING)
    adjust_to_preset_time = Method(NOTHING)
    preset_adjusting_time = Method(replace(PRESET_TIME, kind="preset_time"))
    shift_time = Method(number(Tag.LONG, limits=(-MAX_SHIFT, MAX_SHIFT)))

    async def read(self, zone: ZoneInfo = INDIA) -> Stamp:
        """Read the time, in any form that meters use; `Stamp.at` is None when it shows none.

        Raises what the exchange raises, and MeterProtocolError.
        """
        return cosem_time.decode(await self._octets(), zone)

    async def _octets(self) -> bytes:
        data = await self.time.data()
        value = cosem_time.octets_of(data)
        if value is None:
            raise self.time.where.error("date-time (12 octets)", data)
        return value
