"""Advice where a meter seems to write a constant as deviation and to mean its wall clock."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from gateway.cli.meter.access import MeterAccess
from protocols.dlms.companion.zones import zone_of
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cursor import leading
from protocols.dlms.explore.saved_meter import SavedMeter
from protocols.dlms.objects.clock import CLOCK
from protocols.dlms.profile.deviation_advice import SeenTime, proposed_deviation
from protocols.errors import MeterProtocolError
from protocols.reading import MeterClock, ReadingSet


def clock_advice(access: MeterAccess, found: MeterClock) -> str | None:
    """Return the advice that a meter's clock gives, in a sentence."""
    return _advice(access, found.gateway, clock=SeenTime(found.meter, found.deviation))


def rows_advice(access: MeterAccess, rows: Sequence[ReadingSet]) -> str | None:
    """Return the advice that rows give, whose stamps are not trusted as they are."""
    seen = [
        SeenTime(row.at, row.meter_time.deviation)
        for row in rows
        if row.meter_time is not None and not row.meter_time.trusted
    ]
    return _advice(access, access.clock.now(), rows=seen) if seen else None


def saved_advice(access: MeterAccess, saved: SavedMeter, now: datetime) -> str | None:
    """Return the advice that the clock of an explored meter gives, which was read shortly before `now`."""
    attribute = next((one.attribute(2) for one in saved.objects if one.obis == CLOCK), None)
    if access.spec.dlms is None or attribute is None or attribute.value is None:
        return None
    with suppress(MeterProtocolError):
        octets = cosem_time.octets_of(leading(attribute.value, axdr.decode)[0])
        stamp = cosem_time.decode(octets or b"", zone_of(access.spec.time_zone(), access.spec.dlms))
        if stamp.at is not None:
            return _advice(access, now, clock=SeenTime(stamp.at, stamp.deviation))
    return None


def _advice(
    access: MeterAccess, now: datetime, *, clock: SeenTime | None = None, rows: Sequence[SeenTime] = ()
) -> str | None:
    if access.spec.dlms is None:
        return None
    zone = zone_of(access.spec.time_zone(), access.spec.dlms)
    deviation = proposed_deviation(now, zone, clock=clock, rows=rows)
    if deviation is None:
        return None
    return (
        f"the meter writes deviation {deviation} in its times and seems to mean the wall clock of {zone.key}: compare"
        f" it with the meter's display, then say local_deviation = {deviation} in [meters.dlms], or"
        f" --local-deviation {deviation} beside an address"
    )
