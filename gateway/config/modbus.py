"""The section [modbus], and whether the meters of a configuration fit their models and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.config.meters import LineSection, MeterSection, ModbusSection
from gateway.config.types import Section
from protocols.errors import MeterConfigError
from protocols.modbus.format.library import all_models, known_names, load_model
from protocols.modbus.format.model import CLOCK
from protocols.modbus.format.registers import quantity_text
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import nearest_name

FRAMINGS = {
    "tcp": ("tcp", "rtu"),
    "udp": ("tcp", "rtu"),
    "rtu-over-tcp": ("rtu", "ascii"),
    "serial": ("rtu", "ascii"),
}
"""The framings that go over a line of each kind, the usual one first."""


MAX_BUS_UNIT = 247


class ModelsSection(Section):
    """Meter models: `models` is a folder of your own (docs/modbus.md), whose names stand beside the shipped ones."""

    models: Path | None = None


class ModelFinding(NamedTuple):
    """What is wrong at a field, with the nearest valid name."""

    trail: Trail
    problem: str
    nearest: str | None = None


def check_modbus(
    lines: Sequence[LineSection], meters: Sequence[MeterSection], models: Path | None
) -> Iterator[ModelFinding]:
    """Yield what is wrong with Modbus meters: unknown models, profiles they lack, framings, units given twice."""
    try:
        known = known_names(models)
    except MeterConfigError as error:
        yield ModelFinding(("modbus", "models"), str(error))
        return
    kinds = {line.name: line.kind for line in lines}
    places = {line.name: _place(line) for line in lines}
    taken: dict[tuple[str, int], int] = {}
    for i, meter in enumerate(meters):
        if meter.modbus is None:
            continue
        yield from _model_fits(i, meter, meter.modbus, known, models)
        kind = kinds.get(meter.line, "")
        if kind and (why := _framing_unfit(meter.line, kind, meter.modbus.framing)):
            yield ModelFinding(("meters", i, "modbus", "framing"), why)
        on_bus = bool(kind) and (meter.modbus.framing or usual_framing(kind)) != "tcp"
        if on_bus and not 1 <= meter.modbus.unit <= MAX_BUS_UNIT:
            problem = f"unit {meter.modbus.unit} is none of a bus: 1 to {MAX_BUS_UNIT}"
            yield ModelFinding(("meters", i, "modbus", "unit"), problem)
        first = taken.setdefault((places.get(meter.line, meter.line), meter.modbus.unit), i)
        if first != i:
            other = meters[first]
            where = (
                "this line"
                if other.line == meter.line
                else f"line `{other.line}`, which leads to the same place"
            )
            problem = f"meters[{first}] ({other.meter}) has unit {meter.modbus.unit} on {where}, too"
            yield ModelFinding(("meters", i, "modbus", "unit"), problem)


def _place(line: LineSection) -> str:
    """Return where a line leads: two lines of one port or device are one bus."""
    if line.kind == "serial":
        return f"serial {line.device}"
    return line.name if line.host is None else f"{line.host}:{line.port}"


def _model_fits(
    i: int, meter: MeterSection, modbus: ModbusSection, known: Sequence[str], models: Path | None
) -> Iterator[ModelFinding]:
    where = ("meters", i, "modbus", "model")
    if modbus.model not in known:
        problem = f"there is no meter model `{modbus.model}`; known: {', '.join(known)}"
        yield ModelFinding(where, problem, nearest_name(modbus.model, known))
        return
    try:
        model = load_model(modbus.model, models)
    except MeterConfigError as error:
        yield ModelFinding(
            where, f"the model `{modbus.model}` has mistakes:\n  " + str(error).replace("\n", "\n  ")
        )
        return
    if lacking := [str(profile) for profile in meter.profiles if profile not in model.profiles]:
        problem = f"the model `{model.name}` has no {', '.join(lacking)}; it has {', '.join(model.profiles)}"
        yield ModelFinding(("meters", i, "profiles"), problem, nearest_name(lacking[0], model.profiles))


def shows_clock(meter: MeterSection, models: Path | None) -> bool:
    """Return whether a meter's clock can be read: DLMS meters', and others' whose model has a register of it."""
    if meter.modbus is None:
        return True
    return any(quantity_text(r.quantity) == CLOCK for r in load_model(meter.modbus.model, models).registers)


def broken_models(models: Path | None) -> list[str]:
    """Return what is wrong in the files of a user's folder, also those that no meter has; none stops the gateway."""
    try:
        return [str(entry.problem) for entry in all_models(models) if entry.problem is not None]
    except MeterConfigError as error:
        return [str(error)]


def _framing_unfit(line: str, kind: str, framing: str | None) -> str:
    """Return why a framing cannot go over a line; "" when it can."""
    allowed = FRAMINGS.get(kind)
    if allowed is None:
        return f"line `{line}` is {kind}: Modbus meters are on lines of the kinds {', '.join(FRAMINGS)}"
    if framing is None or framing in allowed:
        return ""
    return f'line `{line}` is {kind}: `framing = "{framing}"` does not go over it; leave it out, or say "{allowed[0]}"'


def usual_framing(kind: str) -> str:
    """Return the framing of a line whose meters say none."""
    return FRAMINGS.get(kind, ("tcp",))[0]
