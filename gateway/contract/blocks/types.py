"""CloudEvents types of the batches of version 2."""

from __future__ import annotations

from typing import Final

READINGS_TYPE: Final = "meter-gateway.meterreadings.created.v2"
EVENTS_TYPE: Final = "meter-gateway.enddeviceevents.created.v2"
GAPS_TYPE: Final = "meter-gateway.gaps.changed.v2"
