"""What a simulated Modbus meter takes: the registers that its model names in `[writes]`, and what they do to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

from protocols.clock import NowSource
from protocols.modbus.decoding.codec import decode, decode_instant, raw_value
from protocols.modbus.format.encoding import Encoding
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.writes import AmountWrite, ClockWrite, RelayWrite, UnlockWrite
from protocols.reading import Instant, Number
from protocols.simulator.household.state import SimMeter

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
COIL, REGISTER, REGISTERS = 5, 6, 16
COIL_ON = 0xFF00

Write = RelayWrite | ClockWrite | AmountWrite


class Writes:
    """Takes the writes of one meter. Where its model has an `unlock`, that goes before each of them."""

    def __init__(self, meter: SimMeter, model: MeterModel, zone: ZoneInfo, clock: NowSource) -> None:
        self._meter = meter
        self._model = model
        self._zone = zone
        self._clock = clock
        self._unlocked = model.writes.unlock is None
        own = model.writes
        self._cells = [one for one in (own.relay, own.clock, own.balance, own.recharge) if one is not None]

    def take(self, pdu: bytes, *, stuck: Callable[[Write], bool]) -> bytes:
        """Return the answer to a write; `stuck` says of one that nothing comes of it."""
        function, address = pdu[0], int.from_bytes(pdu[1:3], "big")
        unlock, words = self._model.writes.unlock, _words(pdu)
        if function not in {one.function for one in (*self._cells, *((unlock,) if unlock else ()))}:
            return _refusal(function, ILLEGAL_FUNCTION)
        if words is None:
            return _refusal(function, ILLEGAL_VALUE)
        if unlock is not None and _is(unlock, function, address, words):
            self._unlocked = raw_value(self._model, unlock, words) == unlock.value
            return pdu[:5] if self._unlocked else _refusal(function, ILLEGAL_VALUE)
        cell = next((one for one in self._cells if _is(one, function, address, words)), None)
        if cell is None:
            return _refusal(function, ILLEGAL_ADDRESS)
        if not self._unlocked:
            return _refusal(function, ILLEGAL_FUNCTION)
        self._unlocked = unlock is None
        if stuck(cell):
            return pdu[:5]
        return pdu[:5] if self._do(cell, words) else _refusal(function, ILLEGAL_VALUE)

    def _do(self, cell: Write, words: Sequence[int]) -> bool:
        """Do what was written; False for a value that the meter does not take."""
        now = self._clock.now()
        if isinstance(cell, RelayWrite):
            raw = raw_value(self._model, cell, words)
            if raw not in (cell.close, cell.open):
                return False
            self._meter.switch_relay(closed=raw == cell.close, at=now)
        elif isinstance(cell, ClockWrite):
            value = decode_instant(self._model, cell, words, self._zone)
            if not isinstance(value, Instant):
                return False
            self._meter.set_clock(drift=round((value.at - now).total_seconds()), at=now)
        else:
            amount = decode(self._model, cell, words, self._zone)
            if not isinstance(amount, Number) or amount.unit != "INR":
                return False
            paise = int(amount.decimal().scaleb(2))
            if cell is self._model.writes.balance:
                self._meter.set_balance(paise, now)
            else:
                self._meter.recharge(paise, now)
        return True


def _is(cell: Encoding, function: int, address: int, words: Sequence[int]) -> bool:
    assert isinstance(cell, RelayWrite | ClockWrite | AmountWrite | UnlockWrite)
    return (cell.function, cell.address, cell.size) == (function, address, len(words))


def _words(pdu: bytes) -> list[int] | None:
    """Return the words of a write, a coil's as 0 or 1; None where the request is none."""
    if pdu[0] in (COIL, REGISTER):
        word = int.from_bytes(pdu[3:5], "big")
        if len(pdu) != 5 or (pdu[0] == COIL and word not in (0, COIL_ON)):
            return None
        return [int(word == COIL_ON)] if pdu[0] == COIL else [word]
    count = int.from_bytes(pdu[3:5], "big")
    if len(pdu) != 6 + 2 * count or pdu[5] != 2 * count or not count:
        return None
    return [int.from_bytes(pdu[6 + 2 * n : 8 + 2 * n], "big") for n in range(count)]


def _refusal(function: int, code: int) -> bytes:
    return bytes((function | 0x80, code))
