"""Simulated Modbus meters on real ports: over TCP, RTU over TCP, and RTU on a pty.

Framing is written out here, apart from the driver's, so that a fault of one shows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from protocols.conversations import Conversations
from protocols.lines.connection import HANG_UP_TIMEOUT
from protocols.simulator.modbus.meter import NO_TARGET, ModbusMeter, exception_pdu

FRAME_SILENCE = 0.02
"""Seconds without an octet after which half a frame on a bus is forgotten."""
_PTY_RETRY = 0.02
_REQUEST = 8


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
    """Serve meters as a bus behind a TCP converter (RTU frames) on a free port; a unit that is not there is silent."""
    units = _by_unit(meters)
    return await _listen(host, lambda buffer: _rtu(units, buffer), FRAME_SILENCE)


async def serve_rtu(meters: Iterable[ModbusMeter], master_fd: int) -> ModbusServer:
    """Serve meters on a bus whose master side is `master_fd` (a pty's); the caller closes the descriptor."""
    units = _by_unit(meters)
    os.set_blocking(master_fd, False)
    bus = _PtyBus(master_fd, lambda buffer: _rtu(units, buffer))
    bus.watch()
    return ModbusServer(None, bus.stop, set())


AnswerRequests = Callable[[bytearray], bytes]
"""Takes whole requests out of a buffer and returns the octets to answer with."""


class _PtyBus:
    """Answers on a descriptor; while the other side is not open it looks again now and then."""

    def __init__(self, fd: int, answer: AnswerRequests) -> None:
        self._fd = fd
        self._answer = answer
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
        if self._loop.time() - self._last > FRAME_SILENCE:  # half a request of a client that gave up
            self._buffer.clear()
        self._last = self._loop.time()
        self._buffer += octets
        if answer := self._answer(self._buffer):
            with suppress(OSError):
                os.write(self._fd, answer)


async def _listen(host: str, answer: AnswerRequests, silence: float | None) -> ModbusServer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            while octets := await reader.read(4096):
                if silence is not None and loop.time() - last > silence:
                    buffer.clear()
                last = loop.time()
                buffer += octets
                writer.write(answer(buffer))
                await writer.drain()
        except (OSError, _NotModbus):
            pass
        finally:
            # The descriptor is free when the port is closed, not some time later; a peer that takes nothing is dropped.
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(HANG_UP_TIMEOUT):
                    await writer.wait_closed()
            writer.transport.abort()

    conversations = Conversations(serve)
    server = await asyncio.start_server(conversations, host, 0)
    return ModbusServer(int(server.sockets[0].getsockname()[1]), server.close, conversations.tasks)


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
        if meter is not None and meter.powered:
            answer = meter.answer(frame.pdu)
        else:  # a gateway answers for a unit that is not there; a bus would be silent
            answer = exception_pdu(frame.pdu[0], NO_TARGET)
        answers += frame.wrap(answer)
    return answers


def _rtu(units: dict[int, ModbusMeter], buffer: bytearray) -> bytes:
    """Answer the first sound request; octets before it are noise, and so is one with a bad check sum."""
    for start in range(len(buffer)):  # noise before a request has no length: every octet may be its beginning
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
    if len(buffer) > 512:  # noise without end: the last octets may still be the beginning of a request
        del buffer[:-256]
    return b""


def _rtu_size(head: bytearray) -> int:
    """Return the length of a request: writes of many say theirs, all others that meters know have 8 octets."""
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


def _by_unit(meters: Iterable[ModbusMeter]) -> dict[int, ModbusMeter]:
    units: dict[int, ModbusMeter] = {}
    for meter in meters:
        if meter.unit in units:
            raise ValueError(f"two meters with unit {meter.unit} on one line")
        units[meter.unit] = meter
    return units
