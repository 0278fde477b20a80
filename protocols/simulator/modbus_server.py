"""Simulated Modbus meters that any client can poll: over TCP, RTU over TCP, and RTU on a pty.

Registers are rendered from the meter model's own TOML by the inverse of the driver's decoder, so a model
is served as it is read. Framing is written out here, apart from the driver's, so that a fault of one shows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from protocols.modbus.codec import encode
from protocols.modbus.model import SERIAL, MeterModel, Register, load_model
from protocols.reading import Instant, Missing, MissingReason, Number, ProfileName, Quantity, Text, Value
from protocols.simulator.household.state import MeterState, SimMeter

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, NO_TARGET = 1, 2, 3, 4, 11
FRAME_SILENCE = 0.02
"""Seconds without an octet after which half a frame on a bus is forgotten."""
_PTY_RETRY = 0.02
_REQUEST = 8


class _Now(Protocol):
    def now(self) -> datetime: ...


_STATE: dict[str, Callable[[MeterState], Value]] = {
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
    "0-0:96.3.10*255": lambda s: Number(int(s.relay_closed)),
}


class ModbusMeter:
    """One simulated meter as a Modbus unit of a model; `zone` is that of its wall-clock registers.

    ValueError when the model's serial register cannot hold the meter's serial (most hold digits only).
    """

    def __init__(
        self, meter: SimMeter, model: str, unit: int, clock: _Now, *, zone: str = "Asia/Kolkata"
    ) -> None:
        self.unit = unit
        self._meter = meter
        self._model: MeterModel = load_model(model)
        self._clock = clock
        self._zone = ZoneInfo(zone)
        self._cells = _cells(self._model)
        for register in self._model.of_profile(ProfileName.NAMEPLATE):
            self._words(register, None)

    @property
    def powered(self) -> bool:
        """Say whether the meter has supply and answers; before its history begins it has none."""
        try:
            return self._meter.state(self._clock.now()).powered
        except ValueError:
            return False

    def answer(self, pdu: bytes) -> bytes:
        """Answer a request PDU (function and data) with a response or exception PDU."""
        function = pdu[0]
        if function not in (3, 4):
            return _refusal(function, ILLEGAL_FUNCTION)
        if len(pdu) != 5:
            return _refusal(function, ILLEGAL_VALUE)
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if not 1 <= count <= self._model.max_read:
            return _refusal(function, ILLEGAL_VALUE)
        try:
            words = self._read(function, address, count)
        except ValueError:
            return _refusal(function, DEVICE_FAILURE)
        if words is None:
            return _refusal(function, ILLEGAL_ADDRESS)
        return bytes((function, 2 * count)) + b"".join(w.to_bytes(2, "big") for w in words)

    def _read(self, function: int, address: int, count: int) -> list[int] | None:
        """Return the words; holes of up to the model's `hole` are zero, a longer one refuses the range."""
        state = self._meter.state(self._clock.now())
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
        reach = self._model.hole
        before = any((function, p) in self._cells for p in range(place - reach, place))
        return before and any((function, p) in self._cells for p in range(place, place + reach + 1))

    def _words(self, register: Register, state: MeterState | None) -> list[int]:
        return encode(self._model, register, self._value(register, state), self._zone)

    def _value(self, register: Register, state: MeterState | None) -> Value:
        quantity = str(Quantity.of(register.quantity))
        if quantity == SERIAL:
            return Text(self._meter.serial)
        source = _STATE.get(quantity)
        if source is None or state is None:
            return Missing(MissingReason.NOT_MEASURED)
        return source(state)


class ModbusServer:
    """A running server; `port` is None for a server on a pty."""

    def __init__(self, port: int | None, stop: Callable[[], None], tasks: set[asyncio.Task[None]]) -> None:
        self.port = port
        self._stop = stop
        self._tasks = tasks

    async def close(self) -> None:
        """Stop answering and drop all connections. Idempotent."""
        self._stop()
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError):
                await task


async def serve_tcp(meters: Iterable[ModbusMeter], host: str = "127.0.0.1") -> ModbusServer:
    """Serve meters as a Modbus TCP gateway on a free port; a unit that is not there gets exception 11."""
    units = _by_unit(meters)
    return await _listen(host, lambda buffer: _mbap(units, buffer), None)


async def serve_rtu_tcp(meters: Iterable[ModbusMeter], host: str = "127.0.0.1") -> ModbusServer:
    """Serve meters as a bus behind a TCP converter (RTU frames) on a free port; strangers meet silence."""
    units = _by_unit(meters)
    return await _listen(host, lambda buffer: _rtu(units, buffer), FRAME_SILENCE)


async def serve_rtu(meters: Iterable[ModbusMeter], master_fd: int) -> ModbusServer:
    """Serve meters on a bus whose master side is `master_fd` (a pty's); the caller closes the descriptor."""
    units = _by_unit(meters)
    os.set_blocking(master_fd, False)
    bus = _PtyBus(master_fd, lambda buffer: _rtu(units, buffer))
    bus.watch()
    return ModbusServer(None, bus.stop, set())


Step = Callable[[bytearray], bytes]
"""Takes whole requests out of a buffer and gives the octets to answer with."""


class _PtyBus:
    """Answers on a descriptor; while nobody has the other side open it looks again now and then."""

    def __init__(self, fd: int, step: Step) -> None:
        self._fd = fd
        self._step = step
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._last = 0.0
        self._stopped = False
        self._later: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        if not self._stopped:
            self._loop.add_reader(self._fd, self._readable)

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._loop.remove_reader(self._fd)
            if self._later is not None:
                self._later.cancel()

    def _readable(self) -> None:
        try:
            octets = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._loop.remove_reader(self._fd)
            self._later = self._loop.call_later(_PTY_RETRY, self.watch)
            return
        if self._loop.time() - self._last > FRAME_SILENCE:
            self._buffer.clear()
        self._last = self._loop.time()
        self._buffer += octets
        if answer := self._step(self._buffer):
            with suppress(OSError):
                os.write(self._fd, answer)


async def _listen(host: str, step: Step, silence: float | None) -> ModbusServer:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        buffer = bytearray()
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            while octets := await reader.read(4096):
                if silence is not None and loop.time() - last > silence:
                    buffer.clear()
                last = loop.time()
                buffer += octets
                writer.write(step(buffer))
                await writer.drain()
        except (OSError, _NotModbus):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    return ModbusServer(int(server.sockets[0].getsockname()[1]), server.close, tasks)


class _NotModbus(Exception):
    """The stream is not Modbus: hang up."""


@dataclass(frozen=True, slots=True)
class _Mbap:
    transaction: bytes
    unit: int
    pdu: bytes

    def wrap(self, pdu: bytes) -> bytes:
        length = (len(pdu) + 1).to_bytes(2, "big")
        return self.transaction + b"\0\0" + length + bytes((self.unit,)) + pdu


def _mbap(units: dict[int, ModbusMeter], buffer: bytearray) -> bytes:
    answers = b""
    while len(buffer) >= 8:
        length = int.from_bytes(buffer[4:6], "big")
        if buffer[2:4] != b"\0\0" or not 2 <= length <= 254:
            raise _NotModbus
        if len(buffer) < 6 + length:
            break
        frame = _Mbap(bytes(buffer[:2]), buffer[6], bytes(buffer[7 : 6 + length]))
        del buffer[: 6 + length]
        meter = units.get(frame.unit)
        present = meter is not None and meter.powered
        answer = meter.answer(frame.pdu) if meter and present else _refusal(frame.pdu[0], NO_TARGET)
        answers += frame.wrap(answer)
    return answers


def _rtu(units: dict[int, ModbusMeter], buffer: bytearray) -> bytes:
    """Answer the first sound request; octets before it are noise, and so is one with a bad check sum."""
    for start in range(len(buffer)):
        size = _rtu_size(buffer[start:])
        frame = bytes(buffer[start : start + size])
        if len(frame) < size:
            continue
        if crc16(frame) == 0:
            del buffer[: start + size]
            meter = units.get(frame[0])
            if meter is None or not meter.powered:
                return b""
            answer = frame[:1] + meter.answer(frame[1:-2])
            return answer + crc16(answer).to_bytes(2, "little")
    if len(buffer) > 512:
        del buffer[:-256]
    return b""


def _rtu_size(head: bytearray) -> int:
    """Length of a request: writes of many say theirs, all others that meters know have 8 octets."""
    if len(head) > 6 and head[1] in (15, 16):
        return 9 + head[6]
    return _REQUEST


def crc16(octets: bytes) -> int:
    """Modbus CRC-16 (low octet first on the wire); over a sound frame with its CRC it is 0."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _refusal(function: int, code: int) -> bytes:
    return bytes((function & 0x7F | 0x80, code))


def _cells(model: MeterModel) -> dict[tuple[int, int], tuple[Register, int]]:
    return {
        (register.function, register.address + offset): (register, offset)
        for register in model.registers
        for offset in range(register.size)
    }


def _by_unit(meters: Iterable[ModbusMeter]) -> dict[int, ModbusMeter]:
    units: dict[int, ModbusMeter] = {}
    for meter in meters:
        if meter.unit in units:
            raise ValueError(f"two meters with unit {meter.unit} on one line")
        units[meter.unit] = meter
    return units
