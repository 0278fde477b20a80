"""Simulated Modbus meters: registers rendered from the meter model's own TOML by the inverse of the decoder.

So a model is served as it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

from protocols.clock import NowSource
from protocols.modbus.decoding.codec import encode
from protocols.modbus.format.library import load_model
from protocols.modbus.format.model import SERIAL, MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.reading import Instant, Missing, MissingReason, Number, ProfileName, Quantity, Text, Value
from protocols.simulator.faults.wire import PortStep
from protocols.simulator.household.state import SimMeter, TrueState
from protocols.simulator.modbus.faults import ModbusFaults
from protocols.simulator.modbus.frames import Asked
from protocols.simulator.modbus.writes import Write, Writes

BITS, WRITING = (1, 2), (5, 6, 16)
MAX_BITS = 2000
HOLE = 20
"""Unused registers between two that it has over which a simulated meter answers, unless its model says fewer."""
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, NO_TARGET = 1, 2, 3, 4, 11


_STATE: dict[str, Callable[[TrueState], Value]] = {
    "1-0:12.7.0*255": lambda s: Number(s.voltage_mv, -3, "V"),
    "1-0:32.7.0*255": lambda s: Number(s.voltage_mv, -3, "V"),
    "1-0:52.7.0*255": lambda s: Number(s.voltage_mv, -3, "V"),
    "1-0:72.7.0*255": lambda s: Number(s.voltage_mv, -3, "V"),
    "1-0:11.7.0*255": lambda s: Number(s.current_ma, -3, "A"),
    "1-0:31.7.0*255": lambda s: Number(s.current_ma // 3, -3, "A"),
    "1-0:51.7.0*255": lambda s: Number(s.current_ma // 3, -3, "A"),
    "1-0:71.7.0*255": lambda s: Number(s.current_ma // 3, -3, "A"),
    "1-0:16.7.0*255": lambda s: Number(s.power_w, 0, "W"),
    "1-0:1.7.0*255": lambda s: Number(s.power_w, 0, "W"),
    "1-0:9.7.0*255": lambda s: Number(s.apparent_va, 0, "VA"),
    "1-0:13.7.0*255": lambda s: Number(s.power_factor_milli, -3),
    "1-0:14.7.0*255": lambda s: Number(s.frequency_mhz, -3, "Hz"),
    "1-0:1.8.0*255": lambda s: Number(s.energy_import_wh, 0, "Wh"),
    "1-0:2.8.0*255": lambda s: Number(s.energy_export_wh, 0, "Wh"),
    "1-0:9.8.0*255": lambda s: Number(s.apparent_energy_vah, 0, "VAh"),
    "1-0:1.6.0*255": lambda s: Number(s.max_demand_w, 0, "W"),
    "0-0:94.96.20*255": lambda s: Number(s.payment_mode),
    "0-0:94.96.21*255": lambda s: Number(s.last_recharge_paise, -2, "INR"),
    "0-0:94.96.22*255": lambda s: Instant(s.last_recharge_at),
    "0-0:94.96.23*255": lambda s: Number(s.total_recharged_paise, -2, "INR"),
    "0-0:94.96.24*255": lambda s: Number(s.balance_paise, -2, "INR"),
    "0-0:94.96.25*255": lambda s: Instant(s.balance_at),
    "0-0:1.0.0*255": lambda s: Instant(s.at + timedelta(seconds=s.clock_drift_s)),
    "0-0:96.3.10*255": lambda s: Number(int(s.relay_closed)),
}


class ModbusMeter:
    """One simulated meter as a Modbus unit of a model; `zone` is that of its wall-clock registers.

    ValueError when the model's serial register cannot hold the meter's serial (most hold digits only).
    """

    def __init__(
        self,
        meter: SimMeter,
        model: str,
        unit: int,
        clock: NowSource,
        *,
        zone: str = "Asia/Kolkata",
        faults: ModbusFaults | None = None,
    ) -> None:
        self.unit = unit
        self.faults = faults
        self._meter = meter
        self._model: MeterModel = load_model(model)
        self._clock = clock
        self._zone = ZoneInfo(zone)
        self._cells = _cells(self._model)
        self._writes = Writes(meter, self._model, self._zone, clock)
        for register in self._model.of_profile(ProfileName.NAMEPLATE):
            self._words(register, None)

    @property
    def powered(self) -> bool:
        """Say whether the meter has supply and answers; before its history begins it has none."""
        try:
            return self._meter.state(self._clock.now()).powered
        except ValueError:
            return False

    def steps(self, asked: Asked, now: float) -> list[PortStep]:
        """Return what the port sends for a request; `now` is its clock in seconds."""
        if self.faults is None:
            return [PortStep(asked.frame(asked.unit, self.answer(asked.pdu)))]
        answer = self.faults.instead(asked.pdu, now, across_holes=self._across_holes(asked.pdu))
        if answer == b"":
            return []
        if answer is None:
            answer = self.answer(asked.pdu)
            if self.faults.unanswered(asked.pdu):
                return []
        return self.faults.steps(asked, answer)

    def _across_holes(self, pdu: bytes) -> bool:
        if len(pdu) != 5:
            return False
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        return any((pdu[0], place) not in self._cells for place in range(address, address + count))

    def answer(self, pdu: bytes) -> bytes:
        """Answer a request PDU (function and data) with a response or exception PDU."""
        function = pdu[0]
        if function in WRITING:
            return self._writes.take(pdu, stuck=self._stuck)
        if function in BITS:
            return self._bits(pdu)
        if function not in (3, 4):
            return exception_pdu(function, ILLEGAL_FUNCTION)
        if len(pdu) != 5:
            return exception_pdu(function, ILLEGAL_VALUE)
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if not 1 <= count <= self._model.max_read:
            return exception_pdu(function, ILLEGAL_VALUE)
        try:
            words = self._read(function, address, count)
        except ValueError:
            return exception_pdu(function, DEVICE_FAILURE)
        if words is None:
            return exception_pdu(function, ILLEGAL_ADDRESS)
        return bytes((function, 2 * count)) + b"".join(w.to_bytes(2, "big") for w in words)

    def _stuck(self, cell: Write) -> bool:
        return self.faults is not None and self.faults.stuck(cell)

    def _bits(self, pdu: bytes) -> bytes:
        """Answer a request for coils or discrete inputs."""
        function, address, count = pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if not any(own == function for own, _ in self._cells):
            return exception_pdu(function, ILLEGAL_FUNCTION)
        if len(pdu) != 5 or not 1 <= count <= MAX_BITS:
            return exception_pdu(function, ILLEGAL_VALUE)
        try:
            bits = self._read(function, address, count)
        except ValueError:
            return exception_pdu(function, DEVICE_FAILURE)
        if bits is None:
            return exception_pdu(function, ILLEGAL_ADDRESS)
        size = -(-count // 8)
        packed = sum((bit & 1) << place for place, bit in enumerate(bits))
        return bytes((function, size)) + packed.to_bytes(size, "little")

    def _read(self, function: int, address: int, count: int) -> list[int] | None:
        """Return the words; holes of up to the model's `hole` are zero, a longer one refuses the range."""
        state = self._meter.state(self._clock.now())
        if self.faults is not None:
            state = self.faults.state(state)
        words: list[int] = []
        rendered: dict[int, list[int]] = {}
        for place in range(address, address + count):
            cell = self._cells.get((function, place))
            if cell is None:
                if not self._near(function, place):
                    return None
                words.append(0)
                continue
            register, offset = cell
            if register.address not in rendered:
                rendered[register.address] = self._words(register, state)
            words.append(rendered[register.address][offset])
        return words

    def _near(self, function: int, place: int) -> bool:
        reach = HOLE if self._model.hole is None else self._model.hole
        before = any((function, p) in self._cells for p in range(place - reach, place))
        return before and any((function, p) in self._cells for p in range(place, place + reach + 1))

    def _words(self, register: RegisterSpec, state: TrueState | None) -> list[int]:
        words = encode(self._model, register, self._value(register, state), self._zone)
        if self.faults is None or state is None:
            return words
        serial = str(Quantity.of(register.quantity)) == SERIAL
        return self.faults.words(register, words, serial=serial)

    def _value(self, register: RegisterSpec, state: TrueState | None) -> Value:
        quantity = str(Quantity.of(register.quantity))
        if quantity == SERIAL:
            return Text(self._meter.serial)
        source = _STATE.get(quantity)
        if source is None or state is None:
            return Missing(MissingReason.NOT_MEASURED)
        return source(state)


def exception_pdu(function: int, code: int) -> bytes:
    """Return the PDU of a Modbus exception."""
    return bytes((function & 0x7F | 0x80, code))


def _cells(model: MeterModel) -> dict[tuple[int, int], tuple[RegisterSpec, int]]:
    return {
        (register.function, register.address + offset): (register, offset)
        for register in model.registers
        for offset in range(register.size)
    }
