"""Whether the meter that answers is the one that is meant, asked before anything is read or changed."""

from __future__ import annotations

from protocols.errors import IdentityMismatch, NotSupported
from protocols.session import MeterSession


async def recognise(session: MeterSession, meter: str) -> None:
    """Return where `meter` answers, or one that cannot say who it is; raises IdentityMismatch for another one."""
    try:
        nameplate = await session.identify()
    except NotSupported:
        return  # a model without a serial register: the configuration stands for it
    expected = meter.partition(":")[2]
    if expected and nameplate.serial and nameplate.serial.strip() != expected:
        raise IdentityMismatch(expected=meter, found=nameplate.meter_id)
