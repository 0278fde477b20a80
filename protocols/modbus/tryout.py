"""A model tried on a register image: the reading sets that it makes of it, and what speaks against the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from protocols.errors import MeterRefused, ProtocolError
from protocols.modbus.decoding.values import scales_of, spans_of, values_of
from protocols.modbus.format.model import MeterModel, Probe
from protocols.modbus.format.registers import LIVE_PROFILES, RegisterSpec
from protocols.modbus.image import RegisterImage
from protocols.modbus.session.load_reader import LoadReader
from protocols.reading import Missing, MissingReason, Number, ProfileName, Quantity, ReadingSet, name_of


@dataclass(frozen=True, slots=True)
class Tryout:
    """What an image came to: `sets` by profile, `absent` quantities that it has no registers for, `doubts` in words."""

    sets: tuple[ReadingSet, ...]
    absent: tuple[str, ...]
    doubts: tuple[str, ...]


async def try_model(model: MeterModel, image: RegisterImage, *, at: datetime, zone: ZoneInfo) -> Tryout:
    """Return what a model makes of an image, as if it had been read at `at` of a meter in `zone`.

    Raises MeterRefused when the image lacks the registers of a log.
    """
    sets: list[ReadingSet] = []
    absent: list[str] = []
    for profile in LIVE_PROFILES:
        registers = model.of_profile(profile)
        if not registers:
            continue
        cells = image.cells(spans_of(model, registers))
        values = values_of(model, registers, cells, zone)
        refused = Missing(MissingReason.METER_REFUSED)
        absent += [r.quantity for r, (_, v) in zip(registers, values, strict=True) if v == refused]
        if any(value != refused for _, value in values):
            sets.append(ReadingSet(profile=profile, at=at, values=tuple(values), received_at=at))
    doubts = list(_doubts(model, image, zone))
    if model.log is not None:
        try:
            sets += await _log_sets(model, image, at, zone)
        except ProtocolError as error:
            doubts.append(f"log: {error}")
    return Tryout(tuple(sets), tuple(dict.fromkeys(absent)), tuple(doubts))


async def _log_sets(
    model: MeterModel, image: RegisterImage, at: datetime, zone: ZoneInfo
) -> list[ReadingSet]:
    assert model.log is not None

    async def read(function: int, address: int, count: int, *, file: int = 0) -> Sequence[int]:
        words = image.words(function, address, count, file=file)
        if words is None:
            raise MeterRefused(f"the image has no {count} registers from {address} of function {function}")
        return words

    reader = LoadReader(model, model.log, read, zone)
    scales = scales_of(model, image.cells(spans_of(model, model.log.values)))
    return [
        ReadingSet(
            profile=ProfileName.BLOCK_LOAD,
            at=row.at,
            start=row.at - model.log.length,
            occurrence=row.occurrence,
            meter_time=row.stamp,
            values=row.values,
            received_at=at,
        )
        for row in await reader.rows(scales, None, None)
    ]


def _doubts(model: MeterModel, image: RegisterImage, zone: ZoneInfo) -> Iterator[str]:
    """Yield what is not plausible: probes that fail, values beyond the limits of their registers."""
    failed = list(_failed(model, image, zone))
    for probe, shown in failed:
        name = name_of(Quantity.of(probe.quantity))
        yield f"probe: {name} is {_with_unit(shown)}, not {probe.low} to {probe.high}"
    other = "little" if model.word_order == "big" else "big"
    turned = model.model_copy(update={"word_order": other})
    if failed and not any(_failed(turned, image, zone)):
        yield f'with `word_order = "{other}"` every probe is plausible'
    for register in model.registers:
        number = _number(model, register, image, zone)
        if number is None:
            continue
        low, high = register.in_base(register.low), register.in_base(register.high)
        if (low is not None and number.decimal() < low) or (high is not None and number.decimal() > high):
            limits = [
                f"{word} {limit}"
                for word, limit in (("low", register.low), ("high", register.high))
                if limit is not None
            ]
            yield f"{name_of(Quantity.of(register.quantity))} is {_with_unit(number)}, beyond {' and '.join(limits)}"


def _with_unit(number: Number) -> str:
    return f"{number.text()} {number.unit}".rstrip()


def _failed(model: MeterModel, image: RegisterImage, zone: ZoneInfo) -> Iterator[tuple[Probe, Number]]:
    for probe in model.probe:
        number = _number(model, model.of_quantity(probe.quantity), image, zone)
        if number is not None and not probe.low <= number.decimal() <= probe.high:
            yield probe, number


def _number(model: MeterModel, register: RegisterSpec, image: RegisterImage, zone: ZoneInfo) -> Number | None:
    cells = image.cells(spans_of(model, (register,)))
    value = values_of(model, (register,), cells, zone)[0][1]
    return value if isinstance(value, Number) else None
