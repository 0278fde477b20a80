"""COSEM values and objects in a few words, for tools that show whatever a meter has."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.dlms.companion import Companion
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cursor import leading
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.data.units import unit_name
from protocols.dlms.objects import Shown, codec_of, describe
from protocols.errors import MeterProtocolError
from protocols.reading import Number, Obis, Quantity, name_of

_DATA, _PROFILE = 1, 7
MAX_PARTS = 12
"""Parts of one value that are written out; whoever prints the text may cut it further."""
_TIMES = (Tag.OCTET_STRING, Tag.DATE_TIME)


def value_text(value: Data, scale: tuple[int, int] | None = None) -> str:
    """Write a value in one line: numbers with `scale` (scaler, unit code), times, names, texts, hex."""
    if (number := value.integer) is not None and value.tag is not Tag.ENUM:
        scaler, unit = scale or (0, 255)
        found = Number(number, scaler, unit_name(unit))
        return f"{found.text()} {found.unit}".strip()
    match value.tag, value.value:
        case ((Tag.ARRAY | Tag.STRUCTURE | Tag.COMPACT_ARRAY), tuple() as items):
            return _group(value.tag, items)
        case Tag.NULL | Tag.DONT_CARE, _:
            return "null"
        case Tag.BOOLEAN, yes:
            return "true" if yes else "false"
        case _, bytes() as octets:
            return octets_text(octets, time=value.tag in _TIMES)
        case Tag.BIT_STRING, str() as bits:
            return f"bits {bits}"
        case _, str() as text:
            return repr(text)
    return str(value.value)


def octets_text(octets: bytes, *, time: bool = True) -> str:
    """Write octets as a time, an OBIS code, text or hex, whichever they most likely are."""
    if time and len(octets) == cosem_time.OCTETS and _is_time(octets):
        stamp = cosem_time.decode(octets)
        deviation = "unspecified" if stamp.deviation is None else f"{stamp.deviation:+d}"
        return f"{stamp.wall} (deviation {deviation})"
    if len(octets) == 6 and octets[5] == 0xFF:
        return str(Obis.from_bytes(octets))
    text = octets.rstrip(b"\0 ")
    if text and all(0x20 <= octet < 0x7F for octet in text):
        return repr(text.decode("ascii"))
    return octets.hex(" ").upper() or "empty"


def _is_time(octets: bytes) -> bool:
    year = int.from_bytes(octets[:2], "big")
    return 1990 <= year < 2100 or year == 0xFFFF


def _group(tag: Tag, items: tuple[Data, ...]) -> str:
    inner = ", ".join(value_text(item) for item in items[:MAX_PARTS])
    more = ", …" if len(items) > MAX_PARTS else ""
    if tag is Tag.STRUCTURE:
        return f"{{{inner}{more}}}"
    return f"{len(items)} × [{inner}{more}]" if items else "[]"


def attribute_text(
    class_id: int, version: int, attribute: int, octets: bytes, scale: tuple[int, int] | None = None
) -> str:
    """Write a saved value as its class means it; what is no A-XDR as its octets in hex."""
    try:
        data, left = leading(octets, axdr.decode)
    except MeterProtocolError:
        return octets.hex(" ").upper()
    text = _text(class_id, version, attribute, data, scale)
    return f"{text} (and {left} octets left over behind it)" if left else text


def _text(class_id: int, version: int, attribute: int, data: Data, scale: tuple[int, int] | None) -> str:
    typed = attribute > 1 and codec_of(class_id, version, attribute) is not None
    if not typed or class_id == _DATA or (class_id, attribute) == (_PROFILE, 2) or scale is not None:
        return value_text(data, scale)
    return _one_line(describe(class_id, version, attribute, data))


def _one_line(found: Shown) -> str:
    if isinstance(found, dict):
        return "{" + ", ".join(f"{name} {_one_line(part)}" for name, part in found.items()) + "}"
    if isinstance(found, list):
        inner = ", ".join(map(_one_line, found[:MAX_PARTS]))
        more = ", …" if len(found) > MAX_PARTS else ""
        return f"{len(found)} × [{inner}{more}]" if found else "[]"
    if isinstance(found, bool):
        return "true" if found else "false"
    return "null" if found is None else str(found)


def scale_of(octets: bytes | None) -> tuple[int, int] | None:
    """Read a saved scaler_unit; None when it is none."""
    if octets is None:
        return None
    try:
        items = axdr.decode(octets).items
    except MeterProtocolError:
        return None
    match items:
        case (Data(_, int() as scaler), Data(_, int() as unit)):
            return scaler, unit
    return None


def object_name(obis: Obis, companion: Companion) -> str:
    """Name an object by a companion; "" when it has no name there."""
    known = name_of(Quantity(obis))
    if known != str(Quantity(obis)):
        return known.replace("_", " ")
    return next((name for code, name in _companion_names(companion) if code == obis), "")


def _companion_names(known: Companion) -> Iterator[tuple[Obis, str]]:
    for profile in known.profiles.values():
        name = profile.name.value.replace("_", " ")
        yield profile.obis, f"{name} profile"
        if profile.scaler_profile is not None:
            yield profile.scaler_profile, f"{name} scalers"
    for log in known.event_logs:
        yield log.obis, f"{log.name} events"
        yield log.code, f"{log.name} event code"
        yield log.sequence, f"{log.name} event number"
    if known.event_scalers is not None:
        yield known.event_scalers, "event scalers"
    for name, rule in known.rules.items():
        if rule.scalers is not None:
            yield rule.scalers, f"{name.replace('_', ' ')} scalers"
    for association in known.associations.values():
        yield association.association_object, f"association {association.name}"
        yield association.counter, f"invocation counter {association.name}"
    for item in known.prepayment:
        yield item.older, f"{name_of(Quantity(item.obis)).replace('_', ' ')} (older code)"
