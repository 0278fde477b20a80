"""How octets of registers are a value: types, orders, bits, times. The part of the format that every cell shares.

Every class here is a table of a model file; its fields are the keys, and the text of a field is its documentation
(`docs/modbus.md` is made of it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

WORDS: Mapping[str, int] = MappingProxyType(
    {
        **{f"{sign}{bits}": bits // 16 for sign in ("u", "s") for bits in (16, 32, 48, 64)},
        **{f"sm{bits}": bits // 16 for bits in (16, 32, 64)},
        "f32": 2,
        "f64": 4,
        "time_bcd": 3,
        "bit": 1,
    }
)
"""Registers of a value by type; the other types say theirs with `count`."""
FLOATS = ("f32", "f64")
TIMES = ("time_bcd", "time_seconds", "time_fields")
NO_NUMBERS = (*TIMES, "text", "hex")
"""Types whose values are no numbers."""
OWN_ORDER = ("text", "hex", "bcd", *TIMES)
"""Types that keep the order in which they are printed, whatever the model's order for numbers is."""
COUNTED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "bcd": (1, 8),
        "hex": (1, 16),
        "text": (1, 32),
        "mod10000": (1, 5),
        "time_seconds": (2, 4),
        "time_fields": (1, 8),
    }
)
"""Least and most registers of the types whose length `count` says."""
BIT_FUNCTIONS = (1, 2)
MAX_DIGITS = 24
"""Digits of a number in a model file, before and after the point."""

RegisterType = Literal[
    "u16", "s16", "u32", "s32", "u48", "s48", "u64", "s64", "sm16", "sm32", "sm64", "f32", "f64",
    "mod10000", "bcd", "hex", "text", "bit", "time_bcd", "time_seconds", "time_fields",
]  # fmt: skip
WordOrder = Literal["big", "little"]
Int = Annotated[int, Field(strict=True)]


def _address(given: object) -> object:
    if isinstance(given, int) and 100_001 <= given <= 465_536:
        kind, number = divmod(given, 100_000)
        if number:
            raise ValueError(
                f"{given} is the printed number of register {number}, which is {number - 1} on the wire: write"
                f" address = {number - 1}" + (f", function = {_PRINTED[kind]}" if kind in _PRINTED else "")
            )
    return given


_PRINTED = {1: 2, 3: 4, 4: 3}
"""Function by the first of six digits of a printed register number."""
Address = Annotated[int, BeforeValidator(_address), Field(strict=True, ge=0, le=0xFFFF)]


class ModelTable(BaseModel):
    """Base of all tables of a model file: unknown keys are mistakes, and what stands is never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _decimal(given: object) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | Decimal | float):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic tells a ValueError where it stands
    number = Decimal(str(given))
    if (
        not number.is_finite()
        or number.adjusted() > MAX_DIGITS
        or int(number.as_tuple().exponent) < -MAX_DIGITS
    ):
        raise ValueError(f"must be a number of at most {MAX_DIGITS} digits before and after the point")
    return number


_DIGITS = rf"[0-9]{{1,{MAX_DIGITS}}}"
_FRACTION = re.compile(rf"(-?{_DIGITS}(?:\.{_DIGITS})?)(?:/({_DIGITS}))?")


def _fraction(given: object) -> Fraction:
    text = given if isinstance(given, str) else f"{_decimal(given):f}"
    found = _FRACTION.fullmatch(text)
    number = Fraction(0)
    if found is not None and int(found[2] or 1):
        number = Fraction(found[1]) / int(found[2] or 1)
    if not number:
        raise ValueError(f'`{text[:40]}` is no factor: write a number, or a fraction as "1/3"')
    return number


ExactDecimal = Annotated[Decimal, BeforeValidator(_decimal)]
Factor = Annotated[Fraction, BeforeValidator(_fraction)]


class Place(NamedTuple):
    """Where a part of a time lies: bits `low` to `high` of a word; `base` is added, `bcd` says digits."""

    word: int
    low: int
    high: int
    base: int
    bcd: bool


_PLACE = re.compile(r"([0-7])(?::([0-9]{1,2})-([0-9]{1,2}))?(?:\+([0-9]{1,4}))?( bcd)?")
PARTS = ("year", "month", "day", "hour", "minute", "second", "millisecond")


def parse_place(text: str) -> Place:
    """Read `WORD[:LOW-HIGH][+BASE][ bcd]`: `0:0-6+2000` is bits 0 to 6 of the first word, plus 2000; ValueError."""
    found = _PLACE.fullmatch(text)
    if found is not None:
        low, high = int(found[2] or 0), int(found[3] or 15)
        if low <= high <= 15:
            return Place(int(found[1]), low, high, int(found[4] or 0), found[5] is not None)
    raise ValueError(f'`{text[:40]}` is no place: write "WORD:LOW-HIGH+BASE", for example "0:0-6+2000"')


def _epoch(text: str) -> str:
    at = datetime.fromisoformat(text)
    if at.utcoffset() is not None:
        raise ValueError("an epoch has no zone: say `utc`")
    return text


class Encoding(ModelTable):
    """How the octets of registers are a value."""

    type: RegisterType = Field(
        description="`u` unsigned, `s` two's complement, `sm` sign and magnitude, `f` IEEE 754, with their bits;"
        " `mod10000`: each word counts 10,000 of the next; `bcd`; `text`; `hex`: digits that are a name;"
        " `bit` of functions 1 and 2; times"
    )
    count: Annotated[Int, Field(ge=1, le=32)] | None = Field(
        None, description="registers of a `bcd`, `hex`, `text`, `mod10000`, `time_seconds` or `time_fields`"
    )
    word_order: WordOrder | None = Field(
        None,
        description="which word comes first; the model's where nothing is said (text, BCD and times: `big`)",
    )
    byte_order: WordOrder | None = Field(
        None, description="which octet of a word comes first, as `word_order` apart from it"
    )
    bits: tuple[Int, Int] | None = Field(
        None,
        description="only these bits count, lowest and highest: `[8, 15]` the upper half of a word, `[3, 3]` one",
    )
    fields: dict[Literal["year", "month", "day", "hour", "minute", "second", "millisecond"], str] = Field(
        {},
        description='where `time_fields` has its parts, as "WORD:LOW-HIGH+BASE bcd": `{ year = "0:0-6+2000", … }`',
    )
    epoch: Annotated[str, AfterValidator(_epoch)] = Field(
        "1970-01-01T00:00:00", description="from when `time_seconds` counts"
    )
    utc: bool | None = Field(
        None,
        description="whether a time is UTC; else the meter's zone. `time_seconds` are UTC where nothing is said",
    )

    @model_validator(mode="after")
    def _encoded(self) -> Self:
        if (self.type in COUNTED) != (self.count is not None):
            raise ValueError(f"type {self.type} {'needs' if self.type in COUNTED else 'takes no'} `count`")
        if self.count is not None:
            least, most = COUNTED[self.type]
            if not least <= self.count <= most:
                raise ValueError(f"`count` of type {self.type} is {least} to {most}, not {self.count}")
        if self.bits is not None:
            self._check_bits(*self.bits)
        if (self.type == "time_fields") != bool(self.fields):
            raise ValueError(f"type {self.type} {'takes no' if self.fields else 'needs'} `fields`")
        if self.fields:
            self._check_fields()
        if self.utc is not None and self.type not in TIMES:
            raise ValueError(f"type {self.type} takes no `utc`; it is no time")
        return self

    def _check_bits(self, low: int, high: int) -> None:
        if self.type[0] not in "us":
            raise ValueError(f"type {self.type} takes no `bits`: take an unsigned or signed integer")
        if not 0 <= low <= high < 16 * WORDS[self.type]:
            raise ValueError(
                f"`bits` are the lowest and the highest, within 0 to {16 * WORDS[self.type] - 1}"
            )
        if self.type.startswith("sm"):
            raise ValueError("a part of a sign-magnitude number has no sign: take `u` with `bits`")

    def _check_fields(self) -> None:
        if missing := [part for part in PARTS[:5] if part not in self.fields]:
            raise ValueError(f"`fields` needs {', '.join(missing)}, too")
        for part in self.places:
            if self.places[part].word >= self.size:
                raise ValueError(f"`fields` {part}: there is no word {self.places[part].word} of {self.size}")

    @property
    def places(self) -> dict[str, Place]:
        """Where the parts of a `time_fields` are."""
        return {part: parse_place(text) for part, text in self.fields.items()}

    @property
    def size(self) -> int:
        """Registers that the value takes."""
        return self.count or WORDS[self.type]

    @property
    def has_own_order(self) -> bool:
        """Say whether the model's orders, which are those of numbers, do not concern it."""
        return self.type in OWN_ORDER

    @property
    def is_utc(self) -> bool:
        """Say whether a time of this type counts UTC."""
        return self.type == "time_seconds" if self.utc is None else self.utc

    @property
    def counts_from(self) -> datetime:
        """The epoch of `time_seconds`, without a zone where it counts local time."""
        at = datetime.fromisoformat(self.epoch)
        return at.replace(tzinfo=UTC) if self.is_utc else at

    @property
    def raw_bits(self) -> int:
        """How many bits its raw pattern has."""
        return 1 if self.type == "bit" else self.bits[1] - self.bits[0] + 1 if self.bits else 16 * self.size


def finite(number: Fraction) -> bool:
    """Return whether a fraction has a decimal that ends.

    >>> finite(Fraction(1, 8)), finite(Fraction(1, 3))
    (True, False)
    """
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def decimal_of(number: Fraction) -> tuple[int, int]:
    """Return mantissa and scaler of a fraction whose decimal ends; the scaler is never above 0.

    >>> decimal_of(Fraction(5, 8))
    (625, -3)
    """
    scaler = 0
    while number.denominator != 1:
        number, scaler = number * 10, scaler - 1
    return number.numerator, scaler
