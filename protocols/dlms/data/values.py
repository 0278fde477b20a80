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
    Obis.parse(text)
    for text in (
        "0.0.0.1.2.255",
        "0.0.1.0.0.255",
        "0.0.94.96.22.255",
        "0.0.94.96.25.255",
        "0.0.94.91.22.255",
        "0.0.94.91.25.255",
    )
}

_NUMBER_OBJECTS = frozenset(
    Obis(0, 0, 94, group, what) for group in (96, 91) for what in (19, 20, 21, 23, 24)
)
"""Prepayment of IS 15959: metering mode, payment mode, recharge, total and balance, at both places of meters."""


def is_time(class_id: int, obis: Obis, attribute: int) -> bool:
    """Return whether an attribute holds a date-time, also where it is written as an octet-string."""
    return (
        (class_id in (4, 5) and attribute in (5, 6))
        or (class_id == 8 and attribute == 2)
        or (attribute == 2 and obis in _TIME_OBJECTS)
    )


def is_number(obis: Obis, attribute: int) -> bool:
    """Return whether an attribute holds a number and nothing else: a prepayment mode or amount."""
    return attribute == 2 and obis in _NUMBER_OBJECTS


def to_value(data: Data, *, scale: Scale | None, time: bool, zone: ZoneInfo, number: bool = False) -> Value:
    """Convert one value; what cannot be expressed is Missing with its reason, never a guess.

    `time` and `number` say what it must be: a date where an amount belongs, or the other way round, is no value
    (out of range).
    """
    tag, value = data
    if time:
        return _time(data, zone)
    if number and value is not None and not (_is_whole(data) or tag in (Tag.FLOAT32, Tag.FLOAT64)):
        return Missing(MissingReason.OUT_OF_RANGE)
    if tag is Tag.BOOLEAN:
        return Number(int(bool(value)))
    if (whole := data.integer) is not None:
        scaler, unit = scale or (0, "")
        return Number(whole, scaler, unit)
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


def _is_whole(data: Data) -> bool:
    return data.integer is not None and data.tag is not Tag.BOOLEAN


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
        wrong = data.value not in (None, b"")
        return Missing(MissingReason.OUT_OF_RANGE if wrong else MissingReason.NOT_SPECIFIED)
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
