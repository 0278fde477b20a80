"""Registers into exact values and back; a float is made a decimal once and never met again."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from zoneinfo import ZoneInfo

from protocols.modbus.decoding.times import decode_time, encode_time
from protocols.modbus.format.encoding import FLOATS, TIMES, Encoding, decimal_of, finite
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import Part, RegisterSpec, Scale, Scaled
from protocols.reading import Instant, Missing, MissingReason, Number, Text, Value

_WIDE = Context(prec=400)  # enough for the largest double at the finest resolution
_FORMATS = {"f32": ">f", "f64": ">d"}
_TEN_THOUSAND = 10_000
MAX_EXPONENT = 12
"""Greatest power of ten of an exponent register: a setting beyond tera or pico is garbage."""

Scales = Mapping[str, "Fraction | Missing"]
"""The factors that a meter's scale registers gave, by name; Missing says why one gave none."""
NO_SCALES: Scales = MappingProxyType({})


def decode(
    model: MeterModel, register: Scaled, words: Sequence[int], zone: ZoneInfo, *, scales: Scales = NO_SCALES
) -> Value:
    """Turn the words of a register's span into its value; what cannot be one is Missing with the reason.

    `zone` is the meter's, for wall-clock registers. `scales` are the factors of those that `multiply_by` and
    `divide_by` name; one that is not there is Missing(NOT_SPECIFIED).
    """
    own = _own(register, words)
    raw = raw_value(model, register, words)
    if raw in model.sentinels(register):
        return Missing(MissingReason.SENTINEL)
    if raw == 0 and register.zero_is_absent:
        return Missing(MissingReason.NOT_MEASURED)
    if register.type in TIMES:
        return decode_time(register, _octets(model, register, own), zone)
    if register.type in ("text", "hex"):
        octets = _octets(model, register, own)
        return _text(octets) if register.type == "text" else Text(octets.hex().upper())
    factor = _factor(register, scales)
    if isinstance(factor, Missing):
        return factor
    count = _count(model, register, words, raw)
    return count if isinstance(count, Missing) else _number(register, count, factor)


def raw_value(model: MeterModel, cell: Encoding, words: Sequence[int]) -> int:
    """Return the unsigned pattern of a cell in the words of its span, in its orders of words and octets."""
    return _pattern(model, cell, _own(cell, words))


def scale_factor(model: MeterModel, scale: Scale, words: Sequence[int] | None) -> Fraction | Missing:
    """Return the factor that a scale register gives; Missing when it was refused (None) or is not to be believed."""
    if words is None:
        return Missing(MissingReason.METER_REFUSED)
    raw = raw_value(model, scale, words)
    if scale.values:
        found = {int(text, 0): factor for text, factor in scale.values.items()}.get(raw)
        return Missing(MissingReason.OUT_OF_RANGE) if found is None else found
    step = scale.resolution or 0
    count = _decimal(scale.type, raw, step) if scale.type in FLOATS else _integer(scale, raw)
    if isinstance(count, Missing):
        return count
    factor = count * _power(step + scale.scaler)
    if scale.exponent:
        if abs(factor) > MAX_EXPONENT or factor.denominator != 1:
            return Missing(MissingReason.OUT_OF_RANGE)
        factor = _power(int(factor))
    believed = factor > 0 and Fraction(scale.low) <= factor <= Fraction(scale.high)
    return factor if believed else Missing(MissingReason.OUT_OF_RANGE)


def rollover(register: RegisterSpec, scales: Scales = NO_SCALES) -> Decimal | None:
    """Return the value in the base unit after which it begins at 0 again; None where nobody knows."""
    factor = _factor(register, scales)
    if register.modulus is None or isinstance(factor, Missing):
        return None
    number = _number(register, int(register.modulus * _power(-_step(register))), factor)
    return number.decimal() if isinstance(number, Number) else None


def encode(
    model: MeterModel, register: Scaled, value: Value, zone: ZoneInfo, *, scales: Scales = NO_SCALES
) -> list[int]:
    """Turn a value into the words of the register's span that `decode` gives back.

    Rounded towards zero to what fits the register. ValueError when it cannot hold the value. Missing becomes
    the sentinel.
    """
    if not isinstance(register, RegisterSpec) or not register.plus:
        return encode_raw(model, register, _raw(model, register, value, zone, scales))
    span = register.span
    words = [0] * span.size
    rest = None if isinstance(value, Missing) else _scaled(register, value, scales)
    cells: list[RegisterSpec | Part] = [register, *sorted(register.plus, key=lambda part: -part.scaler)]
    for cell in cells:
        step = _power(cell.scaler if isinstance(cell, Part) else 0)
        if rest is None:
            pattern = _absent(model, register) if cell is register else 0
        else:
            count = rest // step
            rest -= count * step
            pattern = _to_pattern(cell, count)
        first = cell.address - span.address
        words[first : first + cell.size] = encode_raw(model, cell, pattern)
    return words


def decode_instant(model: MeterModel, cell: Encoding, words: Sequence[int], zone: ZoneInfo) -> Value:
    """Return the time in the words of a cell of one of the types of times; Missing says why there is none."""
    return decode_time(cell, _octets(model, cell, words), zone)


def encode_raw(model: MeterModel, cell: Encoding, raw: int) -> list[int]:
    """Return the words of an unsigned pattern in the orders of a cell; bits beside its own are 0."""
    shifted = raw << cell.bits[0] if cell.bits else raw
    words = [shifted >> 16 * i & 0xFFFF for i in reversed(range(cell.size))]
    if model.octet_order(cell) == "little":
        words = [word >> 8 | word << 8 & 0xFF00 for word in words]
    return words if model.order(cell) == "big" else words[::-1]


def encode_instant(model: MeterModel, cell: Encoding, value: Instant, zone: ZoneInfo) -> list[int]:
    """Return the words of a time in a cell of one of the types of times."""
    return encode_raw(model, cell, int.from_bytes(encode_time(cell, value.at, zone), "big"))


# Words to patterns


def _own(cell: Encoding, words: Sequence[int]) -> Sequence[int]:
    """Cut the words of a cell out of those of its span."""
    first = cell.address - cell.span.address if isinstance(cell, RegisterSpec) else 0
    return words[first : first + cell.size]


def _octets(model: MeterModel, cell: Encoding, words: Sequence[int]) -> bytes:
    ordered = words if model.order(cell) == "big" else words[::-1]
    return b"".join(word.to_bytes(2, model.octet_order(cell)) for word in ordered)


def _pattern(model: MeterModel, cell: Encoding, words: Sequence[int]) -> int:
    raw = int.from_bytes(_octets(model, cell, words), "big")
    return raw >> cell.bits[0] & ((1 << cell.raw_bits) - 1) if cell.bits else raw


def _integer(cell: Encoding, raw: int) -> int | Missing:
    """Return the number of an integer's pattern."""
    bits = cell.raw_bits
    top = raw >> (bits - 1)
    if cell.type.startswith("sm"):
        magnitude = raw & ((1 << (bits - 1)) - 1)
        return -magnitude if top else magnitude
    if cell.type[0] == "s":
        return raw - (1 << bits) if top else raw
    if cell.type == "bcd":
        digits = f"{raw:0{4 * cell.size}x}"
        return int(digits) if digits.isdecimal() else _out_of_range()
    if cell.type == "mod10000":
        return _from_tens(raw, cell.size)
    return raw


def _from_tens(raw: int, size: int) -> int | Missing:
    """Return the number whose words count 0 to 9,999 each, negative ones with a minus in each word."""
    total = 0
    for place in reversed(range(size)):
        word = raw >> 16 * place & 0xFFFF
        word -= 0x10000 if word & 0x8000 else 0
        if abs(word) >= _TEN_THOUSAND:
            return _out_of_range()
        total = total * _TEN_THOUSAND + word
    return total


def _count(model: MeterModel, register: Scaled, words: Sequence[int], raw: int) -> int | Missing:
    """Return the register's own number in steps of `_step`: a float at its resolution, an integer with its parts."""
    step = _step(register)
    if register.type in FLOATS:
        return _decimal(register.type, raw, step)
    total = _integer(register, raw)
    if not register.plus or not isinstance(register, RegisterSpec):
        return total
    counts = [(total, 0)]
    for part in register.plus:
        first = part.address - register.span.address
        counts.append((_integer(part, _pattern(model, part, words[first : first + part.size])), part.scaler))
    whole = [count * 10 ** (scaler - step) for count, scaler in counts if not isinstance(count, Missing)]
    return sum(whole) if len(whole) == len(counts) else _out_of_range()


def _decimal(kind: str, raw: int, resolution: int) -> int | Missing:
    """Return a float in steps of 10^`resolution`."""
    value = struct.unpack(_FORMATS[kind], raw.to_bytes(struct.calcsize(_FORMATS[kind]), "big"))[0]
    if math.isnan(value):
        return Missing(MissingReason.SENTINEL)
    if math.isinf(value):
        return _out_of_range()
    return int(Decimal(value).scaleb(-resolution, _WIDE).to_integral_value(ROUND_HALF_EVEN, _WIDE))


# Counts to values


def _factor(register: Scaled, scales: Scales) -> Fraction | Missing:
    total = register.factor
    if not register.multiply_by and not register.divide_by:
        return total
    for names, power in ((register.multiply_by, 1), (register.divide_by, -1)):
        for name in names:
            one = scales.get(name, Missing(MissingReason.NOT_SPECIFIED))
            if isinstance(one, Missing):
                return one
            total *= one**power
    return total


def _number(register: Scaled, count: int, factor: Fraction) -> Value:
    """Return a count of `_step` x factor, exactly; its scaler depends on model and scales only, never on the count."""
    scaler = _step(register)
    exact = _exact(factor) if register.type in FLOATS or register.resolution is None else None
    if exact is not None:
        mantissa = count * exact[0]
        scaler += exact[1]
    else:
        resolution = register.resolution or 0
        mantissa = round(count * factor * _power(scaler - resolution))
        scaler = resolution
    if register.as_text:
        return Text(str(mantissa))
    scaler += register.scaler + register.prefix
    return (
        _power_factor(mantissa, scaler)
        if register.four_quadrant
        else Number(mantissa, scaler, register.base_unit)
    )


@lru_cache(maxsize=1024)
def _exact(factor: Fraction) -> tuple[int, int] | None:
    """Return mantissa and scaler of a factor; None when its decimal does not end."""
    return decimal_of(factor) if finite(factor) else None


def _step(register: Scaled) -> int:
    """Return the power of ten in which a register's own number is whole."""
    if register.type in FLOATS:
        return register.resolution or 0
    return min((0, *(part.scaler for part in register.plus)))


def _power_factor(mantissa: int, scaler: int) -> Value:
    """Return a power factor of one that says its quadrant: beyond 1 it comes down again, leading."""
    if scaler > 0:
        return _out_of_range()
    one = int(10**-scaler)
    if abs(mantissa) > 2 * one:
        return _out_of_range()
    if abs(mantissa) > one:
        mantissa = (2 * one if mantissa > 0 else -2 * one) - mantissa
    return Number(mantissa, scaler)


def _power(exponent: int) -> Fraction:
    return Fraction(10) ** exponent


def _text(octets: bytes) -> Value:
    text = octets.rstrip(b"\0 ")
    if not text:
        return Missing(MissingReason.NOT_SPECIFIED)
    if not all(0x20 <= octet < 0x7F for octet in text):
        return _out_of_range()
    return Text(text.decode("ascii"))


def _out_of_range() -> Missing:
    return Missing(MissingReason.OUT_OF_RANGE)


# Values to patterns


def _raw(model: MeterModel, register: Scaled, value: Value, zone: ZoneInfo, scales: Scales) -> int:
    what = getattr(register, "quantity", register.type)
    if isinstance(value, Missing):
        return _absent(model, register)
    if isinstance(value, Instant) and register.type in TIMES:
        return int.from_bytes(encode_time(register, value.at, zone), "big")
    if isinstance(value, Text) and register.type == "text":
        octets = value.text.encode("ascii").ljust(2 * register.size, b"\0")
        if len(octets) > 2 * register.size:
            raise ValueError(f"{what}: {value} does not fit text of {2 * register.size} octets")
        return int.from_bytes(octets, "big")
    if isinstance(value, Text) and register.type == "hex":
        return _hex(register, value.text, what)
    count = _scaled(register, value, scales)
    if register.type in FLOATS:
        return int.from_bytes(struct.pack(_FORMATS[register.type], float(count)), "big")
    try:
        return _to_pattern(register, int(count))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _hex(register: Scaled, text: str, what: str) -> int:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != 2 * register.size:
        raise ValueError(f"{what}: {text!r} is not {4 * register.size} hex digits")
    return int.from_bytes(octets, "big")


def _scaled(register: Scaled, value: Value, scales: Scales) -> Fraction:
    """Return the count of a value; ValueError when it has none."""
    what = getattr(register, "quantity", register.type)
    factor = _factor(register, scales)
    if isinstance(factor, Missing):
        raise ValueError(  # noqa: TRY004 - the value cannot be had, whatever its type
            f"{what}: the scales {', '.join((*register.multiply_by, *register.divide_by))} are not known"
        )
    if isinstance(value, Number):
        number = Fraction(value.decimal())
    elif isinstance(value, Text) and value.text.isascii() and value.text.isdecimal():
        number = Fraction(int(value.text))
    else:
        raise ValueError(f"{what}: {value} is not a number, which {register.type} needs")
    return number / factor * _power(-register.scaler - register.prefix)


def _to_pattern(cell: Encoding, count: int) -> int:
    """Return the unsigned pattern of a whole number; ValueError when it does not fit."""
    bits = cell.raw_bits
    if cell.type.startswith("sm") and abs(count) < 1 << (bits - 1):
        return abs(count) | (1 << (bits - 1) if count < 0 else 0)
    if (
        cell.type[0] == "s"
        and not cell.type.startswith("sm")
        and -(1 << (bits - 1)) <= count < 1 << (bits - 1)
    ):
        return count & ((1 << bits) - 1)
    if cell.type == "bcd" and 0 <= count < 10 ** (4 * cell.size):
        return int(str(count), 16)
    if cell.type == "mod10000" and abs(count) < _TEN_THOUSAND**cell.size:
        words = [abs(count) // _TEN_THOUSAND**place % _TEN_THOUSAND for place in range(cell.size)]
        return sum(
            ((-word if count < 0 else word) & 0xFFFF) << 16 * place for place, word in enumerate(words)
        )
    if cell.type[0] in "ub" and cell.type != "bcd" and 0 <= count < 1 << bits:
        return count
    raise ValueError(f"{count} does not fit {cell.type}")


def _absent(model: MeterModel, register: Scaled) -> int:
    if sentinels := model.sentinels(register):
        return sentinels[0]
    if register.type in TIMES or register.zero_is_absent:
        return 0
    what = getattr(register, "quantity", register.type)
    raise ValueError(f"{what}: this register cannot say that a value is absent")
