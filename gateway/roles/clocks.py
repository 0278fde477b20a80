"""Corrections of meters' clocks as the configuration declares them, in the gateway's record of acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.acts.audit import ActRecord
from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.edge.polling.clock_corrections import ClockCorrections
from gateway.edge.polling.clock_rule import ClockRule
from protocols.dlms.acts.keys import key_changer
from protocols.dlms.companion import companion
from protocols.known import Known
from protocols.session import Clock, MeterSpec

BY = "gateway"
"""Who corrects a clock that nobody ordered."""
ACT = "correct the clock"


def clock_corrections(config: Config, clock: Clock, known: Known) -> ClockCorrections:
    """Return what corrects meters' clocks; without [clocks] it only tells which are off."""
    section = config.clocks
    if section is None:
        return ClockCorrections(clock, known)
    return ClockCorrections(
        clock, known, rule=ClockRule(**section.model_dump()), record=_ClockRecord(config.gateway.data, clock)
    )


def setter_of(config: Config, meter: MeterSection) -> MeterSpec | None:
    """Return how a meter is met by the client that may set its clock; None where that is the one that reads.

    It is the one that the companion names for changing keys (48 in IS 15959), where the configuration has it.
    """
    if config.clocks is None or meter.dlms is None:
        return None
    spec, changer = config.spec(meter, config.gateway.name), key_changer(companion(meter.dlms.companion))
    settings = None if changer is None else meter.associations().get(changer)
    if settings is None or spec.dlms is None or settings.client == spec.dlms.client:
        return None
    return replace(spec, dlms=replace(settings, system_title=spec.dlms.system_title))


class _ClockRecord:
    """Implements `gateway.edge.polling.clock_corrections.Record`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._record = ActRecord(folder)
        self._clock = clock

    def __call__(self, meter: str, *, before: str, after: str, outcome: str) -> None:
        self._record.note(
            at=self._clock.now(), by=BY, meter=meter, act=ACT, before=before, after=after, outcome=outcome
        )
