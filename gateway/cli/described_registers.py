"""Modbus registers that passed on a line, as a model reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from gateway.cli.value_text import value_text
from protocols.modbus.decoding.codec import decode
from protocols.modbus.format.library import load_model
from protocols.modbus.format.model import MeterModel
from protocols.modbus.trace import Describe
from protocols.reading import Quantity, name_of


def described_by(name: str | None, zone: str) -> Describe | None:
    """Return what reads registers as the model of this name or file says; MeterConfigError when there is none."""
    if name is None:
        return None
    model, meters_zone = load_model(name), ZoneInfo(zone)

    def describe(function: int, first: int, words: Sequence[int]) -> Iterator[tuple[int, str, str]]:
        yield from _described(model, meters_zone, function, first, words)

    return describe


def _described(
    model: MeterModel, zone: ZoneInfo, function: int, first: int, words: Sequence[int]
) -> Iterator[tuple[int, str, str]]:
    for register in model.registers:
        span = register.span
        offset = span.address - first
        if span.function != function or offset < 0 or offset + span.size > len(words):
            continue
        value = decode(model, register, words[offset : offset + span.size], zone)
        quantity = Quantity.of(register.quantity)
        yield offset, f"{quantity} {name_of(quantity)}", value_text(value)
