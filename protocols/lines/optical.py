"""An optical probe on a meter that wants the mode E opening before it speaks HDLC."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serial.serialposix import Serial

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.mode_e import (
    START_BAUD,
    Identification,
    IdentificationReader,
    acknowledgement,
    sign_on,
    with_parity,
    without_parity,
)
from protocols.errors import LineUnavailable, MeterProtocolError
from protocols.line import LineIO
from protocols.lines.connection import LineConnection
from protocols.lines.serial import SerialLine

SIGN_ON_ATTEMPTS = 2
"""Requests before the meter counts as absent: the first one may only wake it."""
IDENTIFICATION_TIME = 3.0
"""Seconds for the identification: 1.5 s of reaction and 40 characters at 300 baud."""
REACTION_TIME = 0.3
"""Seconds between a message and its answer, and around the change of speed; the standard asks for 0.2."""
CONFIRMATION_TIME = 1.7
"""Seconds in which the meter may repeat our acknowledgement: 1.5 s of reaction and 6 characters."""
CHARACTER_BITS = 10
"""Bits of a character on the wire, 7E1 and 8N1 alike."""


class OpticalLine(SerialLine):
    """A serial line that is opened with the mode E hand-shake (IEC 62056-21), anew for every HDLC connection.

    `baud` is the fastest speed wanted; the meter's offer bounds it. A meter falls back to 300 baud with its
    HDLC connection, so after a DISC the next message is preceded by an opening, and the port is closed when a
    turn ends. LineUnavailable when the meter does not sign on; an opening takes about 3 s.
    """

    def __init__(self, name: str, device: str, *, baud: int = 9600, address: str = "") -> None:
        super().__init__(name, device, baud=baud)
        self._fastest = baud
        self._request = sign_on(address)
        self._port: Serial | None = None
        self._fell_back = False

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[LineIO]:
        """Hold the line as `protocols.line.Line` says, opened anew."""
        async with super().exclusive() as io:
            try:
                yield io
            finally:
                await self.hang_up()

    async def send_octets(self, connection: LineConnection, data: bytes) -> None:
        """Write all of `data`, after an opening when the last HDLC connection was ended."""
        ends = _is_disc(data)
        if self._fell_back and not ends:
            try:
                await self._open(connection)
            except OSError as error:
                await self.hang_up()
                raise LineUnavailable(str(error)).with_context(line=self.name) from error
        await super().send_octets(connection, data)
        self._fell_back = ends

    async def _connect(self) -> LineConnection:
        connection, self._port = self.open_port(baudrate=START_BAUD)
        try:
            await self._open(connection)
        except BaseException:
            await connection.shut()
            raise
        return connection

    async def _open(self, connection: LineConnection) -> None:
        """Sign on at 300 baud and change to the agreed speed; OSError when the meter does not go along."""
        self._set_baud(START_BAUD)
        try:
            baud = (await self._identify(connection)).choose(self._fastest)
        except MeterProtocolError as error:
            raise OSError(str(error)) from error
        answer = acknowledgement(baud)
        await asyncio.sleep(REACTION_TIME)
        connection.take()
        await connection.write(with_parity(answer))
        await asyncio.sleep(len(answer) * CHARACTER_BITS / START_BAUD)  # the port must not change under it
        await _wait_confirmation(connection, answer)
        self._set_baud(baud)
        await asyncio.sleep(REACTION_TIME)
        connection.take()
        self._fell_back = False

    def _set_baud(self, baud: int) -> None:
        assert self._port is not None
        try:
            self._port.baudrate = baud
        except (termios.error, ValueError) as error:  # the first is no OSError
            raise OSError(f"the port does not take {baud} baud: {error}") from error
        self.set_pace(baud, CHARACTER_BITS)

    async def _identify(self, connection: LineConnection) -> Identification:
        loop = asyncio.get_running_loop()
        for _ in range(SIGN_ON_ATTEMPTS):
            reader = IdentificationReader()
            await connection.write(with_parity(self._request))
            limit = loop.time() + len(self._request) * CHARACTER_BITS / START_BAUD + IDENTIFICATION_TIME
            while await connection.wait_octets(limit - loop.time()):
                if (found := reader.receive_data(connection.take())) is not None:
                    return found
        raise OSError(f"no meter signs on at the optical port ({SIGN_ON_ATTEMPTS} mode E requests)")


async def _wait_confirmation(connection: LineConnection, answer: bytes) -> None:
    """Wait for the meter's repetition of our answer; some meters send none, some probes echo ours first."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + CONFIRMATION_TIME
    heard = b""
    while heard.count(answer) < 2 and await connection.wait_octets(limit - loop.time()):
        heard = (heard + without_parity(connection.take()))[-2 * len(answer) :]
        if answer in heard:  # an echo or the confirmation: the other one, if any, follows soon
            limit = min(limit, loop.time() + REACTION_TIME)


def _is_disc(data: bytes) -> bool:
    frames = hdlc.FrameDecoder().receive_data(data)
    return any(isinstance(frame, hdlc.Frame) and frame.kind == hdlc.DISC for frame in frames)
