"""Simulated Modbus meters on real ports: over TCP, RTU over TCP, and RTU on a pty."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from protocols.conversations import Conversations
from protocols.lines.connection import HANG_UP_TIMEOUT
from protocols.simulator.faults.wire import PortStep
from protocols.simulator.modbus.frames import NotModbus, take_mbap, take_rtu
from protocols.simulator.modbus.meter import NO_TARGET, ModbusMeter, exception_pdu

FRAME_SILENCE = 0.02
"""Seconds without an octet after which half a frame on a bus is forgotten."""
_PTY_RETRY = 0.02


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
    return await _listen(host, lambda buffer, now: _mbap(units, buffer, now), None)


async def serve_rtu_tcp(meters: Iterable[ModbusMeter], host: str = "127.0.0.1") -> ModbusServer:
    """Serve meters as a bus behind a TCP converter (RTU frames) on a free port; a unit that is not there is silent."""
    units = _by_unit(meters)
    return await _listen(host, lambda buffer, now: _rtu(units, buffer, now), FRAME_SILENCE)


async def serve_rtu(meters: Iterable[ModbusMeter], master_fd: int) -> ModbusServer:
    """Serve meters on a bus whose master side is `master_fd` (a pty's); the caller closes the descriptor."""
    units = _by_unit(meters)
    os.set_blocking(master_fd, False)
    bus = _PtyBus(master_fd, lambda buffer, now: _rtu(units, buffer, now))
    bus.watch()
    return ModbusServer(None, bus.stop, set())


AnswerRequests = Callable[[bytearray, float], list[PortStep]]
"""Takes whole requests out of a buffer, at a time of the port's clock, and returns what leaves for them."""


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
        self._sending = _Sending(self._write)

    def watch(self) -> None:
        if not self._stopped:
            self._loop.add_reader(self._fd, self._readable)

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._loop.remove_reader(self._fd)
            self._sending.stop()
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
        self._sending.begin(self._answer(self._buffer, self._last))

    def _write(self, step: PortStep) -> None:
        with suppress(OSError):
            os.write(self._fd, step.octets)


class _Sending:
    """Sends each answer's steps at their own times: a late one comes behind, or between, later answers."""

    def __init__(self, send: Callable[[PortStep], None]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._timers: set[asyncio.TimerHandle] = set()

    def begin(self, steps: list[PortStep]) -> None:
        """Send what is due, and the rest after its pauses."""
        after = 0.0
        for step in steps:
            after += step.pause
            if after == 0:
                self._send(step)
            else:
                self._timers = {timer for timer in self._timers if timer.when() > self._loop.time()}
                self._timers.add(self._loop.call_later(after, self._send, step))

    def stop(self) -> None:
        """Send nothing more."""
        for timer in self._timers:
            timer.cancel()


async def _listen(host: str, answer: AnswerRequests, silence: float | None) -> ModbusServer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(step: PortStep) -> None:
            if not writer.is_closing():
                writer.write(step.octets)
                if step.hang_up:
                    writer.close()

        buffer = bytearray()
        loop = asyncio.get_running_loop()
        last = loop.time()
        sending = _Sending(send)
        try:
            while octets := await reader.read(4096):
                if silence is not None and loop.time() - last > silence:
                    buffer.clear()
                last = loop.time()
                buffer += octets
                sending.begin(answer(buffer, last))
                await writer.drain()
        except (OSError, NotModbus):
            pass
        finally:
            # The descriptor is free when the port is closed, not some time later; a peer that takes nothing is dropped.
            sending.stop()
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(HANG_UP_TIMEOUT):
                    await writer.wait_closed()
            writer.transport.abort()

    conversations = Conversations(serve)
    server = await asyncio.start_server(conversations, host, 0)
    return ModbusServer(int(server.sockets[0].getsockname()[1]), server.close, conversations.tasks)


def _mbap(units: dict[int, ModbusMeter], buffer: bytearray, now: float) -> list[PortStep]:
    steps: list[PortStep] = []
    for asked in take_mbap(buffer):
        meter = units.get(asked.unit)
        if meter is not None and meter.powered:
            steps += meter.steps(asked, now)
        else:  # a gateway answers for a unit that is not there; a bus would be silent
            steps.append(PortStep(asked.frame(asked.unit, exception_pdu(asked.pdu[0], NO_TARGET))))
    return steps


def _rtu(units: dict[int, ModbusMeter], buffer: bytearray, now: float) -> list[PortStep]:
    steps: list[PortStep] = []
    for asked in take_rtu(buffer):
        for unit, meter in units.items():
            if unit != asked.unit and meter.faults is not None:
                meter.faults.other_asked(now)
        meter_asked = units.get(asked.unit)
        if meter_asked is not None and meter_asked.powered:
            steps += meter_asked.steps(asked, now)
    return steps


def _by_unit(meters: Iterable[ModbusMeter]) -> dict[int, ModbusMeter]:
    units: dict[int, ModbusMeter] = {}
    for meter in meters:
        if meter.unit in units:
            raise ValueError(f"two meters with unit {meter.unit} on one line")
        units[meter.unit] = meter
    return units
