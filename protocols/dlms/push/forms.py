"""Takes the body of a push apart by a grammar: the first form that fits tells device, setup, clock and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from protocols.dlms.companion.push_grammar import FormField, Part, PushForm, PushGrammar
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.data.units import unit_name
from protocols.dlms.data.values import text_of
from protocols.errors import MeterProtocolError
from protocols.reading import Obis, Quantity

OBIS_OCTETS = 6
MAX_CELLS = 256
MAX_DEVICE = 64
"""Characters of a device id."""
MAX_DEPTH = 3
"""Arrays around pairs, one in the other."""
REGISTER, DATA = 3, 1
ELECTRICITY = 1
"""OBIS group A of electricity: its objects are registers, which need a scale, but for general ones (group C 0)."""
PUSH_SETUP_CLASS = 40
SCALER_UNIT = 3
"""The attribute of registers that is scaler and unit."""
_TEXT_TAGS = (Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.UTF8_STRING)
_NUMBERS_OR_NONE = (Tag.NULL, Tag.DONT_CARE, Tag.FLOAT32, Tag.FLOAT64)
"""Types beside integers that may stand for a number with a scale."""
_STRUCTURED = (Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY)
_MIN_ENTRY, _MAX_ENTRY = 4, 8
"""Parts of an entry of a push object list: class, name, attribute, index, and what later versions add."""


class NoForm(MeterProtocolError):
    """A body that fits no form of a grammar; `reasons` says for each form why not, with its place in the file."""

    def __init__(self, grammar: str, reasons: Sequence[str]) -> None:
        super().__init__(f"the push fits no form of {grammar}: {'; '.join(reasons) or 'it has none'}")
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedValue:
    """One value with what it is of. `class_id` is 1 where a number needs no scale."""

    quantity: Quantity
    data: Data
    class_id: int = DATA
    scale: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a form found. `rest` is what a `payload` is made of."""

    form: PushForm
    device: str = ""
    setup: Obis | None = None
    clock: bytes = b""
    values: tuple[PushedValue, ...] = ()
    rest: tuple[Data, ...] | None = None


class _Misfit(Exception):
    """This form does not fit: why, and where it says so."""


@dataclass(slots=True)
class _Found:
    """What was found so far of one form."""

    items: tuple[Data, ...]
    at: int = 0
    device: str = ""
    setup: Obis | None = None
    clock: bytes = b""
    values: list[PushedValue] = field(default_factory=list)
    rest: tuple[Data, ...] | None = None

    def next(self) -> Data | None:
        """Return the item at the present place, None at the end."""
        return self.items[self.at] if self.at < len(self.items) else None


def taken_apart(grammar: PushGrammar, body: Data) -> Parts:
    """Return what the first form that fits says of a body; NoForm when none does.

    A body that is no structure or array is one place.
    """
    items = body.items if body.tag in (Tag.STRUCTURE, Tag.ARRAY) else (body,)
    if not 0 < len(items) <= MAX_CELLS:
        raise NoForm(grammar.name, [f"it has {len(items)} elements; 1 to {MAX_CELLS} are read"])
    reasons = []
    for form in grammar.forms:
        try:
            return _fitted(grammar, form, items)
        except _Misfit as misfit:
            reasons.append(f"form {form.name!r}{f' ({form.place})' if form.place else ''}: {misfit}")
    raise NoForm(grammar.name, reasons)


def _fitted(grammar: PushGrammar, form: PushForm, items: tuple[Data, ...]) -> Parts:
    found = _Found(items)
    for number, one in enumerate(form.fields):
        before = found.at
        try:
            _READERS[one.part](one, found)
        except _Misfit as misfit:
            found.at = before
            if not one.optional:
                place = f" ({one.place})" if one.place else ""
                raise _Misfit(f"field {number + 1}, {one}{place}: {misfit}") from None
    if found.at < len(items):
        left = len(items) - found.at
        raise _Misfit(
            f"{left} more of {len(items)} elements than its fields, the first {shown(items[found.at])}"
        )
    if form.setups and found.setup not in form.setups:
        raise _Misfit(f"it is not for push setup {found.setup}")
    values = [_scaled(grammar, value) for value in found.values]
    return Parts(
        form=form,
        device=found.device or next(filter(None, map(_device_of, _among(values, grammar.device))), ""),
        setup=found.setup,
        clock=found.clock or next(filter(None, map(_clock_of, _among(values, grammar.clock))), b""),
        values=tuple(v for v in values if not _of(v, grammar.clock)),
        rest=found.rest,
    )


def shown(data: Data) -> str:
    """Name a value in a message: its type, and what it is where that is short."""
    name = data.tag.name.lower().replace("_", "-")
    if data.tag in _STRUCTURED:
        return f"{name} of {len(data.items)}"
    value = data.value.hex() if isinstance(data.value, bytes) else str(data.value)
    return name if data.value is None else f"{name} {value[:40]}"


def _among(values: Sequence[PushedValue], objects: Sequence[Obis]) -> Iterator[PushedValue]:
    return (value for value in values if _of(value, objects))


def _device_of(value: PushedValue) -> str:
    device = text_of(value.data)
    return device if len(device) <= MAX_DEVICE else ""


def _clock_of(value: PushedValue) -> bytes:
    return cosem_time.octets_of(value.data) or b""


def _of(value: PushedValue, objects: Sequence[Obis]) -> bool:
    return value.quantity.attribute == 2 and value.quantity.obis in objects


def _scaled(grammar: PushGrammar, value: PushedValue) -> PushedValue:
    """Give a value the companion's scale where it came without."""
    if value.scale is not None or value.quantity.attribute != 2:
        return value
    scale = grammar.scale_of(value.quantity.obis)
    return value if scale is None else _with_scale(value, scale)


def _with_scale(value: PushedValue, scale: tuple[int, str] | None) -> PushedValue:
    return PushedValue(quantity=value.quantity, data=value.data, class_id=value.class_id, scale=scale)


# One reader for each part: it takes what it needs, or says why that does not fit.


def _taken(found: _Found) -> Data:
    item = found.next()
    if item is None:
        raise _Misfit("the push has ended")
    found.at += 1
    return item


def _device_id(_field: FormField, found: _Found) -> None:
    item = _taken(found)
    device = text_of(item)
    plain = item.tag in _TEXT_TAGS or item.integer is not None
    if not plain or not 0 < len(device) <= MAX_DEVICE:
        raise _Misfit(f"{shown(item)} is no device id")
    found.device = device


def _setup(_field: FormField, found: _Found) -> None:
    found.setup = _obis(_taken(found))


def _clock(_field: FormField, found: _Found) -> None:
    item = _taken(found)
    octets = cosem_time.octets_of(item)
    if octets is None:
        raise _Misfit(f"{shown(item)} is no date-time")
    found.clock = octets


def _text(one: FormField, found: _Found) -> None:
    item = _taken(found)
    if item.tag not in _TEXT_TAGS or not text_of(item).startswith(one.begins):
        raise _Misfit(
            f"{shown(item)} is no text" + (f" that begins with {one.begins!r}" if one.begins else "")
        )


def _any(_field: FormField, found: _Found) -> None:
    _taken(found)


def _value(one: FormField, found: _Found) -> None:
    item = _taken(found)
    if one.quantity is None or (one.tag is not None and item.tag is not one.tag):
        wanted = "a value" if one.tag is None else one.tag.name.lower().replace("_", "-")
        raise _Misfit(f"{shown(item)} is no {wanted}")
    if item.tag in _STRUCTURED:
        raise _Misfit(f"{shown(item)} is no single value")
    if one.scale is not None and item.integer is None and item.tag not in _NUMBERS_OR_NONE:
        raise _Misfit(f"{shown(item)} is no number")
    found.values.append(PushedValue(quantity=one.quantity, data=item, scale=one.scale))


def _payload(_field: FormField, found: _Found) -> None:
    if found.next() is None:
        raise _Misfit("a push without a payload")
    found.rest = found.items[found.at :]
    found.at = len(found.items)


def _obis(item: Data) -> Obis:
    octets = item.octets if item.tag is Tag.OCTET_STRING else None
    if octets is None or len(octets) != OBIS_OCTETS:
        raise _Misfit(f"{shown(item)} is no OBIS code")
    return Obis.from_bytes(octets)


def _is_obis(item: Data | None) -> bool:
    return item is not None and item.tag is Tag.OCTET_STRING and len(item.octets or b"") == OBIS_OCTETS


# OBIS codes with their values


def _pairs(_field: FormField, found: _Found) -> None:
    before = len(found.values)
    _take_pairs(found, MAX_DEPTH)
    if len(found.values) == before:
        item = found.next()
        raise _Misfit(
            "the push has ended" if item is None else f"{shown(item)} is no OBIS code with its value"
        )


def _take_pairs(found: _Found, depth: int) -> None:
    """Take pairs as long as there are some: side by side, each in a structure, or in arrays of those."""
    while (item := found.next()) is not None:
        if _is_obis(item):
            if found.at + 1 >= len(found.items):
                raise _Misfit(f"nothing follows the OBIS code {_obis(item)}")
            value = found.items[found.at + 1]
            found.at += 2
            after = found.next()
            scale = None if after is None else _scaler_unit(after)
            found.at += scale is not None
            _add_pair(found, _obis(item), value, scale)
        elif item.tag is Tag.STRUCTURE and _is_obis(item.items[0] if item.items else None):
            _pair_in_structure(found, item.items)
            found.at += 1
        elif item.tag in _STRUCTURED and item.items and depth:
            inner = _Found(item.items)
            _take_pairs(inner, depth - 1)
            if inner.at < len(inner.items):
                return
            found.values += inner.values
            found.at += 1
        else:
            return
        if len(found.values) > MAX_CELLS:
            raise _Misfit(f"more than {MAX_CELLS} values")


def _pair_in_structure(found: _Found, parts: tuple[Data, ...]) -> None:
    scale = _scaler_unit(parts[2]) if len(parts) == 3 else None
    if len(parts) not in (2, 3) or (len(parts) == 3 and scale is None):
        raise _Misfit(f"a structure of {len(parts)} that begins with the OBIS code {_obis(parts[0])}")
    _add_pair(found, _obis(parts[0]), parts[1], scale)


def _add_pair(found: _Found, obis: Obis, value: Data, scale: tuple[int, str] | None) -> None:
    found.values.append(
        PushedValue(quantity=Quantity(obis), data=value, class_id=_class_of(obis), scale=scale)
    )


def _class_of(obis: Obis) -> int:
    return REGISTER if obis.a == ELECTRICITY and obis.c else DATA


def _scaler_unit(item: Data) -> tuple[int, str] | None:
    """Return what a scaler_unit says; None when it is none: its scaler is one signed octet, its unit an enum."""
    match item:
        case Data(
            tag=Tag.STRUCTURE,
            value=(
                Data(tag=Tag.INTEGER, value=int() as scaler),
                Data(tag=Tag.ENUM | Tag.UNSIGNED, value=int() as unit),
            ),
        ):
            return scaler, unit_name(unit)
    return None


# a push object list and its values


def _objects(_field: FormField, found: _Found) -> None:
    listed = _taken(found)
    if listed.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or not listed.items:
        raise _Misfit(f"{shown(listed)} is no push object list")
    entries = [_entry(one) for one in listed.items]
    values = found.items[found.at :]
    # The list is pushed as an attribute of the push setup: its own entry stands for it, mostly.
    if entries and entries[0][0] == PUSH_SETUP_CLASS and len(values) == len(entries) - 1:
        found.setup = entries[0][1].obis
        entries = entries[1:]
    if len(values) != len(entries):
        raise _Misfit(f"{len(values)} values follow a push object list of {len(entries)}")
    found.at = len(found.items)
    for (class_id, quantity), value in zip(entries, values, strict=True):
        if class_id == PUSH_SETUP_CLASS:
            found.setup = quantity.obis
        else:
            found.values.append(PushedValue(quantity=quantity, data=value, class_id=class_id))
    found.values = list(_joined(found.values))


def _entry(entry: Data) -> tuple[int, Quantity]:
    match entry.items:
        case (Data(_, int() as class_id), name, Data(_, int() as attribute), *more) if (
            entry.tag is Tag.STRUCTURE and _MIN_ENTRY <= len(entry.items) <= _MAX_ENTRY
        ):
            index = more[0].integer if more else 0
            return class_id, Quantity(_obis(name), attribute, index or 0)
    raise _Misfit(f"{shown(entry)} in the list is no push object")


def _joined(values: Sequence[PushedValue]) -> Iterator[PushedValue]:
    """Give each register the scaler and unit that were pushed for it, which are no values themselves."""
    scales: dict[tuple[int, Obis], tuple[int, str]] = {}
    for value in values:
        if value.class_id in (3, 4) and value.quantity.attribute == SCALER_UNIT:
            scale = _scaler_unit(value.data)
            if scale is None:
                raise _Misfit(f"{shown(value.data)} is no scaler and unit of {value.quantity.obis}")
            scales[value.class_id, value.quantity.obis] = scale
    for value in values:
        if value.class_id in (3, 4) and value.quantity.attribute == SCALER_UNIT:
            continue
        scale = scales.get((value.class_id, value.quantity.obis)) if value.quantity.attribute == 2 else None
        yield value if scale is None else _with_scale(value, scale)


_READERS: Mapping[Part, Callable[[FormField, _Found], None]] = MappingProxyType(
    {
        Part.DEVICE_ID: _device_id,
        Part.SETUP: _setup,
        Part.CLOCK: _clock,
        Part.TEXT: _text,
        Part.ANY: _any,
        Part.VALUE: _value,
        Part.PAYLOAD: _payload,
        Part.PAIRS: _pairs,
        Part.OBJECTS: _objects,
    }
)
