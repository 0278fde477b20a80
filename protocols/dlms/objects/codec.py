"""Codecs of COSEM attributes: a shape that parses, builds and shows one kind of value; combined, not inherited.

Parsing is strict in shape and forgiving in integer width: any integer type is taken whose value the declared
one could hold, since meters differ there. What breaks the shape is MeterProtocolError naming class, attribute,
what was expected and what came; what cannot be built is LocalError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_dates import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.data.types import INTEGERS, NULL, Data, Tag
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import Obis

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)

Shown = str | int | bool | None | list["Shown"] | dict[str, "Shown"]
"""Readable text or a structure of it, ready for JSON."""
MAX_ITEMS = 1024
"""Elements that an array of an attribute may have unless its class says otherwise."""
MAX_SHOWN_OCTETS = 256
"""Octets that are written out; the rest of a longer string is cut."""


class Where(NamedTuple):
    """The attribute (and the part of it) that is being parsed, for messages."""

    text: str

    def inside(self, part: str) -> Where:
        """Return the place of a part of it."""
        return Where(f"{self.text} {part}")

    def error(self, expected: str, got: Data) -> MeterProtocolError:
        """Return an error that says what was expected and what came, without octets that might be a secret."""
        return MeterProtocolError(f"{self.text}: expected {expected}, got {shape(got)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[T]):
    """How one kind of value is parsed, built and shown; `kind` names it. `secret`: a part is never shown."""

    kind: str
    parse: Callable[[Data, Where], T]
    build: Callable[[T], Data]
    show: Callable[[T], Shown]
    secret: bool = False


def shape(data: Data) -> str:
    """Return what a value is in words: its type, and how many parts or which number it has."""
    name = data.tag.name.lower().replace("_", "-")
    if isinstance(data.value, tuple):
        return f"{name} of {len(data.items)}"
    if isinstance(data.value, bytes | str):
        return f"{name} of {len(data.value)}"
    return name if data.value is None else f"{name} {data.value}"


def show_data(data: Data) -> Shown:
    """Return a value whose meaning is not known as it is shown."""
    if isinstance(data.value, tuple):
        return [show_data(item) for item in data.items]
    return show_octets(data.value) if isinstance(data.value, bytes) else data.value


def show_octets(octets: bytes) -> str:
    """Return printable characters as text, anything else as hex."""
    cut = "…" if len(octets) > MAX_SHOWN_OCTETS else ""
    kept = octets[:MAX_SHOWN_OCTETS]
    if kept and all(0x20 <= octet < 0x7F for octet in kept):
        return kept.decode("ascii") + cut
    return kept.hex().upper() + cut


def named_value(value: int, names: Mapping[int, str]) -> str:
    """Return a number with its name."""
    return f"{value} ({names[value]})" if value in names else str(value)


# ---- plain values

ANY: Codec[Data] = Codec(kind="any", parse=lambda data, _where: data, build=lambda data: data, show=show_data)
"""Whatever the meter gives: the value of a register, the buffer of a profile."""


def number(
    tag: Tag, names: Mapping[int, str] | None = None, *, limits: tuple[int, int] | None = None
) -> Codec[int]:
    """Return the codec of an integer type, with names for some values, and limits narrower than the type's."""
    size, signed = INTEGERS[tag]
    whole = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
    low, high = limits or whole
    name = tag.name.lower().replace("_", "-")

    def parse(data: Data, where: Where) -> int:
        value = data.integer
        if value is None or not low <= value <= high:
            raise where.error(f"{name} ({low}..{high})", data)
        return value

    def build(value: int) -> Data:
        if not low <= value <= high:
            raise LocalError(f"{value} does not fit {name} ({low}..{high})")
        return Data(tag, int(value))

    def show(value: int) -> Shown:
        return named_value(value, names) if names else value

    return Codec(kind=name, parse=parse, build=build, show=show)


INTEGER = number(Tag.INTEGER)
LONG = number(Tag.LONG)
UNSIGNED = number(Tag.UNSIGNED)
LONG_UNSIGNED = number(Tag.LONG_UNSIGNED)
DOUBLE_LONG_UNSIGNED = number(Tag.DOUBLE_LONG_UNSIGNED)
ENUM = number(Tag.ENUM)


def members(of: type[E]) -> Codec[E]:
    """Return the codec of an enum whose every value is known; another is an error."""
    plain = number(Tag.ENUM)
    known = {int(member): member for member in of}

    def parse(data: Data, where: Where) -> E:
        found = known.get(plain.parse(data, where))
        if found is None:
            raise where.error(f"one of {sorted(known)}", data)
        return found

    return Codec(kind="enum", parse=parse, build=plain.build, show=show_member)


def show_member(value: IntEnum) -> Shown:
    """Return a member as `0 (disconnected)`."""
    return f"{int(value)} ({value.name.lower().replace('_', ' ')})"


def _parse_boolean(data: Data, where: Where) -> bool:
    if data.tag is Tag.BOOLEAN and isinstance(data.value, bool):
        return data.value
    raise where.error("boolean", data)


BOOLEAN: Codec[bool] = Codec(
    kind="boolean", parse=_parse_boolean, build=lambda v: Data(Tag.BOOLEAN, v), show=lambda v: v
)


def octet_string(low: int = 0, high: int = 1 << 16, *, secret: bool = False) -> Codec[bytes]:
    """Return the codec of an octet-string of low..high octets; visible-strings are taken too.

    A secret is never shown.
    """
    wanted = f"octet-string of {low}" if low == high else f"octet-string of {low}..{high}"

    def parse(data: Data, where: Where) -> bytes:
        match data:
            case (Tag.OCTET_STRING, bytes() as value):
                pass
            case (Tag.VISIBLE_STRING, str() as text):
                value = text.encode("latin-1", "replace")
            case _:
                raise where.error(wanted, data)
        if not low <= len(value) <= high:
            raise where.error(wanted, data)
        return value

    def build(value: bytes) -> Data:
        if not low <= len(value) <= high:
            raise LocalError(f"{wanted} expected, not {len(value)}")
        return Data(Tag.OCTET_STRING, value)

    def show(value: bytes) -> Shown:
        return f"{len(value)} octets, not shown" if secret else show_octets(value)

    return Codec(kind="octet-string", parse=parse, build=build, show=show, secret=secret)


OCTETS = octet_string()


def _parse_bits(data: Data, where: Where) -> str:
    if data.tag is Tag.BIT_STRING and isinstance(data.value, str):
        return data.value
    raise where.error("bit-string", data)


BITS: Codec[str] = Codec(
    kind="bit-string", parse=_parse_bits, build=lambda v: Data(Tag.BIT_STRING, v), show=lambda v: v
)


def _parse_name(data: Data, where: Where) -> Obis:
    if data.tag is Tag.OCTET_STRING and isinstance(data.value, bytes) and len(data.value) == 6:
        return Obis.from_bytes(data.value)
    raise where.error("logical name (6 octets)", data)


LOGICAL_NAME: Codec[Obis] = Codec(
    kind="logical-name",
    parse=_parse_name,
    build=lambda obis: Data(Tag.OCTET_STRING, obis.to_bytes()),
    show=str,
)


# ---- times


def _parse_date_time(data: Data, where: Where) -> CosemDateTime:
    octets = cosem_time.octets_of(data)
    if octets is None:
        raise where.error("date-time (12 octets)", data)
    return _decoded(CosemDateTime.decode, octets, where)


def _timed(tag: Tag, decode: Callable[[bytes], T], count: int) -> Callable[[Data, Where], T]:
    def parse(data: Data, where: Where) -> T:
        octets = data.octets
        if data.tag not in (Tag.OCTET_STRING, tag) or octets is None or len(octets) != count:
            raise where.error(f"{tag.name.lower()} ({count} octets)", data)
        return _decoded(decode, octets, where)

    return parse


def _decoded(decode: Callable[[bytes], T], octets: bytes, where: Where) -> T:
    try:
        return decode(octets)
    except MeterProtocolError as error:
        raise MeterProtocolError(f"{where.text}: {error}") from error


DATE_TIME: Codec[CosemDateTime] = Codec(
    kind="date-time",
    parse=_parse_date_time,
    build=lambda v: Data(Tag.OCTET_STRING, v.octets),
    show=str,
)
DATE: Codec[CosemDate] = Codec(
    kind="date",
    parse=_timed(Tag.DATE, CosemDate.decode, 5),
    build=lambda v: Data(Tag.OCTET_STRING, v.octets),
    show=str,
)
TIME: Codec[CosemTime] = Codec(
    kind="time",
    parse=_timed(Tag.TIME, CosemTime.decode, 4),
    build=lambda v: Data(Tag.OCTET_STRING, v.octets),
    show=str,
)


# ---- combinations


def record(make: Callable[..., T], /, **parts: Codec[Any]) -> Codec[T]:
    """Return the codec of a structure whose parts, in order, are the named fields of what `make` makes."""

    def parse(data: Data, where: Where) -> T:
        if data.tag is not Tag.STRUCTURE or len(data.items) != len(parts):
            raise where.error(f"structure of {len(parts)} ({', '.join(parts)})", data)
        fields = zip(parts.items(), data.items, strict=True)
        return make(**{name: codec.parse(item, where.inside(name)) for (name, codec), item in fields})

    def build(value: T) -> Data:
        return Data(Tag.STRUCTURE, tuple(codec.build(getattr(value, name)) for name, codec in parts.items()))

    def show(value: T) -> Shown:
        return {name: codec.show(getattr(value, name)) for name, codec in parts.items()}

    secret = any(codec.secret for codec in parts.values())
    return Codec(kind="structure", parse=parse, build=build, show=show, secret=secret)


def listing(item: Codec[T], limit: int = MAX_ITEMS) -> Codec[tuple[T, ...]]:
    """Return the codec of an array (or compact-array) of one kind; null-data is an empty one, as meters send."""

    def parse(data: Data, where: Where) -> tuple[T, ...]:
        if data.tag is Tag.NULL:
            return ()
        if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or len(data.items) > limit:
            raise where.error(f"array of at most {limit}", data)
        return tuple(item.parse(entry, where.inside(f"[{n}]")) for n, entry in enumerate(data.items))

    def build(values: tuple[T, ...]) -> Data:
        if len(values) > limit:
            raise LocalError(f"{len(values)} entries are more than the {limit} allowed")
        return Data(Tag.ARRAY, tuple(map(item.build, values)))

    def show(values: tuple[T, ...]) -> Shown:
        return [item.show(value) for value in values]

    kind = f"array of {item.kind}"
    return Codec(kind=kind, parse=parse, build=build, show=show, secret=item.secret)


def optional(item: Codec[T]) -> Codec[T | None]:
    """Return the codec of a value that may be null-data or an empty octet-string."""

    def parse(data: Data, where: Where) -> T | None:
        empty = data.tag is Tag.NULL or data == Data(Tag.OCTET_STRING, b"")
        return None if empty else item.parse(data, where)

    return Codec(
        kind=item.kind,
        parse=parse,
        build=lambda value: NULL if value is None else item.build(value),
        show=lambda value: None if value is None else item.show(value),
        secret=item.secret,
    )
