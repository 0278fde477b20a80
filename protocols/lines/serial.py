"""Serial buses: RS-485, RS-232, optical probes, ptys."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Callable

import serial
from serial.serialposix import Serial
from serial_asyncio_fast import SerialTransport

from protocols.errors import MeterConfigError
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

PARITIES = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}


class _Port(Serial):
    """A port that reads what is there, without `select()`, which watches descriptors below 1,024 only."""

    def read(self, size: int = 1) -> bytes:
        """Return up to `size` octets that have come; SerialException when the device is gone."""
        if self.fd is None:
            raise serial.PortNotOpenError
        try:
            octets = os.read(self.fd, size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise serial.SerialException(f"{self.name} cannot be read: {error.strerror}") from error
        if not octets:  # a device that is gone is always ready, and gives nothing
            raise serial.SerialException(f"{self.name} is gone")
        return octets


class _SerialConnection(LineConnection):
    """Octets of a serial port."""

    async def shut(self) -> None:
        """Drop the port; return when its descriptor is free."""
        self.lost = True
        self.changed()
        if self.transport is None or self._gone.is_set():
            return
        # A serial transport must be told once only, and `close` would wait for what a dead bus never takes;
        # everything that counts as sent has left its buffer already.
        if not self.transport.is_closing():
            self.transport.abort()
        await self._wait_gone()


class SerialLine(BaseLine):
    """A serial bus (RS-485, RS-232, optical probe, pty); keeps t3.5 before each frame."""

    def __init__(
        self, name: str, device: str, *, baud: int = 9600, parity: str = "N", stop_bits: int = 1
    ) -> None:
        super().__init__(name)
        if parity not in PARITIES or stop_bits not in (1, 2) or baud <= 0:
            allowed = "parity is N, E or O, stop_bits 1 or 2, baud above 0"
            raise MeterConfigError(f"line {name}: serial settings {baud} 8{parity}{stop_bits}: {allowed}")
        self._device = device
        self._settings = {"baudrate": baud, "parity": PARITIES[parity], "stopbits": stop_bits}
        self.set_pace(baud, 9 + stop_bits + (parity != "N"))

    def set_pace(self, baud: int, bits: int) -> None:
        """Keep the frame gap for this speed, in bits per second, and these bits for each octet from now on."""
        self._character = bits / baud
        self._gap = 3.5 * self._character if baud <= 19200 else 0.00175

    async def _connect(self) -> LineConnection:
        return self.open_port(**self._settings)[0]

    def open_port(self, **settings: object) -> tuple[LineConnection, Serial]:
        """Open the device with pyserial's settings; OSError or ValueError when that fails."""
        make: Callable[..., Serial] = _Port
        connection = _SerialConnection()
        port: Serial | None = None
        try:
            port = make(self._device, exclusive=True, timeout=0, write_timeout=0, **settings)
            transport = SerialTransport(asyncio.get_running_loop(), connection, port)
        except termios.error as error:  # no OSError: the driver does not take these settings
            if port is not None:
                port.close()
            raise OSError(f"{self._device} does not take these settings: {error}") from error
        connection.connection_made(transport)
        return connection, port
