"""Serial buses: RS-485, RS-232, optical probes, ptys."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Callable
from pathlib import Path

import serial
from serial.rs485 import RS485Settings
from serial.serialposix import Serial
from serial_asyncio_fast import SerialTransport

from protocols.errors import MeterConfigError
from protocols.lines.base import BaseLine
from protocols.lines.connection import LineConnection

BY_ID = "/dev/serial/by-id"
"""Where adapters have names that stay theirs."""
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
    """A serial bus (RS-485, RS-232, optical probe, pty); keeps t3.5 before each frame.

    `data_bits` is 8, or 7 for Modbus ASCII and mode E. `rs485` lets the UART's driver switch sender and receiver, for
    boards whose transceiver hangs on RTS; adapters that switch by themselves need it off. A device that was unplugged
    is opened again by its name, so that of `/dev/serial/by-id` finds it whatever number it got.
    """

    def __init__(
        self,
        name: str,
        device: str,
        *,
        baud: int = 9600,
        parity: str = "N",
        stop_bits: int = 1,
        data_bits: int = 8,
        rs485: bool = False,
    ) -> None:
        super().__init__(name)
        if parity not in PARITIES or stop_bits not in (1, 2) or data_bits not in (7, 8) or baud <= 0:
            allowed = "data_bits are 7 or 8, parity is N, E or O, stop_bits 1 or 2, baud above 0"
            raise MeterConfigError(
                f"line {name}: serial settings {baud} {data_bits}{parity}{stop_bits}: {allowed}"
            )
        self._device = device
        self._rs485 = rs485
        self._settings = {
            "baudrate": baud,
            "parity": PARITIES[parity],
            "stopbits": stop_bits,
            "bytesize": data_bits,
        }
        self.set_pace(baud, 1 + data_bits + stop_bits + (parity != "N"))

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
            if self._rs485:
                _switch_by_driver(port)
            transport = SerialTransport(asyncio.get_running_loop(), connection, port)
        except serial.SerialException as error:
            if error.errno != errno.ENOENT:
                raise
            raise OSError(_no_such_device(self._device)) from error
        except termios.error as error:  # no OSError: the driver does not take these settings
            if port is not None:
                port.close()
            raise OSError(f"{self._device} does not take these settings: {error}") from error
        connection.connection_made(transport)
        return connection, port


def _switch_by_driver(port: Serial) -> None:
    """Let the driver switch between sending and receiving (TIOCSRS485); OSError where it cannot."""
    try:
        port.rs485_mode = RS485Settings()
    except (ValueError, OSError) as error:
        port.close()
        raise OSError(f"the driver of {port.name} has no RS-485 mode: leave `rs485` out") from error


def _no_such_device(device: str) -> str:
    """Say that a device is not there, and which adapters are."""
    here = sorted(str(one) for one in Path(BY_ID).glob("*")) or sorted(
        str(one) for pattern in ("ttyUSB*", "ttyACM*") for one in Path("/dev").glob(pattern)
    )
    return (
        f"there is no {device}: {'adapters here: ' + ', '.join(here) if here else 'no adapter is plugged in'}"
    )
