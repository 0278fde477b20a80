"""Places of a push's body while a form is tried on it: what was found so far, and why something does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.dlms.data.types import Data, Tag
from protocols.errors import MeterProtocolError
from protocols.reading import Obis, Quantity

OBIS_OCTETS = 6
MAX_CELLS = 256
REGISTER, DATA = 3, 1
STRUCTURED = (Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY)


class NoForm(MeterProtocolError):
    """A body that fits no form of a grammar; `reasons` says for each form why not, with its place in the file."""

    def __init__(self, grammar: str, reasons: Sequence[str]) -> None:
        super().__init__(f"the push fits no form of {grammar}: {'; '.join(reasons) or 'it has none'}")
        self.reasons = tuple(reasons)


class Misfit(Exception):
    """A form does not fit: why, and where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedValue:
    """One value with what it is of. `class_id` is 1 where a number needs no scale."""

    quantity: Quantity
    data: Data
    class_id: int = DATA
    scale: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedBuffer:
    """Rows of a profile or event log, which is named by its OBIS code; at least one."""

    obis: Obis
    rows: tuple[Data, ...]


@dataclass(slots=True)
class Found:
    """What was found so far of one form in `items`, of which `at` is next. `rest` is what a payload is made of.

    `empty` lets null stand in the place of any value, between pairs and behind the last field.
    """

    items: tuple[Data, ...]
    at: int = 0
    empty: bool = False
    device: str = ""
    setup: Obis | None = None
    clock: bytes = b""
    values: list[PushedValue] = field(default_factory=list)
    buffers: list[PushedBuffer] = field(default_factory=list)
    rest: tuple[Data, ...] | None = None

    def next(self) -> Data | None:
        """Return the item at the present place, None at the end."""
        return self.items[self.at] if self.at < len(self.items) else None

    def take(self) -> Data:
        """Return the item at the present place and go on; Misfit at the end."""
        item = self.next()
        if item is None:
            raise Misfit("the push has ended")
        self.at += 1
        return item


def shown(data: Data) -> str:
    """Name a value in a message: its type, and what it is where that is short."""
    name = data.tag.name.lower().replace("_", "-")
    if data.tag in STRUCTURED:
        return f"{name} of {len(data.items)}"
    value = data.value.hex() if isinstance(data.value, bytes) else str(data.value)
    return name if data.value is None else f"{name} {value[:40]}"


def obis_of(item: Data) -> Obis:
    """Return the OBIS code that an octet-string is; Misfit when it is none."""
    octets = item.octets if item.tag is Tag.OCTET_STRING else None
    if octets is None or len(octets) != OBIS_OCTETS:
        raise Misfit(f"{shown(item)} is no OBIS code")
    return Obis.from_bytes(octets)


def is_obis(item: Data | None) -> bool:
    """Say whether an item may be an OBIS code."""
    return item is not None and item.tag is Tag.OCTET_STRING and len(item.octets or b"") == OBIS_OCTETS
