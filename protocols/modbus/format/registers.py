"""Registers of a model: where a quantity lives, how it scales, and what can be believed of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from protocols.modbus.format.encoding import (
    BIT_FUNCTIONS,
    FLOATS,
    NO_NUMBERS,
    Address,
    Encoding,
    ExactDecimal,
    Factor,
    Int,
    finite,
)
from protocols.modbus.format.units import UNITS, expected_unit
from protocols.modbus.planning.plan import RegisterSpan
from protocols.reading import ProfileName, Quantity
from protocols.toml_mistakes import nearest_name

LIVE_PROFILES = (ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE)
REPORT_ID, IDENTIFICATION = 17, 43
NO_REGISTERS = (REPORT_ID, IDENTIFICATION)
"""Functions that give octets, not registers: what the meter calls itself."""

Basis = Literal["published", "unofficial", "simulated"]
Name = Annotated[str, Field(min_length=1, max_length=60)]


def quantity_text(quantity: str) -> str:
    """Return the code of a quantity as it is always written; ValueError for none."""
    return str(Quantity.of(quantity))


_PRINTED = {2: 10_001, 3: 40_001, 4: 30_001}
"""First printed register number of a kind by the function that reads it."""


def high_address(function: int, address: int) -> str:
    """Return why an address looks like a printed register number; "" when it does not."""
    first = _PRINTED.get(function)
    if first is None or not first <= address < first + 9_999:
        return ""
    number = address - first
    return (
        f"{address} looks like the printed number of register {number + 1}, which is {number} on the wire: write"
        f" address = {number}, or `high_addresses = true` in the model when the map has such"
    )


class Part(Encoding):
    """A further part of a number in registers of its own, added to it: the decimals of an integer part."""

    address: Address = Field(description="where the part begins; same function, near the value")
    scaler: Annotated[Int, Field(ge=-12, le=12)] = Field(0, description="power of ten of one count")

    @model_validator(mode="after")
    def _integer(self) -> Self:
        if self.type[0] not in "us" and self.type not in ("bcd", "mod10000"):
            raise ValueError(f"a part is an integer, not {self.type}")
        return self


class Scaled(Encoding):
    """How a raw value becomes an exact number in a unit: raw x `factor` x 10^`scaler` x what `multiply_by` names."""

    scaler: Annotated[Int, Field(ge=-12, le=12)] = Field(0, description="power of ten of one count")
    factor: Factor = Field(
        Fraction(1), description='a factor that is no power of ten, exactly: `3`, `0.25`, `"1/3600"`, `-1`'
    )
    multiply_by: tuple[Name, ...] = Field(
        (), max_length=4, description="names of `scales` that multiply: CT, PT"
    )
    divide_by: tuple[Name, ...] = Field((), max_length=4, description="names of `scales` that divide")
    resolution: Annotated[Int, Field(ge=-12, le=6)] | None = Field(
        None,
        description="power of ten that the meter shows: a float becomes a decimal there, once; so does a quotient"
        " whose decimal does not end. Counted before `scaler` and the prefix of `unit`",
    )
    unit: str = Field("", description="as the map prints it: `kWh` becomes Wh, exactly")
    as_text: bool = Field(False, description="a number that is a name: serials")
    sentinel: tuple[Int, ...] = Field(
        (), max_length=8, description="raw patterns (unsigned) that mean that there is no value"
    )
    zero_is_absent: bool = Field(False, description="zero means that this is not measured")
    four_quadrant: bool = Field(
        False, description="a power factor of -2 to 2, as Schneider has it: what is beyond 1 is leading"
    )
    plus: tuple[Part, ...] = Field(
        (), max_length=3, description="further parts that are added to the raw number"
    )

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        floating = self.type in FLOATS
        exact = not floating and not self.divide_by and finite(self.factor)
        if floating and self.resolution is None:
            raise ValueError(f"type {self.type} needs `resolution` (the power of ten that the meter shows)")
        if not exact and self.resolution is None:
            raise ValueError("a quotient whose decimal does not end needs `resolution`")
        if exact and self.resolution is not None:
            raise ValueError(f"type {self.type} takes no `resolution`; it is exact")
        if self.unit not in UNITS:
            raise ValueError(_no_unit(self.unit))
        if self.type in NO_NUMBERS and (self.scaler or self.unit or self.factor != 1 or self.multiply_by):
            raise ValueError(f"type {self.type} takes no `scaler`, `factor`, `multiply_by` or `unit`")
        if any(not 0 <= raw < 1 << self.raw_bits for raw in self.sentinel):
            raise ValueError(f"a sentinel is an unsigned pattern of {self.raw_bits} bits")
        if self.plus and self.type[0] not in "us" and self.type not in ("bcd", "mod10000"):
            raise ValueError(f"only integers have parts in `plus`, not {self.type}")
        return self

    @property
    def base_unit(self) -> str:
        """The unit in which its values are given: `Wh` of `kWh`."""
        return UNITS[self.unit][0]

    @property
    def prefix(self) -> int:
        """Power of ten from its unit to the base unit."""
        return UNITS[self.unit][1]

    def in_base(self, number: Decimal | None) -> Decimal | None:
        """Return a number in `unit` in the base unit, exactly."""
        return None if number is None else Decimal(f"{number:f}E{self.prefix}")


def _no_unit(given: str) -> str:
    alike = {unit.lower(): unit for unit in UNITS if unit}
    nearest = alike.get(given.lower()) or nearest_name(given, alike.values())
    hint = f". Did you mean `{nearest}`?" if nearest else ""
    return f"`unit`: `{given[:20]}` is none; known: {', '.join(u for u in UNITS if u)}{hint}"


class RegisterSpec(Scaled):
    """Where one quantity lives, and how to decode it.

    Registers of one `group` are read in one request of exactly their span (identity cells, records); others are
    joined by the planner.
    """

    quantity: str = Field(description="OBIS code, `1-0:1.8.0*255`; `#5` for the time of a maximum")
    profiles: tuple[ProfileName, ...] = Field(
        description=f"where it belongs: {', '.join(LIVE_PROFILES)}; `[]` where only clock, relay or fingerprint use it"
    )
    function: Literal[1, 2, 3, 4, 17, 43] = Field(
        description="1 coils, 2 discrete inputs, 3 holding, 4 input registers; 17 server id, 43 identification"
    )
    address: Address = Field(
        description="0-based, as on the wire; with function 17 the first octet, with 43 the object"
    )
    group: Name | None = Field(
        None, description="registers of one group are read together, exactly and alone"
    )
    isolated: bool = Field(False, description="answers only when it is asked for alone")
    shared: bool = Field(False, description="the same registers give another quantity, too: no mistake")
    basis: Basis = Field("published", description="how far the address is to be trusted")
    low: ExactDecimal | None = Field(None, description="least believable value, in `unit`")
    high: ExactDecimal | None = Field(None, description="greatest believable value, in `unit`")
    max_step: Annotated[ExactDecimal, Field(gt=0)] | None = Field(
        None, description="most by which it changes in an hour, in `unit`"
    )
    monotonic: bool | None = Field(
        None, description="whether it never falls; energies never do where nothing is said, but for net ones"
    )
    digits: Annotated[Int, Field(ge=1, le=20)] | None = Field(
        None, description="decimal digits that it counts with: after 9…9 comes 0"
    )
    rollover: Annotated[Int, Field(ge=2)] | None = Field(
        None, description="the raw count that it never shows: 0 comes in its place; in place of `digits`"
    )
    zero_after_power_up: bool = Field(
        False, description="shows zero for a while after power-up: not believed at once"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            quantity = Quantity.of(self.quantity)
        except ValueError as error:
            raise ValueError(f"`quantity`: {error}") from None
        wanted = expected_unit(quantity)
        numeric = not self.as_text and self.type not in NO_NUMBERS
        if wanted is not None and numeric and self.base_unit != wanted:
            has = f"`{self.unit}`" if self.unit else "none"
            raise ValueError(f"{self.quantity} is in {wanted or 'no unit'}; `unit` says {has}")
        if (self.type == "bit") != (self.function in BIT_FUNCTIONS):
            raise ValueError("functions 1 and 2 give type bit, and no other function does")
        if self.address + self.span.size > 0x10000 and self.function not in NO_REGISTERS:
            raise ValueError(f"{self.span.size} registers from {self.address} pass the last address 65535")
        for profile in self.profiles:
            if profile not in LIVE_PROFILES:
                raise ValueError(
                    f"profile {profile} is not read from registers: use {', '.join(LIVE_PROFILES)}; logs stand in [log]"
                )
        self._check_plausible()
        self._check_octets()
        return self

    def _check_octets(self) -> None:
        if self.function == IDENTIFICATION and (self.type != "text" or self.address > 0xFF):
            raise ValueError("function 43 gives texts: type text, and `address` is the object, 0 to 255")
        if self.function in NO_REGISTERS and (self.plus or self.group or self.isolated):
            raise ValueError(f"function {self.function} takes no `plus`, `group` or `isolated`")
        if self.isolated and self.group is not None:
            raise ValueError("`isolated` registers are alone: take `group` out")

    def _check_plausible(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"`low` = {self.low} is not below `high` = {self.high}")
        if self.digits is not None and self.rollover is not None:
            raise ValueError("`digits` and `rollover` say the same: take one")
        if self.modulus is not None and self.type in FLOATS:
            raise ValueError(
                f"type {self.type} does not roll over at a count: take `digits` or `rollover` out"
            )

    @cached_property
    def span(self) -> RegisterSpan:
        """Where it lies with all its parts, for the planner."""
        first = min((self.address, *(p.address for p in self.plus)))
        end = max((self.address + self.size, *(p.address + p.size for p in self.plus)))
        alone = self.isolated or self.function in NO_REGISTERS
        group = f"alone {self.address}" if alone else self.group
        return RegisterSpan(self.function, first, end - first, group)

    @property
    def modulus(self) -> int | None:
        """The raw count after which it begins at 0 again; None where the model does not say."""
        return self.rollover if self.digits is None else 10**self.digits


class Scale(Encoding):
    """A register that says how others are to be scaled: CT, PT, an exponent, the setting Wh or kWh."""

    name: Name = Field(description="what `multiply_by` and `divide_by` call it")
    function: Literal[3, 4] = Field(description="3 holding, 4 input registers")
    address: Address = Field(description="0-based, as on the wire")
    scaler: Annotated[Int, Field(ge=-12, le=12)] = Field(0, description="power of ten of one count")
    exponent: bool = Field(False, description="the factor is 10 to the power of the value")
    resolution: Annotated[Int, Field(ge=-12, le=6)] | None = Field(
        None, description="power of ten at which a float becomes a decimal"
    )
    values: dict[str, Factor] = Field(
        {},
        max_length=64,
        description='the factor of each raw value, and there are no others: `{ 0 = 1, 1 = "1000" }`',
    )
    low: ExactDecimal = Field(Decimal(0), description="least factor that is believed (0 never is)")
    high: ExactDecimal = Field(Decimal(1_000_000_000), description="greatest factor that is believed")
    basis: Basis = Field("published", description="how far the address is to be trusted")

    @model_validator(mode="after")
    def _factor(self) -> Self:
        if self.type in (*NO_NUMBERS, "bit"):
            raise ValueError(f"a scale is a number, not {self.type}")
        if (self.type in FLOATS) != (self.resolution is not None):
            raise ValueError(
                f"type {self.type} {'needs' if self.type in FLOATS else 'takes no'} `resolution`"
            )
        if self.address + self.size > 0x10000:
            raise ValueError(f"{self.size} registers from {self.address} pass the last address 65535")
        if self.exponent and self.values:
            raise ValueError("`exponent` and `values` are two ways to say the factor: take one")
        for raw in self.values:
            try:
                int(raw, 0)
            except ValueError:
                raise ValueError(
                    f"`values`: `{raw[:20]}` is no raw value: write a number, 0x for hex"
                ) from None
        return self

    @cached_property
    def span(self) -> RegisterSpan:
        """Where it lies, for the planner."""
        return RegisterSpan(self.function, self.address, self.size)


def unknown_scales(register: Scaled, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the keys that name scales which the model lacks, and what is wrong."""
    for key in ("multiply_by", "divide_by"):
        for name in getattr(register, key):
            if name not in known:
                yield key, f"there is no scale `{name}`; known: {', '.join(sorted(known)) or 'none'}"


def words_of_octets(function: int, address: int, count: int, octets: bytes) -> list[int] | None:
    """Return octets of functions 17 and 43 as `count` words, NUL behind their end.

    With function 17 `address` is the first octet; None when there is none.
    """
    if function == REPORT_ID:
        octets = octets[address:]
    if not octets:
        return None
    padded = octets[: 2 * count].ljust(2 * count, b"\0")
    return [int.from_bytes(padded[i : i + 2], "big") for i in range(0, 2 * count, 2)]
