"""One unit behind a client: its registers as they are, what it calls itself, records of files, writing."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import LineError, MeterProtocolError, MeterRefused, MeterSilent, WriteUnproven
from protocols.modbus.client.client import ModbusClient
from protocols.modbus.format.registers import IDENTIFICATION, NO_REGISTERS, words_of_octets
from protocols.modbus.framing.requests import Request

NO_SUCH_ADDRESS = 2
"""Exception "illegal data address", said for a meter that leaves an object out instead of refusing it."""
ONE_OBJECT = 4
"""Read device id code of function 43/14: one object by its number."""


class MeterUnit:
    """Asks one unit; everything raises what `ModbusClient.ask` raises."""

    def __init__(self, client: ModbusClient, unit: int) -> None:
        self._client = client
        self._unit = unit

    async def words(self, function: int, address: int, count: int, *, file: int = 0) -> list[int]:
        """Return `count` words from an address, or of a record of a `file` (20), asked for as they are.

        With function 17 the address is the first octet, with 43 the object: octets as words, NUL behind their end;
        MeterRefused when the meter has none.
        """
        if function in NO_REGISTERS:
            return await self._octets(function, address, count)
        request = Request(unit=self._unit, function=function, address=address, count=count, file=file)
        return list((await self._client.ask(request)).words)

    async def write(self, function: int, address: int, words: Sequence[int]) -> None:
        """Write words (function 5: one bit), once.

        WriteUnproven when the line failed or no sound answer came: then nobody knows whether they were written.
        """
        request = Request(unit=self._unit, function=function, address=address, values=tuple(words))
        try:
            await self._client.ask(request)
        except (LineError, MeterSilent, MeterProtocolError) as error:
            raise WriteUnproven(f"a write of register {address} drew no sound answer: {error}") from error

    async def _octets(self, function: int, address: int, count: int) -> list[int]:
        if function == IDENTIFICATION:
            answer = await self._client.ask(
                Request(unit=self._unit, function=function, address=address, category=ONE_OBJECT)
            )
            octets = answer.objects.get(address, b"")
        else:
            octets = (await self._client.ask(Request(unit=self._unit, function=function))).octets
        words = words_of_octets(function, address, count, octets)
        if words is None:
            raise MeterRefused(
                f"the meter's answer to function {function} has nothing at {address}",
                reason_code=NO_SUCH_ADDRESS,
            )
        return words
