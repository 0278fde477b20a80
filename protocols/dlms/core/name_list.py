"""Which short name an attribute has: the object list of an association by short names (Blue Book 4.4.3, class 12)."""

from __future__ import annotations

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.short_names import ASSOCIATION, OBJECT_LIST, STEP, Variable
from protocols.dlms.data.types import NULL, Data, Tag, array, long_unsigned, octets, structure, unsigned
from protocols.errors import MeterProtocolError, NotSupported
from protocols.obis import Obis

MAX_OBJECTS = 4096
ASSOCIATION_LN, ASSOCIATION_SN = 15, 12
CURRENT = Obis(0, 0, 40, 0, 0)


class NameList:
    """The objects of a meter by class and OBIS code. Raises MeterProtocolError for a list of another shape."""

    def __init__(self, data: Data) -> None:
        if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or len(data.items) > MAX_OBJECTS:
            raise MeterProtocolError(f"the list of short names is an array of at most {MAX_OBJECTS} objects")
        self._bases: dict[Obis, dict[int, int]] = {}
        self._entries: list[tuple[int, int, Obis]] = []
        for entry in data.items:
            match entry.items:
                case (
                    Data(_, int() as base),
                    Data(_, int() as class_id),
                    Data(_, int() as version),
                    Data(_, bytes() as name),
                ) if len(name) == 6:
                    obis = Obis.from_bytes(name)
                case _:
                    raise MeterProtocolError("an entry of the short names is {base, class, version, name}")
            self._bases.setdefault(obis, {})[class_id] = base & 0xFFFF  # a signed number by the Blue Book
            self._entries.append((class_id, version, obis))

    def variable(self, target: Target) -> Variable:
        """Return an attribute's short name; NotSupported when the meter has no such object.

        An object may be listed under another class than it is asked for; the OBIS code tells, where it is alone.
        """
        if (target.class_id, target.obis) in ((ASSOCIATION_LN, CURRENT), (ASSOCIATION_SN, CURRENT)):
            return Variable(ASSOCIATION + STEP * (target.index - 1), target.selection)
        classes = self._bases.get(target.obis, {})
        base = classes.get(target.class_id)
        if base is None and len(classes) == 1:
            (base,) = classes.values()
        if base is None:
            raise NotSupported(f"{target.obis} is not in the meter's list of short names")
        return Variable((base + STEP * (target.index - 1)) & 0xFFFF, target.selection)

    @staticmethod
    def asks_for_objects(target: Target) -> bool:
        """Say whether the object list of an association by logical names is asked for, which there is none of."""
        return (target.class_id, target.obis, target.index) == (ASSOCIATION_LN, CURRENT, 2)

    def as_object_list(self) -> Data:
        """Return the list as an association by logical names has it; nothing is known of rights."""
        return array(
            *(
                structure(long_unsigned(class_id), unsigned(version), octets(obis.to_bytes()), NULL)
                for class_id, version, obis in self._entries
            )
        )


WHOLE_LIST = Variable(OBJECT_LIST)
"""What is read first in an association by short names."""
