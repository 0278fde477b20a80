"""Who is on this line: each unit is asked once, and any answer, even a refusal, proves that one is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from protocols.errors import MeterError, MeterProtocolError, MeterRefused, MeterSilent
from protocols.line import Line, LineIO
from protocols.lines.serial import SerialLine
from protocols.modbus.client import ModbusClient, frames_for
from protocols.modbus.codec import decode
from protocols.modbus.model import SERIAL, MeterModel, WordOrder, load_model, model_names
from protocols.modbus.reader import RegisterReader, Words
from protocols.reading import Number, Text

PATIENCE = 4
"""How many times the scan's timeout a unit gets that answered late or not soundly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnit:
    """A unit that answers. `model`, `serial` and `word_order` are None when no known model fits it.

    `manufacturer` and `serial` together are the meter's identity; `word_order` differs from the model's when
    only the other one gives plausible values: then the model must be corrected before use.
    """

    unit: int
    model: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    word_order: WordOrder | None = None

    @property
    def meter(self) -> str | None:
        """`EAS:10000001`, or None when unknown."""
        return f"{self.manufacturer}:{self.serial}" if self.serial else None


async def scan_modbus(
    line: Line, units: Iterable[int] = range(1, 248), timeout: float = 0.1, *, framing: str | None = None
) -> AsyncIterator[FoundUnit]:
    """Ask each unit, holding the line unit by unit, and yield those that answer, with a guess of the model.

    `timeout` is the wait for each unit; an empty line of 247 units takes 247 of them. `framing` is `tcp` or
    `rtu`; without it a serial line is RTU, and on TCP, RTU is tried when nobody answers to TCP framing.
    Raises the errors of the line.
    """
    wanted = list(units)
    anybody = False
    for name in (framing,) if framing else _framings(line):
        silent: int | None = None
        for unit in wanted:
            async with line.exclusive() as io:
                found, silent = await _Asking(io, name, timeout).visit(unit, silent)
            for one in found:
                anybody = True
                yield one
        if anybody:
            return


def _framings(line: Line) -> tuple[str, ...]:
    return ("rtu",) if isinstance(line, SerialLine) else ("tcp", "rtu")


class _Asking:
    """The questions to units in one turn on the line."""

    def __init__(self, io: LineIO, framing: str, timeout: float) -> None:
        self._quick = ModbusClient(io, frames_for(framing), timeout=timeout, worst_latency=0)
        patience = PATIENCE * timeout
        self._patient = ModbusClient(io, frames_for(framing), timeout=patience, worst_latency=patience)

    async def visit(self, unit: int, silent: int | None) -> tuple[list[FoundUnit], int | None]:
        """Ask a unit; gives who was found, and the unit if it kept silent.

        `silent` is the silent unit before it: something unsound now may be that one's late answer, or a
        collision, so both are asked again with patience.
        """
        match await _present(self._quick, unit):
            case True:
                return [await self.identify(unit)], None
            case False:
                return [], unit
        doubtful = [u for u in (silent, unit) if u is not None]
        return [await self.identify(u) for u in doubtful if await _present(self._patient, u)], None

    async def identify(self, unit: int) -> FoundUnit:
        """Try all known models; the one of which most registers answer, none refused, is the guess."""
        best, most = FoundUnit(unit=unit), 0
        for name in model_names():
            model = load_model(name)
            try:
                found = await self._fits(unit, model)
            except MeterError:
                continue
            if found is not None and len(model.registers) > most:
                best, most = found, len(model.registers)
        return best

    async def _fits(self, unit: int, model: MeterModel) -> FoundUnit | None:
        reader = RegisterReader(self._patient, model, unit, barriers=set())
        register = model.of_quantity(SERIAL)
        first = await reader.words((register.span,))
        if first[register.span] is None:
            return None
        words = first | await reader.words(r.span for r in model.registers if r is not register)
        if None in words.values():
            return None
        for order in (model.word_order, _other(model.word_order)):
            turned = model.model_copy(update={"word_order": order})
            serial = _serial(turned, words)
            if serial is not None and _plausible(turned, words):
                return FoundUnit(
                    unit=unit,
                    model=model.name,
                    manufacturer=model.manufacturer,
                    serial=serial,
                    word_order=order,
                )
        return None


async def _present(client: ModbusClient, unit: int) -> bool | None:
    """True when it answers, False when it is silent, None when something unsound came."""
    try:
        await client.read_registers(unit, 4, 0, 2)
    except MeterSilent:
        return False
    except MeterProtocolError:
        return None
    except MeterRefused:
        return True
    return True


def _other(order: WordOrder) -> WordOrder:
    return "little" if order == "big" else "big"


def _plausible(model: MeterModel, words: Words) -> bool:
    for probe in model.probe:
        register = model.of_quantity(probe.quantity)
        cells = words[register.span]
        value = decode(model, register, cells, ZoneInfo("UTC")) if cells is not None else None
        if not isinstance(value, Number) or not probe.low <= value.decimal() <= probe.high:
            return False
    return True


def _serial(model: MeterModel, words: Words) -> str | None:
    register = model.of_quantity(SERIAL)
    cells = words[register.span]
    value = decode(model, register, cells, ZoneInfo("UTC")) if cells is not None else None
    if isinstance(value, Number):
        return value.text()
    return value.text if isinstance(value, Text) else None
