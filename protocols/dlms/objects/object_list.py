"""The object list of an association (Blue Book 4.4.4 #2): which objects there are and what a client may do.

Modes of attributes and methods are numbers up to version 2 of the class (methods: boolean in version 0) and bits
from version 3. Which it is follows from the version of the association objects that the list itself names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    boolean,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.objects.catalogue import catalogue, class_name
from protocols.dlms.objects.codec import Codec, Shown, Where
from protocols.errors import LocalError
from protocols.reading import Obis

MAX_OBJECTS = 4096
"""Objects of one meter; Indian meters have some hundreds."""
MAX_MEMBERS = 256
ASSOCIATION_LN = 15
BITS_FROM_VERSION = 3
READ, WRITE = 0x01, 0x02
NO_ACCESS, READ_ONLY, WRITE_ONLY, READ_WRITE = 0, 1, 2, 3
_MODES = {
    0: "none",
    1: "read",
    2: "write",
    3: "read, write",
    4: "read authenticated",
    5: "write authenticated",
    6: "read, write authenticated",
}
_METHOD_MODES = {0: "none", 1: "execute", 2: "execute authenticated"}
_BITS = {
    2: "authenticated request",
    3: "encrypted request",
    4: "signed request",
    5: "authenticated response",
    6: "encrypted response",
    7: "signed response",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """One object: class, version, OBIS code, mode of each attribute and method that the list names.

    `selectors` lists the selective accesses of an attribute; `bits` tells how modes are meant (see above).
    """

    class_id: int
    version: int
    obis: Obis
    attributes: Mapping[int, int] = field(default_factory=dict)
    methods: Mapping[int, int] = field(default_factory=dict)
    selectors: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    bits: bool = False

    def readable(self, attribute: int) -> bool:
        """Return whether the attribute may be read."""
        mode = self.attributes.get(attribute, NO_ACCESS)
        return bool(mode & READ) if self.bits else mode in (1, 3, 4, 6)

    def writable(self, attribute: int) -> bool:
        """Return whether the attribute may be written."""
        mode = self.attributes.get(attribute, NO_ACCESS)
        return bool(mode & WRITE) if self.bits else mode in (2, 3, 5, 6)

    def executable(self, method: int) -> bool:
        """Return whether the method may be run."""
        mode = self.methods.get(method, NO_ACCESS)
        return bool(mode & 1) if self.bits else mode in (1, 2)

    def access_name(self, attribute: int) -> str:
        """Return the name of what may be done with an attribute."""
        mode = self.attributes.get(attribute, NO_ACCESS)
        return _bit_names(mode, ("read", "write")) if self.bits else _MODES.get(mode, f"mode {mode}")

    def method_access_name(self, method: int) -> str:
        """Return the name of what may be done with a method."""
        mode = self.methods.get(method, NO_ACCESS)
        return _bit_names(mode, ("execute",)) if self.bits else _METHOD_MODES.get(mode, f"mode {mode}")


def _bit_names(mode: int, first: tuple[str, ...]) -> str:
    names = [name for n, name in enumerate(first) if mode & 1 << n]
    names += [name for n, name in _BITS.items() if mode & 1 << n]
    return ", ".join(names) or "none"


def parse_object_list(data: Data) -> tuple[ObjectEntry, ...]:
    """Read an object list in the order that the meter gives; MeterProtocolError for entries of another shape.

    The association need not come first, one OBIS code may come with several classes, unknown classes are kept,
    and an entry may lack its rights (a meter that leaves them out as null-data).
    """
    return _parse(data, Where("association LN #2 object_list"))


def build_object_list(entries: Iterable[ObjectEntry], *, version: int = 1) -> Data:
    """Return an object list as `version` of the association has it; LocalError for a value that cannot be."""
    return array(*(_build_entry(entry, version) for entry in entries))


def _parse(data: Data, where: Where) -> tuple[ObjectEntry, ...]:
    if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or len(data.items) > MAX_OBJECTS:
        raise where.error(f"array of at most {MAX_OBJECTS} objects", data)
    entries = [_parse_entry(item, where.inside(f"[{n}]")) for n, item in enumerate(data.items)]
    newest = max((e.version for e in entries if e.class_id == ASSOCIATION_LN), default=0)
    bits = newest >= BITS_FROM_VERSION
    return tuple(replace(e, bits=True) for e in entries) if bits else tuple(entries)


def _parse_entry(data: Data, where: Where) -> ObjectEntry:
    match data:
        case (
            Tag.STRUCTURE,
            (
                Data(Tag.LONG_UNSIGNED | Tag.UNSIGNED, int() as class_id),
                Data(Tag.UNSIGNED | Tag.LONG_UNSIGNED, int() as version),
                Data(Tag.OCTET_STRING, bytes() as name),
                rights,
            ),
        ) if len(name) == 6 and version <= 0xFF:
            attributes, selectors, methods = _parse_rights(rights, where)
            return ObjectEntry(
                class_id=class_id,
                version=version,
                obis=Obis.from_bytes(name),
                attributes=attributes,
                methods=methods,
                selectors=selectors,
            )
    raise where.error("structure of class, version, logical name, access rights", data)


def _parse_rights(
    data: Data, where: Where
) -> tuple[dict[int, int], dict[int, tuple[int, ...]], dict[int, int]]:
    if data.tag is Tag.NULL:
        return {}, {}, {}
    if data.tag is not Tag.STRUCTURE or len(data.items) != 2:
        raise where.error("access rights: structure of attributes and methods", data)
    attributes: dict[int, int] = {}
    selectors: dict[int, tuple[int, ...]] = {}
    for item in _members(data.items[0], where):
        number, mode = _right(item, where)
        attributes[number] = mode
        if chosen := tuple(s.integer for s in item.items[2].items) if len(item.items) > 2 else ():
            selectors[number] = tuple(s for s in chosen if s is not None)
    methods = dict(_right(item, where) for item in _members(data.items[1], where))
    return attributes, selectors, methods


def _members(data: Data, where: Where) -> tuple[Data, ...]:
    if data.tag is Tag.NULL:
        return ()
    if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or len(data.items) > MAX_MEMBERS:
        raise where.error(f"array of at most {MAX_MEMBERS} access rights", data)
    return data.items


def _right(data: Data, where: Where) -> tuple[int, int]:
    match data.items:
        case (Data(_, int() as number), Data(Tag.BOOLEAN, bool() as allowed), *_):
            return number, int(allowed)
        case (Data(_, int() as number), Data(Tag.ENUM | Tag.UNSIGNED, int() as mode), *_):
            return number, mode
    raise where.error("access right: structure of number and mode", data)


def _build_entry(entry: ObjectEntry, version: int) -> Data:
    if not 0 <= entry.class_id <= 0xFFFF or not 0 <= entry.version <= 0xFF:
        raise LocalError(f"class {entry.class_id} version {entry.version} cannot be listed")
    attributes = (
        structure(integer(n), enum(mode), _build_selectors(entry.selectors.get(n, ())))
        for n, mode in entry.attributes.items()
    )
    methods = (
        structure(integer(n), enum(mode) if version else boolean(bool(mode)))
        for n, mode in entry.methods.items()
    )
    return structure(
        long_unsigned(entry.class_id),
        unsigned(entry.version),
        octets(entry.obis.to_bytes()),
        structure(array(*attributes), array(*methods)),
    )


def _build_selectors(numbers: tuple[int, ...]) -> Data:
    return array(*map(integer, numbers)) if numbers else NULL


def show_entry(entry: ObjectEntry) -> Shown:
    """Return one object with the names of what the list grants rights for."""
    known = catalogue(entry.class_id, entry.version)
    attributes: dict[str, Shown] = {}
    methods: dict[str, Shown] = {}
    for n in entry.attributes:
        name = known.attribute_name(n) if known else ""
        attributes[f"{n} {name}".rstrip()] = entry.access_name(n)
    for n in entry.methods:
        name = known.method_name(n) if known else ""
        methods[f"{n} {name}".rstrip()] = entry.method_access_name(n)
    head = f"{class_name(entry.class_id)} {entry.obis}"
    return {"object": head, "version": entry.version, "attributes": attributes, "methods": methods}


OBJECT_LIST: Codec[tuple[ObjectEntry, ...]] = Codec(
    kind="array of object_list_element",
    parse=_parse,
    build=build_object_list,
    show=lambda entries: [*map(show_entry, entries)],
)
OBJECT_ENTRY: Codec[ObjectEntry] = Codec(
    kind="object_list_element",
    parse=_parse_entry,
    build=lambda entry: _build_entry(entry, 1),
    show=show_entry,
)
