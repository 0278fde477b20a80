"""Values of a push that say themselves what they are of: OBIS codes with their values, and push object lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from protocols.dlms.companion.push_grammar import needs_scale
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.data.units import unit_name
from protocols.dlms.push.places import (
    DATA,
    MAX_CELLS,
    REGISTER,
    STRUCTURED,
    Found,
    Misfit,
    PushedBuffer,
    PushedValue,
    is_obis,
    obis_of,
    shown,
)
from protocols.reading import Obis, Quantity

MAX_DEPTH = 3
"""Arrays around pairs, one in the other."""
MAX_SCALER = 30
"""No meter counts in powers of ten beyond; what does is told by nobody's display, and its scale is not known."""
PUSH_SETUP_CLASS = 40
_SCALES = {3: (3, (2,)), 4: (3, (2,)), 5: (4, (2, 3))}
"""By interface class the attribute that is scaler and unit, and those that it scales."""
_BUFFER = (7, 2)
"""Interface class and attribute of a profile's buffer."""
_MIN_ENTRY, _MAX_ENTRY = 4, 8
"""Parts of an entry of a push object list: class, name, attribute, index, and what later versions add."""
Scale = tuple[int, str]


# OBIS codes with their values


def take_pairs(found: Found) -> None:
    """Take OBIS codes with their values as long as there are some; Misfit where there is none.

    Side by side, each in a structure, or in arrays of those; each an OBIS code, a value, and scaler and unit where
    they follow (or stand before the value), or class, OBIS code, attribute and value.
    """
    before = len(found.values)
    _take(found, MAX_DEPTH)
    if len(found.values) == before:
        item = found.next()
        raise Misfit(
            "the push has ended" if item is None else f"{shown(item)} is no OBIS code with its value"
        )
    found.values[before:] = _joined(found.values[before:])


def _take(found: Found, depth: int) -> None:
    while (item := found.next()) is not None:
        if found.empty and item.tag is Tag.NULL:
            found.at += 1
        elif _begins(found):
            found.values.append(_pair(found))
        elif item.tag is Tag.STRUCTURE and _begins(Found(item.items)):
            found.values.append(_pair_in_structure(item.items))
            found.at += 1
        elif item.tag in STRUCTURED and item.items and depth:
            inner = Found(item.items, empty=found.empty)
            _take(inner, depth - 1)
            if inner.at < len(inner.items):
                return
            found.values += inner.values
            found.at += 1
        else:
            return
        if len(found.values) > MAX_CELLS:
            raise Misfit(f"more than {MAX_CELLS} values")


def _begins(found: Found) -> bool:
    """Say whether a pair begins here: with its OBIS code, or with class, OBIS code and attribute."""
    return is_obis(found.next()) or _names_attribute(found)


def _names_attribute(found: Found) -> bool:
    match found.items[found.at : found.at + 3]:
        case (Data(tag=Tag.LONG_UNSIGNED), name, Data(tag=Tag.INTEGER)):
            return is_obis(name)
    return False


def _pair_in_structure(parts: tuple[Data, ...]) -> PushedValue:
    inner = Found(parts)
    pair = _pair(inner)
    if inner.at != len(parts):
        raise Misfit(f"a structure of {len(parts)} that begins with the OBIS code {pair.quantity.obis}")
    return pair


def _pair(found: Found) -> PushedValue:
    class_id, attribute = 0, 2
    if _names_attribute(found):
        class_id = found.take().integer or 0
        obis = obis_of(found.take())
        attribute = found.take().integer or 0
    else:
        obis = obis_of(found.take())
    if found.next() is None:
        raise Misfit(f"nothing follows the OBIS code {obis}")
    value = found.take()
    if attribute != 2 or class_id not in (0, *_SCALES):
        return PushedValue(quantity=Quantity(obis, attribute), data=value, class_id=class_id)
    said, scale = _scale_here(found)
    before = _scaler_unit(value)
    after = found.next()
    if not said and before is not None and after is not None and after.tag not in STRUCTURED:
        said, scale, value = True, before, found.take()
    return _scaled(obis, value, class_id, scale if said else None)


def _scale_here(found: Found) -> tuple[bool, Scale]:
    """Take scaler and unit where they follow: in a structure, or one after the other."""
    item = found.next()
    together = None if item is None else _scaler_unit(item)
    if together is not None:
        found.at += 1
        return True, together
    match found.items[found.at : found.at + 2]:
        case (Data(tag=Tag.INTEGER, value=int() as scaler), Data(tag=Tag.ENUM, value=int() as unit)):
            found.at += 2
            return True, (scaler, unit_name(unit))
    return False, (0, "")


def _scaled(obis: Obis, value: Data, class_id: int, scale: Scale | None) -> PushedValue:
    known = class_id or (REGISTER if scale is not None or needs_scale(obis) else DATA)
    return PushedValue(quantity=Quantity(obis), data=value, class_id=known, scale=_believed(scale))


def _believed(scale: Scale | None) -> Scale | None:
    return None if scale is None or abs(scale[0]) > MAX_SCALER else scale


def _scaler_unit(item: Data) -> Scale | None:
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


def take_objects(found: Found) -> None:
    """Take a push object list and a value for each of its entries; Misfit where they are not as many."""
    listed = found.take()
    if listed.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY) or not listed.items:
        raise Misfit(f"{shown(listed)} is no push object list")
    entries = [_entry(one) for one in listed.items]
    values = _values_of(entries, found.items[found.at :])
    # The list is pushed as an attribute of the push setup: its own entry stands for it, mostly.
    if entries[0][0] == PUSH_SETUP_CLASS and (
        len(values) < len(entries) or not _is_of(entries[0], values[0])
    ):
        found.setup = entries[0][1].obis
        entries = entries[1:]
    while found.empty and len(values) > len(entries) and values[-1].tag is Tag.NULL:
        values = values[:-1]
    if len(values) != len(entries):
        raise Misfit(f"{len(values)} values follow a push object list of {len(entries)}")
    found.at = len(found.items)
    for (class_id, quantity), value in zip(entries, values, strict=True):
        if class_id == PUSH_SETUP_CLASS:
            found.setup = quantity.obis
        elif (class_id, quantity.attribute) == _BUFFER and value.tag in (Tag.ARRAY, Tag.COMPACT_ARRAY):
            if value.items:
                found.buffers.append(PushedBuffer(obis=quantity.obis, rows=value.items))
        else:
            found.values.append(PushedValue(quantity=quantity, data=value, class_id=class_id))
    found.values = list(_joined(found.values))


def _is_of(entry: tuple[int, Quantity], value: Data) -> bool:
    """Say whether a value may be that of a push setup's own entry: its name, its list, or nothing."""
    quantity = entry[1]
    if quantity.attribute == 1:
        return value.tag is Tag.NULL or value.octets == quantity.obis.to_bytes()
    return value.tag is Tag.NULL or value.tag in STRUCTURED


def _values_of(entries: Sequence[tuple[int, Quantity]], items: tuple[Data, ...]) -> tuple[Data, ...]:
    """Return the values behind a list: side by side, or in one structure of as many."""
    match items:
        case (Data(tag=Tag.STRUCTURE) as together,) if len(together.items) > 1:
            if len(together.items) in (len(entries), len(entries) - 1):
                return together.items
    return items


def _entry(entry: Data) -> tuple[int, Quantity]:
    match entry.items:
        case (Data(_, int() as class_id), name, Data(_, int() as attribute), *more) if (
            entry.tag is Tag.STRUCTURE and _MIN_ENTRY <= len(entry.items) <= _MAX_ENTRY
        ):
            index = more[0].integer if more else 0
            return class_id, Quantity(obis_of(name), attribute, index or 0)
    raise Misfit(f"{shown(entry)} in the list is no push object")


def _joined(values: Sequence[PushedValue]) -> Iterator[PushedValue]:
    """Give each register the scaler and unit that were pushed for it, which are no values themselves."""
    scales: dict[tuple[int, Obis], Scale | None] = {}
    for value in values:
        if _is_scale(value):
            scale = _scaler_unit(value.data)
            if scale is None:
                raise Misfit(f"{shown(value.data)} is no scaler and unit of {value.quantity.obis}")
            scales[value.class_id, value.quantity.obis] = _believed(scale)
    for value in values:
        _, scaled = _SCALES.get(value.class_id, (0, ()))
        scale = scales.get((value.class_id, value.quantity.obis))
        if not _is_scale(value):
            yield replace(value, scale=scale) if scale and value.quantity.attribute in scaled else value


def _is_scale(value: PushedValue) -> bool:
    attribute, _ = _SCALES.get(value.class_id, (0, ()))
    return value.quantity.attribute == attribute
