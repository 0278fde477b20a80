"""What a companion says of its meters' pushes: in which forms they come, and what stands at each place of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from protocols.dlms.companion.sources import Pattern
from protocols.dlms.data.types import Tag
from protocols.reading import Obis, ProfileName, Quantity

SERIAL, CLOCK = Obis(0, 0, 96, 1, 0), Obis(0, 0, 1, 0, 0)


_MEDIA = range(1, 10)
"""OBIS group A of what is metered: electricity, heat, gas, water …"""
_GENERAL = frozenset((0, *range(93, 100)))
"""OBIS group C of general objects, which mostly are no registers."""
_M_BUS, _AMBIENT = (24, 2), (96, 9)
"""Groups C and D of abstract registers: values of M-Bus meters, temperatures."""


def needs_scale(obis: Obis) -> bool:
    """Say whether a number of this object says nothing without scaler and unit: it is a register by its name."""
    if obis.a in _MEDIA:
        return obis.c not in _GENERAL
    return obis.a == 0 and (obis.c, obis.d) in (_M_BUS, _AMBIENT)


class Part(StrEnum):
    """What may stand at a place of a push's body.

    `text` and `any` are read over. `structure` has places of its own. `pairs` are OBIS codes with their values, as
    many as there are. Two take all that is left: `objects` is a push object list and a value for each of its entries;
    `payload` is what the push setup sends (rows, columns in the order of the meter's own list, or an event status
    word).
    """

    DEVICE_ID = "device_id"
    SETUP = "setup"
    CLOCK = "clock"
    TEXT = "text"
    ANY = "any"
    STRUCTURE = "structure"
    VALUE = "value"
    OBJECTS = "objects"
    PAIRS = "pairs"
    PAYLOAD = "payload"

    @property
    def takes_the_rest(self) -> bool:
        """Say whether nothing can stand behind it."""
        return self in (Part.OBJECTS, Part.PAYLOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One place of a form. A `value` has its quantity, and its scale where the push carries none.

    `begins` is how a text must begin, `tag` the type that a value must have, `inner` the places of a structure;
    `place` says where it is declared.
    """

    part: Part
    optional: bool = False
    quantity: Quantity | None = None
    scale: tuple[int, str] | None = None
    tag: Tag | None = None
    begins: str = ""
    inner: tuple[FormField, ...] = ()
    place: str = ""

    def __str__(self) -> str:
        return str(self.quantity) if self.quantity is not None else self.part.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PushForm:
    """One form of a push's body: its places in order. `setups` are the only push setups that it is for, if any.

    `profile` is what its values become a capture of; `period` the seconds of an interval profile.
    """

    name: str
    fields: tuple[FormField, ...]
    setups: frozenset[Obis] = frozenset()
    profile: ProfileName = ProfileName.INSTANTANEOUS
    period: int = 0
    number: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRule:
    """Scaler and unit of all OBIS codes that match, for values that come without."""

    pattern: Pattern
    scale: tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmWord:
    """A value whose bits say what happened: bit 0 is the lowest of a number, the first of a bit-string."""

    quantity: Quantity
    bits: Mapping[int, str]

    def name_of(self, bit: int) -> str:
        """Name a bit; `bit 13` where no public source names it."""
        return self.bits.get(bit, f"bit {bit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSetupInfo:
    """What one push setup (class 40) sends: `profile` where it is one, `log` the index of an event log.

    `payload` is bits, rows, columns, any (rows or columns) or text; `to` is head_end or display.
    """

    obis: Obis
    name: str
    payload: str
    to: str
    profile: ProfileName | None = None
    log: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushGrammar:
    """How the pushes of one make are read: the first of `forms` that a body fits.

    `makers` are the FLAG codes of meters that push so. A value whose quantity is in `device` says who the meter
    is, one in `clock` when it pushed. `confirm` is `asked` (a push that asks for a confirmation is confirmed) or
    `never`: many makes set that bit in every push and wait for nothing. `source` names what it was written from.
    """

    name: str
    forms: tuple[PushForm, ...] = ()
    source: str = ""
    makers: frozenset[str] = frozenset()
    device: tuple[Obis, ...] = (SERIAL,)
    clock: tuple[Obis, ...] = (CLOCK,)
    confirm: str = "asked"
    scales: tuple[ScaleRule, ...] = ()
    words: Mapping[Quantity, AlarmWord] = field(default_factory=lambda: MappingProxyType({}))
    setups: Mapping[Obis, PushSetupInfo] = field(default_factory=lambda: MappingProxyType({}))

    def scale_of(self, obis: Obis) -> tuple[int, str] | None:
        """Find the scale of a value that came without one."""
        return next((rule.scale for rule in self.scales if rule.pattern.matches(obis)), None)
