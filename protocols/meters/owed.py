"""Whether a meter may be asked now, or had better be left alone until earlier answers cannot come any more."""

from __future__ import annotations

from protocols.line import Line
from protocols.modbus.client.account import account_of
from protocols.modbus.framing.frames import frames_for
from protocols.session import MeterSpec


def answers_owed(line: Line, spec: MeterSpec) -> float:
    """Return for how many seconds a meter may still answer what it was asked before; 0 where nothing is owed.

    A request meanwhile whose answer would look the same would only be made to wait on the line. Asks the running loop
    for the time.
    """
    settings = spec.modbus
    if settings is None or frames_for(settings.framing).sequenced:
        return 0.0
    return account_of(line).barred_for(settings.unit)
