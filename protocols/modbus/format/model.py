"""Meter models as data: what one TOML file may say of a meter. Addresses are 0-based wire addresses.

`library.py` finds and reads the files, `registers.py` and `encoding.py` have the tables of single values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from protocols.modbus.format.encoding import (
    TIMES,
    Address,
    Encoding,
    ExactDecimal,
    Int,
    ModelTable,
    RegisterType,
    WordOrder,
)
from protocols.modbus.format.loads import LoadLog
from protocols.modbus.format.registers import (
    LIVE_PROFILES as LIVE_PROFILES,
)
from protocols.modbus.format.registers import (
    NO_REGISTERS,
    Part,
    Scale,
    Scaled,
    high_address,
    quantity_text,
    unknown_scales,
)
from protocols.modbus.format.registers import (
    RegisterSpec as RegisterSpec,
)
from protocols.modbus.format.writes import BALANCE, RECHARGED, AmountWrite, Writes
from protocols.reading import ProfileName, Quantity, RelayState
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import dotted

SERIAL = "0-0:96.1.0*255"
CLOCK = "0-0:1.0.0*255"
MAX_REGISTERS = 512
MAX_TEXT = 400
FAULTS = "model_faults"
"""Type of the pydantic error whose context lists what is wrong between the tables of a model (`faults`)."""

Fault = tuple[Trail, str]
"""Where a mistake stands, and what is wrong."""

Line = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class Probe(ModelTable):
    """A value that must lie in low..high if this model and word order are right."""

    quantity: str = Field(description="of one of the registers")
    low: ExactDecimal = Field(description="in the register's base unit (V, not kV)")
    high: ExactDecimal = Field(description="as `low`")


class Relay(ModelTable):
    """Which raw values of the relay's register mean closed and open."""

    quantity: str = Field("0-0:96.3.10*255", description="of the register that shows the contact")
    closed: tuple[Int, ...] = Field(min_length=1, max_length=32, description="raw values: supply is on")
    open: tuple[Int, ...] = Field(min_length=1, max_length=32, description="raw values: supply is off")

    def state(self, raw: int) -> RelayState:
        """Name the state that a raw value means."""
        if raw in self.closed:
            return RelayState.CLOSED
        return RelayState.OPEN if raw in self.open else RelayState.UNKNOWN


class Fingerprint(ModelTable):
    """By what a meter without a serial is known again: what never changes, and what never falls."""

    same: tuple[str, ...] = Field(
        (), max_length=16, description="quantities, and names of `scales`, that stay the same"
    )
    growing: tuple[str, ...] = Field((), max_length=16, description="quantities that never fall: energies")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.same and not self.growing:
            raise ValueError("name at least one quantity in `same` or `growing`")
        return self


class Forbidden(ModelTable):
    """Registers that no request may touch, not even as a hole between two values."""

    function: Literal[1, 2, 3, 4] = Field(description="of the request")
    first: Address = Field(description="first of them")
    last: Address = Field(description="last of them")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"`first` = {self.first} is after `last` = {self.last}")
        return self


def _maker(given: str) -> str:
    if not re.fullmatch("[A-Z]{3}", given):
        raise ValueError(
            f"`{given[:20]}` is not three capital letters, as the maker's FLAG code is: EAS, ABB, SCH"
        )
    return given


class MeterModel(ModelTable):
    """One kind of meter: what its file says, checked. Raises pydantic's ValidationError where it is made by hand.

    `load_model` gives the shipped ones and a user's; `docs/modbus.md` has all keys.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")] = Field(
        description="as the file is called, without .toml; small letters, digits, `-`"
    )
    title: Line = Field(description="what people call it")
    manufacturer: Annotated[str, AfterValidator(_maker)] = Field(
        description="three letters of the maker (FLAG), which begin the meter's identity"
    )
    source: Line = Field(description="the map that it was written from, with its pages")
    extends: str | None = Field(
        None, description="another model, whose keys are taken where this file has none"
    )
    remove: tuple[str, ...] = Field(
        (), max_length=MAX_REGISTERS, description="quantities of that model to leave out"
    )
    max_read: Annotated[Int, Field(ge=1, le=125)] = Field(125, description="most registers of a request")
    align: Annotated[Int, Field(ge=1, le=4)] = Field(1, description="start and count are multiples of it")
    hole: Annotated[Int, Field(ge=0, le=124)] | None = Field(
        None,
        description="most unused registers between two values of one request; without it as many as pay in wire time",
    )
    word_order: WordOrder = Field("big", description="which word of a number comes first")
    byte_order: WordOrder = Field("big", description="which octet of a word comes first")
    high_addresses: bool = Field(
        False, description="the map has wire addresses that look like printed numbers (30001…, 40001…)"
    )
    pause: Annotated[float, Field(ge=0, le=5)] = Field(
        0.0, description="seconds of silence that it needs between its answer and the next request to it"
    )
    pause_after_other_unit: Annotated[float, Field(ge=0, le=5)] = Field(
        0.0, description="seconds of silence that it needs after any frame of another unit on the line"
    )
    absent: dict[RegisterType, tuple[Int, ...]] = Field(
        {}, description="`sentinel` of all registers of a type that say none: `{ u16 = [0xFFFF] }`"
    )
    serial: bool = Field(
        True, description=f"whether a register gives {SERIAL}; without one [fingerprint] is needed"
    )
    fingerprint: Fingerprint | None = Field(None, description="by what a meter is known again")
    forbidden: tuple[Forbidden, ...] = Field((), max_length=64, description="registers that are never read")
    scales: tuple[Scale, ...] = Field((), max_length=32, description="registers by which others are scaled")
    registers: tuple[RegisterSpec, ...] = Field(
        min_length=1, max_length=MAX_REGISTERS, description="one for each quantity"
    )
    probe: tuple[Probe, ...] = Field((), max_length=32, description="what must be plausible")
    relay: Relay | None = Field(None, description="how the contact's state is seen")
    log: LoadLog | None = Field(None, description="the load survey in the meter's memory")
    writes: Writes = Field(Writes(), description="what may be written; everything else is refused")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if faults := list(self._faults()):
            text = "; ".join(f"{dotted(trail)}: {problem}" if trail else problem for trail, problem in faults)
            raise PydanticCustomError(FAULTS, "{text}", {"text": text, "faults": faults})
        return self

    def _faults(self) -> Iterator[Fault]:
        seen: dict[str, int] = {}
        for number, register in enumerate(self.registers):
            first = seen.setdefault(quantity_text(register.quantity), number)
            if first != number:
                yield ("registers", number, "quantity"), f"registers[{first}] already gives this quantity"
            for key, problem in self._register_faults(register):
                yield ("registers", number, key), problem
        yield from self._overlaps()
        yield from self._scale_faults()
        yield from self._missing(set(seen))
        yield from self._absent_faults()
        if self.log is not None:
            yield from self.log.faults(self.max_read, self._scale_names)

    @property
    def _scale_names(self) -> set[str]:
        return {scale.name for scale in self.scales}

    def _register_faults(self, register: RegisterSpec) -> Iterator[tuple[str, str]]:
        if register.function not in NO_REGISTERS:
            span = register.span
            if span.size > self.max_read:
                yield "type", f"{span.size} registers exceed max_read = {self.max_read}"
            if span.group is None and (span.address % self.align or span.size % self.align):
                yield "address", f"address and size must be multiples of align = {self.align}"
            for hole in self.forbidden:
                if hole.function == register.function and hole.first < span.end and span.address <= hole.last:
                    yield "address", f"lies in the forbidden registers {hole.first} to {hole.last}"
            if not self.high_addresses and (why := high_address(register.function, register.address)):
                yield "address", why
        yield from unknown_scales(register, self._scale_names)

    def _scale_faults(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for number, scale in enumerate(self.scales):
            if scale.name in seen:
                yield ("scales", number, "name"), f"the name `{scale.name}` is taken"
            seen.add(scale.name)
            if scale.size > self.max_read:
                yield ("scales", number, "type"), f"{scale.size} registers exceed max_read = {self.max_read}"
            if scale.address % self.align or scale.size % self.align:
                problem = f"address and size must be multiples of align = {self.align}"
                yield ("scales", number, "address"), problem
            if not self.high_addresses and (why := high_address(scale.function, scale.address)):
                yield ("scales", number, "address"), why
            for register in self.registers:
                span, own = register.span, scale.span
                apart = span.function != own.function or own.end <= span.address or span.end <= own.address
                if not apart and (span.address, span.size) != (own.address, own.size):
                    problem = (
                        f"{scale.address} overlaps the registers of {register.quantity} at {register.address}"
                    )
                    yield ("scales", number, "address"), problem

    def _overlaps(self) -> Iterator[Fault]:
        taken: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for number, register in enumerate(self.registers):
            if register.isolated or register.shared or register.function in NO_REGISTERS:
                continue
            mine = (_mask(register), number, register.address)
            cells: list[RegisterSpec | Part] = [register, *register.plus]
            places = [(register.function, cell.address + i) for cell in cells for i in range(cell.size)]
            clash = next((old for place in places for old in taken[place] if old[0] & mine[0]), None)
            if clash is not None:
                other = self.registers[clash[1]]
                same = clash[2] == register.address and other.size == register.size
                hint = (
                    "; `shared = true` where one register gives both"
                    if same
                    else f": {other.type} has {other.size}"
                )
                of = f"registers[{clash[1]}] ({other.quantity}) at {other.address}"
                problem = f"{register.address} overlaps {of}{hint}"
                yield ("registers", number, "address"), problem
            for place in places:
                taken[place].append(mine)

    def _missing(self, given: set[str]) -> Iterator[Fault]:
        if not self.serial and self.fingerprint is None:
            problem = "a meter that shows no serial needs a [fingerprint], by which it is known again"
            yield ("serial",), problem
        if self.serial and SERIAL not in given:
            problem = (
                f"no register gives {SERIAL}, which the model needs; where the meter shows no serial, say"
                " `serial = false` and a [fingerprint]"
            )
            yield ("registers",), problem
        if not self.serial and SERIAL in given:
            yield ("serial",), f"a register gives {SERIAL}: take `serial` out"
        for number, probe in enumerate(self.probe):
            yield from _wants(("probe", number, "quantity"), probe.quantity, given)
            if probe.low >= probe.high:
                yield ("probe", number, "low"), f"{probe.low} is not below `high` = {probe.high}"
        if self.relay is not None:
            yield from _wants(("relay", "quantity"), self.relay.quantity, given)
        yield from self._unproved(given)
        if self.fingerprint is not None:
            for number, name in enumerate(self.fingerprint.same):
                if name not in self._scale_names:
                    yield from _wants(("fingerprint", "same", number), name, given)
            for number, name in enumerate(self.fingerprint.growing):
                yield from _wants(("fingerprint", "growing", number), name, given)
        for number, register in enumerate(self.registers):
            if quantity_text(register.quantity) == CLOCK and register.type not in TIMES:
                problem = f"{CLOCK} is a time: take one of the types {', '.join(TIMES)}"
                yield ("registers", number, "type"), problem

    def _unproved(self, given: set[str]) -> Iterator[Fault]:
        """Yield the writes of which nothing would show what became of them."""
        if self.writes.relay is not None and self.relay is None:
            yield (
                ("writes", "relay"),
                "an order is proved by the contact's state: say in [relay] what shows it",
            )
        for name, shows in (("recharge", (BALANCE, RECHARGED)), ("balance", (BALANCE,))):
            write: AmountWrite | None = getattr(self.writes, name)
            if write is None:
                continue
            proofs = [quantity for quantity in shows if quantity in given]
            if not proofs:
                yield ("writes", name), f"no register gives {' or '.join(shows)}, by which it is proved"
            for quantity in proofs:
                unit = self.of_quantity(quantity).base_unit
                if unit != write.base_unit:
                    problem = (
                        f"`{write.unit}`, and {quantity}, by which it is proved, is in {unit or 'no unit'}"
                    )
                    yield ("writes", name, "unit"), problem

    def _absent_faults(self) -> Iterator[Fault]:
        for kind, patterns in self.absent.items():
            for register in self.registers:
                if register.type == kind and any(not 0 <= p < 1 << register.raw_bits for p in patterns):
                    yield ("absent", kind), f"a sentinel is an unsigned pattern of {register.raw_bits} bits"
                    break

    def of_profile(self, profile: ProfileName) -> tuple[RegisterSpec, ...]:
        """Return the registers of a profile, in file order; empty when the model has none."""
        return tuple(r for r in self.registers if profile in r.profiles)

    def of_quantity(self, quantity: str) -> RegisterSpec:
        """Return the register of a quantity, in any way of writing its code; KeyError when there is none."""
        wanted = Quantity.of(quantity)
        for register in self.registers:
            if Quantity.of(register.quantity) == wanted:
                return register
        raise KeyError(quantity)

    def scale(self, name: str) -> Scale:
        """Return the scale of that name; KeyError when there is none."""
        for scale in self.scales:
            if scale.name == name:
                return scale
        raise KeyError(name)

    @property
    def profiles(self) -> tuple[ProfileName, ...]:
        """The profiles that can be read of it."""
        live = tuple(profile for profile in LIVE_PROFILES if self.of_profile(profile))
        return live if self.log is None else (*live, ProfileName.BLOCK_LOAD)

    def sentinels(self, register: Scaled) -> tuple[int, ...]:
        """Return the raw patterns that mean absent: the register's own, else the model's for its type."""
        return register.sentinel or self.absent.get(register.type, ())

    def order(self, register: Encoding) -> WordOrder:
        """Return the word order of a register: its own, else the model's; text, BCD and times keep theirs."""
        return register.word_order or ("big" if register.has_own_order else self.word_order)

    def octet_order(self, register: Encoding) -> WordOrder:
        """Return the order of octets in a word of a register, as `order`."""
        return register.byte_order or ("big" if register.has_own_order else self.byte_order)


def _mask(register: RegisterSpec) -> int:
    low, high = register.bits or (0, 16 * register.size - 1)
    return ((1 << (high - low + 1)) - 1) << low


def _wants(trail: Trail, quantity: str, given: set[str]) -> Iterator[Fault]:
    try:
        text = quantity_text(quantity)
    except ValueError as error:
        yield trail, str(error)
        return
    if text not in given:
        yield trail, f"no register gives {quantity}, which the model needs"
