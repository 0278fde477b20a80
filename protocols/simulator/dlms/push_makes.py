"""How other makes push what a simulated meter measures: SPODES, Aidon, Kamstrup, Kaifa, Iskra, each in its own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocols.clock import NowSource
from protocols.dlms.apdu import notification
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.data.types import (
    NULL,
    Data,
    array,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    text,
)
from protocols.dlms.data.units import UNIT_CODES
from protocols.errors import LocalError
from protocols.reading import Obis
from protocols.simulator.cosem.model import UTILITY, HouseholdModel
from protocols.simulator.cosem.rows import stamp

CLOCK, SERIAL = Obis(0, 0, 1, 0, 0), Obis(0, 0, 96, 1, 0)
PUSH_SETUP, ALARM = Obis(0, 0, 25, 9, 0), Obis(0, 0, 97, 98, 20)
_DATA, _REGISTER, _PUSH_SETUP_CLASS = 1, 3, 40
_TAGGED_TIME = b"\x09"
"""What Kaifa writes before the length of the header's time."""
INVOKE = 0x40000000
"""These makes ask for a confirmation in every push, and wait for none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One register as a make pushes it: its number in a scale, in a unit."""

    obis: Obis
    number: int
    scaler: int
    unit: str

    @property
    def scaler_unit(self) -> Data:
        """Scaler and unit as a register's attribute 3."""
        return structure(integer(self.scaler), enum(UNIT_CODES[self.unit]))

    def scaled(self, scaler: int) -> int:
        """Return the number in another scale; digits below it are cut off."""
        step: int = self.scaler - scaler
        ten: int = 10 ** abs(step)
        return self.number * ten if step >= 0 else self.number // ten


_REGISTERS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "power": ("1-0:1.7.0*255", "1-0:1.7.0*255", "W"),
        "energy": ("1-0:1.8.0*255", "1-0:1.8.0*255", "Wh"),
        "export": ("1-0:2.8.0*255", "1-0:2.8.0*255", "Wh"),
        "voltage": ("1-0:12.7.0*255", "1-0:32.7.0*255", "V"),
        "current": ("1-0:11.7.0*255", "1-0:31.7.0*255", "A"),
    }
)
"""Where a simulated single-phase meter has a register, and as what these makes push it."""


class MakePushes:
    """Writes the pushes of one meter as `make` does, plain, from what its household measures now."""

    def __init__(self, model: HouseholdModel, clock: NowSource, make: str) -> None:
        if make not in MAKES:
            raise LocalError(f"no make {make!r} pushes here: there are {', '.join(MAKES)}")
        self._model = model
        self._clock = clock
        self._make = make

    def readings(self) -> bytes:
        """Return a push of the present."""
        measured = {name: self._measured(name) for name in _REGISTERS}
        body = MAKES[self._make](self._model.household.serial, stamp(self._clock.now()), measured)
        return self._apdu(body)

    def alarm(self, bits: int) -> bytes:
        """Return the push of an alarm word; LocalError for makes that have none."""
        if self._make != "spodes":
            raise LocalError(f"{self._make} pushes no alarm word")
        entries = array(
            _entry(_PUSH_SETUP_CLASS, PUSH_SETUP, 1), _entry(_DATA, SERIAL, 2), _entry(_DATA, ALARM, 2)
        )
        serial = octets(self._model.household.serial.encode())
        return self._apdu(structure(entries, serial, double_long_unsigned(bits)))

    def _apdu(self, body: Data) -> bytes:
        when = stamp(self._clock.now())
        apdu = notification.encode(DataNotification(body=body, invoke=INVOKE, date_time=when))
        # tag, invoke id, then the time: Kaifa writes it as a value
        return apdu[:5] + _TAGGED_TIME + apdu[5:] if self._make == "kaifa" else apdu

    def _measured(self, name: str) -> Measured:
        at, pushed, unit = _REGISTERS[name]
        number = self._model.get(UTILITY, Target(_REGISTER, Obis.parse(at), 2)).integer or 0
        scaler = self._model.get(UTILITY, Target(_REGISTER, Obis.parse(at), 3)).items[0].integer or 0
        return Measured(Obis.parse(pushed), abs(number), scaler, unit)


Readings = Mapping[str, Measured]


def _name(obis: Obis) -> Data:
    return octets(obis.to_bytes())


def _entry(class_id: int, obis: Obis, attribute: int) -> Data:
    """Write an entry of a push object list, with the restriction and columns of its later versions."""
    head = (long_unsigned(class_id), _name(obis), integer(attribute), long_unsigned(0))
    return structure(*head, structure(enum(0), NULL), array())


def _spodes(serial: str, _clock: bytes, measured: Readings) -> Data:
    registers = tuple(measured.values())
    entries = [_entry(_PUSH_SETUP_CLASS, PUSH_SETUP, 2), _entry(_DATA, SERIAL, 2)]
    values = [octets(serial.encode())]
    for one in registers:
        entries += [_entry(_REGISTER, one.obis, 2), _entry(_REGISTER, one.obis, 3)]
        values += [double_long_unsigned(one.number), one.scaler_unit]
    return structure(array(*entries), *values)


def _aidon(serial: str, clock: bytes, measured: Readings) -> Data:
    registers = (
        structure(_name(m.obis), double_long_unsigned(m.number), m.scaler_unit) for m in measured.values()
    )
    who = structure(_name(SERIAL), text(serial))
    return array(who, structure(_name(CLOCK), octets(clock)), *registers)


def _kamstrup(serial: str, clock: bytes, measured: Readings) -> Data:
    scales = {"W": 0, "Wh": 1, "V": 0, "A": -2}
    parts = [text("Kamstrup_V0001"), _name(Obis(1, 1, 0, 0, 5)), text(serial)]
    parts += [_name(Obis(0, 1, 1, 0, 0)), octets(clock)]
    for one in measured.values():
        obis = Obis(1, 1, one.obis.c, one.obis.d, one.obis.e)
        parts += [_name(obis), double_long_unsigned(one.scaled(scales[one.unit]))]
    return structure(*parts)


def _kaifa(serial: str, clock: bytes, measured: Readings) -> Data:
    """Write list 3 of one phase: 14 elements."""
    zero = double_long_unsigned(0)
    values = [double_long_unsigned(measured["power"].scaled(0)), zero, zero, zero]
    values += [
        double_long_unsigned(measured[name].scaled(s)) for name, s in (("current", -3), ("voltage", -1))
    ]
    energies = [double_long_unsigned(measured[name].scaled(0)) for name in ("energy", "export")]
    head = (octets(b"KFM_001"), octets(serial.encode()), octets(b"MA105H2E"))
    return structure(*head, *values, octets(clock), *energies, zero, zero)


def _iskra(serial: str, _clock: bytes, measured: Readings) -> Data:
    """Write the list of powers of one phase: 10 elements."""
    zero, power = double_long_unsigned(0), double_long_unsigned(measured["power"].scaled(0))
    near = [long_unsigned(measured[name].scaled(s)) for name, s in (("voltage", -1), ("current", -2))]
    head = (octets(b"ISK" + serial.encode()), octets(serial.encode()))
    return structure(*head, power, zero, zero, zero, *near, power, zero)


MAKES: Mapping[str, Callable[[str, bytes, Readings], Data]] = MappingProxyType(
    {"spodes": _spodes, "aidon": _aidon, "kamstrup": _kamstrup, "kaifa": _kaifa, "iskra": _iskra}
)
"""How each make lays its push out; the names are those of their companions."""
FRAMING: Mapping[str, str] = MappingProxyType(
    {"spodes": "wrapper", "aidon": "hdlc", "kamstrup": "hdlc", "kaifa": "i-frame", "iskra": "hdlc"}
)
"""The framing that each make uses."""
