"""COSEM values as people write them: `900` in the type that a meter shows, `TYPE:VALUE`, or `axdr:` and octets."""

from __future__ import annotations

from protocols.dlms.data import axdr
from protocols.dlms.data.types import INTEGERS, Data, Tag
from protocols.errors import LocalError, MeterProtocolError

_NAMES = {tag.name.lower().replace("_", "-"): tag for tag in Tag}
_SIMPLE = (
    *INTEGERS,
    Tag.BOOLEAN,
    Tag.BIT_STRING,
    Tag.OCTET_STRING,
    Tag.VISIBLE_STRING,
    Tag.UTF8_STRING,
    Tag.NULL,
)
MAX_CHARACTERS = 4_096


def parse_value(text: str, tag: Tag) -> Data:
    """Return the value; without a type it is of `tag`. LocalError says what is wrong.

    Octet-strings are hex digits, or text in quotes; booleans true or false; bit-strings 0 and 1, first bit first.
    """
    if len(text) > MAX_CHARACTERS:
        raise LocalError(f"a value has at most {MAX_CHARACTERS} characters here")
    name, colon, rest = text.partition(":")
    if colon and name == "axdr":
        try:
            return axdr.decode(bytes.fromhex(rest))
        except (ValueError, MeterProtocolError) as error:
            raise LocalError(f"the octets after axdr: are no value: {error}") from error
    if colon and name in _NAMES:
        tag, text = _NAMES[name], rest
    if tag not in _SIMPLE:
        raise LocalError(f"a {tag.name.lower().replace('_', '-')} is written as axdr: and its octets")
    data = Data(tag, _plain(text, tag))
    axdr.encode(data)  # raises for what the type cannot hold
    return data


def _plain(text: str, tag: Tag) -> int | bool | bytes | str | None:
    what = tag.name.lower().replace("_", "-")
    if tag in INTEGERS:
        octets, signed = INTEGERS[tag]
        low, high = (
            (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)
        )
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or not low <= int(text) <= high:
            raise LocalError(f"`{text}` is no {what} ({low}..{high})")
        return int(text)
    match tag:
        case Tag.BOOLEAN if text in ("true", "false"):
            return text == "true"
        case Tag.BIT_STRING if set(text) <= {"0", "1"}:
            return text
        case Tag.OCTET_STRING:
            return _octets(text)
        case Tag.VISIBLE_STRING | Tag.UTF8_STRING:
            return text
        case Tag.NULL if not text:
            return None
    raise LocalError(f"`{text}` is no {what}")


def _octets(text: str) -> bytes:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].encode()
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise LocalError(f"`{text}` is no octet-string: hex digits, or text in quotes") from error


def in_type_of(value: Data, before: Data) -> Data:
    """Return a whole number in the type that the meter shows; LocalError when it does not fit."""
    number = value.integer
    if number is None or before.tag not in INTEGERS:
        return value
    octets, signed = INTEGERS[before.tag]
    low, high = (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)
    if not low <= number <= high:
        raise LocalError(f"{number} does not fit the meter's {before.tag.name.lower()} ({low}..{high})")
    return Data(before.tag, number)
