"""Who is on this line: each unit is asked once, and any answer, even a refusal, proves that one is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from protocols.errors import MeterError, MeterProtocolError, MeterRefused, MeterSilent
from protocols.line import Line, LineIO
from protocols.lines.serial import SerialLine
from protocols.lines.traced import TracedLine
from protocols.modbus.account import LineAccount, account_of
from protocols.modbus.client import ModbusClient, frames_for
from protocols.modbus.codec import decode
from protocols.modbus.encoding import WordOrder
from protocols.modbus.known_meter import ModbusNotes
from protocols.modbus.library import load_model, model_names
from protocols.modbus.model import SERIAL, MeterModel
from protocols.modbus.reader import RegisterReader, Words
from protocols.reading import Number, Text, Value

PATIENCE = 4
"""How many times the scan's timeout a unit gets that answered late or not soundly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnit:
    """A unit that answers a scan.

    `model`, `manufacturer`, `serial` and `word_order` are None when no known model fits it; `manufacturer` and
    `serial` together are the meter's identity. `word_order` differs from the model's when only the other one
    gives plausible values: then the model must be corrected before use.
    """

    unit: int
    model: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    word_order: WordOrder | None = None

    @property
    def meter(self) -> str | None:
        """The identity, as `EAS:10000001`; None when unknown."""
        return f"{self.manufacturer}:{self.serial}" if self.serial else None


async def scan_modbus(
    line: Line, units: Iterable[int] = range(1, 248), timeout: float = 0.1, *, framing: str | None = None
) -> AsyncIterator[FoundUnit]:
    """Ask each unit, holding the line unit by unit, and yield those that answer, with a guess of the model.

    `line` is any `protocols.line.Line`, `units` the ids to ask. `timeout` is the wait for each unit in seconds;
    an empty line of 247 units takes 247 of them. `framing` is `tcp` or `rtu`; without it a serial line is RTU,
    and on TCP, RTU is tried when nobody answers to TCP framing. Raises the errors of the line.

    Example::

        async for found in scan_modbus(SerialLine("bus", "/dev/ttyUSB0")):
            print(found.unit, found.model, found.meter)
    """
    wanted = list(units)
    anybody = False
    for name in (framing,) if framing else _framings(line):
        silent: int | None = None
        account = account_of(line)
        for unit in wanted:
            async with line.exclusive() as io:
                found, silent = await _UnitProbe(io, name, timeout, account).probe(unit, silent)
            for one in found:
                anybody = True
                yield one
        if anybody:
            return


def _framings(line: Line) -> tuple[str, ...]:
    while isinstance(line, TracedLine):
        line = line.inner
    return ("rtu",) if isinstance(line, SerialLine) else ("tcp", "rtu")


class _UnitProbe:
    """Asks units in one turn on the line: quickly who is there, then patiently what they are."""

    def __init__(self, io: LineIO, framing: str, timeout: float, account: LineAccount) -> None:
        self._account = account
        patience = PATIENCE * timeout

        def client(timeout: float, worst_latency: float) -> ModbusClient:
            return ModbusClient(
                io,
                frames_for(framing),
                timeout=timeout,
                worst_latency=worst_latency,
                account=account,
                late_answer_max=patience,
            )

        self._quick, self._patient = client(timeout, 0), client(patience, patience)

    async def probe(self, unit: int, silent: int | None) -> tuple[list[FoundUnit], int | None]:
        """Ask a unit; return who was found, and the unit if it kept silent.

        `silent` is the silent unit before it: something unsound now may be that one's late answer, or a
        collision, so both are asked again with patience.
        """
        heard = await _answers(self._quick, unit)
        if silent not in self._account.heard_late:
            if heard is True:
                return [await self._identify(unit)], None
            if heard is False:
                return [], unit
        doubtful = [u for u in (silent, unit) if u is not None]
        return [await self._identify(u) for u in doubtful if await _answers(self._patient, u)], None

    async def _identify(self, unit: int) -> FoundUnit:
        """Try all known models; the one of which most registers answer, none refused, is the guess."""
        best, most = FoundUnit(unit=unit), 0
        for name in model_names():
            model = load_model(name)
            try:
                found = await self._fits(unit, model)
            except MeterError:  # a register of this model that the unit does not answer for: another model
                continue
            if found is not None and len(model.registers) > most:
                best, most = found, len(model.registers)
        return best

    async def _fits(self, unit: int, model: MeterModel) -> FoundUnit | None:
        """Return the unit as this model, or None when registers are refused or values are not plausible."""
        reader = RegisterReader(self._patient, model, unit, ModbusNotes(datetime.now(UTC)), pace=None)
        serial_register = model.of_quantity(SERIAL)
        # The serial alone first: most models are ruled out by it, and the others' registers need not be read.
        words = await reader.words((serial_register.span,))
        if None in words.values():
            return None
        words |= await reader.words(r.span for r in model.registers if r is not serial_register)
        if None in words.values():
            return None
        # Some meters can be set to the other word order: the one in which the values make sense is believed.
        for order in (model.word_order, "little" if model.word_order == "big" else "big"):
            turned = model.model_copy(update={"word_order": order})
            serial = _value(turned, SERIAL, words)
            if isinstance(serial, Number | Text) and _plausible(turned, words):
                return FoundUnit(
                    unit=unit,
                    model=model.name,
                    manufacturer=model.manufacturer,
                    serial=serial.text() if isinstance(serial, Number) else serial.text,
                    word_order=order,
                )
        return None


async def _answers(client: ModbusClient, unit: int) -> bool | None:
    """Return True when the unit answers, False when it is silent, None when something unsound came."""
    try:
        await client.read_registers(unit, 4, 0, 2)
    except MeterSilent:
        return False
    except MeterProtocolError:
        return None
    except MeterRefused:  # a refusal is an answer
        return True
    return True


def _plausible(model: MeterModel, words: Words) -> bool:
    for probe in model.probe:
        value = _value(model, probe.quantity, words)
        if not isinstance(value, Number) or not probe.low <= value.decimal() <= probe.high:
            return False
    return True


def _value(model: MeterModel, quantity: str, words: Words) -> Value | None:
    register = model.of_quantity(quantity)
    cells = words[register.span]
    return None if cells is None else decode(model, register, cells, ZoneInfo("UTC"))
