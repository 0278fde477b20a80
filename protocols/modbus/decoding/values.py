"""From the words of a meter's registers to its quantities: which spans are needed, and what they come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zoneinfo import ZoneInfo

from protocols.modbus.decoding.codec import Scales, decode, scale_factor
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec, Scaled
from protocols.modbus.planning.plan import RegisterSpan
from protocols.reading import Missing, MissingReason, Quantity, Value

Cells = Mapping[RegisterSpan, "list[int] | None"]
"""The words of each span; None where the meter refuses it."""


def spans_of(model: MeterModel, registers: Iterable[Scaled], *own: RegisterSpan) -> tuple[RegisterSpan, ...]:
    """Return what must be read for registers: their own spans (and `own`), and those of the scales that they name.

    Values and their scales are read together: a CT ratio that is set in between would make both wrong.
    """
    wanted = dict.fromkeys(own)
    for register in registers:
        if isinstance(register, RegisterSpec):
            wanted[register.span] = None
        wanted |= dict.fromkeys(
            model.scale(name).span for name in (*register.multiply_by, *register.divide_by)
        )
    return tuple(wanted)


def scales_of(model: MeterModel, cells: Cells) -> Scales:
    """Return the factors of all scales whose words were read."""
    return {
        scale.name: scale_factor(model, scale, cells[scale.span])
        for scale in model.scales
        if scale.span in cells
    }


def values_of(
    model: MeterModel, registers: Iterable[RegisterSpec], cells: Cells, zone: ZoneInfo
) -> list[tuple[Quantity, Value]]:
    """Return the value of each register; Missing(METER_REFUSED) where the meter refused it.

    `zone` is the meter's. `cells` must have all of `spans_of`.
    """
    scales = scales_of(model, cells)
    values: list[tuple[Quantity, Value]] = []
    for register in registers:
        words = cells[register.span]
        value: Value = Missing(MissingReason.METER_REFUSED)
        if words is not None:
            value = decode(model, register, words, zone, scales=scales)
        values.append((Quantity.of(register.quantity), value))
    return values
