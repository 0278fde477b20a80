"""One attribute of a meter, in memory, whose fate at each writing and reading is laid down before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Fate:
    """What a writing comes to: whether it is taken, what is made of it, which error answers (None: success)."""

    taken: bool = True
    made: Data | None = None
    error: ProtocolError | None = None


class ScriptedMeter:
    """Holds `value`; the n-th writing meets the n-th fate, the n-th reading the n-th error. Afterwards all is well."""

    def __init__(
        self, value: Data, fates: Sequence[Fate] = (), reads: Sequence[ProtocolError | None] = ()
    ) -> None:
        self.value = value
        self.written: list[Data] = []
        self.order = ""
        self._fates, self._reads = list(fates), list(reads)

    async def get(self, target: Target) -> Data:
        self.order += "R"
        if self._reads and (error := self._reads.pop(0)):
            raise error
        return self.value

    async def set(self, target: Target, value: Data) -> None:
        fate = self._fates.pop(0) if self._fates else Fate()
        self.written.append(value)
        self.order += "W" if fate.error is None else "?"
        if fate.taken:
            self.value = value if fate.made is None else fate.made
        if fate.error is not None:
            raise fate.error
