"""Meter models as data: which register holds which quantity, how to decode it, what one request may ask.

A model is one TOML file beside this module (`models/NAME.toml`). Addresses are 0-based wire addresses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from protocols.errors import MeterConfigError
from protocols.modbus.plan import RegisterSpan
from protocols.reading import ProfileName, Quantity, RelayState

WORDS = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "s64": 4, "f32": 2, "f64": 4, "time_bcd": 3}
"""Registers of a value by type; `bcd` and `text` say theirs with `count`."""

SERIAL = "0-0:96.1.0*255"
LIVE_PROFILES = (ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE)
MAX_REGISTERS = 512

Address = Annotated[int, Field(ge=0, le=0xFFFF)]
WordOrder = Literal["big", "little"]
RegisterType = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bcd", "text", "time_bcd"]


class _ModelTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class RegisterSpec(_ModelTable):
    """Where one quantity lives and how its octets become an exact value.

    value = raw x 10^`scaler` in `unit`. A float becomes a decimal once, at 10^`resolution` of its own unit.
    `sentinel` lists raw patterns (unsigned) that mean "absent". Registers of one `group` are read in one
    request of exactly their span (identity cells, records); others are joined by the planner.
    `basis` says how far the address is to be trusted.
    """

    quantity: str
    profiles: tuple[ProfileName, ...] = Field(min_length=1)
    function: Literal[3, 4]
    address: Address
    type: RegisterType
    count: Annotated[int, Field(ge=1, le=32)] | None = None
    word_order: WordOrder | None = None
    scaler: Annotated[int, Field(ge=-12, le=12)] = 0
    resolution: Annotated[int, Field(ge=-9, le=3)] | None = None
    unit: str = ""
    as_text: bool = False
    sentinel: tuple[int, ...] = ()
    zero_is_absent: bool = False
    group: str | None = None
    basis: Literal["published", "unofficial", "simulated"] = "published"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        Quantity.of(self.quantity)
        floating = self.type in ("f32", "f64")
        if floating and self.resolution is None:
            raise ValueError(f"type {self.type} needs `resolution` (the power of ten that the meter shows)")
        if not floating and self.resolution is not None:
            raise ValueError(f"type {self.type} takes no `resolution`; it is exact")
        sized = self.type in ("bcd", "text")
        if sized != (self.count is not None):
            raise ValueError(f"type {self.type} {'needs' if sized else 'takes no'} `count`")
        if self.address + self.size > 0x10000:
            raise ValueError(f"{self.size} registers from {self.address} pass the last address 65535")
        for live in self.profiles:
            if live not in LIVE_PROFILES:
                raise ValueError(f"profile {live} is not read from registers: use {', '.join(LIVE_PROFILES)}")
        if any(not 0 <= raw < 1 << (16 * self.size) for raw in self.sentinel):
            raise ValueError(f"a sentinel is an unsigned pattern of {16 * self.size} bits")
        return self

    @property
    def size(self) -> int:
        """Registers that the value takes."""
        return self.count or WORDS[self.type]

    @property
    def span(self) -> RegisterSpan:
        """Where it lies, for the planner."""
        return RegisterSpan(self.function, self.address, self.size, self.group)


class Probe(_ModelTable):
    """A value that must lie in low..high if this model and word order are right."""

    quantity: str
    low: Decimal
    high: Decimal


class Relay(_ModelTable):
    """Which raw values of the relay's register mean closed and open."""

    quantity: str = "0-0:96.3.10*255"
    closed: tuple[int, ...] = Field(min_length=1)
    open: tuple[int, ...] = Field(min_length=1)

    def state(self, raw: int) -> RelayState:
        """Name the state that a raw value means."""
        if raw in self.closed:
            return RelayState.CLOSED
        return RelayState.OPEN if raw in self.open else RelayState.UNKNOWN


class MeterModel(_ModelTable):
    """One kind of meter.

    `max_read` is the most registers of a request, `align` what start and count must be a multiple of, `hole`
    the unused registers across which joining two blocks still pays (modbus-serial: g < 10 + L/2c). `pause` is the
    seconds of silence that the meter needs between its answer and the next request to it, `pause_after_other_unit`
    those after any frame of another unit on the line (Eastron: 0.2).
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    manufacturer: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    source: str
    max_read: Annotated[int, Field(ge=1, le=125)] = 125
    align: Annotated[int, Field(ge=1, le=4)] = 1
    hole: Annotated[int, Field(ge=0, le=124)] = 16
    pause: Annotated[float, Field(ge=0, le=5)] = 0.0
    pause_after_other_unit: Annotated[float, Field(ge=0, le=5)] = 0.0
    word_order: WordOrder = "big"
    registers: tuple[RegisterSpec, ...] = Field(min_length=1, max_length=MAX_REGISTERS)
    probe: tuple[Probe, ...] = ()
    relay: Relay | None = None
    _barriers: set[tuple[int, int]] = PrivateAttr(default_factory=set)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        seen: dict[str, int] = {}
        for number, register in enumerate(self.registers):
            where = f"registers[{number}] ({register.quantity})"
            first = seen.setdefault(str(Quantity.of(register.quantity)), number)
            if first != number:
                raise ValueError(f"{where}: registers[{first}] already gives this quantity")
            if register.size > self.max_read:
                raise ValueError(f"{where}: {register.size} registers exceed max_read = {self.max_read}")
            if register.group is None and (register.address % self.align or register.size % self.align):
                raise ValueError(f"{where}: address and size must be multiples of align = {self.align}")
        relay = (self.relay.quantity,) if self.relay else ()
        for quantity in (SERIAL, *(p.quantity for p in self.probe), *relay):
            if str(Quantity.of(quantity)) not in seen:
                raise ValueError(f"no register gives {quantity}, which the model needs")
        return self

    @property
    def barriers(self) -> set[tuple[int, int]]:
        """The (function, address) before which no block is joined: learned from refusals, for every later session."""
        return self._barriers

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

    def order(self, register: RegisterSpec) -> WordOrder:
        """Return the word order of a register: its own, else the model's."""
        return register.word_order or self.word_order


def parse_model(text: str, *, where: str) -> MeterModel:
    r"""Read a model from TOML `text` and return it.

    `where` names the file in messages. `extends = "NAME"` takes everything of another model that this one does
    not say; registers add up. Raises MeterConfigError, which says where and what is wrong.

    >>> parse_model('extends = "sdm120"\nname = "mine"\ntitle = "Mine"', where="mine.toml").manufacturer
    'EAS'
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MeterConfigError(f"model {where}: {error}") from error
    if "extends" in table:
        table = _extended(table, where)
    try:
        return MeterModel.model_validate(table)
    except ValidationError as error:
        raise MeterConfigError(f"model {where}: {'; '.join(_explain(error))}") from error


@lru_cache(maxsize=64)
def load_model(name: str) -> MeterModel:
    """Load the shipped model with this `name` (see `model_names`); a model is loaded once.

    Raises MeterConfigError for another name, naming those that exist.

    >>> load_model("sdm120").of_quantity("1-0:12.7.0*255").unit
    'V'
    """
    if name not in model_names():
        raise MeterConfigError(f"there is no meter model {name!r}; known: {', '.join(model_names())}")
    model = parse_model(_text(name), where=f"{name}.toml")
    if model.name != name:
        raise MeterConfigError(f"model {name}.toml: name: the file says {model.name!r}")
    return model


@lru_cache(maxsize=1)
def model_names() -> tuple[str, ...]:
    """Return the names of the shipped models, sorted.

    Raises nothing: they come with the package.

    >>> "sdm120" in model_names()
    True
    """
    files_ = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files_ if name.endswith(".toml")))


def _folder() -> Traversable:
    return files("protocols.modbus").joinpath("models")


def _text(name: str) -> str:
    return str(_folder().joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _extended(table: dict[str, Any], where: str) -> dict[str, Any]:
    parent = table.pop("extends")
    if parent not in model_names() or f"{parent}.toml" == where:
        raise MeterConfigError(f"model {where}: extends: there is no other model {parent!r}")
    base = tomllib.loads(_text(parent))
    if "extends" in base:
        base = _extended(base, f"{parent}.toml")
    registers = [*base.get("registers", []), *table.get("registers", [])]
    return {**base, **table, "registers": registers}


def _explain(error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        place = ""
        for part in fault["loc"]:
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "this key is not known"
        yield f"{place.removeprefix('.')}: {message}" if place else message
