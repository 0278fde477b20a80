"""COSEM data to reading values: exact numbers with scaler and unit, instants, texts."""

from __future__ import annotations

import struct
from decimal import Decimal
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, Tag
from protocols.reading import Bits, Instant, Missing, MissingReason, Number, Obis, Text, Value

Scale = tuple[int, str]
"""Scaler and unit name."""

_TIME_OBJECTS = {
    Obis.parse(text) for text in ("0.0.0.1.2.255", "0.0.1.0.0.255", "0.0.94.96.22.255", "0.0.94.96.25.255")
}


def is_time(class_id: int, obis: Obis, attribute: int) -> bool:
    """Return whether an attribute holds a date-time, also where it is written as an octet-string."""
    return (
        (class_id in (4, 5) and attribute in (5, 6))
        or (class_id == 8 and attribute == 2)
        or (attribute == 2 and obis in _TIME_OBJECTS)
    )


def to_value(data: Data, *, scale: Scale | None, time: bool, zone: ZoneInfo) -> Value:
    """Convert one value; what cannot be expressed is Missing with its reason, never a guess."""
    tag, value = data
    if time:
        return _time(data, zone)
    if tag is Tag.BOOLEAN:
        return Number(int(bool(value)))
    if (number := data.integer) is not None:
        scaler, unit = scale or (0, "")
        return Number(number, scaler, unit)
    match value:
        case str() if tag is Tag.BIT_STRING:
            return Bits(value)
        case str():
            return Text(value.rstrip("\0 "))
        case bytes() if tag in (Tag.FLOAT32, Tag.FLOAT64):
            return _float(value, scale)
        case bytes() if tag is Tag.DATE_TIME:
            return _time(data, zone)
        case bytes() if tag is Tag.OCTET_STRING:
            return _octets(value, zone)
    reason = MissingReason.NOT_SPECIFIED if value is None else MissingReason.NOT_SUPPORTED
    return Missing(reason)


def text_of(data: Data) -> str:
    """Return an identity as text: characters without padding, digits of a number, or ""."""
    match data.value:
        case bytes() as octets:
            return octets.decode("latin-1").strip("\0 \t\r\n")
        case str() as text:
            return text.strip("\0 \t\r\n")
        case bool():
            return ""
        case int() as number:
            return str(number)
    return ""


def _time(data: Data, zone: ZoneInfo) -> Value:
    octets = cosem_time.octets_of(data)
    if octets is None:
        return Missing(MissingReason.NOT_SPECIFIED)
    at = cosem_time.decode(octets, zone).at
    return Missing(MissingReason.NOT_SPECIFIED) if at is None else Instant(at)


def _octets(octets: bytes, zone: ZoneInfo) -> Value:
    stripped = octets.rstrip(b"\0 ")
    if all(0x20 <= octet < 0x7F for octet in stripped):
        return Text(stripped.decode("ascii"))
    if len(octets) == cosem_time.OCTETS and (at := cosem_time.decode(octets, zone).at) is not None:
        return Instant(at)
    return Text(octets.hex().upper())


def _float(octets: bytes, scale: Scale | None) -> Value:
    """Return the shortest decimal that the meter's float stands for."""
    if len(octets) == 4:
        number = Decimal(f"{struct.unpack('>f', octets)[0]:.7g}")
    else:
        number = Decimal(repr(struct.unpack(">d", octets)[0]))
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return Missing(MissingReason.SENTINEL)
    scaler, unit = scale or (0, "")
    mantissa = int("".join(map(str, digits)))
    return Number(-mantissa if sign else mantissa, exponent + scaler, unit)
