"""Takes the body of a push apart by a grammar: the first form that fits tells device, setup, clock and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from protocols.dlms.companion.push_grammar import FormField, Part, PushForm, PushGrammar, needs_scale
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.data.values import text_of
from protocols.dlms.push.described import take_objects, take_pairs
from protocols.dlms.push.places import (
    DATA,
    MAX_CELLS,
    REGISTER,
    STRUCTURED,
    Found,
    Misfit,
    NoForm,
    PushedBuffer,
    PushedValue,
    obis_of,
    shown,
)
from protocols.reading import Obis, Quantity

MAX_DEVICE = 64
"""Characters of a device id."""
_TEXT_TAGS = (Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.UTF8_STRING)
_NUMBERS_OR_NONE = (Tag.NULL, Tag.DONT_CARE, Tag.FLOAT32, Tag.FLOAT64)
"""Types beside integers that may stand for a number with a scale."""
_NO_COUNT = (Tag.ENUM, Tag.BCD)
"""Types whose value is an integer that counts nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a form found. `rest` is what a `payload` is made of."""

    form: PushForm
    device: str = ""
    setup: Obis | None = None
    clock: bytes = b""
    values: tuple[PushedValue, ...] = ()
    buffers: tuple[PushedBuffer, ...] = ()
    rest: tuple[Data, ...] | None = None


def taken_apart(grammar: PushGrammar, body: Data) -> Parts:
    """Return what the first form that fits says of a body; NoForm when none does.

    A body that is no structure or array is one place. Where none fits, null may stand in the place of any value, if
    only one form fits then: of two, nobody could say what the other values are.
    """
    items = body.items if body.tag in (Tag.STRUCTURE, Tag.ARRAY) else (body,)
    if not 0 < len(items) <= MAX_CELLS:
        raise NoForm(grammar.name, [f"it has {len(items)} elements; 1 to {MAX_CELLS} are read"])
    reasons = []
    for form in grammar.forms:
        try:
            return _fitted(grammar, form, items)
        except Misfit as misfit:
            reasons.append(f"form {form.name!r}{f' ({form.place})' if form.place else ''}: {misfit}")
    with_empty = list(_fitting(grammar, items, empty=True))
    if len(with_empty) == 1:
        return with_empty[0]
    if with_empty:
        names = ", ".join(repr(parts.form.name) for parts in with_empty)
        reasons = [f"with its empty places it fits more than one form: {names}"]
    raise NoForm(grammar.name, reasons)


def _fitting(grammar: PushGrammar, items: tuple[Data, ...], *, empty: bool) -> Iterator[Parts]:
    for form in grammar.forms:
        with suppress(Misfit):
            yield _fitted(grammar, form, items, empty=empty)


def forms_of(grammar: PushGrammar, body: Data) -> tuple[str, ...]:
    """Return the names of all forms that a body fits, for whoever writes them: only the first is used."""
    items = body.items if body.tag in (Tag.STRUCTURE, Tag.ARRAY) else (body,)
    return tuple(parts.form.name for parts in _fitting(grammar, items, empty=False))


def _fitted(grammar: PushGrammar, form: PushForm, items: tuple[Data, ...], *, empty: bool = False) -> Parts:
    found = Found(items, empty=empty)
    _fill(form.fields, found)
    if form.setups and found.setup not in form.setups:
        raise Misfit(f"it is not for push setup {found.setup}")
    values = _each_once([_scaled(grammar, value) for value in found.values])
    return Parts(
        form=form,
        device=found.device or next(filter(None, map(_device_of, _among(values, grammar.device))), ""),
        setup=found.setup,
        clock=found.clock or next(filter(None, map(_clock_of, _among(values, grammar.clock))), b""),
        values=tuple(v for v in values if not _of(v, grammar.clock)),
        buffers=tuple(found.buffers),
        rest=found.rest,
    )


def _fill(fields: Sequence[FormField], found: Found) -> None:
    """Take all of a body, or of a structure in it, by the fields in their order; Misfit says where it ends."""
    for number, one in enumerate(fields):
        before = found.at
        try:
            _READERS[one.part](one, found)
        except Misfit as misfit:
            found.at = before
            if not one.optional:
                place = f" ({one.place})" if one.place else ""
                raise Misfit(f"field {number + 1}, {one}{place}: {misfit}") from None
    if found.empty and all(item.tag is Tag.NULL for item in found.items[found.at :]):
        return
    if found.at < len(found.items):
        left = len(found.items) - found.at
        raise Misfit(
            f"{left} more of {len(found.items)} elements than its fields, the first {shown(found.items[found.at])}"
        )


def _each_once(values: Sequence[PushedValue]) -> Sequence[PushedValue]:
    """Return each quantity once; Misfit where one has two values, of which nobody can say which is true."""
    seen: dict[Quantity, PushedValue] = {}
    for value in values:
        known = seen.setdefault(value.quantity, value)
        if (known.data, known.scale) != (value.data, value.scale):
            raise Misfit(f"{value.quantity} comes twice, with different values")
    return list(seen.values())


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
    return value if scale is None else replace(value, scale=scale)


# One reader for each part: it takes what it needs, or says why that does not fit.


def _device_id(one: FormField, found: Found) -> None:
    item = found.take()
    if _is_empty(one, item):
        return
    device = text_of(item)
    plain = item.tag in _TEXT_TAGS or item.integer is not None
    if not plain or not 0 < len(device) <= MAX_DEVICE:
        raise Misfit(f"{shown(item)} is no device id")
    found.device = device


def _is_empty(one: FormField, item: Data) -> bool:
    """Say whether a place that is always there is empty; where it may lack, null may be the next one's."""
    return item.tag is Tag.NULL and not one.optional


def _setup(_field: FormField, found: Found) -> None:
    found.setup = obis_of(found.take())


def _clock(one: FormField, found: Found) -> None:
    item = found.take()
    if _is_empty(one, item):
        return
    octets = cosem_time.octets_of(item)
    if octets is None:
        raise Misfit(f"{shown(item)} is no date-time")
    found.clock = octets


def _text(one: FormField, found: Found) -> None:
    item = found.take()
    if item.tag not in _TEXT_TAGS or not text_of(item).startswith(one.begins):
        raise Misfit(
            f"{shown(item)} is no text" + (f" that begins with {one.begins!r}" if one.begins else "")
        )


def _any(_field: FormField, found: Found) -> None:
    found.take()


def _value(one: FormField, found: Found) -> None:
    item = found.take()
    nothing = found.empty and item.tag is Tag.NULL
    if one.quantity is None or (one.tag is not None and item.tag is not one.tag and not nothing):
        wanted = "a value" if one.tag is None else one.tag.name.lower().replace("_", "-")
        raise Misfit(f"{shown(item)} is no {wanted}")
    if item.tag in STRUCTURED:
        raise Misfit(f"{shown(item)} is no single value")
    if one.scale is not None and not _is_number(item):
        raise Misfit(f"{shown(item)} is no number")
    class_id = REGISTER if needs_scale(one.quantity.obis) and one.quantity.attribute == 2 else DATA
    found.values.append(PushedValue(quantity=one.quantity, data=item, class_id=class_id, scale=one.scale))


def _is_number(item: Data) -> bool:
    """Say whether an item can be scaled; one that is empty can."""
    return (item.integer is not None and item.tag not in _NO_COUNT) or item.tag in _NUMBERS_OR_NONE


def _structure(one: FormField, found: Found) -> None:
    """Take a structure or array whose elements have fields of their own."""
    item = found.take()
    if item.tag not in STRUCTURED:
        raise Misfit(f"{shown(item)} is no structure")
    inner = Found(item.items, empty=found.empty)
    _fill(one.inner, inner)
    found.device = inner.device or found.device
    found.setup = inner.setup or found.setup
    found.clock = inner.clock or found.clock
    found.values += inner.values
    found.buffers += inner.buffers


def _pairs(_field: FormField, found: Found) -> None:
    take_pairs(found)


def _objects(_field: FormField, found: Found) -> None:
    take_objects(found)


def _payload(_field: FormField, found: Found) -> None:
    if found.next() is None:
        raise Misfit("a push without a payload")
    found.rest = found.items[found.at :]
    found.at = len(found.items)


_READERS: Mapping[Part, Callable[[FormField, Found], None]] = MappingProxyType(
    {
        Part.DEVICE_ID: _device_id,
        Part.SETUP: _setup,
        Part.CLOCK: _clock,
        Part.TEXT: _text,
        Part.ANY: _any,
        Part.VALUE: _value,
        Part.STRUCTURE: _structure,
        Part.PAYLOAD: _payload,
        Part.PAIRS: _pairs,
        Part.OBJECTS: _objects,
    }
)
