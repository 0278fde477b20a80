"""A register image: what stands in a meter's registers, as text, to try a model on without the meter.

One line for a run of registers, `FUNCTION ADDRESS: WORDS in hex`, `#` for remarks:

    3 0xFC00: 0098 9681        # holding registers
    4 0: 4366 6666             # input registers
    1 16: 1 0                  # coils (2: discrete inputs)
    17: 01 FF 41 42            # octets of "report server id"
    43 2: V1.07                # an object of the device identification, as text
    20/1 0: 0001 0002          # record 0 of file 1
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from protocols.errors import MeterConfigError
from protocols.modbus.format.encoding import BIT_FUNCTIONS
from protocols.modbus.format.loads import FILE_RECORD
from protocols.modbus.format.registers import IDENTIFICATION, REPORT_ID, words_of_octets
from protocols.modbus.planning.plan import RegisterSpan

MAX_IMAGE = 1 << 20
"""Octets of an image: all registers of four functions take less."""
_LINE = re.compile(r"([0-9]{1,2})(?:/([0-9]{1,5}))?(?:\s+(0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5}))?\s*:(.*)")
_FUNCTIONS = (*BIT_FUNCTIONS, 3, 4, REPORT_ID, FILE_RECORD, IDENTIFICATION)


class RegisterImage:
    """Registers by function and address; functions 17 and 43 as octets."""

    def __init__(self) -> None:
        self._words: dict[tuple[int, int], int] = {}
        self._octets: dict[tuple[int, int], bytes] = {}
        self._records: dict[tuple[int, int], list[int]] = {}

    @classmethod
    def parse(cls, text: str, *, where: str) -> RegisterImage:
        """Read an image; MeterConfigError names file and line of what is none."""
        image = cls()
        for number, line in enumerate(text.splitlines(), start=1):
            said = line.split("#", 1)[0].strip()
            if said:
                try:
                    image._take(said)
                except ValueError as error:
                    raise MeterConfigError(f"{where}:{number}: {error}") from None
        return image

    @classmethod
    def load(cls, path: Path) -> RegisterImage:
        """Read the image in a file; MeterConfigError when it cannot be read or is none."""
        try:
            with path.open("rb") as file:
                octets = file.read(MAX_IMAGE + 1)
            text = octets.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MeterConfigError(f"the register image {path} cannot be read: {error}") from error
        if len(octets) > MAX_IMAGE:
            raise MeterConfigError(f"{path}: a register image has at most {MAX_IMAGE} octets")
        return cls.parse(text, where=str(path))

    def cells(self, spans: Iterable[RegisterSpan]) -> dict[RegisterSpan, list[int] | None]:
        """Return the words of each span; None where the image has not all of them."""
        return {span: self.words(span.function, span.address, span.size) for span in spans}

    def words(self, function: int, address: int, count: int, *, file: int = 0) -> list[int] | None:
        """Return `count` words (bits as 0 and 1) from an address; None when one of them is not there."""
        if function in (REPORT_ID, IDENTIFICATION):
            octets = self._octets.get((function, address if function == IDENTIFICATION else 0))
            return None if octets is None else words_of_octets(function, address, count, octets)
        if function == FILE_RECORD:
            record = self._records.get((file, address))
            return None if record is None or len(record) < count else record[:count]
        found = [self._words.get((function, place)) for place in range(address, address + count)]
        return None if None in found else [word for word in found if word is not None]

    def _take(self, said: str) -> None:
        found = _LINE.fullmatch(said)
        if found is None or int(found[1]) not in _FUNCTIONS:
            raise ValueError("write FUNCTION ADDRESS: WORDS in hex, for example 3 0xFC00: 0098 9681")
        function, file = int(found[1]), int(found[2] or 0)
        address = int(found[3], 0 if found[3][:2].lower() == "0x" else 10) if found[3] else 0
        if (function == FILE_RECORD) != (found[2] is not None):
            raise ValueError("records of files, and only they, are written 20/FILE RECORD: WORDS")
        if function == IDENTIFICATION:
            self._octets[function, address] = found[4].strip().encode("utf-8")
        elif function == REPORT_ID:
            self._octets[function, 0] = bytes.fromhex(found[4])
        else:
            self._take_words(function, file, address, found[4].split())

    def _take_words(self, function: int, file: int, address: int, words: list[str]) -> None:
        most = 1 if function in BIT_FUNCTIONS else 0xFFFF
        numbers = [int(word, 16) for word in words]
        if not numbers or any(not 0 <= number <= most for number in numbers):
            raise ValueError(f"each word is 0 to {most:X} in hex, and there is at least one")
        if address + len(numbers) > 0x10000:
            raise ValueError("the words pass the last address 65535")
        if function == FILE_RECORD:
            self._records[file, address] = numbers
            return
        for place, number in enumerate(numbers, start=address):
            if (function, place) in self._words:
                raise ValueError(f"register {place} of function {function} stands here twice")
            self._words[function, place] = number
