"""The zone of a meter's wall clock, with the deviations by which the meter, or its companion, means just that."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from protocols.dlms.companion.loader import companion
from protocols.dlms.data.cosem_time import meter_zone
from protocols.session import DlmsSettings


def zone_of(zone: ZoneInfo, settings: DlmsSettings | None) -> ZoneInfo:
    """Return the zone that a meter with these settings is read in."""
    if settings is None:
        return zone
    own = () if settings.local_deviation is None else (settings.local_deviation,)
    return meter_zone(zone, frozenset((*companion(settings.companion).clock.local, *own)))
