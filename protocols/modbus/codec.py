"""Registers into exact values and back; a float is made a decimal once and never met again."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from zoneinfo import ZoneInfo

from protocols.modbus.model import MeterModel, RegisterSpec
from protocols.reading import Instant, Missing, MissingReason, Number, Text, Value

_WIDE = Context(prec=400)  # enough for the largest double at the finest resolution
_FLOATS = {"f32": ">f", "f64": ">d"}


def decode(model: MeterModel, register: RegisterSpec, words: list[int], zone: ZoneInfo) -> Value:
    """Turn the words of one register entry into its value; what cannot be one is Missing with the reason.

    `zone` is the meter's, for wall-clock registers.
    """
    raw = raw_value(model, register, words)
    if raw in register.sentinel:
        return Missing(MissingReason.SENTINEL)
    if raw == 0 and register.zero_is_absent:
        return Missing(MissingReason.NOT_MEASURED)
    octets = raw.to_bytes(2 * register.size, "big")
    if register.type == "text":
        return _text(octets)
    if register.type == "time_bcd":
        return _instant(octets, zone)
    if register.type == "bcd":
        digits = octets.hex()
        return _number(register, int(digits)) if digits.isdecimal() else _out_of_range()
    if register.type in _FLOATS:
        return _decimal(register, struct.unpack(_FLOATS[register.type], octets)[0])
    return _number(register, int.from_bytes(octets, "big", signed=register.type[0] == "s"))


def raw_value(model: MeterModel, register: RegisterSpec, words: list[int]) -> int:
    """Return the unsigned pattern of the words, in the register's word order."""
    ordered = words if model.order(register) == "big" else words[::-1]
    raw = 0
    for word in ordered:
        raw = raw << 16 | word
    return raw


def encode(model: MeterModel, register: RegisterSpec, value: Value, zone: ZoneInfo) -> list[int]:
    """Turn a value into the words that `decode` gives back (rounded towards zero to what fits the register).

    ValueError when the register cannot hold it. Missing becomes the sentinel.
    """
    size = 2 * register.size
    octets = _octets(register, value, zone)
    if len(octets) != size:
        raise ValueError(f"{register.quantity}: {value} does not fit {register.type} of {size} octets")
    words = [int.from_bytes(octets[i : i + 2], "big") for i in range(0, size, 2)]
    return words if model.order(register) == "big" else words[::-1]


def _octets(register: RegisterSpec, value: Value, zone: ZoneInfo) -> bytes:
    size = 2 * register.size
    if isinstance(value, Missing):
        return _absent(register).to_bytes(size, "big")
    if isinstance(value, Instant):
        return bytes.fromhex(value.at.astimezone(zone).strftime("%y%m%d%H%M%S"))
    if isinstance(value, Text) and register.type == "text":
        return value.text.encode("ascii").ljust(size, b"\0")
    number = value.decimal() if isinstance(value, Number) else Decimal(_digits(register, value))
    scaled = number.scaleb(-register.scaler, _WIDE)
    if register.type in _FLOATS:
        return struct.pack(_FLOATS[register.type], float(scaled))
    mantissa = int(scaled.to_integral_value(ROUND_DOWN))
    if register.type == "bcd":
        return bytes.fromhex(str(mantissa).zfill(2 * size))
    try:
        return mantissa.to_bytes(size, "big", signed=register.type[0] == "s")
    except OverflowError:
        raise ValueError(f"{register.quantity}: {mantissa} does not fit {register.type}") from None


def _digits(register: RegisterSpec, value: Value) -> str:
    if isinstance(value, Text) and value.text.isascii() and value.text.isdecimal():
        return value.text
    raise ValueError(f"{register.quantity}: {value} is not a number, which {register.type} needs")


def _absent(register: RegisterSpec) -> int:
    if register.sentinel:
        return register.sentinel[0]
    if register.type == "time_bcd" or register.zero_is_absent:
        return 0
    raise ValueError(f"{register.quantity}: this register cannot say that a value is absent")


def _number(register: RegisterSpec, mantissa: int) -> Value:
    if register.as_text:
        return Text(str(mantissa))
    return Number(mantissa, register.scaler, register.unit)


def _decimal(register: RegisterSpec, value: float) -> Value:
    if math.isnan(value):
        return Missing(MissingReason.SENTINEL)
    if math.isinf(value):
        return _out_of_range()
    resolution = register.resolution or 0
    shown = Decimal(value).scaleb(-resolution, _WIDE).to_integral_value(ROUND_HALF_EVEN, _WIDE)
    return Number(int(shown), resolution + register.scaler, register.unit)


def _text(octets: bytes) -> Value:
    text = octets.rstrip(b"\0 ")
    if not text:
        return Missing(MissingReason.NOT_SPECIFIED)
    if not all(0x20 <= octet < 0x7F for octet in text):
        return _out_of_range()
    return Text(text.decode("ascii"))


def _instant(octets: bytes, zone: ZoneInfo) -> Value:
    digits = octets.hex()
    if octets in (bytes(6), b"\xff" * 6):
        return Missing(MissingReason.NOT_SPECIFIED)
    try:
        wall = datetime.strptime(digits, "%y%m%d%H%M%S").replace(tzinfo=zone)
    except ValueError:
        return _out_of_range()
    return Instant(wall.astimezone(UTC))


def _out_of_range() -> Missing:
    return Missing(MissingReason.OUT_OF_RANGE)
