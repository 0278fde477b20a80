"""Reading whatever a meter has in ranges of registers: an image of one whose map is to be written as a model."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from protocols.errors import MeterBusy, MeterConfigError, MeterRefused, MeterSilent
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.format.encoding import BIT_FUNCTIONS
from protocols.modbus.format.registers import IDENTIFICATION, REPORT_ID

MOST = 60
"""Registers of a request: what nearly every meter gives."""
PER_LINE = 8
_TEXT_WORDS = 32
_RANGE = re.compile(
    r"([0-9]{1,2})(?::(0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5})(?:-(0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5}))?)?"
)


@dataclass(frozen=True, slots=True)
class DumpRange:
    """Registers `first` to `last` of a function; objects with function 43; all with function 17."""

    function: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> DumpRange:
        """Read `3:0-119`, `4:0x5B00`, `17` or `43:0-6`; MeterConfigError for anything else."""
        found = _RANGE.fullmatch(text)
        if found is not None:
            function = int(found[1])
            first = int(found[2], 0 if found[2][:2].lower() == "0x" else 10) if found[2] else 0
            last = int(found[3], 0 if found[3][:2].lower() == "0x" else 10) if found[3] else first
            known = function in (*BIT_FUNCTIONS, 3, 4, IDENTIFICATION) and found[2] is not None
            if (known or function == REPORT_ID) and first <= last <= (
                0xFF if function == IDENTIFICATION else 0xFFFF
            ):
                return cls(function, first, last)
        raise MeterConfigError(
            f"`{text}` is no range of registers: write FUNCTION:FIRST-LAST, for example 3:0-119 or 4:0x5B00-0x5B3A;"
            " 17 for the server id, 43:0-6 for the device identification"
        )


async def dump_registers(unit: MeterUnit, wanted: DumpRange) -> AsyncIterator[str]:
    """Yield the lines of an image of what a meter has of a range; what it refuses is left out.

    Raises MeterSilent when it does not answer at all, MeterBusy, and the errors of the line.
    """
    if wanted.function in (REPORT_ID, IDENTIFICATION):
        async for line in _octets(unit, wanted):
            yield line
        return
    waiting = [(at, min(at + MOST, wanted.last + 1)) for at in range(wanted.first, wanted.last + 1, MOST)]
    heard = False
    while waiting:
        first, end = waiting.pop(0)
        try:
            words = await unit.words(wanted.function, first, end - first)
        except MeterBusy:
            raise
        except (MeterRefused, MeterSilent) as error:
            heard = heard or isinstance(error, MeterRefused)
            if not heard:
                raise
            middle = (first + end) // 2
            if end - first > 1:
                waiting[:0] = [(first, middle), (middle, end)]
            continue
        heard = True
        for at in range(0, len(words), PER_LINE):
            width = 1 if wanted.function in BIT_FUNCTIONS else 4
            row = " ".join(f"{word:0{width}X}" for word in words[at : at + PER_LINE])
            yield f"{wanted.function} 0x{first + at:04X}: {row}"


async def _octets(unit: MeterUnit, wanted: DumpRange) -> AsyncIterator[str]:
    for number in range(wanted.first, wanted.last + 1):
        try:
            words = await unit.words(wanted.function, number, _TEXT_WORDS)
        except MeterRefused:
            continue
        octets = b"".join(word.to_bytes(2, "big") for word in words).rstrip(b"\0")
        if wanted.function == REPORT_ID:
            yield f"17: {octets.hex(' ').upper()}"
        elif octets and all(0x20 <= octet < 0x7F for octet in octets):
            yield f"43 {number}: {octets.decode('ascii')}"
