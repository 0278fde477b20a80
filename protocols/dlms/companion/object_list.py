"""The meter's own object list (association LN #2, Blue Book 4.4.3) as plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocols.dlms.types import Data
from protocols.errors import MeterProtocolError
from protocols.reading import Obis

MAX_OBJECTS = 5_000
"""Objects in one list; the largest meters have about a thousand."""
MAX_ATTRIBUTES = 128
NOT_READABLE = (0, 2)
"""Access modes no access and write only; what later versions add is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """One object of a meter: `access` is the mode by attribute where the meter gave it."""

    class_id: int
    version: int
    obis: Obis
    access: Mapping[int, int]

    def readable(self, attribute: int) -> bool:
        """Tell whether the list lets us read an attribute; one that it does not mention may be tried."""
        return self.access.get(attribute, 1) not in NOT_READABLE


def parse_object_list(data: Data) -> tuple[ListedObject, ...]:
    """Read object_list, in OBIS order whatever the meter's; the first entry of a class and name counts.

    Raises MeterProtocolError when it is no such list or has more than `MAX_OBJECTS` entries.
    """
    if len(data.items) > MAX_OBJECTS:
        raise MeterProtocolError(f"an object list of {len(data.items)} entries, more than {MAX_OBJECTS}")
    if not data.items:
        raise MeterProtocolError("the object list is empty or no list")
    found: dict[tuple[Obis, int], ListedObject] = {}
    for entry in data.items:
        listed = _entry(entry)
        found.setdefault((listed.obis, listed.class_id), listed)
    return tuple(found[key] for key in sorted(found))


def _entry(entry: Data) -> ListedObject:
    match entry.items:
        case (Data(_, int() as class_id), Data(_, int() as version), Data(_, bytes() as name), *rest) if (
            len(name) == 6
        ):
            access = _access(rest[0]) if rest else {}
            return ListedObject(
                class_id=class_id,
                version=version,
                obis=Obis.from_bytes(name),
                access=MappingProxyType(access),
            )
    raise MeterProtocolError("the object list holds an entry that is no object")


def _access(rights: Data) -> dict[int, int]:
    """Read {attribute rights, method rights}; what is not understood is left out, and may then be tried."""
    modes: dict[int, int] = {}
    attributes = rights.items[0].items if rights.items else ()
    for item in attributes[:MAX_ATTRIBUTES]:
        match item.items:
            case (Data(_, int() as attribute), Data(_, int() as mode), *_):
                modes[attribute] = mode
    return modes
