"""The load limit as acts: watts, written as the meter counts what its limiter watches, and the function on or off."""

from __future__ import annotations

from protocols.dlms.acts.programming import Act, Association, Change, attribute_of, control_object
from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import Companion
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects import Limiter
from protocols.dlms.objects.codec import Where
from protocols.dlms.objects.registers import SCALER_UNIT
from protocols.errors import LocalError, MeterRefused, NotSupported
from protocols.reading import Obis

ON, OFF = 4, 0
"""control_mode of Indian meters: load limit function enabled, disabled."""
LEAST = 100
"""Watts: below it no supply is of use, and somebody meant kilowatts."""
CUTS = "a load above the limit is cut off by the meter itself"
_WATTS = {27: "W", 28: "VA"}
_SCALER_UNIT = {3: 3, 4: 3, 5: 4}
"""Attribute with scaler and unit, by interface class: register, extended register, demand register."""
_SCALERS = range(-6, 7)


def load_limit(companion: Companion, watts: int) -> Act:
    """Set the limit, in watts, at which the load switch opens; LocalError for less than a supply is of use at."""
    if watts < LEAST:
        raise LocalError(f"{watts} W is no load limit: at least {LEAST}; write watts, not kilowatts")
    limiter = control_object(companion, "limiter").obis

    async def counted(association: Association, value: Data) -> tuple[Data, str]:
        return await _as_watched(association, limiter, value.integer or 0)

    change = Change(
        places=(attribute_of(companion, "limiter", "threshold_normal"),),
        value=Data(Tag.DOUBLE_LONG_UNSIGNED, watts),
        number=True,
        counted=counted,
    )
    return Act(name="load-limit", changes=(change,), warning=CUTS)


def load_limit_function(companion: Companion, *, on: bool) -> Act:
    """Enable or disable the load limit function (control_mode 4 or 0)."""
    target = attribute_of(companion, "load_switch", "control_mode")
    change = Change(places=(target,), value=Data(Tag.ENUM, ON if on else OFF))
    return Act(name="load-limit", changes=(change,), warning=CUTS if on else "")


async def _as_watched(association: Association, limiter: Obis, watts: int) -> tuple[Data, str]:
    """Return watts in the scale of the watched register (Blue Book 4.5.9: thresholds have its type and scale)."""
    at = Limiter(limiter).monitored_value
    try:
        watched = at.parse(await association.get(Target(at.class_id, at.obis, at.number)))
        attribute = _SCALER_UNIT.get(watched.class_id)
        if attribute is None:
            raise NotSupported(f"it watches {watched}")
        place = Target(watched.class_id, watched.logical_name, attribute)
        scale = SCALER_UNIT.parse(await association.get(place), Where(str(place)))
    except (NotSupported, MeterRefused) as error:
        raise LocalError(f"the meter does not show in which unit its limit counts: {error}") from error
    if scale.unit not in _WATTS or scale.scaler not in _SCALERS:
        raise LocalError(
            f"the meter's limit counts {watched} in {scale}, which is no power: watts do not fit"
        )
    raw, rest = divmod(watts * 10 ** max(-scale.scaler, 0), 10 ** max(scale.scaler, 0))
    if rest:
        raise LocalError(f"the meter's limit counts in {scale}: {watts} W is no whole number of that")
    return Data(Tag.DOUBLE_LONG_UNSIGNED, raw), str(scale) if scale.scaler else _WATTS[scale.unit]
