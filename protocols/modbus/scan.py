"""Who is on this line: every unit is asked, any answer proves that one is there, and known models are tried on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from protocols.errors import MeterError, MeterProtocolError
from protocols.line import Line, memory_of
from protocols.lines.serial import SerialLine
from protocols.lines.traced import TracedLine
from protocols.modbus.belief.rules import is_phase_voltage
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.client.presence import ModbusVoice
from protocols.modbus.decoding.values import spans_of, values_of
from protocols.modbus.format.encoding import WordOrder
from protocols.modbus.format.library import all_models
from protocols.modbus.format.model import SERIAL, MeterModel
from protocols.modbus.planning.known_meter import ModbusNotes
from protocols.modbus.planning.plan import RegisterSpan
from protocols.modbus.session.reader import RegisterReader, Words
from protocols.reading import Number, Quantity, Text, Value
from protocols.sweep import SweepLog, sweep

PATIENCE = 4
"""How many times the scan's timeout, or its own latency, a unit that was found gets to answer further questions."""
SAME_SERIAL = 3
"""Readings of a serial that must agree: two meters at one unit answer by turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnit:
    """A unit that answers a scan.

    `model`, `manufacturer`, `serial` and `word_order` are None when no known model fits it; `manufacturer` and
    `serial` together are the meter's identity. `word_order` differs from the model's when only the other one
    gives plausible values: then the model must be corrected before use. `also` are further models that fit as well: a
    look at the meter decides. `latency` is in seconds, None where it was not measured. `collision`: two meters answer
    at this unit, or nothing but noise does.
    """

    unit: int
    model: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    word_order: WordOrder | None = None
    also: tuple[str, ...] = ()
    latency: float | None = field(default=None, compare=False)
    collision: bool = False

    @property
    def meter(self) -> str | None:
        """The identity, as `EAS:10000001`; None when unknown."""
        return f"{self.manufacturer}:{self.serial}" if self.serial else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many of how many addresses were asked."""

    done: int
    total: int


async def scan_modbus(
    line: Line,
    units: Iterable[int] = range(1, 248),
    timeout: float = 0.1,
    *,
    framing: str | None = None,
    models: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AsyncIterator[FoundUnit]:
    """Ask each unit, in short turns on the line, and yield those that answer, with a guess of the model.

    `line` is any `protocols.line.Line`, `units` the ids to ask. `timeout` is the wait for each unit in seconds: an
    empty line of 247 units takes 247 of them. Slower meters are found by their late answers. `framing` is `tcp`,
    `rtu` or `ascii`; without it a serial line is RTU, and on TCP, RTU is tried when nobody answers to TCP framing.
    `models` is a folder of models beside the shipped ones; `progress` is told of each turn. Raises the errors of the
    line.

    Example::

        async for found in scan_modbus(SerialLine("bus", "/dev/ttyUSB0")):
            print(found.unit, found.model, found.meter)
    """
    wanted = list(units)
    for name in (framing,) if framing else _framings(line):
        log: SweepLog[int] = SweepLog()
        known: set[int] = set()
        async for step in sweep(line, ModbusVoice(frames_for(name)), wanted, log, wait=timeout):
            if progress is not None:
                progress(Progress(done=step.done, total=step.total))
            for unit in step.found:
                known.add(unit)
                yield await _identified(line, name, unit, timeout, log, models)
        for unit in sorted(log.collided - known):
            yield FoundUnit(unit=unit, collision=True)
        if log.found or log.collided:
            return


def _framings(line: Line) -> tuple[str, ...]:
    while isinstance(line, TracedLine):
        line = line.inner
    return ("rtu",) if isinstance(line, SerialLine) else ("tcp", "rtu")


async def _identified(
    line: Line, framing: str, unit: int, timeout: float, log: SweepLog[int], models: Path | None
) -> FoundUnit:
    latency = log.found[unit]
    patience = PATIENCE * max(timeout, latency or 0.0)
    async with line.exclusive() as io:
        client = ModbusClient(
            io,
            frames_for(framing),
            timeout=patience,
            worst_latency=patience,
            account=account_of(line),
            late_answer_max=patience,
            redials=memory_of(line).redials,
        )
        guess = await _UnitModels(client, unit, models).guess()
    return replace(guess, latency=latency, collision=guess.collision or unit in log.collided)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A model that fits: how many registers it has, and whether a phase that it speaks of shows no voltage."""

    registers: int
    dead: bool
    unit: FoundUnit


class _UnitModels:
    """Finds the model of one unit, in one turn on the line."""

    def __init__(self, client: ModbusClient, unit: int, models: Path | None) -> None:
        self._client = client
        self._unit = unit
        self._models = models
        self._known: Words = {}

    async def guess(self) -> FoundUnit:
        """Try all known models; the one of which most registers answer, none refused, is the guess.

        One whose phases show no voltage comes behind those that do not speak of these phases: many meters give zero for
        registers that they lack.
        """
        fitting: list[_Fit] = []
        collision = False
        for entry in all_models(self._models):
            if entry.model is None:
                continue
            try:
                found = await self._fits(entry.model)
            except (
                MeterError
            ) as error:  # a register of this model that the unit does not answer for: another model
                collision = collision or (
                    isinstance(error, MeterProtocolError) and "two meters" in str(error)
                )
                continue
            if found is not None:
                fitting.append(found)
        if not fitting:
            return FoundUnit(unit=self._unit, collision=collision)
        fitting.sort(key=lambda one: (one.dead, -one.registers))
        best = fitting[0]
        also = tuple(
            one.unit.model or ""
            for one in fitting[1:]
            if one.registers == best.registers or (one.dead and not best.dead)
        )
        return replace(best.unit, also=also, collision=collision or best.unit.collision)

    async def _fits(self, model: MeterModel) -> _Fit | None:
        """Return the unit as this model, or None when registers are refused or values are not plausible."""
        spans = list(spans_of(model, model.registers))
        if model.serial:
            # The serial alone first: most models are ruled out by it, and their other registers need not be read.
            spans.insert(0, model.of_quantity(SERIAL).span)
        elif not model.probe:
            return None
        for some in (spans[:1], spans):
            words = await self._read(model, some)
            if None in words.values():
                return None
        # Some meters can be set to the other word order: the one in which the values make sense is believed.
        for order in (model.word_order, "little" if model.word_order == "big" else "big"):
            turned = model.model_copy(update={"word_order": order})
            if not _plausible(turned, words):
                continue
            found = FoundUnit(
                unit=self._unit, model=model.name, manufacturer=model.manufacturer, word_order=order
            )
            fit = _Fit(len(model.registers), _dead_phase(turned, words), found)
            if not model.serial:
                return fit
            serial = _value(turned, SERIAL, words)
            if isinstance(serial, Number | Text):
                text = serial.text() if isinstance(serial, Number) else serial.text
                unit = replace(found, serial=text, collision=await self._differ(model))
                return replace(fit, unit=unit)
        return None

    async def _differ(self, model: MeterModel) -> bool:
        """Read the serial again: two meters at one unit may answer by turns."""
        span = model.of_quantity(SERIAL).span
        first = self._known[span]
        for _ in range(SAME_SERIAL - 1):
            del self._known[span]
            if (await self._read(model, [span]))[span] != first:
                return True
        return False

    async def _read(self, model: MeterModel, spans: Iterable[RegisterSpan]) -> Words:
        """Return the words of spans, of which those that another model had, too, are known."""
        wanted = list(spans)
        missing = [span for span in wanted if span not in self._known]
        if missing:
            reader = RegisterReader(
                self._client, model, self._unit, ModbusNotes(datetime.now(UTC)), pace=None
            )
            self._known |= await reader.words(missing)
        return {span: self._known[span] for span in wanted}


def _plausible(model: MeterModel, words: Words) -> bool:
    for probe in model.probe:
        value = _value(model, probe.quantity, words)
        if not isinstance(value, Number) or not probe.low <= value.decimal() <= probe.high:
            return False
    return True


def _dead_phase(model: MeterModel, words: Words) -> bool:
    voltages = (r.quantity for r in model.registers if is_phase_voltage(Quantity.of(r.quantity)))
    values = (_value(model, quantity, words) for quantity in voltages)
    return any(not isinstance(value, Number) or value.mantissa == 0 for value in values)


def _value(model: MeterModel, quantity: str, words: Words) -> Value:
    return values_of(model, (model.of_quantity(quantity),), words, ZoneInfo("UTC"))[0][1]
